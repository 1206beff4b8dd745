"""Tables of this room, in the ledger's database. `ledger/migrations` makes them; a test holds that both say the same. Times in seconds since the
epoch (UTC)."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

virtual_keys = sa.Table(
    "virtual_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seal", sa.Text, nullable=False, unique=True),
    sa.Column("previous_seal", sa.Text),
    sa.Column("previous_until", sa.Double),
    sa.Column("secret_mark", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("project", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("change", sa.BigInteger, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
)
"""`seal`: the HMAC of the key's SHA-256 in hexadecimal digits. `change`: grows with every change of any key. `details`: JSON: tags, models, routes,
protocols, limits, budgets."""

budget_spent = sa.Table(
    "budget_spent",
    metadata,
    sa.Column("budget", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
)

budget_held = sa.Table(
    "budget_held",
    metadata,
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("budget", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("held", sa.BigInteger, nullable=False),
)
"""What each gateway has set aside; that of one whose lease has run out does not count."""

instances = sa.table("instances", sa.column("id", sa.Text), sa.column("lease_until", sa.Double))
"""The ledger's: who is alive."""
