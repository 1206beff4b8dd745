"""Requests to providers without a gateway: a receiver that writes down what it is told, addresses that lead nowhere, and an authority."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trustme

from penstock.lab.scripted import Do, Script, ScriptedServer, whole
from penstock.providers.contract import Origin
from penstock.upstream.client import Client, Request
from penstock.upstream.contract import Loss, ResponseHead
from penstock.upstream.dial import AddressInfo, Dialer, make_tls_context
from penstock.upstream.settings import Settings

MIB = 1 << 20
GET = (b"GET", b"/v1/models", b"Host: provider.test\r\n\r\n")
NAME = "provider.test"


class Taker:
    """A receiver; keeps no more of a body than is asked for."""

    def __init__(self, *, keep: bool = True) -> None:
        self.calls: list[str] = []
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.size = 0
        self.loss: Loss | None = None
        self.over = asyncio.Event()
        self.began = asyncio.Event()
        self.flowing = asyncio.Event()
        self.free = asyncio.Event()
        """The upload may go on."""
        self.free.set()
        self.on_body: Callable[[], None] | None = None
        self._keep = keep

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self.calls.append("began")
        self.head = head
        self.began.set()

    def answer_body(self, data: bytes, now: float) -> None:
        self.size += len(data)
        if self._keep:
            self.body += data
        self.flowing.set()
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
        self.loss = loss
        self.over.set()

    def upload_paused(self) -> None:
        self.calls.append("paused")
        self.free.clear()

    def upload_resumed(self) -> None:
        self.calls.append("resumed")
        self.free.set()

    async def done(self) -> Taker:
        async with asyncio.timeout(20):
            await self.over.wait()
        return self


async def until(true: Callable[[], bool], seconds: float = 1.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # nobody tells; the wait is bounded
            await asyncio.sleep(0.001)


class Rig:
    def __init__(self, client: Client, server: ScriptedServer, port: int) -> None:
        self.client = client
        self.server = server
        self.origin = Origin("http", "127.0.0.1", port)

    def ask(
        self, taker: Taker | None = None, *, rest: bytes = b"Host: h\r\nContent-Length: 2\r\n\r\n{}", uploading: bool = False, fresh: bool = False
    ) -> tuple[Request, Taker]:
        taker = taker or Taker()
        asked = self.client.ask(self.origin, (b"POST", b"/x", rest), taker, head_only=False, uploading=uploading, fresh=fresh)
        assert taker.calls == [], "nothing is called before `ask` has returned"
        return asked, taker

    async def whole(self, *, fresh: bool = False) -> Taker:
        return await self.ask(fresh=fresh)[1].done()

    async def empty(self) -> None:
        """No connection is open or being made, and no task runs but the test's and the server's."""
        await until(lambda: not self.client.open and not self.client.dialing)
        assert not any(task.get_name() == "penstock-dial" for task in asyncio.all_tasks())


@asynccontextmanager
async def rig(*scripts: Script, settings: Settings = Settings()) -> AsyncGenerator[Rig]:  # noqa: B008
    server = ScriptedServer(*scripts)
    port = await server.start()
    it = Rig(Client(settings), server, port)
    try:
        yield it
    finally:
        it.client.close()
        await it.empty()
        server.close()


class Raw:
    """A provider without a loop: what it does has happened when the call returns, and the client's loop has not seen it yet."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.origin = Origin("http", "127.0.0.1", self.listener.getsockname()[1])
        self.peers: list[socket.socket] = []

    async def accept(self) -> socket.socket:
        self.listener.setblocking(False)
        async with asyncio.timeout(5):
            peer, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        peer.setblocking(True)
        peer.settimeout(5)
        self.peers.append(peer)
        return peer

    def close(self) -> None:
        for sock in (self.listener, *self.peers):
            sock.close()


@contextmanager
def black_hole() -> Generator[int]:
    """A port of 127.0.0.1 that swallows every SYN, because its listener's backlog is full (Linux)."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


async def here(host: str, port: int) -> Sequence[AddressInfo]:
    """Every name is this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


def nobody() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def ask(client: Client, origin: Origin, *, fresh: bool = True) -> Taker:
    """One request, and then nothing is left open that is not kept."""
    taker = Taker()
    client.ask(origin, GET, taker, head_only=False, uploading=False, fresh=fresh)
    await taker.done()
    await until(lambda: not client.dialing and client.open <= client.idle)
    return taker


async def loss_of(origin: Origin, dialer: Dialer | None = None, settings: Settings = Settings()) -> Loss:  # noqa: B008
    client = Client(settings, dialer or Dialer(proxies={}))
    taker = await ask(client, origin)
    client.close()
    assert taker.loss is not None, "a loss was expected"
    assert client.open == 0
    for address in ("127.0.0.1", "::1", NAME, str(origin.port)):
        assert address not in taker.loss.cause
    return taker.loss


class Trust:
    """An authority of our own, the file that names it, and servers' contexts with its certificates."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.file = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def server(self, *names: str, **how: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or (NAME, "127.0.0.1", "localhost")), **how).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # it takes pyOpenSSL's too
        return context

    def dialer(self, proxies: Mapping[str, str] | None = None) -> Dialer:
        return Dialer(make_tls_context(self.file), proxies or {}, here)


@asynccontextmanager
async def secure(tls: ssl.SSLContext, *scripts: Any) -> AsyncGenerator[tuple[ScriptedServer, Origin]]:
    server = ScriptedServer(*(scripts or ([Do.READ, whole(b"{}")],)))
    port = await server.start(tls=tls)
    try:
        yield server, Origin("https", NAME, port)
    finally:
        server.close()
