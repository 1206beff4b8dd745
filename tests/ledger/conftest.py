"""A ledger's settings for each database that we keep ledgers in, and entries to put into it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from penstock.ledger.settings import LedgerSettings

POSTGRES = "PENSTOCK_TEST_POSTGRES"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A URL whose tables live in a schema of their own, dropped afterwards."""
    url = os.environ.get(POSTGRES)
    if not url:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{POSTGRES} must be set where CI=true")
        pytest.skip(f"no PostgreSQL: {POSTGRES} is not set")
    name = f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    yield f"{url}{'&' if '?' in url else '?'}options={quote(f'-c search_path={name}')}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    """SQLite, with times that suit tests. Rows in tests are years old: they are only retired where a test asks for it."""
    return LedgerSettings(tmp_path / "data", linger_s=0.005, retry_s=0.02, lock_wait_s=0.02, lease_s=0.4, renew_s=0.1, retention_days=None)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_settings(request: pytest.FixtureRequest, settings: LedgerSettings) -> LedgerSettings:
    """Both databases."""
    if request.param == "sqlite":
        return settings
    url = str(request.getfixturevalue("postgres_url"))
    return replace(settings, url=url)
