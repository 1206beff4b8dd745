"""One database: what stands in the end does not depend on the order of writes, and no value makes a row unwritable."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.ledger import engine as engines
from penstock.ledger import query
from penstock.ledger.entry import COLUMNS, Maker
from penstock.ledger.errors import LedgerError, StoreError
from penstock.ledger.lease import Instance
from penstock.ledger.rows import Row
from penstock.ledger.schema import exchanges
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_row, put_empty_ledger

OTHER = Instance("i2", 0.0, "host", 2, "0")


@pytest.fixture
def store(any_settings: LedgerSettings) -> Iterator[Store]:
    store = Store.open(any_settings, clock=lambda: MIDNIGHT)
    yield store
    store.close()


@pytest.fixture
def reader(any_settings: LedgerSettings, store: Store) -> Iterator[sa.Engine]:
    engine = query.connect(any_settings)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("count", [1, 7, 8, 31, 32, 33, 75])
def test_every_row_is_written_whatever_the_size_of_the_batch(store: Store, reader: sa.Engine, count: int) -> None:
    rows = [make_row(f"{at:03}", started_at=MIDNIGHT + at, input_tokens=at, streamed=bool(at % 2), outcome=COMPLETE) for at in range(count)]
    store.write(rows)
    assert _all(reader) == rows


def test_a_batch_of_rows_of_every_shape_is_stored_as_it_is(store: Store, reader: sa.Engine) -> None:
    def full(at: int) -> dict[str, Any]:
        kept = ("id", "instance", "started_at", "settled_at", "outcome", "cause", "ended_by", "book", "queued")
        kinds = {column.name: column.type.python_type for column in exchanges.columns}
        return {name: kinds[name](at + place) for place, name in enumerate(COLUMNS) if name not in kept}

    rows: list[Row] = []
    for at in range(0, 120, 4):
        rows.append(make_row(f"{at:03}", started_at=MIDNIGHT + at))
        rows.append(make_row(f"{at + 1:03}", started_at=MIDNIGHT + at + 1, **full(at), outcome=COMPLETE))
        rows.append(make_row(f"{at + 2:03}", started_at=MIDNIGHT + at + 2, outcome=GONE, input_tokens=at, error_code="x" if at % 8 else None))
        rows.append(make_row(f"{at + 3:03}", started_at=MIDNIGHT + at + 3, streamed=True, tool_requests=at))
    store.write(rows)
    assert _all(reader) == rows


def test_members_of_enums_and_truth_are_stored_as_plain_values(store: Store, reader: sa.Engine) -> None:
    store.write([make_row("a", operation=Operation.CHAT, client_protocol=ProtocolId.GEMINI, upstream_protocol="a-new-one", streamed=True)])
    row = query.exchange(reader, "a")
    assert row is not None
    assert [row[name] for name in ("operation", "client_protocol", "upstream_protocol", "streamed")] == ["chat", "gemini", "a-new-one", True]


def _all(reader: sa.Engine) -> list[Row]:
    with reader.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(exchanges).order_by(exchanges.c.started_at))]


WRITES: dict[str, Callable[[Store], object]] = {
    "open": lambda store: store.write([make_row("a")]),
    "settled": lambda store: store.write([make_row("a", outcome=COMPLETE, input_tokens=5)]),
    "settled again": lambda store: store.write([make_row("a", outcome=COMPLETE, input_tokens=5)]),
    "stale open": lambda store: store.write([make_row("a")]),
    "crashed": lambda store: store.settle_crashed("i2", MIDNIGHT),
}


@pytest.mark.parametrize("order", list(permutations(WRITES)), ids=", ".join)
def test_the_owners_ending_stands_in_any_order_of_writes(sqlite_store: Store, order: tuple[str, ...]) -> None:
    for name in order:
        WRITES[name](sqlite_store)
    assert _outcomes(sqlite_store) == [("a", "COMPLETE", 5)]


@pytest.fixture
def sqlite_store(settings: LedgerSettings) -> Iterator[Store]:
    put_empty_ledger(settings)
    store = Store.open(settings, clock=lambda: MIDNIGHT)
    yield store
    store.close()


def _outcomes(store: Store) -> list[tuple[Any, ...]]:
    with sqlite3.connect(store.name) as connection:
        return connection.execute("SELECT id, outcome, input_tokens FROM exchanges ORDER BY id").fetchall()


def test_the_same_guards_hold_in_each_database(store: Store, reader: sa.Engine) -> None:
    store.write([make_row("a"), make_row("b"), make_row("c", outcome=GONE), make_row("d")])
    assert store.settle_crashed("i2", MIDNIGHT) == 3
    # The owner's word replaces CRASHED, another's does not; an ending stays; a stale opening changes nothing.
    store.write([make_row("a", outcome=COMPLETE), make_row("b", instance="i9", outcome=COMPLETE), make_row("c", outcome=COMPLETE)])
    store.write([make_row("c"), make_row("d")])
    found = {row["id"]: (row["outcome"], row["usage_source"]) for row in query.exchanges(reader)}
    assert found == {"a": ("COMPLETE", None), "b": ("CRASHED", "none"), "c": ("CLIENT_GONE", None), "d": ("CRASHED", "none")}


def test_late_settles_are_counted_in_a_row_that_is_settled(store: Store, reader: sa.Engine) -> None:
    store.write([make_row("a", outcome=COMPLETE)])
    store.write([make_row("a", outcome=GONE, late_settles=2)])
    store.write([make_row("a", outcome=GONE, late_settles=1)])
    row = query.exchange(reader, "a")
    assert row is not None
    assert (row["outcome"], row["late_settles"]) == ("COMPLETE", 2)


def test_no_value_makes_a_row_unwritable(store: Store, reader: sa.Engine) -> None:
    store.write([
        make_row("good", input_tokens=1),
        make_row("a", input_tokens=10**30, output_tokens=-1, cache_read_tokens=2.0, reasoning_tokens="many", user_agent="a\ud800b", model="x\0y"),
        make_row("b", ttft_ms=float("nan"), duration_ms=float("inf"), status=10**12, error_message="z" * 9000),
        make_row("c", input_tokens=10**400, ttft_ms=-(10**400), output_tokens=3),
    ])
    good, a, b, c = (query.exchange(reader, id) for id in ("good", "a", "b", "c"))
    assert c is not None
    assert [c[name] for name in ("input_tokens", "ttft_ms", "output_tokens")] == [None, None, 3], "no double holds the one nor the other"
    assert good is not None
    assert a is not None
    assert b is not None
    assert good["input_tokens"] == 1
    assert [a[name] for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")] == [None, None, 2, None]
    assert (a["user_agent"], a["model"]) == ("a?b", "xy")
    assert [b[name] for name in ("ttft_ms", "duration_ms", "status")] == [None, None, None]
    assert len(b["error_message"]) == 1024


def test_incredible_counts_cannot_make_a_sum_overflow(store: Store, reader: sa.Engine) -> None:
    store.write([make_row(f"{at}", input_tokens=2**62, output_tokens=10**12, outcome=COMPLETE) for at in range(4)])
    [total] = query.usage(reader, ())
    assert (total["exchanges"], total["input_tokens"], total["output_tokens"]) == (4, None, 4 * 10**12)


def test_the_provider_of_a_response_is_found_by_its_index(store: Store, reader: sa.Engine) -> None:
    store.write([
        make_row("a", operation="responses", response_id="resp_1", provider="first", outcome=COMPLETE),
        make_row("b", operation="responses", response_id="resp_1", provider="second", started_at=MIDNIGHT + 1, outcome=COMPLETE),
        make_row("c", operation="chat", response_id="chatcmpl-1", outcome=COMPLETE),
        make_row("d", operation="files", response_id="file-1", provider="first", outcome=COMPLETE),
    ])
    assert [store.maker_of(id) for id in ("resp_1", "chatcmpl-1", "file-1", "resp_2")] == [Maker("second"), None, Maker("first"), None]
    if reader.dialect.name == "sqlite":
        with reader.connect() as connection:
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT provider FROM exchanges WHERE response_id = 'x' AND operation IN ('responses', 'files', 'batches')"
            ).all()
        assert "exchanges_response_id" in str(plan)


@pytest.mark.parametrize(("method", "path", "found"), [
    ("GET", "/openai/v1/files/file-1", None), ("DELETE", "/v1/files/file-1", None), ("HEAD", "/v1/files/file-1", None),
    ("POST", "/v1/batches/file-1/cancel", None), ("POST", "/v1/files", "key_2"),
])  # fmt: skip
def test_who_only_asks_for_a_file_did_not_make_it(store: Store, method: str, path: str, found: str | None) -> None:
    asked: dict[str, Any] = {"operation": "files", "response_id": "file-1", "provider": "second", "key_id": "key_2", "user_id": "bob"}
    store.write([make_row("b", method=method, path=path, started_at=MIDNIGHT + 1, outcome=COMPLETE, **asked)])
    assert store.maker_of("file-1") == Maker("second", found, found and "bob")
    made = {**asked, "provider": "first", "key_id": "key_1", "user_id": "ada"}
    store.write([make_row("a", method="POST", path="/v1/files", started_at=MIDNIGHT, outcome=COMPLETE, **made)])
    assert store.maker_of("file-1") == (Maker("second", "key_2", "bob") if found else Maker("first", "key_1", "ada"))


def test_file_and_directory_are_nobody_elses(tmp_path: Path) -> None:
    settings = LedgerSettings(tmp_path / "new" / "data")
    store = Store.open(settings)
    store.write([make_row("a")])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.data_dir.iterdir()}
    store.close()
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    settings.sqlite_path.chmod(0o644)
    Store.open(settings).close()
    assert stat.S_IMODE(settings.sqlite_path.stat().st_mode) == 0o600


def test_it_uses_wal_and_says_nothing_of_it(settings: LedgerSettings) -> None:
    store = Store.open(settings)
    assert (_journal(settings), store.notes) == ("wal", [])
    store.close()


@pytest.mark.parametrize("was_wal", [False, True])
def test_where_wal_cannot_be_it_uses_a_rollback_journal_and_says_so(settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch, was_wal: bool) -> None:
    if was_wal:
        Store.open(settings).close()

    def refuse(path: Path) -> tuple[str, str | None]:
        return "DELETE", "the file system of /data refused it (disk I/O error)"

    monkeypatch.setattr(engines, "_try_wal", refuse)
    store = Store.open(settings)
    store.write([make_row("a", outcome=COMPLETE)])
    assert _journal(settings) == "delete"
    assert len(store.notes) == 1
    assert "rollback journal" in store.notes[0]
    assert "disk I/O error" in store.notes[0]
    assert query.exchange(query.connect(settings), "a") is not None
    store.close()


def test_a_shared_file_system_gets_no_wal_although_it_seems_to_work(settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def lustre(directory: Path) -> str:
        return "lustre"

    monkeypatch.setattr(engines, "_file_system", lustre)
    store = Store.open(settings)
    assert _journal(settings) == "delete"
    assert "lustre" in store.notes[0]
    store.close()


def _journal(settings: LedgerSettings) -> str:
    with sqlite3.connect(settings.sqlite_path) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_file_that_is_no_ledger_is_named(settings: LedgerSettings) -> None:
    settings.data_dir.mkdir(parents=True)
    settings.sqlite_path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used: file is not a database.*Move the file away"):
        Store.open(settings)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be read"):
        query.connect(settings)


def test_a_damaged_file_is_named(settings: LedgerSettings) -> None:
    store = Store.open(settings)
    store.write([make_row("a")])
    store.close()
    data = settings.sqlite_path.read_bytes()
    settings.sqlite_path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used"):
        Store.open(settings)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"file/data/ledger\.db cannot be opened: Not a directory"):
        Store.open(LedgerSettings(tmp_path / "file" / "data"))


@pytest.mark.parametrize("url", ["mysql://u:secret@host/db", "nonsense"])
def test_a_url_of_no_known_database_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(LedgerError, match="postgresql://user@host/database") as caught:
        Store.open(LedgerSettings(tmp_path, url))
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"127\.0\.0\.1:1/db cannot be used") as caught:
        Store.open(LedgerSettings(tmp_path, "postgresql://u:secret@127.0.0.1:1/db"))
    assert "secret" not in str(caught.value)


def test_a_sqlite_url_names_the_file(tmp_path: Path) -> None:
    Store.open(LedgerSettings(tmp_path, f"sqlite:///{tmp_path}/elsewhere.db")).close()
    assert (tmp_path / "elsewhere.db").exists()


def test_a_locked_database_is_tried_once_a_write(settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(settings)
    blocker = sqlite3.connect(settings.sqlite_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    tried: list[int] = []
    write = store._write  # pyright: ignore[reportPrivateUsage]

    def count(rows: list[Row]) -> None:
        tried.append(len(rows))
        write(rows)

    monkeypatch.setattr(store, "_write", count)
    with pytest.raises(StoreError, match="database is locked"):
        store.write([make_row("a")])
    assert tried == [1], "cleaning rows helps against values, not against a lock"
    blocker.close()
    store.close()


def test_a_locked_database_is_no_reason_to_wait_long(settings: LedgerSettings) -> None:
    store = Store.open(settings)
    blocker = sqlite3.connect(settings.sqlite_path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="database is locked"):
        store.write([make_row("a")])
    with pytest.raises(StoreError, match="locked"):
        store.hold(OTHER, 5.0)
    assert store.maker_of("resp_1") is None  # Readers of a WAL never wait.
    blocker.execute("ROLLBACK")
    store.write([make_row("a")])
    blocker.close()
    store.close()
