"""A ledger's database, on SQLite and on PostgreSQL where there is one."""

from __future__ import annotations

from tests.ledger.conftest import any_settings, postgres_url, settings  # noqa: F401  # pyright: ignore[reportUnusedImport]
