"""Who needs rows to stay, and who waits for whom."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.ledger import staying
from penstock.ledger.errors import StoreError
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_row

LATER = MIDNIGHT + 10 * 86400


@pytest.fixture
def stores(any_settings: LedgerSettings) -> Iterator[tuple[Store, Store]]:
    """Of two processes, with a row that may be retired."""
    one, other = Store.open(any_settings), Store.open(any_settings)
    one.write([make_row("px-1", started_at=MIDNIGHT, outcome=COMPLETE)])
    yield one, other
    one.close()
    other.close()


def test_several_may_hold_rows_and_the_last_one_lets_them_go(stores: tuple[Store, Store]) -> None:
    one, other = stores
    with ExitStack() as first, other.stay() as sure:
        first.enter_context(one.stay())
        assert (one.retire(LATER, 9), other.retire(LATER, 9)) == (0, 0)
        first.close()
        sure()
        assert (one.retire(LATER, 9), other.retire(LATER, 9)) == (0, 0)
        one.write([make_row("px-2", started_at=MIDNIGHT, outcome=COMPLETE)])
    assert other.retire(LATER, 9) == 2


def test_it_ends_with_what_it_was_for(stores: tuple[Store, Store]) -> None:
    one, other = stores
    with pytest.raises(ZeroDivisionError), one.stay():
        _ = 1 / 0
    assert other.retire(LATER, 9) == 1


def test_a_process_that_dies_holds_nothing(settings: LedgerSettings) -> None:
    store = Store.open(settings)
    store.write([make_row("px-1", started_at=MIDNIGHT, outcome=COMPLETE)])
    holding = "import sys; from pathlib import Path; from penstock.ledger.staying import hold_file\n" \
        "with hold_file(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holding, settings.sqlite_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert store.retire(LATER, 9) == 0
        child.kill()
        child.wait()
        assert store.retire(LATER, 9) == 1
    store.close()


def test_a_connection_that_is_gone_is_told(settings: LedgerSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(replace(settings, url=postgres_url))
    held: list[sa.Connection] = []
    hold = staying.hold_server

    @contextmanager
    def seen(engine: sa.Engine) -> Generator[sa.Connection]:
        with hold(engine) as connection:
            held.append(connection)
            yield connection

    monkeypatch.setattr(staying, "hold_server", seen)
    with store.stay() as sure:
        sure()
        pid = held[0].scalar(sa.text("SELECT pg_backend_pid()"))
        store.change(lambda connection: connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).all())
        with pytest.raises(StoreError):
            sure()
    with store.stay() as sure:
        sure()
    store.close()


def test_where_there_are_no_such_locks_nobody_is_kept_from_anything(
    settings: LedgerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staying.hold_file(tmp_path / "absent" / "rows.db"), staying.hold_file(tmp_path / "absent" / "rows.db", retiring=True) as free:
        assert free
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with staying.hold_file(tmp_path / "rows.db"), staying.hold_file(tmp_path / "rows.db", retiring=True) as free:
        assert free
