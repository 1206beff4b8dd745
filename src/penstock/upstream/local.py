"""The built-in provider `demo`: a short text in whichever protocol it is asked, without a key and without a network.

To its receiver it is a provider like any other: a head, a body in pieces, an end. A stream has one event after the other, `interval`
seconds apart; a body comes whole with its Content-Length. What is no generation of text is answered with 404 in the protocol's shape.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator
from secrets import token_hex
from time import monotonic, time
from typing import Final

from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.upstream.contract import Ask, Headers, Receiver, ResponseHead
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.events import Ended, Event, Started, Stopped, StopReason, TextDelta, UsageSeen
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Usage
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner

MODEL: Final = "demo"
INTERVAL: Final = 0.03
"""Seconds from one event to the next: a usual model's pace."""

TEXT: Final = (
    "Hello from Penstock! You are reading a demo that needs no key. Penstock is a gateway for streamed answers: it carries every byte "
    "from a provider to you as it is made, tells you how each stream ended, and accounts for every token."
)
WORDS: Final = tuple(re.findall(r"\S+\s*", TEXT))
"""The pieces of `TEXT`; joined they are `TEXT`. One counts as one token."""
INPUT_TOKENS: Final = 8
"""What the demo says of every request: it reads none."""

_WRITING = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.MESSAGES, Operation.GENERATE})
_COUNTS: dict[ProtocolId, bytes] = {
    ProtocolId.OPENAI_RESPONSES: b'{"object":"response.input_tokens","input_tokens":%d}',
    ProtocolId.ANTHROPIC_MESSAGES: b'{"input_tokens":%d}',
    ProtocolId.GEMINI: b'{"totalTokens":%d}',
}
_SSE = b"text/event-stream"
_JSON = b"application/json"
_HELD = 1 << 20  # bytes of one of our own frames; they are short


def ask_demo(spec: ProtocolSpec, operation: Operation, peek: Peek, sse: bool, receiver: Receiver, *, interval: float = INTERVAL) -> Ask:
    """Ask the demo. `sse`: a stream is wanted as server-sent events, not as a JSON array (which only Gemini has).

    Nothing is called on `receiver` before this has returned.
    """
    response_id = f"demo-{token_hex(8)}"
    if operation in _WRITING and peek.stream:
        pieces = _events(spec, operation, response_id)
        if not sse:
            pieces = _as_array(pieces)
        headers = [(b"content-type", _SSE if sse else _JSON), (b"cache-control", b"no-cache"), (b"transfer-encoding", b"chunked")]
        return LocalAsk(_head(200, headers, response_id), pieces, receiver, interval)
    status, body = _whole(spec, operation, response_id)
    head = _head(status, [(b"content-type", _JSON), (b"content-length", b"%d" % len(body))], response_id)
    return LocalAsk(head, iter((body,)), receiver, 0.0)


class LocalAsk:
    """Implements `upstream.contract.Ask`. `pieces` are told one by one, `interval` seconds apart; the end comes with the last of them."""

    __slots__ = ("_begun", "_interval", "_next", "_paused", "_pieces", "_receiver", "_timer")
    dialed_at = None

    def __init__(self, head: ResponseHead, pieces: Iterator[bytes], receiver: Receiver, interval: float) -> None:
        self._receiver: Receiver | None = receiver
        self._pieces = pieces
        self._next = next(pieces, None)
        self._interval = interval
        self._begun = False
        self._paused = False
        self._timer: asyncio.Handle | None = asyncio.get_running_loop().call_soon(self._begin, head)

    def pause(self) -> None:
        self._paused = True
        if self._begun:
            self._stop_timer()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._begun and self._timer is None:
                self._wait()

    def hand_over(self, receiver: Receiver) -> bool:
        del receiver
        return False

    def cancel(self) -> None:
        self._receiver = None
        self._pieces = iter(())
        self._stop_timer()

    def upload(self, data: bytes) -> None:
        """Not read."""

    def upload_end(self) -> None: ...

    def _begin(self, head: ResponseHead) -> None:
        self._timer = None
        receiver = self._receiver
        if receiver is None:
            return
        self._begun = True
        receiver.answer_began(head, monotonic())
        if self._receiver is not None and not self._paused and self._timer is None:
            self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tell)

    def _tell(self) -> None:
        self._timer = None
        receiver, piece = self._receiver, self._next
        if receiver is None:
            return
        if piece is not None:
            self._next = next(self._pieces, None)
            receiver.answer_body(piece, monotonic())
            if self._receiver is None:
                return  # cancelled from inside the call
        if self._next is not None:
            if not self._paused and self._timer is None:
                self._wait()
            return
        self._receiver = None
        receiver.answer_ended(monotonic())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _head(status: int, headers: Headers, response_id: str) -> ResponseHead:
    return ResponseHead(status, [*headers, (b"x-request-id", response_id.encode())])


def _events(spec: ProtocolSpec, operation: Operation, response_id: str) -> Iterator[bytes]:
    """The frames of the stream, those of one neutral event together."""
    renderer = spec.renderer(operation)
    for event in _said(response_id):
        frames = renderer.render(event)
        if frames:
            yield frames


def _said(response_id: str) -> Iterator[Event]:
    yield Started(response_id, MODEL, int(time()))
    for word in WORDS:
        yield TextDelta(word)
    yield Stopped(StopReason.STOP)
    yield UsageSeen(Usage(input=INPUT_TOKENS, output=len(WORDS)))
    yield Ended()


def _as_array(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Server-sent events as the elements of one JSON array, punctuated as Google does it."""
    split = _splitter()
    queue: deque[bytes] = deque()
    opening = b"["
    for piece in pieces:
        for _, data in split(piece):
            queue.append(opening + data)
            opening = b",\r\n"
        # One element back: the closing bracket leaves with the last one.
        while len(queue) > 1:
            yield queue.popleft()
    yield b"".join(queue) + b"]"


def _whole(spec: ProtocolSpec, operation: Operation, response_id: str) -> tuple[int, bytes]:
    """Status and body of an answer without a stream."""
    if operation in _WRITING:
        split = _splitter()
        assembler = spec.assembler(operation)
        for piece in _events(spec, operation, response_id):
            for name, data in split(piece):
                assembler.feed(name, data)
        return 200, assembler.body()
    if operation is Operation.COUNT_TOKENS and spec.id in _COUNTS:
        return 200, _COUNTS[spec.id] % INPUT_TOKENS
    message = f"The built-in model {MODEL!r} only writes a short text; it cannot be asked for {operation.value}."
    return 404, spec.error_body(Fault(FaultKind.NOT_FOUND, 404, message), response_id)


def _splitter() -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """Frames as their names and data."""
    scanner = Scanner(_HELD, Budget(_HELD))
    return lambda piece: [(name, data) for name, data, _ in scanner.feed(piece) if data is not None]
