"""Every way in which a recorded stream can end badly, at every place of it: a provider that acts it out, a client, and a judge per protocol.

An `End` is one stream and its fate. Its client asks with the header `x-end` (which the gateway passes on), so the provider knows what to play,
and with a model name of its own, so its row is known whatever the client learnt.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, head
from penstock.protocols import REGISTRY
from penstock.protocols.contract import CONTENT, Observer
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, cases, distinct
from tests.support.corpus import figures as figures_of
from tests.support.gateway import gateway, providers_at
from tests.support.http import Answer, read_answer, request
from tests.support.process import Row
from tests.support.verdicts import by_plan

PING = b": still here\n\n"
PING_S = 0.06
"""Seconds between two pings of a provider that says nothing else."""
LONGEST_S = 30.0
EVERY = 60
"""Recordings of so many frames at most are looked at frame by frame; of longer ones only where a frame is of another kind than the one before
it, with one more frame of each such run."""
TIMERS = {"first_content": 3.0, "idle": 0.5, "content": 0.6, "tool_call": 0.4}
"""Seconds, for those streams that this timer is to end; each another, so that a row's duration shows which one it was. The other timers of such
a stream, and all of the others, are left as they are: a machine that stands still for half a second ends nothing else."""
LATE_S = 0.25
"""What an ending may be later than its timer."""
BUSY_S = 5.0
"""What a busy machine may take from a timer while hundreds of streams run on it."""
QUIET: dict[str, Any] = {"keepalive": "off", "early_head": "off", "log": {"level": "error"}}
ARRAY_HEAD = head(200, "content-type: application/json", "transfer-encoding: chunked")


class How(StrEnum):
    CLEAN = "clean"
    """A proper end of the message."""
    EOF = "eof"
    """FIN, without the last HTTP chunk."""
    RESET = "reset"
    STALL = "stall"
    """Nothing more comes."""
    PINGS = "pings"
    """Nothing but comments come."""


@dataclass(eq=False)
class End:
    """One stream: which, how far, how it ends; and what became of it."""

    number: int
    case: Case
    at: int
    """Bytes of the body that come."""
    how: How
    array: bool = False
    """Asked for as a JSON array (Gemini without `alt=sse`)."""
    answer: Answer = field(default_factory=Answer)

    @property
    def model(self) -> str:
        """Begins with the timer that ends it, told or not: behind an error of the provider's, and what is complete already, it is not."""
        untold = {How.STALL: "idle", How.PINGS: "content"}.get(self.how, "none")
        return f"{verdict(self).timer or untold}-{self.number}"

    @property
    def about(self) -> tuple[Any, ...]:
        return self.case.name, self.how, self.at, self.array

    @property
    def pieces(self) -> tuple[bytes, ...]:
        return elements(self.case) if self.array else tuple(frame.raw for frame in self.case.recording.frames)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def question(self) -> bytes:
        path, body = self.case.request()
        if "model" in body:
            body["model"] = self.model
        else:
            path = f"/v1beta/models/{self.model}:streamGenerateContent" + ("" if self.array else "?alt=sse")
        return request("POST", path, json.dumps(body).encode(), {"x-end": str(self.number)})


def elements(case: Case) -> tuple[bytes, ...]:
    """A recording of Gemini's as the pieces of a JSON array: each element with the comma before it, then the bracket."""
    data = [frame.data for frame in case.recording.frames if frame.data]
    return (*((b"[" if i == 0 else b",\r\n") + element for i, element in enumerate(data)), b"\n]\n")


def telling() -> list[Case]:
    """Every recording, but those that differ from another in nothing but ids."""
    some = distinct()
    return [case for case in cases() if case in some or len(case.recording.frames) > EVERY]


def places(case: Case) -> list[tuple[int, int]]:
    """Where a stream may break: before each frame, as (end of what came whole, a byte inside of the next frame)."""
    frames = case.recording.frames
    some = len(frames) <= EVERY
    out: list[tuple[int, int]] = []
    at, before, runs = 0, None, 0
    for number, frame in enumerate(frames):
        kind = _kind(frame.data)
        runs = runs + 1 if kind == before else 0
        before = kind
        if some or runs < 2:
            inside = at + 1 + (len(frame.raw) * (number % 7)) // 8
            # Between a CR and its LF a frame is whole already, for whoever knows that a CR ends a line.
            out.append((at, inside - 1 if case.body[inside - 1 : inside + 1] == b"\r\n" else inside))
        at += len(frame.raw)
    return [(whole, inside) for whole, inside in out if whole < inside]


def _kind(data: bytes) -> Any:
    try:
        return _shape(json.loads(data))
    except ValueError:
        return data


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _shape(inner)) for key, inner in sorted(value.items()))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return tuple(_shape(inner) for inner in value[:1])  # pyright: ignore[reportUnknownVariableType]
    return type(value).__name__


# -- what must come of it -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the client and the ledger must say."""

    outcome: str
    kept: int
    """Bytes of the provider's that the client gets."""
    status: int = 200
    told: bool = True
    """An error of ours follows them."""
    timer: str | None = None
    figures: Mapping[str, int] = field(default_factory=dict[str, int])
    """Usage that was stated in the frames that came."""


@functools.cache
def verdict(end: End) -> Verdict:
    """By the frames that came whole, read without a gateway."""
    protocol = end.case.recording.protocol
    observer: Observer = REGISTRY[protocol].observer(end.case.recording.operation)
    kept = events = 0
    content = False
    frames = [frame for frame in end.case.recording.frames if frame.data] if end.array else end.case.recording.frames
    for piece, frame in zip(end.pieces, frames, strict=False):
        if kept + len(piece) > end.at:
            break
        kept += len(piece)
        if frame.data:
            events += 1
            content = bool(observer.observe(frame.name, frame.data, 0.0) & CONTENT) or content
    if end.at == len(end.body):
        kept = end.at
    figures = figures_of(observer.usage)
    if observer.error is not None:
        return Verdict("UPSTREAM_ERROR", kept, told=False, figures=figures)
    closed = end.how is How.CLEAN and end.at == kept and (not end.array or end.at == len(end.body))
    if observer.terminal or (closed and observer.closable()) or (end.array and end.at == len(end.body)):
        return Verdict("COMPLETE", len(end.body) if end.at == len(end.body) else kept, told=False, figures=figures)
    match end.how:
        case How.CLEAN:
            found = Verdict("TRUNCATED", kept, figures=figures)
        case How.EOF | How.RESET:
            found = Verdict("UPSTREAM_LOST", kept, figures=figures)
        case How.STALL | How.PINGS:
            timer = "tool_call" if observer.tools else "first_content" if not content else "idle" if end.how is How.STALL else "content"
            found = Verdict("TIMED_OUT", kept, timer=timer, figures=figures)
    if events:
        return found
    return Verdict(found.outcome, 0, 504 if found.timer else 502, timer=found.timer)


def check_told(end: End, wanted: Verdict, row: dict[str, Any]) -> None:
    """What the client got: the provider's whole frames, and then one error in the protocol's own shape; or a true status."""
    answer = end.answer
    about = (*end.about, answer.status, row["outcome"], row["cause"], answer.body[-300:])
    assert answer.status == wanted.status, about
    assert answer.clean, about
    if wanted.status != 200:
        check_body(end.case.recording.protocol, wanted.status, json.loads(answer.body), row["id"])
        return
    assert answer.body.startswith(end.body[: wanted.kept]), about
    words = answer.body[wanted.kept :]
    while end.how is How.PINGS and words.startswith(PING):
        words = words[len(PING) :]
    if not wanted.told:
        assert words == b"", about
    elif end.array:
        _check_array(answer.body, row["id"])
    else:
        check_words(end.case.recording.protocol, end.body[: wanted.kept], words, row["id"])


def check_words(protocol: ProtocolId, before: bytes, words: bytes, request_id: str) -> None:
    """`words`, behind `before`, are the protocol's error in band and nothing else."""
    frames = read_frames(words)
    assert frames, words
    assert words.endswith((b"\n\n", b"\r\n\r\n")), words
    name, value = frames[-1]
    match protocol:
        case ProtocolId.OPENAI_CHAT:
            assert len(frames) == 1, words
            assert name == ""
            check_openai(value, request_id)
        case ProtocolId.ANTHROPIC_MESSAGES:
            assert len(frames) == 1, words
            assert name == "error"
            check_anthropic(value, request_id)
        case ProtocolId.GEMINI:
            assert len(frames) == 1, words
            assert name == ""
            check_gemini(value, request_id)
        case ProtocolId.OPENAI_RESPONSES:
            check_responses(read_frames(before), frames, request_id)


def check_body(protocol: ProtocolId, status: int, value: Any, request_id: str) -> None:
    """An error of ours before the first byte."""
    match protocol:
        case ProtocolId.ANTHROPIC_MESSAGES:
            check_anthropic(value, request_id)
        case ProtocolId.GEMINI:
            check_gemini(value, request_id)
            assert value["error"]["code"] == status
        case _:
            check_openai(value, request_id)


def check_openai(value: Any, request_id: str) -> None:
    assert value.keys() == {"error"}
    error = value["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    assert error["request_id"] == request_id


def check_anthropic(value: Any, request_id: str) -> None:
    assert value.keys() == {"type", "error", "request_id"}
    assert (value["type"], value["request_id"]) == ("error", request_id)
    assert value["error"].keys() == {"type", "message"}
    assert value["error"]["type"].endswith("_error")
    assert value["error"]["message"]


def check_gemini(value: Any, request_id: str) -> None:
    assert value.keys() == {"error"}
    error = value["error"]
    assert error.keys() >= {"code", "message", "status"}
    assert error["code"] in (502, 503, 504)
    assert error["message"]
    assert error["status"].isupper()
    assert request_id in json.dumps(error)


def check_responses(before: Sequence[tuple[str, Any]], frames: Sequence[tuple[str, Any]], request_id: str) -> None:
    """`response.failed`, with a `response.created` before it where none came; numbers and names go on."""
    created = next((value["response"] for name, value in before if name == "response.created"), None)
    numbers = [value["sequence_number"] for _, value in before if "sequence_number" in value]
    expected = [] if created is not None else ["response.created"]
    assert [name for name, _ in frames] == [*expected, "response.failed"]
    assert [value["type"] for _, value in frames] == [name for name, _ in frames]
    first = max(numbers) + 1 if numbers else 0
    assert [value["sequence_number"] for _, value in frames] == list(range(first, first + len(frames)))
    failed = frames[-1][1]["response"]
    assert (failed["object"], failed["status"]) == ("response", "failed")
    assert failed["error"]["code"]
    assert failed["error"]["message"]
    assert failed["error"]["request_id"] == request_id
    if created is not None:
        assert (failed["id"], failed["model"], failed["created_at"]) == (created["id"], created["model"], created["created_at"])


def _check_array(body: bytes, request_id: str) -> None:
    """The whole is one JSON array whose last element is the error."""
    found = json.loads(body)
    assert isinstance(found, list)
    check_gemini(found[-1], request_id)
    assert not [element for element in found[:-1] if "error" in element]  # pyright: ignore[reportUnknownVariableType]


def read_frames(data: bytes) -> list[tuple[str, Any]]:
    """Names and JSON values of the frames with data; plainly, for what lies in memory."""
    out: list[tuple[str, Any]] = []
    for block in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if b"data" in fields:
            out.append((fields.get(b"event", b"").decode(), json.loads(fields[b"data"])))
    return out


# -- the provider and its clients ---------------------------------------------------------------------------------------------------------


class Stage(ScriptedServer):
    """Plays ends."""

    def __init__(self, ends: Iterable[End]) -> None:
        super().__init__(self._play)
        self._ends = {str(end.number): end for end in ends}

    async def _play(self, visit: Visit) -> None:
        await visit.body()
        end = self._ends[visit.asked.header("x-end") or ""]
        await visit.send((ARRAY_HEAD if end.array else SSE_HEAD) + (chunk(end.body[: end.at]) if end.at else b""))
        match end.how:
            case How.CLEAN:
                await visit.send(LAST_CHUNK)
            case How.EOF:
                await visit.link.flush()
                visit.close()
            case How.RESET:
                await visit.reset()
            case How.STALL:
                await visit.left()
            case How.PINGS:
                while not visit.link.lost.is_set():
                    await asyncio.sleep(PING_S)
                    await visit.send(chunk(PING))


async def ask_all(ends: Sequence[End], port: int, at_once: int) -> None:
    """All of them, `at_once` at a time, each client on one connection for as long as its answers leave it open."""
    waiting = iter(ends)

    async def work() -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        for end in waiting:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
            writer.write(end.question())
            async with asyncio.timeout(LONGEST_S):
                end.answer = await read_answer(reader)
            if not end.answer.clean or (end.answer.header("connection") or "").lower() == "close":
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(work(), name=f"client {number}")


def short(timers: Mapping[str, float], models: str, providers: Iterable[str]) -> list[dict[str, Any]]:
    """Routes on which one timer is short: `models` has the timer's name in the place of `{}`."""
    each = [(timer, seconds, provider) for timer, seconds in timers.items() for provider in providers]
    return [{"model": models.format(timer), "provider": provider, "timers": {timer: seconds}} for timer, seconds, provider in each]


async def play(
    directory: Path, ends: Sequence[End], at_once: int, timers: Mapping[str, float] = TIMERS, more: Mapping[str, Any] = QUIET
) -> dict[str, Row]:
    """All of them through one gateway; their rows, by model. Afterwards nothing is held for anybody, and no provider is waited for."""
    for end in ends:
        verdict(end)  # now, and not while timers run
    stage = Stage(ends)
    port = await stage.start()
    try:
        providers = providers_at(port)
        async with gateway(directory, providers, {**more, "routes": short(timers, "{}-*", providers)}) as running:
            await ask_all(ends, running.port, at_once)
            rows = by_plan(await running.rows())
            for asked in stage.log:
                async with asyncio.timeout(20):
                    await asked.over.wait()
            app = running.app
            # A connection stands only where its answer came to a clean end.
            async with asyncio.timeout(20):
                while app.client.open > app.client.idle or len(stage.links) > app.client.idle:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            assert app.gateway.held.used == app.gateway.peeked.used == 0
            assert not app.gateway.live
    finally:
        stage.close()
    assert len(rows) == len(ends) == stage.requests
    return rows


def check_time(row: Row, wanted: Verdict, about: Any) -> None:
    """By the ledger's own measure: never before its time, and never much later."""
    assert wanted.timer is not None
    took, due = row["duration_ms"] / 1e3, TIMERS[wanted.timer]
    assert due <= took <= due + LATE_S + BUSY_S, about
