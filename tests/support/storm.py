"""Many streams at once, each with a fate of its own: a provider and clients that act it out.

Every stream is a `Plan`. Its client asks with the header `x-plan` (which the gateway passes on), so the provider knows which one it plays,
and with a model name of its own, so its row is known even where the client never learnt the exchange's id. All fates are sure: a client that
leaves does so while its provider waits for that, never in a race with the end of the stream. What must be so afterwards: `verdicts`.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, distinct
from tests.support.http import request


class Fate(StrEnum):
    COMPLETE = "complete"
    EOF = "eof"
    """The provider closes without the last HTTP chunk."""
    RESET = "reset"
    CLEAN = "clean"
    """A proper end of the message, without the terminal event."""
    ERROR = "error"
    """The provider tells an error in band."""
    STATUS = "status"
    """The provider answers 500."""
    DEAD = "dead"
    """The provider closes before its head."""
    STALLED = "stalled"
    """The provider falls silent for ever; only for gateways whose timers are short."""
    GONE_WAITING = "gone_waiting"
    """The client leaves before there is a head."""
    GONE_AT_HEAD = "gone_at_head"
    GONE_MIDWAY = "gone_midway"
    GONE_AFTER_END = "gone_after_end"
    """The client leaves with the terminal event; the provider has not ended its answer."""
    RUNNING = "running"
    """Half of it comes, and the rest when the test says so (`Storm.release`)."""


ALL = [fate for fate in Fate if fate is not Fate.STALLED]
"""But those that need short timers."""
GONE = frozenset({Fate.GONE_WAITING, Fate.GONE_AT_HEAD, Fate.GONE_MIDWAY})
OUTCOMES: dict[Fate, str] = {
    Fate.COMPLETE: "COMPLETE", Fate.RUNNING: "COMPLETE", Fate.GONE_AFTER_END: "COMPLETE",
    Fate.EOF: "UPSTREAM_LOST", Fate.RESET: "UPSTREAM_LOST", Fate.DEAD: "UPSTREAM_LOST",
    Fate.STALLED: "TIMED_OUT", Fate.CLEAN: "TRUNCATED", Fate.ERROR: "UPSTREAM_ERROR", Fate.STATUS: "UPSTREAM_ERROR",
    Fate.GONE_WAITING: "CLIENT_GONE", Fate.GONE_AT_HEAD: "CLIENT_GONE", Fate.GONE_MIDWAY: "CLIENT_GONE",
}  # fmt: skip
ERRORS: dict[ProtocolId, bytes] = {
    ProtocolId.OPENAI_CHAT: b'data: {"error":{"message":"out of luck","type":"server_error","code":null}}\n\n',
    ProtocolId.OPENAI_RESPONSES: b'event: error\ndata: {"type":"error","code":"server_error","message":"out of luck","param":null}\n\n',
    ProtocolId.ANTHROPIC_MESSAGES: b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"out of luck"}}\n\n',
    ProtocolId.GEMINI: b'data: {"error":{"code":503,"message":"out of luck","status":"UNAVAILABLE"}}\r\n\r\n',
}
"""How each protocol tells an error in band."""
FAILED = b'{"type":"error","error":{"type":"api_error","message":"out of luck"}}'
LONGEST_S = 20.0


@dataclass(eq=False)
class Plan:
    """One stream, and what became of it. Times on the loop's clock."""

    number: int
    case: Case
    fate: Fate
    at: int
    """The byte of the body at which its fate comes: a frame boundary where it must be one."""
    abrupt: bool = False
    """The client leaves by RST instead of FIN."""
    pace: float = 0.0
    """Seconds from frame to frame."""
    delay: float = 0.0
    """Seconds before the client asks."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    arrived_at: float | None = None
    """When the provider had the request."""
    headed: asyncio.Event = field(default_factory=asyncio.Event)
    """The provider has sent the head of its answer."""
    status: int = 0
    id: str | None = None
    """The exchange's id, where the client learnt it."""
    body: bytearray = field(default_factory=bytearray)
    clean: bool = False
    """The client's framing said that the answer was whole."""
    over_at: float | None = None
    """When the client had seen the end, or had left."""
    dropped_at: float | None = None
    """When the provider saw its connection closed, of a client that left."""

    @property
    def model(self) -> str:
        return f"plan-{self.number}"

    @property
    def outcome(self) -> str:
        if self.fate is Fate.GONE_AFTER_END and self.case.recording.protocol == ProtocolId.GEMINI:
            return "CLIENT_GONE"  # it has no terminal event: only a clean end behind the finish reason would be complete
        return OUTCOMES[self.fate]

    @property
    def untold(self) -> bool:
        """No frame with data is whole at its fate: a failure then has a true status."""
        at = 0
        for frame in self.case.recording.frames:
            at += len(frame.raw)
            if at > self.at:
                return True
            if frame.data:
                return False
        return True

    @property
    def settled_by(self) -> float | None:
        """When at the latest the gateway settled it, as far as can be seen from outside."""
        return self.dropped_at if self.outcome == "CLIENT_GONE" else self.over_at

    def question(self) -> bytes:
        path, body = self.case.request()
        if "model" in body:
            body["model"] = self.model
        else:
            path = f"/v1beta/models/{self.model}:streamGenerateContent?alt=sse"
        return request("POST", path, json.dumps(body).encode(), {"x-plan": str(self.number)})


def scatter(dice: random.Random, count: int, fates: list[Fate], *, lasting: float) -> list[Plan]:
    """`count` plans: recordings of all protocols and the given fates in equal parts, everything else at random. Each takes up to
    `lasting` seconds, and is asked for in the first fifth of them."""
    cases = [case for case in distinct() if case.expected["outcome"] == "COMPLETE"]
    by_protocol = [[case for case in cases if case.recording.protocol == protocol] for protocol in ProtocolId]
    plans: list[Plan] = []
    for number in range(count):
        case = dice.choice(by_protocol[number % len(by_protocol)])
        fate = fates[(number // len(by_protocol)) % len(fates)]
        frames = len(case.recording.frames)
        length = dice.uniform(0.2, 0.8) * lasting
        plan = Plan(number, case, fate, _place(dice, case, fate), dice.random() < 0.5, length / frames, dice.uniform(0.0, 0.2) * lasting)
        plans.append(plan)
    dice.shuffle(plans)
    return plans


def _place(dice: random.Random, case: Case, fate: Fate) -> int:
    if fate in (Fate.EOF, Fate.RESET, Fate.CLEAN, Fate.STALLED):
        at = dice.randrange(sure_end(case))
        # A CR ends a line already: between it and its LF a frame would be whole that is not whole by `boundaries`.
        return at - 1 if case.body[max(0, at - 1) : at + 1] == b"\r\n" else at
    if fate is Fate.RUNNING:
        return boundaries(case)[len(boundaries(case)) // 2]
    if fate is Fate.ERROR:
        return dice.choice([at for at in boundaries(case) if at <= sure_end(case)])
    if fate is Fate.GONE_MIDWAY:  # where the client has something: comments before the first event are held with the head
        return dice.choice([at for at in boundaries(case) if first_event(case) <= at <= sure_end(case)] or [first_event(case)])
    return len(case.body)


def boundaries(case: Case) -> list[int]:
    """Where frames end, each but the last."""
    out: list[int] = []
    at = 0
    for frame in case.recording.frames[:-1]:
        at += len(frame.raw)
        out.append(at)
    return out or [0]


def first_event(case: Case) -> int:
    """Where the first frame with data ends."""
    at = 0
    for frame in case.recording.frames:
        at += len(frame.raw)
        if frame.data:
            break
    return at


def sure_end(case: Case) -> int:
    """A body that ends before this byte is not complete: where the terminal frame begins (Gemini: the first one with a finish reason)."""
    at = last = 0
    for frame in case.recording.frames:
        if case.recording.protocol == ProtocolId.GEMINI and b'"finishReason"' in frame.raw:
            return at
        if frame.data:
            last = at
        at += len(frame.raw)
    return last


class Storm:
    """The provider, and all clients."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = {plan.number: plan for plan in plans}
        self.release = asyncio.Event()
        """Set: the streams that are left running go on to their end."""
        self.server = ScriptedServer(self._play)
        self.lag = 0.0
        """The longest time for which this process did not get round to its own work: no measurement here is finer."""

    def __getitem__(self, fate: Fate) -> list[Plan]:
        return [plan for plan in self.plans.values() if plan.fate is fate]

    async def over(self, plans: list[Plan], seconds: float = LONGEST_S) -> None:
        """Wait until the clients of these have seen their end, and the provider has seen them leave."""
        async with asyncio.timeout(seconds):
            while not all(plan.settled_by is not None for plan in plans):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def halfway(self) -> None:
        """Wait until all clients have what comes before their streams' fates."""
        async with asyncio.timeout(LONGEST_S):
            while not all(len(plan.body) == plan.at for plan in self.plans.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def begin(self, port: int, plans: list[Plan] | None = None) -> list[asyncio.Task[None]]:
        """All clients (or those of `plans`), each in a task."""
        self.lag = 0.0
        return [asyncio.create_task(self.ask(plan, port), name=plan.model) for plan in plans or self.plans.values()]

    async def watch(self) -> None:
        """Measure `lag`, until cancelled."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(0.002)
            now = loop.time()
            self.lag = max(self.lag, now - before - 0.002)
            before = now

    # -- the provider ------------------------------------------------------------------------------------------------------------------

    async def _play(self, visit: Visit) -> None:
        await visit.body()
        loop = asyncio.get_running_loop()
        plan = self.plans[int(visit.asked.header("x-plan") or "")]
        if plan.arrived_at is None:
            plan.arrived_at = loop.time()
        plan.arrived.set()
        try:
            await self._answer(visit, plan)
        finally:
            if visit.asked.lost_at is not None:
                plan.dropped_at = visit.asked.lost_at

    async def _answer(self, visit: Visit, plan: Plan) -> None:
        match plan.fate:
            case Fate.GONE_WAITING:
                await visit.left()
            case Fate.DEAD:
                visit.close()
            case Fate.STATUS:
                await visit.send(whole(FAILED, 500))
            case Fate.GONE_AT_HEAD:
                await visit.send(SSE_HEAD)
                plan.headed.set()
                await visit.left()
            case _:
                await visit.send(SSE_HEAD)
                await self._send(visit, plan, 0, plan.at)
                await self._part(visit, plan)

    async def _part(self, visit: Visit, plan: Plan) -> None:
        """What comes at the place of its fate."""
        match plan.fate:
            case Fate.EOF:
                await visit.link.flush()
                visit.close()
            case Fate.RESET:
                await visit.reset()
            case Fate.GONE_MIDWAY | Fate.GONE_AFTER_END | Fate.STALLED:
                await visit.left()
            case Fate.RUNNING:
                await self.release.wait()
                await self._send(visit, plan, plan.at, len(plan.case.body))
                await visit.send(LAST_CHUNK)
            case Fate.ERROR:
                await visit.send(chunk(ERRORS[plan.case.recording.protocol]) + LAST_CHUNK)
            case _:
                await visit.send(LAST_CHUNK)

    async def _send(self, visit: Visit, plan: Plan, start: int, stop: int) -> None:
        at = 0
        for frame in plan.case.recording.frames:
            piece = frame.raw[max(0, start - at) : max(0, stop - at)]
            at += len(frame.raw)
            if piece:
                await visit.send(chunk(piece))
                await asyncio.sleep(plan.pace)

    # -- the clients -------------------------------------------------------------------------------------------------------------------

    async def ask(self, plan: Plan, port: int) -> None:
        """One client, from its request to the end that it sees or makes."""
        await asyncio.sleep(plan.delay)
        loop = asyncio.get_running_loop()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        except OSError:  # the gateway is gone already
            plan.over_at = loop.time()
            return
        try:
            writer.write(plan.question())
            if plan.fate is Fate.GONE_WAITING:
                await _until(plan.arrived, reader)
            elif plan.fate is Fate.GONE_AT_HEAD:
                await _until(plan.headed, reader)  # the head, which the gateway holds until the first frame
            else:
                await self._listen(plan, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            plan.over_at = loop.time()
            leave(writer, abrupt=plan.abrupt and plan.fate in {*GONE, Fate.GONE_AFTER_END})

    async def _listen(self, plan: Plan, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        plan.status = int(head[0].split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        plan.id = headers.get("x-penstock-id")
        if "content-length" in headers:
            plan.body += await reader.readexactly(int(headers["content-length"]))
            plan.clean = True
            return
        leaves_at = plan.at if plan.fate in (Fate.GONE_MIDWAY, Fate.GONE_AFTER_END) else None
        while leaves_at is None or len(plan.body) < leaves_at:
            size = int(await reader.readuntil(b"\r\n"), 16)
            piece = (await reader.readexactly(size + 2))[:-2]
            if not size:
                plan.clean = True
                return
            plan.body += piece


@asynccontextmanager
async def storming(plans: list[Plan]) -> AsyncGenerator[tuple[Storm, int]]:
    """A storm whose provider listens, and the port."""
    storm = Storm(plans)
    port = await storm.server.start()
    watch = asyncio.create_task(storm.watch(), name="lag")
    try:
        yield storm, port
    finally:
        watch.cancel()
        storm.server.close()


async def _until(event: asyncio.Event, reader: asyncio.StreamReader) -> None:
    """Until the event, or the end of a gateway that was killed before it asked anybody."""
    both: list[asyncio.Task[object]] = [asyncio.create_task(event.wait(), name="event"), asyncio.create_task(reader.read(), name="end")]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


def leave(writer: asyncio.StreamWriter, *, abrupt: bool) -> None:
    """Close a client's connection: FIN, or RST where `abrupt`."""
    sock = writer.get_extra_info("socket")
    if abrupt and sock is not None:
        # Linger of zero seconds: close() answers with RST and not with FIN (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
