"""What an exchange cost and whose it was; sums by the hour; the daily sums tell users, projects, sessions, clients and efforts apart.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "tool_requests",
)  # fmt: skip
OLD = ("provider", "model", "requested_model", "operation", "outcome", "key_fingerprint")
NEW = ("user_id", "project", "session_id", "client", "effort")
OLD_SUMS = (*TOKENS, "bytes_in", "bytes_out")
NEW_SUMS = ("web_searches", "cost_nanousd", "saved_nanousd")


def upgrade() -> None:
    for name in ("cost_nanousd", "saved_nanousd"):
        op.add_column("exchanges", sa.Column(name, sa.BigInteger()))
    for name in ("price_version", "service_tier"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
    op.add_column("exchanges", sa.Column("web_searches", sa.BigInteger()))
    for name in ("user_id", "project", "session_id", "client", "effort", "preview", "origin"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
    # A primary key cannot be widened in place.
    op.create_table(
        "daily_new",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("day", *OLD, *NEW)),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("exchanges", "unreported", "unpriced")),
        *(sa.Column(name, sa.BigInteger()) for name in (*OLD_SUMS, *NEW_SUMS)),
    )
    kept = ", ".join(("day", *OLD, "exchanges", "unreported", *OLD_SUMS))
    unknown = ", ".join("''" for _ in NEW)
    op.execute(f"INSERT INTO daily_new ({kept}, {', '.join(NEW)}, unpriced) SELECT {kept}, {unknown}, 0 FROM daily")
    op.drop_table("daily")
    op.rename_table("daily_new", "daily")
    op.create_table(
        "hourly",
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in (*OLD, *NEW)),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("exchanges", "unreported", "unpriced")),
        *(sa.Column(name, sa.BigInteger()) for name in (*OLD_SUMS, *NEW_SUMS)),
    )
    op.create_index("hourly_hour", "hourly", ["hour"])
    op.create_table(
        "rolled", sa.Column("hour", sa.BigInteger(), primary_key=True, autoincrement=False), sa.Column("rows", sa.BigInteger(), nullable=False)
    )
