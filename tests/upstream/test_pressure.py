"""Pressure in both directions: a slow side stops the other one, nothing piles up, and an early answer is not lost to it."""

from __future__ import annotations

import asyncio
import resource
from typing import cast

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, Visit, chunk, head, whole
from penstock.providers.contract import Origin
from penstock.upstream.client import Client
from penstock.upstream.settings import Settings
from tests.support.asking import MIB, Raw, Taker, nobody, rig, until
from tests.support.gateway import run

OK = whole(b"{}")
TOO_LARGE = whole(b'{"a":1}', 413, "connection: close")


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
        origin = Origin("http", "127.0.0.1", nobody())
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
