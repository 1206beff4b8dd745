"""Which rule refused or cut, what guards found, whose answer was replayed; sums know the gateway's own keys.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OLD_KEYS = (
    "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint", "user_id", "project", "session_id", "client", "effort",
)  # fmt: skip
COUNTS = ("exchanges", "unreported", "unpriced")
OLD_SUMS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "tool_requests", "bytes_in", "bytes_out", "web_searches",
    "cost_nanousd", "saved_nanousd",
)  # fmt: skip
SUMS = (*OLD_SUMS, "avoided_nanousd")


def upgrade() -> None:
    for name in ("rule", "findings"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
    op.add_column("exchanges", sa.Column("held_chars", sa.BigInteger()))
    op.add_column("exchanges", sa.Column("held_ms", sa.Double()))
    for name in ("replay", "replay_of"):
        op.add_column("exchanges", sa.Column(name, sa.Text()))
    op.add_column("exchanges", sa.Column("avoided_nanousd", sa.BigInteger()))
    # A primary key cannot be widened in place.
    op.create_table(
        "daily_new",
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("day", *OLD_KEYS, "key_id")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.BigInteger()) for name in SUMS),
    )
    kept = ", ".join(("day", *OLD_KEYS, *COUNTS, *OLD_SUMS))
    op.execute(f"INSERT INTO daily_new ({kept}, key_id) SELECT {kept}, '' FROM daily")
    op.drop_table("daily")
    op.rename_table("daily_new", "daily")
    # Summed hours are made again from the rows.
    op.drop_table("hourly")
    op.execute("DELETE FROM rolled")
    op.create_table(
        "hourly",
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in (*OLD_KEYS, "key_id")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in COUNTS),
        *(sa.Column(name, sa.BigInteger()) for name in SUMS),
    )
    op.create_index("hourly_hour", "hourly", ["hour"])
