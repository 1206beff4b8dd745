"""Requests over real sockets: what is kept and what is not, and cancelling in every phase."""

from __future__ import annotations

import asyncio
import socket
import struct
from time import monotonic

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, Script, Visit, chunk, whole
from penstock.providers.contract import Origin
from penstock.upstream import client as client_module
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind
from penstock.upstream.settings import Settings
from tests.support.asking import GET, Raw, Taker, black_hole, rig, until
from tests.support.gateway import run

SOON = 0.1
"""Seconds within which a cancelled request's connection is closed."""
OK = whole(b"{}")


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
        client = Client(Settings())
        with black_hole() as port:
            taker = Taker()
            asked = client.ask(Origin("http", "127.0.0.1", port), GET, taker, head_only=False, uploading=True, fresh=False)
            asked.upload(b"early")
            await asyncio.sleep(0.02)
            assert client.dialing == 1
            asked.cancel()
            await until(lambda: not client.dialing, SOON)
            assert (client.open, taker.calls) == (0, ["paused"])

    run(work())


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
        with black_hole() as port:
            async with rig([Do.READ, OK], [Do.READ, SSE_HEAD, chunk(b"a"), Do.WAIT_FOR_CLIENT]) as it:
                await it.whole()
                _, running = it.ask()
                await running.flowing.wait()
                dialing = Taker()
                it.client.ask(Origin("http", "127.0.0.1", port), GET, dialing, head_only=False, uploading=False, fresh=False)
                it.client.close()
                await it.empty()
                assert (running.calls, dialing.calls) == (["began"], [])

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
