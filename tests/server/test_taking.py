"""What a client has not taken, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from penstock.server.taking import untaken
from tests.support.rim import on_loop


@on_loop
async def test_each_read_of_the_client_is_seen() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        made, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport = made
        assert untaken(transport) == 0
        transport.write(b"x" * 8_000_000)
        before = untaken(transport)
        assert before >= transport.get_write_buffer_size() > 0
        got = 0
        while transport.get_write_buffer_size():
            got += len(await loop.sock_recv(theirs, 100_000))
            now = untaken(transport)
            assert now < before or sys.platform != "linux", f"after {got} bytes"
            before = now
        transport.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what waits in the kernel")
@on_loop
async def test_what_the_kernel_holds_counts() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        made, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport = made
        transport.write(b"x" * 8_000_000)
        assert untaken(transport) > transport.get_write_buffer_size()
        transport.abort()
        await asyncio.sleep(0)
        assert untaken(transport) == transport.get_write_buffer_size()
