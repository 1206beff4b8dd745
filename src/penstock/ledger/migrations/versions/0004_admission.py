"""Who may enter and how much: virtual keys, budgets, and what an exchange was charged.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _real(name: str, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Double[float](), nullable=nullable)


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("key_id", sa.Text()))
    for name in ("charged_input", "charged_output", "charged_micros"):
        op.add_column("exchanges", sa.Column(name, sa.BigInteger()))
    op.create_table(
        "virtual_keys",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("seal", sa.Text(), nullable=False, unique=True),
        sa.Column("previous_seal", sa.Text()),
        _real("previous_until"),
        sa.Column("secret_mark", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("project", sa.Text()),
        _real("created_at", nullable=False),
        _real("expires_at"),
        _real("revoked_at"),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
    )
    place = ("budget", "subject", "period")
    op.create_table(
        "budget_spent",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in place),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        _real("changed_at", nullable=False),
    )
    op.create_table(
        "budget_held",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("instance", *place)),
        sa.Column("held", sa.BigInteger(), nullable=False),
    )
