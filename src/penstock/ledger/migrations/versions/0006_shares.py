"""What each running exchange has set aside of which budget: so that what a dead gateway's had is charged to the token.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget_shares",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("exchange", "budget", "subject", "period")),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("money", sa.Boolean(), nullable=False),
        sa.Column("cuts", sa.Boolean(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger()),
        sa.Column("input", sa.BigInteger(), nullable=False),
        sa.Column("output", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger()),
    )
