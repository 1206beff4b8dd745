"""Requests over real sockets: what is kept and what is not, cancelling in every phase, and pressure in both directions."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import cast

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, Script, ScriptedServer, Visit, chunk, head, whole
from penstock.providers.contract import Origin
from penstock.upstream import client as client_module
from penstock.upstream.client import Client, Request
from penstock.upstream.contract import Loss, LossKind, ResponseHead
from penstock.upstream.settings import Settings
from tests.support.gateway import run

MIB = 1 << 20
SOON = 0.1
"""Seconds within which a cancelled request's connection is closed."""
OK = whole(b"{}")
GET = (b"GET", b"/", b"Host: h\r\n\r\n")
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 7\r\nconnection: close\r\n\r\n{\"a\":1}"


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


# -- what is kept ------------------------------------------------------------------------------------------------------------------------


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def work() -> None:
        async with rig([Do.READ, OK], [Do.READ, SSE_HEAD, chunk(b"a"), LAST_CHUNK], [Do.READ, OK]) as it:
            assert [bytes((await it.whole()).body) for _ in range(3)] == [b"{}", b"a", b"{}"]
            assert (it.server.connections, it.client.open, it.client.idle) == (1, 1, 1)

    run(work())


def test_the_last_one_used_is_used_first() -> None:
    async def work() -> None:
        gates = [asyncio.Event(), asyncio.Event()]

        async def gated(visit: Visit) -> None:
            await gates[visit.asked.connection - 1].wait()
            await visit.send(OK)

        async with rig(gated) as it:
            first, second = it.ask()[1], it.ask()[1]
            await it.server.asked(2)
            gates[0].set()
            gates[1].set()
            await first.done()
            await second.done()
            last = (it.server.log[0] if it.client.idle else it.server.log[1]).connection
            assert it.client.idle == 2
            for _ in range(3):
                await it.whole()
            used = {asked.connection for asked in it.server.log[2:]}
            assert len(used) == 1, f"one of two is enough; {last} and the other were both used"

    run(work())


def test_no_more_are_kept_than_may_be() -> None:
    async def work() -> None:
        async with rig([Do.READ, OK], settings=Settings(most_idle=2)) as it:
            takers = [it.ask()[1] for _ in range(6)]
            for taker in takers:
                await taker.done()
            await until(lambda: it.client.open <= 2)
            assert it.client.idle == 2

    run(work())


def test_what_was_kept_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SWEEP", 0.01)

    async def work() -> None:
        async with rig([Do.READ, OK], settings=Settings(idle=0.02)) as it:
            await it.whole()
            assert it.client.open == 1
            await it.empty()
            await it.whole()
            assert it.server.connections == 2

    run(work())


def test_fresh_means_a_new_one() -> None:
    async def work() -> None:
        async with rig([Do.READ, OK]) as it:
            await it.whole()
            await it.whole(fresh=True)
            assert it.server.connections == 2

    run(work())


@pytest.mark.parametrize("how", [Do.CLOSE, Do.RESET])
def test_closed_exactly_when_the_request_arrives(how: Do) -> None:
    """The request may be sent again: nothing of an answer came. On the new connection it cannot be stale again."""

    async def work() -> None:
        async with rig([Do.READ, OK], [Do.READ, how], [Do.READ, how]) as it:
            await it.whole()
            stale = await it.whole()
            assert stale.loss is not None
            assert (stale.calls, stale.loss.kind) == (["lost"], LossKind.STALE)
            again = await it.whole(fresh=True)
            assert again.loss is not None
            assert again.loss.kind in (LossKind.EOF, LossKind.RESET)
            assert it.server.connections == 2

    run(work())


def test_closed_while_it_was_idle() -> None:
    async def work() -> None:
        async def answer_and_leave(visit: Visit) -> None:
            await visit.body()
            await visit.send(OK)
            visit.close()

        async with rig(answer_and_leave) as it:
            for _ in range(3):
                assert (await it.whole()).calls == ["began", "ended"]
                await it.empty()

    run(work())


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


@pytest.mark.parametrize("word", [OK, b"\r\n", None], ids=["answer", "blank", "end"])
def test_unread_bytes_are_not_taken_for_the_next_answer(word: bytes | None) -> None:
    async def work() -> None:
        raw, client = Raw(), Client(Settings())
        parts = (b"POST", b"/", b"Host: h\r\nContent-Length: 0\r\n\r\n")
        try:
            taker = Taker()
            client.ask(raw.origin, parts, taker, head_only=False, uploading=False, fresh=False)
            peer = await raw.accept()
            await asyncio.to_thread(peer.recv, 1000)
            peer.sendall(OK)
            await taker.done()
            assert client.idle == 1
            # Between this and the next request the loop looks at no socket.
            if word is None:
                peer.close()
            else:
                peer.sendall(word)
            second = Taker()
            client.ask(raw.origin, parts, second, head_only=False, uploading=False, fresh=False)
            peer = await raw.accept()
            await asyncio.to_thread(peer.recv, 1000)
            peer.sendall(whole(b"the right one"))
            await second.done()
            assert (second.calls, bytes(second.body)) == (["began", "ended"], b"the right one")
        finally:
            client.close()
            raw.close()

    run(work())


def test_gone_between_dial_and_request() -> None:
    """A connection that is closed as soon as it stands: told as lost, and not counted for ever."""

    async def work() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = Client(Settings())
        server = await asyncio.get_running_loop().create_server(lambda: Slammer(), sock=listener)
        try:
            for _ in range(20):
                taker = Taker()
                client.ask(Origin("http", *listener.getsockname()), GET, taker, head_only=False, uploading=False, fresh=False)
                await taker.done()
                assert taker.loss is not None
                assert taker.loss.kind in (LossKind.EOF, LossKind.RESET)
            await asyncio.sleep(0.01)
            assert client.open == 0
        finally:
            client.close()
            server.close()

    run(work())


class Slammer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


# -- cancelling --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["sent", "head", "body", "paused", "uploading"])
def test_cancelled_in_every_phase_of_an_answer(phase: str) -> None:
    async def work() -> None:
        steps: dict[str, Script] = {
            "sent": [Do.READ, Do.WAIT_FOR_CLIENT],
            "head": [Do.READ, SSE_HEAD, Do.WAIT_FOR_CLIENT],
            "body": [Do.READ, SSE_HEAD, chunk(b"a"), Do.WAIT_FOR_CLIENT],
            "paused": [Do.READ, SSE_HEAD, chunk(b"a"), Do.WAIT_FOR_CLIENT],
            "uploading": [Do.WAIT_FOR_CLIENT],
        }
        async with rig(steps[phase]) as it:
            uploading = phase == "uploading"
            asked, taker = it.ask(uploading=uploading, rest=b"Host: h\r\nContent-Length: 9\r\n\r\n" + (b"" if uploading else b"x" * 9))
            got = await it.server.asked(1)
            if not uploading:
                await got.arrived.wait()
            if phase in ("head", "body", "paused"):
                await (taker.began if phase == "head" else taker.flowing).wait()
            if phase == "paused":
                asked.pause()
            before, calls = monotonic(), list(taker.calls)
            asked.cancel()
            async with asyncio.timeout(SOON):
                await got.over.wait()
            assert monotonic() - before < SOON
            await it.empty()
            asked.cancel()
            asked.resume()
            asked.upload(b"late")
            asked.upload_end()
            assert taker.calls == calls, "nothing is called any more"

    run(work())


def test_cancelled_while_dialing() -> None:
    async def work() -> None:
        listener, fillers = full_listener()
        client = Client(Settings())
        try:
            taker = Taker()
            asked = client.ask(Origin("http", *listener.getsockname()), GET, taker, head_only=False, uploading=True, fresh=False)
            asked.upload(b"early")
            await asyncio.sleep(0.02)
            assert client.dialing == 1
            asked.cancel()
            await asyncio.sleep(0.02)
            assert (client.dialing, client.open, taker.calls) == (0, 0, ["paused"])
        finally:
            client.close()
            for sock in (listener, *fillers):
                sock.close()

    run(work())


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose backlog is full: the kernel drops every further SYN, as a black hole does (Linux)."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers: list[socket.socket] = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


def test_cancelled_at_every_turn_of_the_loop_nothing_leaks() -> None:
    """Whatever the dial has just come to: socket, connection, request, answer."""

    async def work() -> None:
        async with rig([Do.READ, OK]) as it:
            for turns in range(60):
                asked, taker = it.ask(fresh=True)
                for _ in range(turns // 3):
                    await asyncio.sleep(0)
                ended = bool(taker.calls)
                asked.cancel()
                assert ended == bool(taker.calls)
            await until(lambda: not it.client.dialing and it.client.open == it.client.idle)
            # What is open at the server is what is kept here.
            await until(lambda: len(it.server.links) == it.client.idle)

    run(work())


def test_the_end_of_the_client_ends_everything_and_tells_nobody() -> None:
    async def work() -> None:
        listener, fillers = full_listener()
        try:
            async with rig([Do.READ, OK], [Do.READ, SSE_HEAD, chunk(b"a"), Do.WAIT_FOR_CLIENT]) as it:
                await it.whole()
                _, running = it.ask()
                await running.flowing.wait()
                dialing = Taker()
                it.client.ask(Origin("http", *listener.getsockname()), GET, dialing, head_only=False, uploading=False, fresh=False)
                it.client.close()
                await it.empty()
                assert (running.calls, dialing.calls) == (["began"], [])
        finally:
            for sock in (listener, *fillers):
                sock.close()

    run(work())


# -- pressure ----------------------------------------------------------------------------------------------------------------------------


def peak() -> float:
    """The process's highest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_slow_receiver_stops_the_provider_and_memory_stays() -> None:
    size, piece = 50 * MIB, b"x" * 65536

    async def work() -> None:
        async def much(visit: Visit) -> None:
            await visit.body()
            await visit.link.write(head(200, f"content-length: {size}"))
            for _ in range(size // len(piece)):
                await visit.link.write(piece)
                visit.asked.sent += len(piece)

        async with rig(much) as it:
            taker = Taker(keep=False)
            taker.on_body = lambda: asked.pause()
            asked, _ = it.ask(taker)
            await taker.flowing.wait()
            sent = -1
            async with asyncio.timeout(10):
                while it.server.log[0].sent != sent:  # until the sockets between us are full
                    sent = it.server.log[0].sent
                    await asyncio.sleep(0.05)
            assert taker.size <= MIB, "what was read before the pause, and nothing after it"
            assert sent < size
            before = peak()
            taker.on_body = None
            asked.resume()
            await taker.done()
            assert (taker.size, taker.calls[-1]) == (size, "ended")
            assert peak() - before < 8
            assert it.client.idle == 1

    run(work())


class Sink(asyncio.Protocol):
    """Reads when it may, counts, and answers when all has come."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        asyncio.get_running_loop().call_soon(self.transport.pause_reading)  # uvloop begins to read behind this call

    def read(self) -> None:
        assert self.transport is not None
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.expected -= len(data)
        if self.expected == 0:
            self.transport.write(OK)


def test_a_slow_provider_stops_the_upload_and_memory_stays() -> None:
    size, piece = 50 * MIB, b"x" * 65536

    async def work() -> None:
        rest = b"Host: h\r\nContent-Length: %d\r\n\r\n" % size
        sink = Sink(size + len(b"PUT / HTTP/1.1\r\n" + rest))
        server = await asyncio.get_running_loop().create_server(lambda: sink, "127.0.0.1", 0)
        client, taker = Client(Settings()), Taker()
        try:
            origin = Origin("http", *server.sockets[0].getsockname())
            asked = client.ask(origin, (b"PUT", b"/", rest), taker, head_only=False, uploading=True, fresh=False)
            asked.upload(piece)
            assert taker.calls == ["paused"], "nothing is connected yet"
            await until(taker.free.is_set)
            uploaded = len(piece)
            while taker.free.is_set() and uploaded < size:
                asked.upload(piece)
                uploaded += len(piece)
                await asyncio.sleep(0)
            assert uploaded < size
            before = peak()
            sink.read()
            while uploaded < size:
                await until(taker.free.is_set, 5)
                asked.upload(piece)
                uploaded += len(piece)
            asked.upload_end()
            await taker.done()
            assert taker.calls[-2:] == ["began", "ended"]
            assert taker.calls.count("paused") == taker.calls.count("resumed") > 2
            assert peak() - before < 8
            assert client.idle == 1, "both messages were whole"
        finally:
            client.close()
            server.close()

    run(work())


def test_an_upload_that_came_before_the_connection() -> None:
    async def work() -> None:
        async with rig([Do.READ, OK]) as it:
            asked, taker = it.ask(uploading=True, rest=b"Host: h\r\nContent-Length: 6\r\n\r\n")
            asked.upload(b"one")
            asked.upload(b"two")
            asked.upload_end()
            await taker.done()
            assert it.server.log[0].body == b"onetwo"
            assert taker.calls == ["paused", "resumed", "began", "ended"]
            assert it.client.idle == 1

    run(work())


def test_an_upload_held_for_a_dial_that_fails_is_let_go() -> None:
    async def work() -> None:
        client = Client(Settings())
        with socket.create_server(("127.0.0.1", 0)) as sock:
            origin = Origin("http", *sock.getsockname())
        taker = Taker()
        asked = client.ask(origin, (b"POST", b"/", b"\r\n"), taker, head_only=False, uploading=True, fresh=False)
        asked.upload(b"x")
        await taker.done()
        assert taker.calls == ["paused", "resumed", "lost"]

    run(work())


def test_an_early_answer_is_read_though_its_provider_resets_the_upload() -> None:
    """A server that answers 413 and closes with the body unread sends a reset behind its answer. A write that fails takes the
    transport away; so what can be read is read first."""

    async def work() -> None:
        for _ in range(20):
            raw, client = Raw(), Client(Settings())
            try:
                taker = Taker()
                rest = b"Host: h\r\nContent-Length: %d\r\n\r\n" % MIB
                asked = client.ask(raw.origin, (b"POST", b"/", rest), taker, head_only=False, uploading=True, fresh=False)
                peer = await raw.accept()
                asked.upload(b"x" * 1000)
                async with asyncio.timeout(5):
                    await taker.free.wait()
                await asyncio.to_thread(peer.recv, 10)
                asked.upload(b"x" * 65536)
                peer.sendall(TOO_LARGE)
                peer.close()  # with unread bytes: RST
                for _ in range(10):
                    asked.upload(b"x" * 65536)
                asked.upload_end()
                await taker.done()
                assert taker.head is not None
                assert (taker.head.status, bytes(taker.body), taker.calls[-1]) == (413, b'{"a":1}', "ended")
                await asyncio.sleep(0.001)
                assert client.open == 0
            finally:
                client.close()
                raw.close()

    run(work())


def test_a_provider_that_talks_while_it_is_written_to_gets_all() -> None:
    """Writes that wait for a read are not lost, reordered or forgotten."""

    async def work() -> None:
        async def echo(visit: Visit) -> None:
            await visit.send(SSE_HEAD)
            for number in range(200):
                await visit.send(chunk(b"%d " % number))
            assert await visit.body() == b"".join(b"%06d" % n for n in range(2000))
            await visit.send(LAST_CHUNK)

        async with rig(echo) as it:
            asked, taker = it.ask(uploading=True, rest=b"Host: h\r\nContent-Length: 12000\r\n\r\n")
            await it.server.asked(1)
            for number in range(2000):
                asked.upload(b"%06d" % number)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            asked.upload_end()
            await taker.done()
            assert taker.calls[-1] == "ended"

    run(work())


def test_reset_while_answering_is_a_loss() -> None:
    async def work() -> None:
        async with rig([Do.READ, SSE_HEAD, chunk(b"a"), Do.RESET]) as it:
            taker = await it.whole()
            assert (bytes(taker.body), taker.loss) == (b"a", Loss(LossKind.RESET, "the provider reset the connection inside its answer"))

    run(work())


def test_reset_with_linger_before_anything() -> None:
    async def work() -> None:
        raw, client = Raw(), Client(Settings())
        try:
            taker = Taker()
            client.ask(raw.origin, GET, taker, head_only=False, uploading=False, fresh=False)
            peer = await raw.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            await taker.done()
            assert taker.loss is not None
            assert taker.loss.kind in (LossKind.RESET, LossKind.EOF)  # which depends on whether the request left before
        finally:
            client.close()
            raw.close()

    run(work())
