"""How an exchange went: its timer, its route, its tries, the tail of its stream.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("timer", "route"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
    for name in ("dial_ms", "head_ms"):
        op.add_column("exchanges", sa.Column(name, sa.Double[float]()))
    for name in ("tries", "tail", "tail_bytes"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
