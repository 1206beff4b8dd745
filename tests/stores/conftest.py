"""A ledger's database, on SQLite and on PostgreSQL where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from penstock.ledger.engine import open_engine
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from tests.ledger.conftest import any_settings, postgres_url, settings  # noqa: F401  # pyright: ignore[reportUnusedImport]


@pytest.fixture
def engine(any_settings: LedgerSettings) -> Iterator[sa.Engine]:  # noqa: F811
    Store.open(any_settings).close()
    made = open_engine(any_settings)
    yield made
    made.dispose()
