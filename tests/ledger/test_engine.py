"""What the ledger is called in messages."""

from __future__ import annotations

from pathlib import Path

from penstock.ledger.engine import locate
from penstock.ledger.settings import LedgerSettings


def test_no_password_stands_in_the_name_wherever_the_url_holds_it() -> None:
    url = "postgresql://me:sentinel1@host/db?password=sentinel2&sslpassword=sentinel3"
    name = locate(LedgerSettings(Path("/nowhere"), url))[2]
    assert "sentinel" not in name
    assert "host/db" in name
