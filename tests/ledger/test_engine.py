"""What the ledger is called in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.ledger.engine import locate
from penstock.ledger.errors import LedgerError
from penstock.ledger.settings import LedgerSettings


def test_no_password_stands_in_the_name_wherever_the_url_holds_it() -> None:
    url = "postgresql://me:sentinel1@host/db?password=sentinel2&sslpassword=sentinel3"
    name = locate(LedgerSettings(Path("/nowhere"), url))[2]
    assert "sentinel" not in name
    assert "host/db" in name


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_ledger_is_a_file(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerError, match="cannot be kept at sqlite:"):
        locate(LedgerSettings(tmp_path, url))
