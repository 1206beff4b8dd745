"""A gateway without sockets: its client, its ledger and its providers' answers are in the test's hands, and so is the time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from penstock.dedup import Desk
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import ClientRequest, Headers
from penstock.exchange.front import Front
from penstock.exchange.gateway import Demo, Gateway, Lists, Settings
from penstock.exchange.intake import Intake
from penstock.exchange.permits import Permits
from penstock.ledger.entry import Entry, Maker
from penstock.ledger.errors import LedgerFull
from penstock.protocols import REGISTRY
from penstock.providers import KINDS, Origin, Provider, ProviderSettings, build
from penstock.routing import Face, Glob, Route, Router
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind, Receiver, ResponseHead
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.budget import Budget

SSE: Headers = [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")]
CHUNK = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
STOP = b'data: {"id":"c1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c1","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when it is told to."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Let everything run that can run now."""

        async def nothing() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.run_until_complete(nothing())

    def wait(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass, in steps in which every timer has its turn."""
        until = self.now + seconds
        while until - self.now > step:
            self.now += step
            self.settle()
        self.now = until
        self.settle()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Call it as a callback of the loop."""

        async def inside() -> None:
            function(*args)

        self.run_until_complete(inside())
        self.settle()


@dataclass
class FakeReply:
    """The client's side. It holds its user to `contract.Reply`: nothing after the end, one head, and that first."""

    status: int | None = None
    headers: Headers = field(default_factory=Headers)
    length: int | None = None
    body: bytes = b""
    over: str | None = None
    """`ended` or `aborted`."""
    gone: bool = False
    """The client went away: whatever is called now is for nobody."""
    paused: bool = False
    address: str | None = "127.0.0.1"
    waiting: int = 0
    """Bytes that the client has not taken."""

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        assert self.over is None
        assert self.status is None
        self.status, self.headers, self.length = status, headers, length

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        self.head(status, headers, len(body))
        if body:
            self.write(body)
        self.end()

    def write(self, data: bytes) -> None:
        assert self.over is None
        assert self.status is not None
        assert data
        self.body += data

    def end(self) -> None:
        assert self.over is None
        assert self.status is not None
        assert self.length is None or self.length == len(self.body) or self.gone, "the framing was promised"
        self.over = "ended"

    def abort(self) -> None:
        assert self.over is None
        self.over = "aborted"

    def pause_upload(self) -> None:
        assert self.over is None
        self.paused = True

    def resume_upload(self) -> None:
        assert self.over is None
        self.paused = False

    def unsent(self) -> int:
        return self.waiting

    def peer(self) -> str | None:
        return self.address

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeAsk:
    """One request as the provider got it, and the provider's answer, told call by call. It holds both sides to `upstream.contract`."""

    origin: Origin | None
    method: bytes
    target: bytes
    rest: bytes
    receiver: Receiver | None
    run: Callable[..., None]
    """Calls something as the loop would."""
    now: Callable[[], float]
    dialed_at: float | None = None
    head_only: bool = False
    uploading: bool = False
    fresh: bool = False
    connect: float | None = None
    """Seconds that its connection may take."""
    cancelled: bool = False
    paused: bool = False
    uploaded: bytes = b""
    upload_ended: bool = False
    began: bool = False
    hands_over: bool = True
    left: int | None = None
    """Bytes that the framing still promises; `None` where it promises none."""

    # As the exchange holds it.

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def hand_over(self, receiver: Receiver) -> bool:
        if self.hands_over:
            self.receiver = receiver
        return self.hands_over

    def cancel(self) -> None:
        self.cancelled, self.receiver = True, None

    def upload(self, data: bytes) -> None:
        assert self.uploading
        assert not self.upload_ended
        self.uploaded += data

    def upload_end(self) -> None:
        self.upload_ended = True

    # As the provider answers.

    @property
    def live(self) -> bool:
        return self.receiver is not None

    @property
    def to(self) -> Receiver:
        assert self.receiver is not None
        return self.receiver

    def answer(self, status: int = 200, headers: Headers | None = None) -> FakeAsk:
        assert not self.began
        self.began = True
        head = ResponseHead(status, SSE if headers is None else headers)
        self.left = head.content_length
        self.run(self.to.answer_began, head, self.now())
        return self

    def answer_json(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.answer(status, [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(data))])
        if self.live:
            self.body(data)
        if self.live:
            self.end()

    def body(self, *pieces: bytes) -> FakeAsk:
        assert self.began
        for piece in pieces:
            if self.left is not None:
                piece = piece[: self.left]
                self.left -= len(piece)
            if self.receiver is not None and piece:
                self.run(self.receiver.answer_body, piece, self.now())
        return self

    def end(self) -> None:
        """The end of the connection; it is a good one where the framing lets it be."""
        assert self.began
        if self.left:
            self.lose(LossKind.EOF, "the provider closed the connection inside its answer")
            return
        receiver, self.receiver = self.to, None
        self.run(receiver.answer_ended, self.now())

    def lose(self, kind: LossKind = LossKind.RESET, cause: str = "the provider reset the connection") -> None:
        receiver, self.receiver = self.to, None
        self.run(receiver.answer_lost, Loss(kind, cause), self.now())

    def header(self, name: str) -> str | None:
        for line in self.rest.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n"):
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None

    @property
    def sent_body(self) -> bytes:
        return self.rest.partition(b"\r\n\r\n")[2]


def _maker(said: str | Maker | None) -> Maker | None:
    return Maker(said) if isinstance(said, str) else said


@dataclass
class FakeBook:
    """The ledger: counts what is opened and settled, and is full when told so."""

    opened: list[Entry] = field(default_factory=list[Entry])
    settled: list[Entry] = field(default_factory=list[Entry])
    refused: list[Entry] = field(default_factory=list[Entry])
    late: int = 0
    full: bool = False
    known: dict[str, str | Maker] = field(default_factory=dict[str, "str | Maker"])
    """Responses that are remembered."""
    stored: dict[str, str | Maker] = field(default_factory=dict[str, "str | Maker"])
    """Responses that the database knows."""

    def open(self, entry: Entry) -> None:
        if self.full:
            self.refused.append(entry)
            raise LedgerFull("full")
        assert all(entry is not other for other in self.opened), "a row is opened once"
        self.opened.append(entry)
        entry.book = self

    def note_settled(self, entry: Entry) -> None:
        assert all(entry is not other for other in self.settled), "a row is settled once"
        self.settled.append(entry)

    def note_late(self, entry: Entry) -> None:
        self.late += 1

    def find_response(self, response_id: str) -> Maker | None:
        return _maker(self.known.get(response_id))

    def remember(self, response_id: str, maker: Maker) -> None:
        self.known[response_id] = maker if maker[1:] != (None, None) else maker.provider

    async def maker_of(self, response_id: str) -> Maker | None:
        await asyncio.sleep(0)
        return _maker(self.stored.get(response_id))


class FakeCatalog:
    calls = 0
    fails = False

    def house(self, protocol: ProtocolId, name: str) -> bytes | None:
        return b'{"id":"demo"}' if name == "demo" else None

    names: tuple[tuple[str, str], ...] = ()
    """What providers list, and which does."""

    async def listing(self, protocol: ProtocolId, client_headers: Headers, query: str, shown: Lists | None = None) -> bytes:
        await asyncio.sleep(0)
        self.calls += 1
        if self.fails:
            raise RuntimeError("a bug")
        named = {"names": [name for name, owner in self.names if shown is None or shown(name, owner)]} if self.names else {}
        return json.dumps({"protocol": protocol.value, **named}).encode()


def providers(**more: Any) -> dict[str, Provider]:
    """One of each kind, with keys. `more` by kind: further settings."""
    found: dict[str, Provider] = {}
    for kind, cls in KINDS.items():
        plain = ProviderSettings(name=kind, kind=kind, base_url=cls.default_base_url, api_key=f"house-{kind}")
        found[kind] = build(replace(plain, **more.get(kind, {})))
    return found


REQUESTS: dict[ProtocolId, tuple[str, dict[str, Any]]] = {
    ProtocolId.OPENAI_CHAT: ("/v1/chat/completions", {"model": "m", "messages": [], "stream_options": {"include_usage": True}}),
    ProtocolId.OPENAI_RESPONSES: ("/v1/responses", {"model": "m", "input": "x"}),
    ProtocolId.ANTHROPIC_MESSAGES: ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": []}),
    ProtocolId.GEMINI: ("/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": []}),
}
"""Path and body with which a client of each protocol asks for a stream, `stream` apart."""


def told_whole(protocol: ProtocolId, reply: FakeReply) -> dict[str, Any]:
    """The error that is the whole answer, in the shape of `protocol`."""
    assert reply.over == "ended"
    assert reply.header(b"content-type") == b"application/json"
    told = reply.json()
    assert told.get("type") == ("error" if protocol is ProtocolId.ANTHROPIC_MESSAGES else None)
    assert told["error"].get("code" if protocol is ProtocolId.GEMINI else "type") is not None
    return told["error"]


def told_last(protocol: ProtocolId, reply: FakeReply) -> dict[str, Any]:
    """The error that ends the stream, in the shape of `protocol`, behind whole frames."""
    assert (reply.status, reply.over) == (200, "ended")
    *_, last, behind = reply.body.replace(b"\r\n", b"\n").split(b"\n\n")
    assert behind == b"", "nothing stands behind it"
    lines = [line for line in last.split(b"\n") if not line.startswith(b":") and line]
    name, _, data = b"\n".join(lines).rpartition(b"data: ")
    told = json.loads(data)
    named = {ProtocolId.OPENAI_RESPONSES: "response.failed", ProtocolId.ANTHROPIC_MESSAGES: "error"}.get(protocol)
    assert name == (f"event: {named}\n".encode() if named else b"")
    assert told.get("type") == named
    return told["response"]["error"] if protocol is ProtocolId.OPENAI_RESPONSES else told["error"]


class House:
    """A gateway, its fakes, and whoever asks it."""

    def __init__(
        self, settings: Settings | None = None, *, routes: list[Route] | None = None, held: int = 1 << 20, peeked: int = 1 << 20,
        conduct: Conduct | None = None, route_conduct: Sequence[Conduct] = (), limits: dict[str, int] | None = None,
        desk: Desk | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.loop = VirtualLoop()
        self.asks: list[FakeAsk] = []
        self.book = FakeBook()
        self.catalog = FakeCatalog()
        self.told: list[Entry] = []
        """What `on_settled` was given."""
        self.tasks: list[asyncio.Task[None]] = []
        self.providers = providers(**more)
        demo = Demo()
        faces: dict[str, Face] = {**self.providers, "demo": demo}
        self.gateway = Gateway(
            settings=settings or Settings(), instance="i1", specs=REGISTRY, providers=self.providers, faces=faces,
            router=Router(routes or [], list(self.providers.values()), demo), client=cast(Client, self), ask_demo=self._ask_demo,
            ledger=self.book, catalog=self.catalog, held=Budget(held), peeked=Budget(peeked), spawn=self._spawn, on_settled=self.told.append,
            conduct=conduct or Conduct(), route_conduct=route_conduct, permits=Permits(limits or {}), desk=desk, clock=self.loop.time,
            dice=lambda: 1.0,
        )  # fmt: skip
        self.front = Front(self.gateway)

    def __enter__(self) -> House:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(
        self, origin: Origin, request: tuple[bytes, bytes, bytes], receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool,
        connect: float | None = None,
    ) -> FakeAsk:
        """What the real client offers exchanges."""
        asked = FakeAsk(origin, *request, receiver, self.run, self.loop.time, head_only=head_only, uploading=uploading, fresh=fresh, connect=connect)
        self.asks.append(asked)
        return asked

    def _ask_demo(self, *args: Any) -> FakeAsk:
        asked = FakeAsk(None, b"", b"", b"", args[-1], self.run, self.loop.time)
        self.asks.append(asked)
        return asked

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        async def run() -> None:
            await work

        self.tasks.append(self.loop.create_task(run(), name=name))

    def open(self, method: str, path: str, headers: Headers | None = None, *, length: int | None = None, chunked: bool = False) -> Asker:
        """A request's head comes in."""
        path, _, query = path.partition("?")
        named = [] if any(name == b"host" for name, _ in headers or ()) else [(b"host", b"127.0.0.1:4270")]
        request = ClientRequest(method, path, query, [*named, *(headers or [])], length, chunked, local=True)
        reply = FakeReply()
        return Asker(self, reply, self.inside(lambda: self.front.open(request, reply)))

    def inside(self, function: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            return function()

        return self.loop.run_until_complete(inside())

    def post(self, path: str, body: Any, headers: Headers | None = None) -> Asker:
        """A whole request with a JSON body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        client = self.open("POST", path, headers, length=len(data))
        client.body(data)
        client.end()
        return client

    def get(self, path: str, headers: Headers | None = None, method: str = "GET") -> Asker:
        client = self.open(method, path, headers)
        client.end()
        return client

    def chat(self, **more: Any) -> Asker:
        return self.post("/v1/chat/completions", {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": [], **more})

    def stream(self, protocol: ProtocolId, **more: Any) -> tuple[Asker, FakeAsk]:
        """A client of `protocol` that asks for a stream, and the provider that is asked."""
        path, body = REQUESTS[protocol]
        stream = {} if protocol is ProtocolId.GEMINI else {"stream": True}
        return self.post(path, {**body, **stream, **more}), self.last

    def whole(self, protocol: ProtocolId, **more: Any) -> tuple[Asker, FakeAsk]:
        """The same, who asks for a whole body."""
        path, body = REQUESTS[protocol]
        body = {key: value for key, value in body.items() if key != "stream_options"}
        return self.post(path.replace("streamGenerateContent?alt=sse", "generateContent"), {**body, **more}), self.last

    def until(self, true: Callable[[], object], most: float = 60.0) -> float:
        """Let time pass until it is true; how long that took, to a hundredth of a second."""
        began = self.loop.now
        while not true():
            assert self.loop.now < began + most, "it never came true"
            self.loop.now += 0.01
            self.loop.settle()
        return self.loop.now - began

    @property
    def last(self) -> FakeAsk:
        return self.asks[-1]

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        self.loop.call(function, *args)

    def row(self) -> Entry:
        """The one row that there is."""
        assert len(self.book.opened) == 1
        assert self.book.settled == self.book.opened
        return self.book.settled[0]

    def check_quiet(self) -> None:
        """Nothing is under way, and nothing is owed."""
        assert not self.gateway.live
        assert self.gateway.held.used == 0
        assert self.gateway.peeked.used == 0
        assert len(self.book.opened) == len(self.book.settled)
        assert not [ask for ask in self.asks if ask.live]

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.loop.settle()
        self.loop.close()


@dataclass
class Asker:
    """One client with one request."""

    house: House
    reply: FakeReply
    handler: Any
    said: tuple[Headers, bytes] | None = None
    """What the listener was given to say to a request whose body broke off."""

    def body(self, *pieces: bytes) -> Asker:
        for piece in pieces:
            if self.reply.over is None:
                self.house.run(self.handler.client_body, piece)
        return self

    def end(self) -> Asker:
        if self.reply.over is None:
            self.house.run(self.handler.client_end)
        return self

    def leave(self) -> Asker:
        """The listener tells of it only while an answer is owed."""
        if self.reply.over is None:
            self.reply.gone = True
            self.house.run(self.handler.client_gone)
        return self

    def pause(self) -> None:
        """It reads more slowly than it is written to."""
        self.house.run(self.handler.client_paused)

    def resume(self) -> None:
        self.house.run(self.handler.client_resumed)

    def stumble(self, status: int = 400, why: str = "a chunk of the body has no size") -> Asker:
        """The listener refuses the rest of the request's body by itself."""
        if self.reply.over is None:
            self.reply.gone = True
            self.said = self.house.inside(lambda: self.handler.client_bad(status, why))
        return self

    @property
    def intake(self) -> Intake:
        assert isinstance(self.handler, Intake)
        return self.handler


def routes(*lines: tuple[str, str] | tuple[str, str, str]) -> list[Route]:
    return [Route(Glob(line[0]), line[1], line[2] if len(line) == 3 else None) for line in lines]
