"""The judge, judged: straight at the scripted provider, where nobody repairs anything, and behind gateways that are bad on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from penstock.lab.http1 import Asked, LabServer, Link
from penstock.lab.scripted import whole
from penstock.lab.torture.client import Place, ask
from penstock.lab.torture.judging import Bounds
from penstock.lab.torture.matrix import FAULTS, FORMS, Matrix, cells
from penstock.lab.torture.refusals import MESSAGE
from penstock.lab.torture.upstream import TortureServer
from tests.support.gateway import run

BOUNDS = Bounds(
    timers={"first_content": 0.3, "idle": 0.3, "content": 0.3, "tool_call": 0.3, "client_stall": 0.3}, pause=0.1, overtime=0.1, patience=5.0,
)  # fmt: skip
HEALTHY = (
    "plain", "one-write", "one-byte-writes", "split-utf8", "crlf", "cr", "comments", "unknown-events", "odd-fields", "pings", "tool-calls",
    "no-finish-reason", "slow-head", "gap", "gap-inside-a-frame", "slow-tool-call", "gzip", "close-delimited", "stale-keep-alive", "slow-reader",
)  # fmt: skip
Relay = Callable[[bytes, str], bytes]
"""What a bad gateway makes of a body, and of the form it is in."""


def try_straight(*faults: str, forms: tuple[str, ...] = ()) -> dict[tuple[str, str], str | None]:
    """A connection that passes everything as it is: what the judge says of each cell."""

    return _try(_listen, faults, forms)


async def _listen(server: TortureServer) -> Place:
    return Place("127.0.0.1", await server.start())


def try_bad(relay: Relay, *faults: str, forms: tuple[str, ...] = ()) -> dict[tuple[str, str], str | None]:
    """A gateway that reads its provider to the end, whatever the end, and then answers with 200 and what `relay` makes of it."""
    async def work(server: TortureServer) -> Place:
        return Place("127.0.0.1", await BadGateway(await _listen(server), relay).start())

    return _try(work, faults, forms)


def _try(work: Callable[[TortureServer], Awaitable[Place]], faults: tuple[str, ...], forms: tuple[str, ...]) -> dict[tuple[str, str], str | None]:
    async def go() -> dict[tuple[str, str], str | None]:
        server = TortureServer({name: fault.play for name, fault in FAULTS.items()}, BOUNDS.pause)
        place = await work(server)
        try:
            results = await Matrix(place, server, BOUNDS, jobs=16).run(cells(faults, forms))
        finally:
            server.close()
        return {(result.cell.fault.name, result.cell.form.name): result.saw for result in results}

    return run(go())


class BadGateway(LabServer):
    def __init__(self, provider: Place, relay: Relay) -> None:
        super().__init__()
        self._provider = provider
        self._relay = relay

    async def answer(self, link: Link, asked: Asked) -> None:
        await asked.arrived.wait()
        lines = [f"{name}: {value}" for name, value in asked.headers]
        request = "\r\n".join((f"{asked.method} {asked.target} HTTP/1.1", *lines, "", "")).encode() + asked.body
        client = await ask(self._provider, request)
        with suppress(TimeoutError):
            await asyncio.wait_for(client.answer.over.wait(), 5)
        form = "array" if asked.path.endswith("streamGenerateContent") and "alt=sse" not in asked.query else asked.path.rpartition("/")[2]
        await link.write(whole(self._relay(client.answer.decoded().kept, form), 200, f"content-type: {client.answer.header('content-type')}"))


def test_what_is_healthy_passes_a_straight_connection() -> None:
    found = try_straight(*HEALTHY)
    assert {cell: saw for cell, saw in found.items() if saw is not None} == {}
    assert len(found) == len(cells(HEALTHY))


def test_errors_of_the_providers_own_pass_a_straight_connection() -> None:
    found = try_straight("status-400", "status-429", "status-529", "error-event", "response-failed", "error-event-then-reset")
    assert {cell: saw for cell, saw in found.items() if saw is not None} == {}


def test_a_providers_error_in_a_first_frame_may_be_told_in_band_as_it_is_or_as_the_gateway_words_it() -> None:
    """Of a gateway that lets heads go at once: the same that is asked of an error in the middle."""
    found = try_straight("error-event-first")
    assert {cell: saw for cell, saw in found.items() if saw is not None} == {}
    assert len(found) == len(FORMS)
    found = try_bad(lambda body, form: body.replace(MESSAGE.encode(), b"something"), "error-event-first")
    assert set(found.values()) == {"an error without the provider's message"}


@pytest.mark.parametrize(("fault", "words"), [
    ("eof-before-head", "no answer; the connection was closed"),
    ("reset-before-head", "no answer; the connection was reset"),
    ("clean-end-after-head", "a clean end without an error"),
    ("clean-end-inside-first-frame", "half a frame at the end"),
    ("eof-mid-stream", "the connection was closed in the middle of the answer, and no error was told"),
    ("clean-end-mid-stream", "a clean end without an error"),
    ("reset-mid-stream", "the connection was reset, and no error was told"),
    ("eof-inside-a-frame", "half a frame at the end, and no error"),
    ("clean-end-after-finish", "a clean end without an error"),
    ("close-delimited-cut", "a clean end without an error"),
    ("end-without-finish-reason", "a"),
    ("garbage-chunks", "what came was not HTTP"),
    ("garbage-head", "no answer; what came was not HTTP"),
    ("gzip-cut", "a clean end without an error"),
    ("html-error", "502 with text/html that is no JSON object"),
    ("text-error", "503 with text/plain that is no JSON object"),
    ("stall-before-head", "no answer; nothing more came"),
    ("stall-in-text", "no error within"),
    ("stall-in-text-with-pings", "no error within"),
    ("stall-in-tool-call-with-pings", "no error within"),
    ("stall-in-parallel-tool-calls", "no error within"),
])  # fmt: skip
def test_what_is_broken_fails_on_a_straight_connection(fault: str, words: str) -> None:
    found = try_straight(fault)
    assert len(found) == len(FAULTS[fault].forms)
    for cell, saw in found.items():
        assert saw is not None, cell
        assert words in saw, cell


def test_what_a_provider_says_behind_its_terminal_event_may_arrive_or_not() -> None:
    assert set(try_straight("bytes-after-terminal", "late-bytes-after-terminal").values()) == {None}
    without = try_bad(lambda body, _: body[: body.index(b"[DONE]") + 8], "bytes-after-terminal", forms=("chat",))
    assert set(without.values()) == {None}


def test_what_a_gateway_puts_behind_a_terminal_event_is_found() -> None:
    found = try_bad(lambda body, _: body + b"data: [DONE]\n\n", "bytes-after-terminal", forms=("chat",))
    assert set(found.values()) == {"a frame that was not sent"}


def test_an_answer_that_is_not_left_is_found() -> None:
    """A bad gateway reads on when its client has left."""
    found = try_bad(lambda body, _: body, "client-leaves-before-head", "client-leaves-in-a-pause", forms=("chat", "messages"))
    assert set(found.values()) == {"the provider's connection stays open"}


_CUT = ("clean-end-mid-stream", "eof-mid-stream", "eof-after-head", "reset-inside-a-frame")


def test_a_buffering_gateway_that_ends_cleanly_fails_where_it_should() -> None:
    found = try_bad(lambda body, _: body, "plain", *_CUT, forms=("chat",))
    assert found == {
        ("plain", "chat"): None,
        ("clean-end-mid-stream", "chat"): "a clean end without an error",
        ("eof-mid-stream", "chat"): "a clean end without an error",
        ("eof-after-head", "chat"): "a clean end without an error",
        ("reset-inside-a-frame", "chat"): "half a frame at the end, and no error",
    }


_DONE = {"completions": b"data: [DONE]\n\n", "messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n'}
_ERROR = {
    "completions": b'data: {"error":{"message":"m","type":"t","param":null,"code":null}}\n\n',
    "messages": b'event: error\ndata: {"type":"error","error":{"type":"t","message":"m"}}\n\n',
}


BAD: list[tuple[Relay, str, str]] = [
    (lambda body, form: body + _DONE[form], "clean-end-mid-stream", "a false clean finish: a terminal event"),
    (lambda body, form: body + _DONE[form] + _ERROR[form], "clean-end-mid-stream", "a terminal event before the error"),
    (lambda body, form: body + _ERROR[form] + _DONE[form], "clean-end-mid-stream", "something behind the error"),
    (lambda body, form: body + _ERROR[form] + _ERROR[form], "clean-end-mid-stream", "an error before the error"),
    (lambda body, form: body + _ERROR[form], "clean-end-inside-a-frame", "a frame that is not whole JSON"),
    (lambda body, form: body[:200] + _ERROR[form], "clean-end-mid-stream", "a frame that is not whole JSON"),
    (lambda body, form: body.partition(b"\n\n")[2] + _ERROR[form], "clean-end-mid-stream", "frame 1 is not the one that was sent"),
    (lambda body, form: body.replace(b"Once", b"Twice") + _ERROR[form], "clean-end-mid-stream", "is not the one that was sent"),
    (lambda body, form: body + _DONE[form], "plain", "a frame that was not sent"),
    (lambda body, form: body.replace("🌊".encode(), b"?"), "plain", "is not the one that was sent"),
    (lambda body, form: body[:-40], "plain", ""),
    (lambda body, form: body.replace(b"\r\n", b"\n"), "crlf", "is not the one that was sent"),
    (lambda body, form: body.replace(b": bye\n\n", b""), "comments", "1 of"),
    (lambda body, form: body + _ERROR[form], "plain", "an error in a healthy stream"),
]


@pytest.mark.parametrize(("relay", "fault", "words"), BAD)
def test_what_a_bad_gateway_makes_of_a_stream_is_found(relay: Relay, fault: str, words: str) -> None:
    for cell, saw in try_bad(relay, fault, forms=("chat", "messages")).items():
        assert saw is not None, cell
        assert words in saw, cell


GOOD: dict[str, Relay] = {
    "error": lambda body, form: body + _ERROR[form],
    "comments as frames": lambda body, form: body.replace(b"data: ", b": still here\n\ndata: ", 1) + b": still here\n\n" + _ERROR[form],
    "comments as lines": lambda body, form: b":\n" + body + b":\n" + _ERROR[form],
}


@pytest.mark.parametrize("relay", GOOD.values(), ids=list(GOOD))
def test_the_frames_and_then_the_error_are_right(relay: Relay) -> None:
    assert set(try_bad(relay, "clean-end-mid-stream", forms=("chat",)).values()) == {None}


def test_keep_alives_between_frames_are_no_change_and_inside_one_they_are() -> None:
    between: Relay = lambda body, _: body.replace(b"\n\n", b"\n\n: still here\n\n")  # noqa: E731
    inside: Relay = lambda body, _: body.replace(b'"choices"', b': still here\n\n"choices"', 3)  # noqa: E731
    assert try_bad(between, "plain", forms=("chat",)) == {("plain", "chat"): None}
    assert set(try_bad(inside, "plain", forms=("chat",)).values()) == {"frame 1 is not the one that was sent"}


def test_a_gateway_that_is_not_there_is_said() -> None:
    async def go() -> list[str | None]:
        server = TortureServer({}, 0.1)
        port = await server.start()
        server.close()
        return [result.saw for result in await Matrix(Place("127.0.0.1", port), server, BOUNDS).run(cells(("plain",), ("chat",)))]

    (saw,) = run(go())
    assert saw is not None
    assert "nobody listens at 127.0.0.1" in saw


def test_every_form_is_tried() -> None:
    assert {cell.form.name for cell in cells()} == set(FORMS)
