"""`/api/keys` and `/api/budgets`: what is asked, what is answered, and where a key's own text stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from penstock.admin import Deps, make_app
from penstock.stores.errors import KeyProblem, StoreError
from penstock.stores.keys import Wanted

TOKEN = "t" * 43


def nothing(*_: Any, **__: Any) -> Any:
    raise AssertionError("the ledger has nothing to do with it")


class Control:
    """A gatehouse that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.fails: Exception | None = None

    def note(self, *what: Any) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        self.asked.append(what)
        return {"id": "key_1"}

    async def list(self) -> list[dict[str, Any]]:
        return [self.note("list")]

    async def create(self, wanted: Wanted) -> tuple[dict[str, Any], str]:
        return self.note("create", wanted), "sk-pst-text"

    async def adopt(self, wanted: Wanted, sha: bytes) -> dict[str, Any]:
        return self.note("adopt", wanted, sha)

    async def rotate(self, id: str, grace: float) -> tuple[dict[str, Any], str]:
        return self.note("rotate", id, grace), "sk-pst-new"

    async def revoke(self, id: str) -> dict[str, Any]:
        return self.note("revoke", id)

    async def spent(self) -> Sequence[dict[str, object]]:
        return [self.note("spent")]


@asynccontextmanager
async def serving(control: Control) -> AsyncGenerator[httpx.AsyncClient]:
    deps = Deps("1", "i1", TOKEN, nothing, nothing, nothing, draining=lambda: False, ledger_failing=lambda: False, keys=control)
    transport = httpx.ASGITransport(make_app(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def run(test: Callable[[httpx.AsyncClient, Control], Awaitable[None]], control: Control | None = None) -> None:
    async def bounded() -> None:
        used = control or Control()
        async with asyncio.timeout(20), serving(used) as client:
            await test(client, used)

    asyncio.run(bounded())


def test_the_ways() -> None:
    async def test(client: httpx.AsyncClient, control: Control) -> None:
        assert (await client.get("/api/keys")).json() == {"keys": [{"id": "key_1"}]}
        made = await client.post("/api/keys", json={"name": "a", "models": ["x*"], "limits": ["streams=2"]})
        assert (made.status_code, made.json()) == (201, {"key": {"id": "key_1"}, "secret": "sk-pst-text"})
        taken = await client.post("/api/keys", json={"name": "a", "sha256": "sha256:" + "ab" * 32})
        assert (taken.status_code, taken.json()) == (201, {"key": {"id": "key_1"}})
        assert (await client.post("/api/keys/key_1/rotate")).json()["secret"] == "sk-pst-new"
        assert (await client.post("/api/keys/key_1/rotate", json={"grace_seconds": 60})).status_code == 200
        assert (await client.post("/api/keys/key_1/rotate", json={"grace_seconds": -1})).status_code == 400
        assert (await client.delete("/api/keys/key_1")).json() == {"key": {"id": "key_1"}}
        assert (await client.get("/api/budgets")).json() == {"budgets": [{"id": "key_1"}]}
        assert control.asked == [
            ("list",), ("create", Wanted("a", models=["x*"], limits=["streams=2"])), ("adopt", Wanted("a"), b"\xab" * 32),
            ("rotate", "key_1", 0.0), ("rotate", "key_1", 60.0), ("revoke", "key_1"), ("spent",),
        ]  # fmt: skip

    run(test)


@pytest.mark.parametrize(("body", "status"), [
    ({}, 400), ({"name": 5}, 400), ({"name": "a", "colour": "red"}, 400), ({"name": "a", "sha256": "ab"}, 400), ("x" * 70_000, 413),
])  # fmt: skip
def test_what_is_not_understood(body: Any, status: int) -> None:
    async def test(client: httpx.AsyncClient, control: Control) -> None:
        assert (await client.post("/api/keys", json=body)).status_code == status
        assert control.asked == []

    run(test)


@pytest.mark.parametrize(("error", "status", "kind"), [
    (KeyProblem("there is no key x"), 404, "not_found"), (KeyProblem("no"), 400, "bad_request"), (StoreError("gone"), 503, "ledger")])
def test_what_cannot_be_done(error: Exception, status: int, kind: str) -> None:
    async def test(client: httpx.AsyncClient, control: Control) -> None:
        answer = await client.delete("/api/keys/x")
        assert (answer.status_code, answer.json()["error"]) == (status, {"type": kind, "message": str(error)})

    failing = Control()
    failing.fails = error
    run(test, failing)


def test_without_the_admin_s_token_nothing() -> None:
    async def test(client: httpx.AsyncClient, control: Control) -> None:
        for method, path in (("GET", "/api/keys"), ("POST", "/api/keys"), ("DELETE", "/api/keys/x"), ("GET", "/api/budgets")):
            assert (await client.request(method, path, headers={"authorization": ""})).status_code == 401
        assert control.asked == []

    run(test)
