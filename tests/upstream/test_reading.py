"""A provider that sends faster than one turn of the loop takes."""

from __future__ import annotations

import asyncio

import pytest

from penstock.upstream.connection import Connection
from penstock.upstream.reading import MUCH
from tests.upstream.test_connection import POST, Rig

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def flooded(connection: Connection, rig: Rig) -> None:
    connection.data_received(HEAD)
    assert rig.wire.reading
    connection.data_received(b"x" * (MUCH + 1))


def test_what_fills_the_loops_buffer_is_read_once_in_a_turn() -> None:
    async def work() -> None:
        rig = Rig()
        rig.send(POST)
        flooded(rig.connection, rig)
        assert not rig.wire.reading
        await asyncio.sleep(0)
        assert rig.wire.reading
        rig.connection.data_received(b"x" * MUCH)
        assert rig.wire.reading, "there is no more"

    asyncio.run(work())


@pytest.mark.parametrize("then", ["pause", "close"])
def test_and_not_read_on_where_it_is_to_stop(then: str) -> None:
    async def work() -> None:
        rig = Rig()
        taker = rig.send(POST)
        flooded(rig.connection, rig)
        rig.connection.pause(taker) if then == "pause" else rig.connection.close()
        await asyncio.sleep(0)
        assert not rig.wire.reading
        if then == "pause":
            rig.connection.resume(taker)
            assert rig.wire.reading

    asyncio.run(work())
