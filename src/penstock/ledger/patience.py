"""How long somebody waits for PostgreSQL: every wait of a connection has an end, also where the server is there and does not answer.

The server's own limits (`statement_timeout`) are kept by the server, and TCP's only hold while nobody acknowledges. A server that is stopped, whose
disk hangs, or whose virtual machine sleeps, does neither: its kernel acknowledges, and libpq waits for ever. So the client counts, too. A wait that
took too long closes the connection (what was asked may have been done or not: nobody knows) and is an `OperationalError`, as a lost connection is.

Patience is for one wait, that is for one statement or COMMIT, in seconds. `limit` changes it until the connection goes back to its pool. `end_by` is
for a process that stops: it ends all waits of an engine at one moment, those that have begun by then and those that would begin.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import cache
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

_SHORTEST_S, _LONGEST_S = 2, 130
"""For a new connection: psycopg makes 2 of a second, and waits so long unless told."""
_INTERVAL_S = 0.1
"""How often a wait looks at the clock."""


class _End:
    """When nobody waits any more."""

    at = inf


_ends: WeakKeyDictionary[sa.Engine, _End] = WeakKeyDictionary()


def make_patient(engine: sa.Engine, seconds: float) -> None:
    """Connections of this engine (psycopg's) wait that long and no longer."""
    end = _ends[engine] = _End()

    @event.listens_for(engine, "do_connect")
    def _(dialect: object, record: object, words: list[Any], named: dict[str, Any]) -> Any:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy has it
        kind = _connection_class()
        left = end.at - time.monotonic()
        if left < _SHORTEST_S:
            raise kind.too_late()
        if left < inf:
            named = named | {"connect_timeout": min(named.get("connect_timeout", _LONGEST_S), int(left))}
        connection = kind.connect(*words, **named)
        connection.end = end
        return connection

    @event.listens_for(engine, "checkout")
    def _(connection: Any, record: object, proxy: object) -> None:  # pyright: ignore[reportUnusedFunction]  # SQLAlchemy has it
        connection.patience_s = seconds


def limit(connection: sa.Connection, seconds: float) -> None:
    """From now on, until it goes back to the pool. Not for SQLite, whose locks have a patience of their own."""
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        driver.patience_s = seconds


def end_by(engine: sa.Engine, at: float) -> None:
    """No wait lasts beyond that moment (of `time.monotonic`). From any thread. Not for SQLite."""
    end = _ends.get(engine)
    if end is not None:
        end.at = min(end.at, at)


@cache
def _connection_class() -> Any:
    """psycopg is there only where somebody asked for it."""
    import psycopg

    class Patient(psycopg.Connection[Any]):
        patience_s = 25.0
        end = _End()

        @staticmethod
        def too_late() -> Exception:
            return psycopg.OperationalError("the server is not waited for any more")

        def wait(self, gen: Generator[Any, Any, Any], interval: float = _INTERVAL_S, timeout: float | None = None) -> Any:
            more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}  # psycopg 3.2 does not know it
            return super().wait(self._counted(gen, time.monotonic() + self.patience_s), interval, **more)

        def _counted(self, gen: Generator[Any, Any, Any], until: float) -> Generator[Any, Any, Any]:
            """`gen`, which asks for a socket to become ready, as long as there is time. What it is sent is false where an interval went by."""
            try:
                asked = next(gen)
                while True:
                    ready = yield asked
                    if not ready and time.monotonic() > min(until, self.end.at):
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    asked = gen.send(ready)
            except StopIteration as done:
                return done.value

    return Patient
