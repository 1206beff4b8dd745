"""Tokens of pictures and film, and what of the cache was no text.

Columns without a check: to add one is to read the whole table. `Entry` bounds what comes in.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KINDS = (
    "image_input_tokens", "image_output_tokens", "video_input_tokens", "video_output_tokens", "cache_read_audio_tokens", "cache_read_image_tokens",
    "cache_read_video_tokens",
)  # fmt: skip


def upgrade() -> None:
    # Unknown in all that is there: so the sums of closed hours and retired days stay as true as they were.
    for table in ("exchanges", "hourly", "daily"):
        for name in KINDS:
            op.add_column(table, sa.Column(name, sa.BigInteger()))
