"""The scripted provider: reads from the model's name which fault is wanted, plays it, and writes down what it did and when it was left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from penstock.lab.http1 import Asked, LabServer, Link
from penstock.lab.scripted import LAST_CHUNK, chunk, head, whole
from penstock.lab.torture.forms import FORMS, Form, form_asked, model_of, read_model
from penstock.lab.torture.speakers import Speaker
from penstock.lab.torture.tally import Tally

PIECES = ("Once upon a time ", "there was a stream: ", "Grüße, 世界, 🌊. ", "It had no end, ", "and then it had one.")
"""The text of every answer, with characters of two, three and four bytes."""


@dataclass(eq=False, slots=True)
class Visit:
    """One request of the gateway's."""

    asked: Asked
    form: Form
    """In which it was answered."""
    sent: Tally = field(default_factory=Tally)
    """The body, before any coding."""
    whole: bool = False
    """The answer was no stream."""
    headers: tuple[str, ...] = ()
    """Of a whole answer: lines that the client must get, too."""
    progress_at: float | None = None
    """When content went on for the last time, as far as the timer under test counts it."""


@dataclass(eq=False, slots=True)
class Watch:
    """What happened at the provider in one cell."""

    visits: list[Visit] = field(default_factory=list[Visit])
    """In order. More than one: the gateway tried again."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the fault's script has said what it says at once; a client that leaves may leave from then on."""
    dropped: int = 0
    """Kept connections that were closed under a request."""


class Stage:
    """What a fault's script acts on: one request, and every byte of its answer."""

    def __init__(self, link: Link, visit: Visit, watch: Watch, pause: float) -> None:
        self.form = visit.form
        self.say: Speaker = visit.form.speaker()
        self.pause = pause
        """Seconds for which a provider may be silent without being ill."""
        self.watch = watch
        self.sent = visit.sent
        self.reused = False
        """The connection has served a request before."""
        self._visit = visit
        self._link = link
        self._chunked = True

    # Frames of a usual answer.

    def texts(self, count: int = len(PIECES)) -> list[bytes]:
        """The first so many pieces. (What is not to be sent must not be said: frames are numbered.)"""
        return [frame for piece in PIECES[:count] for frame in self.say.text(piece)]

    def story(self) -> list[bytes]:
        """A whole answer."""
        return [*self.say.opening(), *self.texts(), *self.say.finish(), *self.say.terminal()]

    # Steps.

    async def head(self, *headers: str, status: int = 200, framing: str = "transfer-encoding: chunked") -> None:
        """The answer's head. `framing`: the header that says where the body ends."""
        self._chunked = "chunked" in framing
        content = f"content-type: {self.form.media}"
        await self.raw(head(status, content, "x-request-id: req_torture", framing, *headers, reason=_phrase(status)))

    async def send(self, *frames: bytes) -> None:
        """Body bytes, each in an HTTP chunk and a write of its own. Content goes on with them."""
        for frame in frames:
            await self.body(frame)
        self.mark()

    async def body(self, data: bytes, coded: bytes | None = None) -> None:
        """A piece of the body; `coded`: as it goes over the wire."""
        self.sent.add(data)
        wire = data if coded is None else coded
        if wire:
            await self.raw(chunk(wire) if self._chunked else wire)

    async def raw(self, data: bytes) -> None:
        """Bytes as they are, in a write of their own."""
        await self._link.write(data)
        await asyncio.sleep(0)

    async def whole(self, body: bytes, status: int, *headers: str) -> None:
        """A whole answer with its length."""
        self.sent.add(body)
        self._visit.whole = True
        self._visit.headers = kept = ("x-request-id: req_torture", *(line for line in headers if not line.startswith("content-")))
        typed = [line for line in headers if line not in kept]
        await self.raw(whole(body, status, *kept, *typed).replace(b" OK\r\n", f" {_phrase(status)}\r\n".encode(), 1))

    async def end(self) -> None:
        """The proper end of the message."""
        if self._chunked:
            await self.raw(LAST_CHUNK)
        else:
            self._link.close()

    async def eof(self) -> None:
        """FIN."""
        await self._link.flush()
        self._link.close()

    async def reset(self) -> None:
        """RST, when the gateway's kernel has everything."""
        await self._link.flush()
        self._link.reset()

    def mark(self) -> None:
        """Now content went on."""
        self._visit.progress_at = asyncio.get_running_loop().time()

    def ready(self) -> None:
        """Now a client may leave."""
        self.watch.started.set()

    async def silence(self) -> None:
        """Say nothing more, until the gateway leaves."""
        self.ready()
        await self._link.lost.wait()


Play = Callable[[Stage], Awaitable[None]]


class TortureServer(LabServer):
    """Plays the fault that each request names. `watches` tells what happened, by fault and form as the model's name has them."""

    def __init__(self, plays: Mapping[str, Play], pause: float) -> None:
        super().__init__()
        self.remember = False
        self.watches: dict[tuple[str, str], Watch] = {}
        self.strays: list[str] = []
        """Requests that nobody in this room made, or in a form that we do not know."""
        self._plays = plays
        self._pause = pause
        self._used: set[int] = set()

    def watch(self, fault: str, form: str) -> Watch:
        """A fresh account of that cell."""
        made = self.watches[fault, form] = Watch()
        return made

    async def answer(self, link: Link, asked: Asked) -> None:
        await asked.arrived.wait()
        named = read_model(asked.target, asked.body)
        form = form_asked(asked.path, asked.query)
        if named is None or form is None or named[0] not in self._plays:
            await link.write(self._other(asked))
            return
        watch = self.watches.setdefault(named, Watch())
        visit = Visit(asked, form)
        watch.visits.append(visit)
        stage = Stage(link, visit, watch, self._pause)
        stage.reused = asked.connection in self._used
        self._used.add(asked.connection)
        await self._plays[named[0]](stage)

    def _other(self, asked: Asked) -> bytes:
        """Gateways look at a provider's models; anything else is noted."""
        if asked.method == "GET" and asked.path.rstrip("/").endswith("/models"):
            ids = [model_of(fault, form) for fault in self._plays for form in FORMS]
            listed = [{"id": name, "object": "model", "type": "model", "display_name": name, "created": 0, "owned_by": "torture"} for name in ids]
            return whole(msgspec.json.encode({"object": "list", "data": listed, "has_more": False}))
        self.strays.append(f"{asked.method} {asked.path}")
        message = f"{asked.method} {asked.path} names no fault of this provider's; its models are called {model_of('NAME', 'FORM')}"
        return whole(msgspec.json.encode({"error": {"message": message, "type": "not_found_error"}}), 404)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Torture"  # 529 and its kin are in no registry
