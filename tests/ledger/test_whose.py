"""Sums by key: the gateway's own by their names, a rotated one in one line, others by fingerprint; from rows, hours and days alike."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.ledger import query
from penstock.ledger.engine import open_engine
from penstock.ledger.retention import DAY_S
from penstock.ledger.rollup import put, sum_up
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.ledger.whose import OwnKeys
from penstock.stores.keys import Keys, Wanted
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_row

REFUSED = Outcome(Ending.REFUSED, "it is revoked", EndedBy.GATEWAY)


class Site:
    """A ledger with rows of keys that were made, rotated and revoked."""

    def __init__(self, settings: LedgerSettings) -> None:
        self.store = Store.open(settings)
        engine = open_engine(settings)
        keys = Keys(engine, b"s" * 32)
        laptop, _ = keys.create(Wanted("laptop").key(1.0))
        self.old, self.id = laptop.fingerprint, laptop.id
        rotated, _ = keys.rotate(laptop.id, 2.0, 0.0)
        self.new = rotated.fingerprint
        twins = [keys.adopt(Wanted("twin").key(1.0), sha256(text).digest()) for text in (b"one", b"two")]
        self.twins = [twin.id for twin in twins]
        engine.dispose()
        rows: list[tuple[float, str | None, str | None, Any]] = [
            (0, self.id, self.old, COMPLETE), (1, self.id, self.new, COMPLETE), (2, None, self.new, REFUSED), (3, None, "feedfeedfeed", COMPLETE),
            (DAY_S, self.id, self.new, COMPLETE), (DAY_S + 1, self.twins[0], twins[0].fingerprint, COMPLETE), (DAY_S + 2, None, None, COMPLETE),
            (2 * DAY_S, self.id, self.new, COMPLETE), (2 * DAY_S + 1, "key_gone", "000000000000", COMPLETE),
        ]  # fmt: skip
        self.store.write([
            make_row(f"x{number}", started_at=MIDNIGHT + at, key_id=key, key_fingerprint=shown, input_tokens=1, outcome=outcome)
            for number, (at, key, shown, outcome) in enumerate(rows)
        ])
        # The first day is retired, the second is summed by the hour, the third is read row by row.
        assert self.store.retire(MIDNIGHT + DAY_S, 100) == 4
        hour = int((MIDNIGHT + DAY_S) // 3600)

        def roll(connection: sa.Connection) -> bool:
            found = sum_up(connection, hour)
            assert found is not None
            return put(connection, hour, *found)

        assert self.store.change(roll)
        self.reader = query.connect(settings)


@pytest.fixture
def site(any_settings: LedgerSettings) -> Iterator[Site]:
    made = Site(any_settings)
    yield made
    made.reader.dispose()
    made.store.close()


def test_each_key_is_one_line_by_its_name(site: Site) -> None:
    found = query.usage(site.reader, ("key",))
    told = {row["key"]: (row["key_id"], row["key_fingerprint"], row["exchanges"], row["input_tokens"]) for row in found}
    assert told == {
        "laptop": (site.id, site.new, 5, 5), "feedfeedfeed": (None, "feedfeedfeed", 1, 1), None: (None, None, 1, 1),
        f"twin ({site.twins[0]})": (site.twins[0], sha256(b"one").hexdigest()[:12], 1, 1), "key_gone": ("key_gone", None, 1, 1),
    }  # fmt: skip
    assert sum(row["exchanges"] for row in found) == query.usage(site.reader, ())[0]["exchanges"] == 9


def test_beside_other_groups(site: Site) -> None:
    days = [(row["day"], row["exchanges"]) for row in query.usage(site.reader, ("key", "day")) if row["key"] == "laptop"]
    assert days == [("2023-11-15", 3), ("2023-11-16", 1), ("2023-11-17", 1)]
    shown = {(row["key"], row["key_fingerprint"]): row["exchanges"] for row in query.usage(site.reader, ("key", "key_fingerprint"))}
    assert (shown["laptop", site.old], shown["laptop", site.new]) == (1, 4), "asked for, the fingerprints are told apart"


def test_a_key_is_named_by_name_id_or_fingerprint(site: Site) -> None:
    for text in ("laptop", site.id, site.id[:9], site.new):
        [total] = query.usage(site.reader, (), key=text)
        assert total["exchanges"] == 5, text
    counts = {text: query.usage(site.reader, (), key=text)[0]["exchanges"] for text in ("twin", "feedfeedfeed", "nobody", site.twins[1])}
    assert counts == {"twin": 1, "feedfeedfeed": 1, "nobody": 0, site.twins[1]: 0}
    [row] = query.usage(site.reader, ("model",), key_id=site.id, since=MIDNIGHT + DAY_S)
    assert row["exchanges"] == 2


def test_thousands_of_keys_are_no_hindrance(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases bound what a statement may hold of values, and take longer for each."""
    real = query._fetch  # pyright: ignore[reportPrivateUsage]
    many = [{"id": f"key_{at:08}", "name": f"n{at}", "fingerprint": f"{at:012}"} for at in range(50_000)]

    def fetch(engine: sa.Engine, statement: sa.Executable) -> list[dict[str, Any]]:
        return [*real(engine, statement), *(many if statement is query.ROWS else ())]

    before = query.usage(site.reader, ("key", "day"))
    monkeypatch.setattr(query, "_fetch", fetch)
    assert query.usage(site.reader, ("key", "day")) == before


def test_nothing_is_taken_for_a_beginning_that_is_short() -> None:
    keys = OwnKeys([{"id": "key_abcdef", "name": "n", "fingerprint": "f"}])
    assert keys.named("key_abc").ids == ()
    assert keys.named("key_abcd").ids == ("key_abcdef",)
