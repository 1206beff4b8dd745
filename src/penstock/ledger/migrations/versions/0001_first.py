"""The first schema: exchanges, instances, daily sums.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TOKENS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "tool_requests",
)  # fmt: skip


def _real(name: str, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Double[float](), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "exchanges",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("instance", sa.Text(), nullable=False),
        _real("started_at", nullable=False),
        _real("settled_at"),
        sa.Column("outcome", sa.Text()),
        sa.Column("cause", sa.Text()),
        sa.Column("ended_by", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("upstream_status", sa.Integer()),
        sa.Column("provider", sa.Text()),
        sa.Column("client_protocol", sa.Text()),
        sa.Column("upstream_protocol", sa.Text()),
        sa.Column("operation", sa.Text()),
        sa.Column("method", sa.Text()),
        sa.Column("path", sa.Text()),
        sa.Column("streamed", sa.Boolean()),
        sa.Column("response_id", sa.Text()),
        sa.Column("requested_model", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("usage_source", sa.Text()),
        *(sa.Column(name, sa.BigInteger()) for name in TOKENS),
        _real("ttft_ms"),
        _real("duration_ms"),
        _real("largest_gap_ms"),
        sa.Column("events", sa.BigInteger()),
        sa.Column("bytes_in", sa.BigInteger()),
        sa.Column("bytes_out", sa.BigInteger()),
        sa.Column("retries", sa.BigInteger()),
        sa.Column("upstream_request_id", sa.Text()),
        sa.Column("user_agent", sa.Text()),
        sa.Column("key_fingerprint", sa.Text()),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("malformed", sa.BigInteger()),
        sa.Column("late_settles", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(" AND ".join(f"({name} IS NULL OR {name} BETWEEN 0 AND 1000000000000)" for name in TOKENS), name="credible_counts"),
    )
    still_open = sa.text("outcome IS NULL")
    id_kept = sa.text("operation IN ('responses', 'files', 'batches')")
    op.create_index("exchanges_started_at", "exchanges", ["started_at"])
    op.create_index("exchanges_open", "exchanges", ["instance"], sqlite_where=still_open, postgresql_where=still_open)
    op.create_index("exchanges_response_id", "exchanges", ["response_id"], sqlite_where=id_kept, postgresql_where=id_kept)
    op.create_table(
        "instances",
        sa.Column("id", sa.Text(), primary_key=True),
        _real("started_at", nullable=False),
        _real("lease_until", nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
    )
    op.create_table(
        "daily",
        *(
            sa.Column(name, sa.Text(), primary_key=True)
            for name in ("day", "provider", "model", "requested_model", "operation", "outcome", "key_fingerprint")
        ),
        sa.Column("exchanges", sa.BigInteger(), nullable=False),
        sa.Column("unreported", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger()) for name in (*TOKENS, "bytes_in", "bytes_out")),
    )
