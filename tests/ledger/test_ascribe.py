"""What the ledger's thread adds: once per entry, whatever comes in between, and never in the way of a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from penstock.ledger import query
from penstock.ledger.ascribe import Ascriber, filled_row
from penstock.ledger.entry import COLUMNS, Entry
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.pricing import OwnPrice, Prices, Rates
from penstock.routing import Glob
from penstock.vocabulary.said import Said
from penstock.vocabulary.usage import Kinds, Provenance, Usage
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_entry


def ascriber(preview: int | None = None) -> Ascriber:
    return Ascriber(Prices([OwnPrice(model=Glob("gpt-4o"), rates=Rates(Decimal(1), Decimal("0.1"), output=Decimal(4)))]), preview)


def entry(**values: Any) -> Entry:
    usual: dict[str, Any] = {"model": "gpt-4o", "client_protocol": "openai_chat", "user_agent": "codex_cli_rs/0.38.0"}
    return make_entry("x", MIDNIGHT, **{**usual, **values})


def row_of_filled(filled: Entry, filler: Any) -> dict[str, Any]:
    return dict(zip(COLUMNS, filled_row(filled, filler), strict=True))


def test_whose_it_was_is_known_when_it_opens_and_what_it_cost_when_it_ends() -> None:
    filler = ascriber(preview=20)
    one = entry(said=Said(user=b'"u1"', cache_key=b'"s1"', effort=b'{"effort":"low"}'), prompt=b'{"input":"hello"}', project="p1")
    opened = row_of_filled(one, filler)
    assert {name: opened[name] for name in ("user_id", "session_id", "project", "client", "effort", "preview", "cost_nanousd")} == {
        "user_id": "u1", "session_id": "s1", "project": "p1", "client": "codex", "effort": "low", "preview": "hello", "cost_nanousd": None}
    assert (one.said, one.prompt) == (None, None), "bodies are not kept"
    one.input_tokens, one.output_tokens, one.cache_read_tokens, one.usage_source = 100, 10, 40, "reported"
    one.settle(COMPLETE, MIDNIGHT + 1)
    settled = row_of_filled(one, filler)
    assert settled["cost_nanousd"] == 60 * 1000 + 40 * 100 + 10 * 4000
    assert settled["price_version"].startswith("own ")
    assert settled["saved_nanousd"] is None, "we put no marker in"


def test_headers_beat_bodies() -> None:
    one = entry(said=Said(user=b'"body"', metadata=b'{"session_id":"b","project":"b"}'), user_id="head", session_id="head", project="head")
    row = row_of_filled(one, ascriber())
    assert (row["user_id"], row["session_id"], row["project"]) == ("head", "head", "head")


def test_what_our_markers_saved() -> None:
    one = entry(input_tokens=100, cache_read_tokens=40, output_tokens=1, marked=True)
    one.settle(COMPLETE, MIDNIGHT + 1)
    assert row_of_filled(one, ascriber())["saved_nanousd"] == 40 * 900


def test_a_picture_that_was_told_again_cost_nothing_and_avoided_its_price() -> None:
    rates = Rates(Decimal(1), output=Decimal(2), image_output=Decimal(30))
    filler = Ascriber(Prices([OwnPrice(model=Glob("gpt-4o"), rates=rates)]))
    for again, wanted in ((False, (38_726_000, None, 1290)), (True, (0, 38_726_000, None))):
        one = entry(client_protocol="gemini", operation="generate")
        one.account(Usage(0, 1303, kinds=Kinds(image_output=1290)), Provenance.REPORTED)
        if again:
            one.spare()
        one.settle(COMPLETE, MIDNIGHT + 1)
        row = row_of_filled(one, filler)
        assert (row["cost_nanousd"], row["avoided_nanousd"], row["image_output_tokens"]) == wanted


def test_only_what_generates_costs_and_only_what_is_known() -> None:
    for values in ({"operation": "count_tokens", "input_tokens": 5}, {"operation": "response_item", "input_tokens": 5}, {"model": "unheard-of"}, {}):
        one = entry(**{"requested_model": None, **values})
        one.settle(COMPLETE, MIDNIGHT + 1)
        assert row_of_filled(one, ascriber())["cost_nanousd"] is None


def test_one_that_is_settled_meanwhile_is_never_written_as_settled_without_its_price() -> None:
    class Slow:
        """The exchange ends right after its entry was looked at."""

        def __init__(self) -> None:
            self.inner = ascriber()
            self.looks = 0

        def fill(self, entry: Entry) -> None:
            self.inner.fill(entry)
            self.looks += 1
            if self.looks == 1:
                entry.settle(COMPLETE, MIDNIGHT + 1)

    row = row_of_filled(entry(input_tokens=10, output_tokens=0), Slow())
    assert (row["outcome"], row["cost_nanousd"]) == ("COMPLETE", 10_000)


def test_a_mistake_costs_the_price_and_not_the_row() -> None:
    class Broken(Prices):
        def __init__(self) -> None: ...

        def price(self, *arguments: Any, **more: Any) -> Any:
            raise RuntimeError("no")

    one = entry(input_tokens=1, output_tokens=1)
    one.settle(COMPLETE, MIDNIGHT + 1)
    row = row_of_filled(one, Ascriber(Broken()))
    assert (row["outcome"], row["client"], row["cost_nanousd"]) == ("COMPLETE", "codex", None)


def test_rows_that_were_spilled_have_it_too(settings: LedgerSettings) -> None:
    from penstock.ledger.errors import StoreError
    from penstock.ledger.lease import Instance
    from penstock.ledger.store import Store

    store = Store.open(settings)
    ledger = Ledger(settings, Instance("i1", MIDNIGHT, "h", 1, "0"), store, filler=ascriber())
    write = store.write

    def refuse(rows: Any) -> None:
        raise StoreError("locked")

    store.write = refuse  # type: ignore[method-assign]
    one = entry(input_tokens=10, output_tokens=0)
    ledger.open(one)
    one.settle(COMPLETE, MIDNIGHT + 1)
    assert not ledger.turn()
    assert ledger.counters.spilled == 1
    store.write = write  # type: ignore[method-assign]
    ledger.close()
    reader = query.connect(settings)
    [row] = query.exchanges(reader)
    reader.dispose()
    assert (row["cost_nanousd"], row["client"]) == (10_000, "codex")
