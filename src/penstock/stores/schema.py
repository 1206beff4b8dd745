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
protocols, limits, budgets, and the seal before the first rotation."""

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
"""What each gateway has set aside, summed up: all that a decision needs."""

budget_shares = sa.Table(
    "budget_shares",
    metadata,
    *(sa.Column(name, sa.Text, primary_key=True) for name in ("exchange", "budget", "subject", "period")),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("money", sa.Boolean, nullable=False),
    sa.Column("cuts", sa.Boolean, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger),
    sa.Column("input", sa.BigInteger, nullable=False),
    sa.Column("output", sa.BigInteger, nullable=False),
    sa.Column("micros", sa.BigInteger),
)
"""The same for each exchange, until its row in the ledger is settled. `used`: what was booked; while it is empty, `held` is part of `budget_held`.
`input`, `output`, `micros`: what the exchange is charged; while it runs, what it may come to."""

instances = sa.table("instances", sa.column("id", sa.Text), sa.column("lease_until", sa.Double))
"""The ledger's: who is alive."""

exchanges = sa.table(
    "exchanges", sa.column("id", sa.Text), sa.column("outcome", sa.Text),
    *(sa.column(name, sa.BigInteger) for name in ("charged_input", "charged_output", "charged_micros")),
)  # fmt: skip
"""The ledger's: how each exchange ended, and what it was charged."""
