"""The demo provider: every protocol's own observer must find its answers complete, streamed and whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from penstock.protocols import REGISTRY
from penstock.protocols.contract import Observer, Peek, ProtocolSpec
from penstock.upstream.contract import Ask, Loss, ResponseHead
from penstock.upstream.local import INPUT_TOKENS, TEXT, WORDS, LocalAsk, ask_demo
from penstock.vocabulary.events import TextDelta
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Provenance
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner

WRITING = [
    (ProtocolId.OPENAI_CHAT, Operation.CHAT),
    (ProtocolId.OPENAI_CHAT, Operation.COMPLETIONS),
    (ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES),
    (ProtocolId.ANTHROPIC_MESSAGES, Operation.MESSAGES),
    (ProtocolId.GEMINI, Operation.GENERATE),
]
MIB = 1 << 20


class Taker:
    """A receiver that writes down what it is told; `on_body` is called inside `answer_body`."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self.calls: list[str] = []
        self.over = asyncio.Event()
        self.on_began: Callable[[], None] | None = None
        self.on_body: Callable[[], None] | None = None

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self.calls.append("began")
        self.head = head
        if self.on_began is not None:
            self.on_began()

    def answer_body(self, data: bytes, now: float) -> None:
        self.calls.append("body")
        self.pieces.append(data)
        self.times.append(now)
        if self.on_body is not None:
            self.on_body()

    def answer_ended(self, now: float) -> None:
        self.calls.append("ended")
        self.over.set()

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        self.answer_body(body, now)
        self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        self.calls.append("lost")
        self.over.set()

    def upload_paused(self) -> None:
        self.calls.append("upload paused")

    def upload_resumed(self) -> None:
        self.calls.append("upload resumed")


async def take(spec: ProtocolSpec, operation: Operation, *, stream: bool, sse: bool = True) -> Taker:
    taker = Taker()
    ask_demo(spec, operation, Peek("demo", stream), sse, taker, interval=0.0)
    assert taker.calls == []
    await asyncio.wait_for(taker.over.wait(), 5)
    return taker


def observe(spec: ProtocolSpec, operation: Operation, scanner: Scanner | ArraySplitter, pieces: list[bytes]) -> Observer:
    observer = spec.observer(operation)
    observer.sink = []
    for piece in pieces:
        for name, data, _ in scanner.feed(piece):
            if data is not None:
                observer.observe(name, data, 0.0)
    assert scanner.tail() == b""
    return observer


def text_of(observer: Observer) -> str:
    return "".join(event.text for event in observer.sink or [] if isinstance(event, TextDelta))


@pytest.mark.parametrize(("protocol", "operation"), WRITING)
def test_a_stream_is_complete_in_the_eyes_of_its_protocol(protocol: ProtocolId, operation: Operation) -> None:
    spec = REGISTRY[protocol]
    taker = asyncio.run(take(spec, operation, stream=True))
    assert taker.calls[0] == "began"
    assert taker.calls[-1] == "ended"
    assert len(taker.pieces) >= len(WORDS)
    assert taker.head is not None
    assert (taker.head.status, taker.head.content_type, taker.head.delimited) == (200, b"text/event-stream", True)
    observer = observe(spec, operation, Scanner(MIB, Budget(MIB)), taker.pieces)
    assert observer.closable()
    assert observer.error is None
    assert (observer.malformed, observer.unknown) == (0, 0)
    assert text_of(observer) == TEXT
    assert observer.model == "demo"
    assert observer.response_id is not None
    assert "demo-" in observer.response_id  # Responses puts its `resp_` before it
    assert (observer.usage.input, observer.usage.output) == (INPUT_TOKENS, len(WORDS))
    assert observer.provenance() is Provenance.REPORTED


@pytest.mark.parametrize(("protocol", "operation"), WRITING)
def test_a_body_says_the_same_and_states_its_length(protocol: ProtocolId, operation: Operation) -> None:
    spec = REGISTRY[protocol]
    taker = asyncio.run(take(spec, operation, stream=False))
    assert taker.calls == ["began", "body", "ended"]
    assert taker.head is not None
    assert taker.head.content_type == b"application/json"
    assert taker.head.content_length == len(taker.pieces[0])
    assert TEXT in str(msgspec.json.decode(taker.pieces[0]))
    observer = spec.observer(operation)
    observer.observe_body(taker.pieces[0])
    assert observer.malformed == 0
    assert (observer.usage.input, observer.usage.output) == (INPUT_TOKENS, len(WORDS))


def test_gemini_streams_a_json_array_where_it_is_asked_for_one() -> None:
    spec = REGISTRY[ProtocolId.GEMINI]
    taker = asyncio.run(take(spec, Operation.GENERATE, stream=True, sse=False))
    assert taker.head is not None
    assert taker.head.content_type == b"application/json"
    assert taker.head.content_length is None
    assert len(msgspec.json.decode(b"".join(taker.pieces), type=list[dict[str, object]])) == len(WORDS) + 1
    assert len(taker.pieces) == len(WORDS) + 1
    observer = observe(spec, Operation.GENERATE, ArraySplitter(MIB, Budget(MIB)), taker.pieces)
    assert observer.closable()
    assert text_of(observer) == TEXT


@pytest.mark.parametrize("operation", [Operation.EMBEDDINGS, Operation.FILES, Operation.MODERATIONS, Operation.RESPONSE_ITEM, Operation.OTHER])
@pytest.mark.parametrize("protocol", list(ProtocolId))
def test_what_writes_no_text_is_not_found(protocol: ProtocolId, operation: Operation) -> None:
    spec = REGISTRY[protocol]
    taker = asyncio.run(take(spec, operation, stream=False))
    assert taker.head is not None
    assert taker.head.status == 404
    assert taker.head.content_length == len(taker.pieces[0])
    observer = spec.observer(operation)
    observer.observe_error(404, taker.pieces[0])
    assert observer.error is not None
    assert observer.error.message is not None
    assert operation.value in observer.error.message


@pytest.mark.parametrize(
    ("protocol", "field"),
    [(ProtocolId.ANTHROPIC_MESSAGES, "input_tokens"), (ProtocolId.OPENAI_RESPONSES, "input_tokens"), (ProtocolId.GEMINI, "totalTokens")],
)
def test_counting_tokens_gives_a_small_number(protocol: ProtocolId, field: str) -> None:
    taker = asyncio.run(take(REGISTRY[protocol], Operation.COUNT_TOKENS, stream=False))
    assert taker.head is not None
    assert taker.head.status == 200
    assert msgspec.json.decode(taker.pieces[0], type=dict[str, object])[field] == INPUT_TOKENS


def test_ids_differ() -> None:
    async def ids() -> set[str | None]:
        found: set[str | None] = set()
        spec = REGISTRY[ProtocolId.OPENAI_CHAT]
        for _ in range(3):
            taker = await take(spec, Operation.CHAT, stream=True)
            found.add(observe(spec, Operation.CHAT, Scanner(MIB, Budget(MIB)), taker.pieces).response_id)
        return found

    assert len(asyncio.run(ids())) == 3


def test_events_come_one_interval_apart() -> None:
    async def run() -> Taker:
        taker = Taker()
        ask_demo(REGISTRY[ProtocolId.OPENAI_CHAT], Operation.CHAT, Peek("demo", stream=True), True, taker, interval=0.002)
        await asyncio.wait_for(taker.over.wait(), 5)
        return taker

    times = asyncio.run(run()).times
    # Timers are early by up to the clock's resolution.
    assert all(later - earlier > 0.001 for earlier, later in pairwise(times))


def _local(taker: Taker, pieces: list[bytes], interval: float = 0.0) -> LocalAsk:
    return LocalAsk(ResponseHead(200, []), iter(pieces), taker, interval)


async def _turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_pause_holds_everything_back_and_nothing_is_lost() -> None:
    async def run() -> None:
        taker = Taker()
        ask = _local(taker, [b"a", b"b", b"c"])
        taker.on_body = lambda: ask.pause() if len(taker.pieces) == 2 else None
        await _turns()
        assert taker.calls == ["began", "body", "body"]
        ask.pause()
        ask.resume()
        ask.resume()
        await asyncio.wait_for(taker.over.wait(), 5)
        assert taker.pieces == [b"a", b"b", b"c"]
        assert taker.calls == ["began", "body", "body", "body", "ended"]

    asyncio.run(run())


def test_a_pause_before_the_head_holds_the_body_back() -> None:
    async def run() -> None:
        taker = Taker()
        ask = _local(taker, [b"a"])
        ask.pause()
        await _turns()
        assert taker.pieces == []
        ask.resume()
        await asyncio.wait_for(taker.over.wait(), 5)
        assert taker.calls == ["began", "body", "ended"]

    asyncio.run(run())


@pytest.mark.parametrize("when", ["at once", "in the head", "in the body", "between"])
def test_after_cancel_nothing_is_called_and_no_timer_is_left(when: str) -> None:
    async def run() -> list[str]:
        taker = Taker()
        ask: Ask = _local(taker, [b"a", b"b"], interval=0.001)
        if when == "at once":
            ask.cancel()
        elif when == "in the head":
            taker.on_began = ask.cancel
        elif when == "in the body":
            taker.on_body = ask.cancel
        else:
            taker.on_began = lambda: None
            await asyncio.sleep(0)
            ask.cancel()
        await _turns(3)
        loop = asyncio.get_running_loop()
        if when != "in the body":
            # The standard loop's own list: what is not cancelled there would still fire.
            timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled")  # noqa: B009
            assert [timer for timer in timers if not timer.cancelled()] == []
        await asyncio.sleep(0.01)
        ask.resume()
        ask.cancel()
        await asyncio.sleep(0.01)
        return taker.calls

    expected = {"at once": [], "in the head": ["began"], "in the body": ["began", "body"], "between": ["began"]}
    assert asyncio.run(run()) == expected[when]


def test_an_upload_is_swallowed() -> None:
    async def run() -> list[str]:
        taker = Taker()
        ask = _local(taker, [b"a"])
        ask.upload(b"x" * 100_000)
        ask.upload_end()
        await asyncio.wait_for(taker.over.wait(), 5)
        return taker.calls

    assert asyncio.run(run()) == ["began", "body", "ended"]
