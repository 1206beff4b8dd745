"""The admin plane over real sockets: who may enter, and what it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.admin import AdminListener, Deps, make_app, queries
from penstock.ledger import query
from penstock.ledger.errors import LedgerError
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.usage import Provenance, Usage
from tests.support.ledgers import COMPLETE, GONE, MIDNIGHT, make_entry

TOKEN = "t" * 43
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Book:
    """A ledger of one row, that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.draining = False
        self.failing = False
        self.error: Exception | None = None
        self.hold: threading.Event | None = None

    def exchanges(self, last: int = 50, **filters: Any) -> list[dict[str, Any]]:
        self._note("exchanges", {"last": last, **filters})
        return [{"id": "px-1", "outcome": "COMPLETE", "input_tokens": None}]

    def exchange(self, id: str) -> dict[str, Any] | None:
        self._note("exchange", {"id": id})
        return {"id": id} if id == "px-1" else None

    def usage(self, group_by: Sequence[query.Group] = ("model",), **filters: Any) -> list[dict[str, Any]]:
        self._note("usage", {"by": tuple(group_by), **filters})
        return [{"model": "m", "exchanges": 1}]

    def _note(self, name: str, asked: dict[str, Any]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.asked.append((name, {key: value for key, value in asked.items() if value is not None and value is not False}))
        if self.hold is not None:
            self.hold.wait(5)
        if self.error is not None:
            raise self.error

    def deps(self) -> Deps:
        return Deps(
            "1.2.3", "i1", TOKEN, self.exchanges, self.exchange, self.usage, draining=lambda: self.draining, ledger_failing=lambda: self.failing)


@asynccontextmanager
async def serving(deps: Deps) -> AsyncGenerator[httpx.AsyncClient]:
    listener = AdminListener("127.0.0.1", 0)
    port = await listener.start(make_app(deps))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            yield client
    finally:
        await listener.stop()


def run(deps: Deps, test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20), serving(deps) as client:
            await test(client)

    asyncio.run(bounded())


# Who may enter.


def test_without_the_token_nothing_below_api_is_answered() -> None:
    book = Book()

    async def test(client: httpx.AsyncClient) -> None:
        wrong: list[dict[str, str]] = [
            {}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}, {"authorization": "Bearer"},
            {"x-api-key": TOKEN}, {"cookie": f"token={TOKEN}"},
        ]  # fmt: skip
        for path in ("/api/exchanges", "/api/usage", "/api/exchanges/px-1", "/api/", "/api/nothing", "/%61pi/usage", f"/api/usage?token={TOKEN}"):
            for headers in wrong:
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 401, (path, headers)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.json()["error"]["type"] == "unauthenticated"
        twice = [("authorization", "Bearer x"), ("authorization", f"Bearer {TOKEN}")]
        assert (await client.get("/api/usage", headers=twice)).status_code == 401
        assert (await client.post("/api/usage")).status_code == 401
        assert (await client.options("/api/usage")).status_code == 401
        assert (await client.get("/api/usage", headers={"authorization": f"bearer  {TOKEN}"})).status_code == 200
        assert (await client.get("/api/nothing", headers=BEARER)).status_code == 404

    run(book.deps(), test)
    assert [name for name, _ in book.asked] == ["usage"]


def test_a_foreign_host_is_refused_everywhere_and_a_named_one_is_not() -> None:
    deps = replace(Book().deps(), hosts=("penstock.example",))

    async def test(client: httpx.AsyncClient) -> None:
        for path in ("/health", "/ready", "/api/usage", "/nothing"):
            for host in ("evil.test", "127.0.0.1.evil.test", "169.254.169.254", ""):
                answer = await client.get(path, headers={**BEARER, "host": host})
                assert answer.status_code in (400, 403), (path, host)
                assert answer.headers.get("access-control-allow-origin") is None
        for host in ("localhost", "localhost:4271", "127.0.0.1:1", "[::1]:4271", "penstock.example", "PENSTOCK.example:80"):
            assert (await client.get("/health", headers={"host": host})).status_code == 200

    run(deps, test)


def test_every_answer_is_private_and_open_to_no_other_origin() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for path in ("/health", "/ready", "/api/usage", "/nothing", "/health/", "/docs", "/openapi.json"):
            for headers in (BEARER, {"host": "evil.test"}, {"origin": "https://evil.test"}):
                answer = await client.get(path, headers=headers)
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers.get_list("cache-control") == ["no-store"]
                assert answer.headers["content-type"] == "application/json"
                assert not [name for name in answer.headers if name.startswith("access-control-")]
                assert "server" not in answer.headers
        preflight = await client.options("/health", headers={"origin": "https://evil.test", "access-control-request-method": "GET"})
        assert preflight.status_code == 405
        assert not [name for name in preflight.headers if name.startswith("access-control-")]

    run(Book().deps(), test)


def test_unknown_paths_and_methods_are_told_in_json_and_nothing_redirects() -> None:
    async def test(client: httpx.AsyncClient) -> None:
        for path in ("/", "/health/", "//health", "/docs", "/redoc", "/openapi.json", "/apix"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found"), path
        for path in ("/health", "/ready", "/api/usage", "/api/exchanges/px-1"):
            answer = await client.post(path, headers=BEARER, content=b"x" * 100_000)
            assert (answer.status_code, answer.json()["error"]["type"]) == (405, "method_not_allowed")
            assert "GET" in answer.headers["allow"]
            head = await client.head(path, headers=BEARER)
            assert (head.status_code, head.content) == (200, b"")

    run(Book().deps(), test)


# What it answers.


def test_health_answers_whatever_is_wrong_and_ready_says_what() -> None:
    book = Book()

    async def test(client: httpx.AsyncClient) -> None:
        ready = await client.get("/ready")
        assert (ready.json(), ready.headers.get("retry-after")) == ({"status": "ready", "reasons": []}, None)
        book.draining = book.failing = True
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["draining", "ledger failing"])
        assert answer.headers["retry-after"] == "1"
        book.draining = False
        assert (await client.get("/ready")).json()["reasons"] == ["ledger failing"]
        answer = await client.get("/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": "1.2.3", "instance": "i1"})

    run(book.deps(), test)
    assert book.asked == []


def test_filters_reach_the_ledger() -> None:
    book = Book()
    deps = replace(book.deps(), clock=lambda: MIDNIGHT)

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/exchanges?last=3&outcome=truncated&provider=p&model=a%2Fb&since=1h&id=px&open=1", headers=BEARER)
        assert answer.json() == {"exchanges": [{"id": "px-1", "outcome": "COMPLETE", "input_tokens": None}]}
        answer = await client.get("/api/usage?by=day,provider&until=2023-11-15", headers=BEARER)
        assert answer.json() == {"by": ["day", "provider"], "usage": [{"model": "m", "exchanges": 1}]}
        assert (await client.get("/api/exchanges/px-1", headers=BEARER)).json() == {"id": "px-1"}
        assert (await client.get("/api/exchanges/px-2", headers=BEARER)).status_code == 404
        assert (await client.get("/api/exchanges/" + "x" * 300, headers=BEARER)).status_code == 404

    run(deps, test)
    filters = {"outcome": ["TRUNCATED"], "provider": "p", "model": "a/b", "since": MIDNIGHT - 3600, "id_prefix": "px", "open_only": True}
    assert book.asked == [
        ("exchanges", {"last": 3, **filters}),
        ("usage", {"by": ("day", "provider"), "until": MIDNIGHT + 86400}),
        ("exchange", {"id": "px-1"}),
        ("exchange", {"id": "px-2"}),
    ]


@pytest.mark.parametrize(
    "question", ["exchanges?last=all", "exchanges?outcome=DONE", "usage?by=colour", "usage?since=soon", "usage?nothing=1", "usage?by="])
def test_a_bad_parameter_is_told_and_asks_nothing(question: str) -> None:
    book = Book()

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/api/{question}", headers=BEARER)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "bad_request")
        assert len(answer.json()["error"]["message"]) > 10

    run(book.deps(), test)
    assert book.asked == []


def test_a_ledger_that_cannot_be_read_is_told() -> None:
    book = Book()
    book.error = LedgerError("the ledger cannot be read now: disk I/O error")

    async def test(client: httpx.AsyncClient) -> None:
        for path in ("/api/exchanges", "/api/exchanges/px-1", "/api/usage"):
            answer = await client.get(path, headers=BEARER)
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ledger")
        assert (await client.get("/health")).status_code == 200

    run(book.deps(), test)


def test_a_bug_of_ours_is_told_without_its_words() -> None:
    book = Book()
    book.error = RuntimeError("with a secret in it")

    async def test(client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/usage", headers=BEARER)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "internal")
        assert "secret" not in answer.text
        assert answer.headers["cache-control"] == "no-store"

    run(book.deps(), test)


def test_a_slow_ledger_holds_up_nobody_else_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LINE", 3)
    book = Book()
    book.hold = threading.Event()
    deps = replace(book.deps(), query_limit=0.1)

    async def test(client: httpx.AsyncClient) -> None:
        assert book.hold is not None
        try:
            waiting = [asyncio.create_task(client.get("/api/usage", headers=BEARER)) for _ in range(4)]
            assert (await client.get("/health")).status_code == 200
            answers = await asyncio.gather(*waiting)
            assert {answer.status_code for answer in answers} == {503}
            told = sorted(answer.json()["error"]["message"] for answer in answers)
            assert told == ["3 questions are being answered already"] + ["the ledger did not answer within 0.1 s"] * 3
            # Two threads were taken; what waited behind them was never begun.
            assert len(book.asked) == 2
        finally:
            book.hold.set()
        # The threads end by themselves and serve again.
        async with asyncio.timeout(5):
            while (await client.get("/api/usage", headers=BEARER)).status_code != 200:
                pass

    run(deps, test)


def test_over_a_real_ledger(tmp_path: Path) -> None:
    settings = LedgerSettings(tmp_path)
    ledger = Ledger.start(settings, "i1")
    engine = query.connect(settings)
    try:
        for number, outcome in enumerate((COMPLETE, GONE)):
            entry = make_entry(f"px-{number}", MIDNIGHT + number)
            ledger.open(entry)
            entry.account(Usage(input=10, output=5), Provenance.REPORTED)
            entry.settle(outcome, MIDNIGHT + number + 1)
        assert ledger.flush()
        deps = Deps(
            "1", "i1", TOKEN, partial(query.exchanges, engine), partial(query.exchange, engine), partial(query.usage, engine),
            draining=lambda: False, ledger_failing=lambda: False)  # fmt: skip

        async def test(client: httpx.AsyncClient) -> None:
            rows = (await client.get("/api/exchanges", headers=BEARER)).json()["exchanges"]
            assert [row["id"] for row in rows] == ["px-1", "px-0"]
            rows = (await client.get("/api/exchanges?outcome=complete&until=2023-11-15", headers=BEARER)).json()["exchanges"]
            assert [row["id"] for row in rows] == ["px-0"]
            assert (await client.get("/api/exchanges/px-1", headers=BEARER)).json()["outcome"] == "CLIENT_GONE"
            sums = (await client.get("/api/usage?by=provider", headers=BEARER)).json()["usage"]
            assert [(row["provider"], row["exchanges"], row["input_tokens"]) for row in sums] == [("openai", 2, 20)]
            assert (await client.get("/api/usage?since=999999w&until=99999999999", headers=BEARER)).status_code == 200

        run(deps, test)
    finally:
        engine.dispose()
        ledger.close()
