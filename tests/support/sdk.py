"""The official clients, sync and async behind one face, and a gateway between them and an upstream that is ours."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import pytest
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from penstock.lab.http1 import Asked, LabServer
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.lab.server import ReplayServer
from tests.support.corpus import COLUMNS, Case, cases
from tests.support.gateway import Running, gateway, providers_at

T = TypeVar("T")
Mode = Literal["sync", "async"]
each_mode = pytest.mark.parametrize("mode", ["sync", "async"])
KEY = "sk-client-own-key"
"""What clients bring; no provider that has a key of its own may ever see it."""


class Sdk:
    """One official client. Calls are written once, for both: `lambda c: c.chat.completions.create(...)`.

    A sync client is called in a thread, because the gateway runs on the test's loop.
    """

    def __init__(self, client: Any, mode: Mode, close: Callable[[], Any]) -> None:
        self.client = client
        self.mode: Mode = mode
        self._close = close

    async def one(self, call: Callable[[Any], Any]) -> Any:
        """What `call` returns."""
        if self.mode == "sync":
            return await asyncio.to_thread(call, self.client)
        found = call(self.client)
        return await found if inspect.isawaitable(found) else found

    async def many(self, call: Callable[[Any], Any], each: Callable[[], None] | None = None) -> list[Any]:
        """Everything that comes when one iterates over what `call` returns: a stream, or the pages of a list."""

        def work() -> list[Any]:
            return list(_tell(call(self.client), each))

        if self.mode == "sync":
            return await asyncio.to_thread(work)
        found = call(self.client)
        return await _gather(found if hasattr(found, "__aiter__") else await found, each)

    async def helped(self, call: Callable[[Any], Any], finish: Callable[[Any], Any], each: Callable[[], None] | None = None) -> tuple[list[Any], Any]:
        """All events of a stream helper (a context manager), and what `finish` makes of it afterwards."""

        def work() -> tuple[list[Any], Any]:
            with call(self.client) as stream:
                return list(_tell(stream, each)), finish(stream)

        if self.mode == "sync":
            return await asyncio.to_thread(work)
        async with call(self.client) as stream:
            events = await _gather(stream, each)
            found = finish(stream)
            return events, await found if inspect.isawaitable(found) else found

    async def __aenter__(self) -> Sdk:
        return self

    async def __aexit__(self, *_: object) -> None:
        closed = self._close()
        if inspect.isawaitable(closed):
            await closed


class Maker(Protocol):
    """Makes a client for a base URL without any path."""

    def __call__(self, base: str, mode: Mode, **more: Any) -> Sdk: ...


def openai_sdk(base: str, mode: Mode, **more: Any) -> Sdk:
    given: dict[str, Any] = {"base_url": base + "/v1", "api_key": KEY, "max_retries": 0, "timeout": 20.0, **more}
    client: Any = OpenAI(**given) if mode == "sync" else AsyncOpenAI(**given)
    return Sdk(client, mode, client.close)


def anthropic_sdk(base: str, mode: Mode, **more: Any) -> Sdk:
    given: dict[str, Any] = {"base_url": base, "api_key": KEY, "max_retries": 0, "timeout": 20.0, **more}
    client: Any = Anthropic(**given) if mode == "sync" else AsyncAnthropic(**given)
    return Sdk(client, mode, client.close)


def gemini_sdk(base: str, mode: Mode, **more: Any) -> Sdk:
    """`more` goes into the client's `HttpOptions`, but for `api_key`."""
    key = more.pop("api_key", KEY)
    options = types.HttpOptions(base_url=base, timeout=20_000, retry_options=types.HttpRetryOptions(attempts=1), **more)
    client = genai.Client(api_key=key, http_options=options)
    return Sdk(client, mode, client.close) if mode == "sync" else Sdk(client.aio, mode, client.aio.aclose)


def _tell(found: Iterable[Any], each: Callable[[], None] | None) -> Iterable[Any]:
    for item in found:
        if each is not None:
            each()
        yield item


async def _gather(found: Any, each: Callable[[], None] | None) -> list[Any]:
    out: list[Any] = []
    async for item in found:
        if each is not None:
            each()
        out.append(item)
    return out


def plain(value: Any) -> Any:
    """A client's objects as plain data, to compare two of them; what tells of the transport (headers) is left out."""
    if isinstance(value, BaseModel):
        told = value.model_dump(warnings="none")
        told.pop("sdk_http_response", None)
        return told
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


class Site:
    """A gateway, the upstream behind it, and clients of both."""

    def __init__(self, running: Running, upstream: LabServer, port: int) -> None:
        self.running = running
        self.upstream = upstream
        self.upstream_url = f"http://127.0.0.1:{port}"
        self.port = running.port
        self.url = running.url

    async def both(self, make: Maker, mode: Mode, how: Callable[[Sdk], Awaitable[T]], **more: Any) -> T:
        """What `how` gets through the gateway, which must be what it gets straight from the upstream."""
        async with make(self.upstream_url, mode, **more) as direct, make(self.url, mode, **more) as relayed:
            wanted = await how(direct)
            found = await how(relayed)
            assert plain(found) == plain(wanted)
            return found

    async def last_row(self) -> dict[str, Any]:
        return await self.running.last_row()

    def last_asked(self) -> Asked:
        """The last request that the upstream got."""
        return self.upstream.log[-1]


@asynccontextmanager
async def site(
    directory: Path, upstream: LabServer, providers: Callable[[int], Mapping[str, Any]] = providers_at, more: Mapping[str, Any] | None = None
) -> AsyncGenerator[Site]:
    """`providers`: from the upstream's port to the file's `providers`."""
    port = await upstream.start("127.0.0.1", 0)
    try:
        async with gateway(directory, providers(port), more) as running:
            yield Site(running, upstream, port)
    finally:
        upstream.close()


def recorded() -> ReplayServer:
    """The whole corpus as a provider: the model `replay/<protocol>/<name>`."""
    return ReplayServer([case.recording for case in cases()])


def case(name: str) -> Case:
    """The recording whose `<protocol>/<name>` begins like this."""
    found = [c for c in cases() if c.name.startswith(name)]
    assert len(found) == 1, (name, [c.name for c in found])
    return found[0]


def check_row(row: Mapping[str, Any], wanted: Case, operation: str, *, streamed: bool) -> None:
    """The row says what the recording's index says."""
    expected = wanted.expected
    assert row["outcome"] == expected["outcome"], row["cause"]
    assert row["operation"] == operation
    assert row["client_protocol"] == row["upstream_protocol"] == wanted.recording.protocol
    assert bool(row["streamed"]) == streamed
    if expected["outcome"] == "COMPLETE":
        assert row["status"] == row["upstream_status"] == 200
        assert (row["response_id"], row["model"], row["stop_reason"]) == (expected["response_id"], expected["model"], expected["stop_reason"])
        usage: dict[str, Any] = expected["usage"] or {}
        assert {column: row[column] for column in COLUMNS.values()} == {column: usage.get(word) for word, column in COLUMNS.items()}
        assert row["usage_source"] == ("reported" if usage else "none")


Page = bytes | Callable[[Visit], Awaitable[None]]
"""A whole response as bytes (`scripted.whole`, `sse`), or what answers."""


def pages(table: Mapping[str, Page]) -> ScriptedServer:
    """A provider of `"METHOD /path"` -> page; everything else is a 404 in words of its own."""

    async def answer(visit: Visit) -> None:
        page = table.get(f"{visit.asked.method} {visit.asked.path}", NOWHERE)
        if callable(page):
            await page(visit)
        else:
            await visit.body()
            await visit.send(page)

    return ScriptedServer(answer)


def page(value: Any, status: int = 200, *headers: str) -> bytes:
    """JSON with a provider's usual headers. `headers` are lines."""
    ids = "x-request-id: req_of_provider", "request-id: req_of_provider"
    return whole(json.dumps(value).encode(), status, *ids, *headers)


def sse(*frames: bytes) -> bytes:
    """A whole stream, in chunks."""
    return SSE_HEAD + b"".join(chunk(frame) for frame in frames) + LAST_CHUNK


NOWHERE = page({"error": {"message": "the test's provider has no such page", "type": "nowhere", "code": 404}}, 404)


class Lockstep:
    """A page that sends a piece only when the client has seen what the pieces before it completed.

    A gateway that held anything back would never see the next piece; the page then fails its test.
    """

    def __init__(self, head: bytes, steps: Sequence[tuple[bytes, int]]) -> None:
        """`steps`: what to send, and how many events the client must have seen of everything so far before the next one is sent."""
        self._head = head
        self._steps = steps
        self._seen = 0
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.waits = 0
        """Steps that really waited for the client."""

    def seen(self) -> None:
        """The client saw one more event; from any thread."""
        self._loop.call_soon_threadsafe(self._count)

    def _count(self) -> None:
        self._seen += 1
        self._news.set()

    async def __call__(self, visit: Visit) -> None:
        await visit.body()
        await visit.send(self._head)
        for piece, wanted in self._steps:
            await visit.send(chunk(piece))
            self.waits += self._seen < wanted
            async with asyncio.timeout(10):
                while self._seen < wanted:
                    self._news.clear()
                    await self._news.wait()
        await visit.send(LAST_CHUNK)


def steps_of(wanted: Case, shows: Callable[[bytes, bytes], bool]) -> list[tuple[bytes, int]]:
    """A recording for `Lockstep`. `shows`: from a frame's name and data to whether the client makes an event of it."""
    seen = 0
    out: list[tuple[bytes, int]] = []
    for frame in wanted.recording.frames:
        seen += bool(frame.data) and shows(frame.name, frame.data)
        out.append((frame.raw, seen))
    return out
