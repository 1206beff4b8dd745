"""Streams that break off: no official client may take what came for a whole answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Visit, chunk
from penstock.lab.server import Cut
from tests.support.gateway import run
from tests.support.sdk import Maker, Mode, Page, Sdk, anthropic_sdk, case, each_mode, gemini_sdk, openai_sdk, pages, recorded, site

NAMES = {
    "chat": "openai_chat/test_complex_agent_run_in_workflow_1", "responses": "openai_responses/test_openai_responses_stream_1",
    "messages": "anthropic_messages/test_anthropic_model_thinking_part_stream_0", "generate": "gemini/test_google_model_thinking_part_iter_0",
}  # fmt: skip
MAKERS: dict[str, Maker] = {"chat": openai_sdk, "responses": openai_sdk, "messages": anthropic_sdk, "generate": gemini_sdk}


def opened(client: Any, kind: str, model: str) -> Any:
    match kind:
        case "chat":
            return client.chat.completions.create(model=model, messages=[], stream=True)
        case "responses":
            return client.responses.create(model=model, input="x", stream=True)
        case "messages":
            return client.messages.create(model=model, messages=[], max_tokens=9, stream=True)
        case _:
            return client.models.generate_content_stream(model=model, contents="x")


async def broken(sdk: Sdk, call: Callable[[Any], Any]) -> tuple[int, Any]:
    """How many events came, and the error behind them; `None` where there was none."""
    seen: list[None] = []
    try:
        await sdk.many(call, lambda: seen.append(None))
    except Exception as error:  # whatever its class: that is what is looked at
        return len(seen), error
    return len(seen), None


PATHS = {
    "chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages", "generate": "/v1/models/m:streamGenerateContent",
}  # fmt: skip


def check_error(kind: str, error: Any, own_id: str) -> None:
    """The client's error for an answer of which the gateway says that it is not complete."""
    match kind:
        case "chat":
            assert type(error) is openai.APIError
            assert error.type == "server_error"
        case "messages":
            assert isinstance(error, anthropic.APIStatusError)
            assert error.type == "api_error"
        case _:
            assert isinstance(error, google.APIError)
            assert error.code == 502
    assert "provider" in str(error)
    told: Any = error
    assert own_id in str(told.details if kind == "generate" else told.body)


HOWS: tuple[Cut, ...] = ("eof", "reset", "clean")


@each_mode
@pytest.mark.parametrize("kind", ["chat", "messages", "generate"])
def test_a_cut_stream_raises(tmp_path: Path, kind: str, mode: Mode) -> None:
    wanted = case(NAMES[kind])
    size = len(wanted.recording.frames[0].raw + wanted.recording.frames[1].raw)

    async def main() -> None:
        server = recorded()
        async with site(tmp_path, server) as here, MAKERS[kind](here.url, mode) as sdk:
            # On a frame's boundary, and inside of one.
            for how, cut_at in itertools.product(HOWS, (size, size + 25)):
                server.cut_at, server.cut_how = cut_at, how
                seen, error = await broken(sdk, lambda c: opened(c, kind, f"replay/{wanted.name}"))
                row = await here.last_row()
                assert seen == 2
                check_error(kind, error, row["upstream_request_id"] if kind == "messages" else row["id"])
                assert row["outcome"] == ("TRUNCATED" if how == "clean" else "UPSTREAM_LOST"), row["cause"]
                assert row["stop_reason"] in (None, "incomplete")
                assert row["usage_source"] in ("none", "partial")
                assert row["bytes_out"] > size

    run(main())


@each_mode
def test_a_cut_response_is_told_as_failed(tmp_path: Path, mode: Mode) -> None:
    wanted = case(NAMES["responses"])
    size = sum(len(frame.raw) for frame in wanted.recording.frames[:4])

    async def main() -> None:
        server = recorded()
        async with site(tmp_path, server) as here, openai_sdk(here.url, mode) as sdk:
            for how, cut_at in itertools.product(HOWS, (size, size + 30)):
                server.cut_at, server.cut_how = cut_at, how
                events = await sdk.many(lambda c: opened(c, "responses", f"replay/{wanted.name}"))
                row = await here.last_row()
                assert [e.type for e in events[:1]] == ["response.created"]
                last = events[-1]
                assert (last.type, last.response.status) == ("response.failed", "failed")
                assert last.response.id == wanted.expected["response_id"] == row["response_id"]
                assert last.response.error.code
                assert "provider 'openai'" in last.response.error.message
                assert row["outcome"] == ("TRUNCATED" if how == "clean" else "UPSTREAM_LOST")
                # The helper ends without a final response, and says so.
                with pytest.raises(RuntimeError, match=r"response\.completed"):
                    await sdk.helped(lambda c: c.responses.stream(model=f"replay/{wanted.name}", input="x"), lambda s: s.get_final_response())

    run(main())


HELPERS: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any], Any], type[Exception]]] = {
    "chat": (lambda c, m: c.chat.completions.stream(model=m, messages=[]), lambda s: s.get_final_completion(), openai.APIError),
    "messages": (lambda c, m: c.messages.stream(model=m, messages=[], max_tokens=9), lambda s: s.get_final_message(), anthropic.APIStatusError),
}


@each_mode
def test_a_helper_never_gives_half_an_answer_for_a_whole_one(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        server = recorded()
        async with site(tmp_path, server) as here:
            for kind, (call, finish, error) in HELPERS.items():
                wanted = case(NAMES[kind])
                server.cut_at = len(wanted.body) // 2

                def half(client: Any, call: Callable[[Any, str], Any] = call, name: str = wanted.name) -> Any:
                    return call(client, f"replay/{name}")

                async with MAKERS[kind](here.url, mode) as sdk:
                    with pytest.raises(error):
                        await sdk.helped(half, finish)

    run(main())


@each_mode
def test_a_client_that_leaves_ends_the_upstream_request(tmp_path: Path, mode: Mode) -> None:
    """The client closes its stream after the first event: the provider is left at once, and the row says who went."""

    def endless(kind: str) -> Page:
        async def answer(visit: Visit) -> None:
            await visit.body()
            await visit.send(SSE_HEAD + chunk(case(NAMES[kind]).recording.frames[0].raw))
            await visit.left()

        return answer

    async def main() -> None:
        async with site(tmp_path, pages({f"POST {path}": endless(kind) for kind, path in PATHS.items()})) as here:
            for number, kind in enumerate(NAMES, 1):

                def leave(client: Any, kind: str = kind) -> Any:
                    return _leave(client, kind) if mode == "sync" else _leave_async(client, kind)

                async with MAKERS[kind](here.url, mode) as sdk:
                    await sdk.one(leave)
                    asked = await here.upstream.asked(number)
                    async with asyncio.timeout(5):
                        await asked.over.wait()
                    assert asked.lost_at is not None
                    row = await here.last_row()
                    assert (row["outcome"], row["ended_by"], row["status"], row["operation"]) == ("CLIENT_GONE", "client", 200, kind)

    run(main())


def _leave(client: Any, kind: str) -> None:
    stream = opened(client, kind, "m")
    next(iter(stream))
    stream.close()


async def _leave_async(client: Any, kind: str) -> None:
    stream = await opened(client, kind, "m")
    if hasattr(stream, "close"):
        async for _ in stream:
            break
        await stream.close()
        return
    # Google's client gives out a bare generator and leaves the connection of one that is closed to the garbage collector; those who
    # want to leave cancel the task that reads it.
    began = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            began.set()

    reading = asyncio.create_task(read())
    await began.wait()
    reading.cancel()
    await asyncio.wait([reading], timeout=5)
    assert reading.cancelled()


@each_mode
def test_what_comes_behind_the_terminal_event_changes_nothing(tmp_path: Path, mode: Mode) -> None:
    """The provider dies right behind its terminal event: the answer is whole, for the client and in the ledger."""

    def dying(kind: str) -> Page:
        async def answer(visit: Visit) -> None:
            await visit.body()
            # Gemini has no terminal event: there the clean end of the body is a part of it.
            await visit.send(SSE_HEAD + chunk(case(NAMES[kind]).body) + (LAST_CHUNK if kind == "generate" else b""))
            await visit.reset()

        return answer

    async def main() -> None:
        async with site(tmp_path, pages({f"POST {path}": dying(kind) for kind, path in PATHS.items()})) as here:
            for kind, name in NAMES.items():

                def whole(client: Any, kind: str = kind) -> Any:
                    return opened(client, kind, "m")

                async with MAKERS[kind](here.url, mode) as sdk:
                    seen, error = await broken(sdk, whole)
                    assert error is None, kind
                    assert seen > 4
                    row = await here.last_row()
                    assert (row["outcome"], row["stop_reason"]) == ("COMPLETE", case(name).expected["stop_reason"]), row["cause"]

    run(main())
