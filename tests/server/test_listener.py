"""Addresses, sockets, and what becomes of connections when the listener stops."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from pathlib import Path

import pytest

from penstock.server.listener import NOTSENT_LOWAT, Listener
from penstock.server.settings import Settings
from tests.support.http import read_answer
from tests.support.rim import Talk, at_end, get, nothing, on_loop, post


class Front:
    def __init__(self, act: object = at_end) -> None:
        self.talks: list[Talk] = []
        self._act = act

    def open(self, request: object, reply: object) -> Talk:
        talk = Talk(request, reply, self._act)  # type: ignore[arg-type]
        self.talks.append(talk)
        return talk


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def say(path: str, data: bytes) -> int:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    answer = await read_answer(reader)
    writer.close()
    return answer.status


@on_loop
async def test_a_unix_socket_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    front = Front()
    listener = Listener(front, Settings(socket_path=str(path)))
    await listener.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["p.sock"]
    assert await say(str(path), post("/1", b"abc")) == 200
    assert front.talks[0].request.local
    listener.close()
    assert not path.exists()


@on_loop
async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    first = Listener(Front(), Settings(socket_path=str(path)))
    await first.start()
    second = Listener(Front(), Settings(socket_path=str(path)))
    with pytest.raises(OSError) as caught:
        await second.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert str(path) in str(caught.value)
    second.close()
    assert await say(str(path), get()) == 200
    first.close()


@on_loop
async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError) as caught:
        await Listener(Front(), Settings(socket_path=str(path))).start()
    assert caught.value.filename == str(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["none/p.sock", "x" * 120])
@on_loop
async def test_a_socket_that_cannot_be_made_says_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError) as caught:
        await Listener(Front(), Settings(socket_path=str(tmp_path / name))).start()
    assert caught.value.errno in (errno.ENOENT, errno.ENAMETOOLONG)
    assert caught.value.filename == str(tmp_path / name)
    assert names(tmp_path) == []


@on_loop
async def test_a_socket_that_took_our_place_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    first = Listener(Front(), Settings(socket_path=str(path)))
    await first.start()
    path.unlink()
    second = Listener(Front(), Settings(socket_path=str(path)))
    await second.start()
    first.close()
    assert await say(str(path), get()) == 200
    second.close()


@on_loop
async def test_an_address_in_use() -> None:
    first = Listener(Front(), Settings(port=0))
    await first.start()
    assert first.port > 0
    second = Listener(Front(), Settings(port=first.port))
    with pytest.raises(OSError) as caught:
        await second.start()
    assert caught.value.errno == errno.EADDRINUSE
    second.close()
    first.close()


@on_loop
async def test_accepted_sockets_feel_slow_readers_early() -> None:
    listener = Listener(Front(), Settings(port=0))
    await listener.start()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    while not listener.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    (connection,) = listener.connections
    sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]  # pyright: ignore
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOTSENT_LOWAT
    writer.close()
    listener.close()


@on_loop
async def test_another_machine_is_not_local() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it tells which address of ours would be used
        except OSError:
            pytest.skip("no network here")
        own = probe.getsockname()[0]
    front = Front()
    listener = Listener(front, Settings(host="0.0.0.0", port=0))
    await listener.start()
    reader, writer = await asyncio.open_connection(own, listener.port)
    writer.write(get())
    await read_answer(reader, "GET")
    assert not front.talks[0].request.local
    writer.close()
    listener.close()


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", True)])
@on_loop
async def test_who_is_local(host: str, local: bool) -> None:
    front = Front()
    listener = Listener(front, Settings(host=host, port=0))
    try:
        await listener.start()
    except OSError:
        pytest.skip("no such address here")
    reader, writer = await asyncio.open_connection("::1" if ":" in host else "127.0.0.1", listener.port)
    writer.write(get())
    await read_answer(reader, "GET")
    assert front.talks[0].request.local is local
    writer.close()
    listener.close()


@on_loop
async def test_stop_closes_who_waits_and_leaves_who_is_served() -> None:
    front = Front(nothing)
    listener = Listener(front, Settings(port=0))
    await listener.start()
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    served, served_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    half, half_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    served_writer.write(get("/1"))
    half_writer.write(get("/2")[:10])
    while not front.talks or len(listener.connections) < 3 or listener.busy < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    listener.stop()
    assert await idle.read() == b""
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", listener.port)
    front.talks[0].answer(b"served")
    assert (await read_answer(served)).body == b"served"
    half_writer.write(get("/2")[10:])
    while len(front.talks) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    listener.close()
    assert front.talks[1].events[-1] == "gone"
    assert await half.read() == b""
    for writer in (idle_writer, served_writer, half_writer):
        writer.close()
    while listener.connections:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
