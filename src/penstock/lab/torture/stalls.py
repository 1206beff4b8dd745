"""Providers that fall silent, or go on without saying anything. A timer must end each, and the provider must be left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.lab.torture.faults import TERMINATED, Asking, Must, begin, fault
from penstock.lab.torture.upstream import Stage


@fault(Must.REFUSED, timer="first_content", statuses=(504,))
async def stall_before_head(up: Stage) -> None:
    """The provider takes the request and says nothing; 504 must arrive when the time is up."""
    await up.silence()


@fault(Must.REFUSED, timer="first_content", statuses=(504,))
async def stall_after_head(up: Stage) -> None:
    """The head comes, and then nothing; 504 must arrive when the time is up."""
    await up.head()
    await up.silence()


@fault(Must.REFUSED, timer="first_content", statuses=(504,), early=True)
async def early_head_then_stall(up: Stage) -> None:
    """Nothing ever comes, and the gateway may open the stream meanwhile; the error must arrive when the time is up, in band if it has."""
    await up.silence()


@fault(Must.BROKEN, timer="first_content")
async def stall_before_content(up: Stage) -> None:
    """The opening events come, and then nothing; the error must follow in band."""
    await up.head()
    for frame in up.say.opening():
        await up.body(frame)
    await up.silence()


@fault(Must.BROKEN, timer="idle")
async def stall_in_text(up: Stage) -> None:
    """Some text comes, and then nothing; the error must follow in band."""
    await begin(up)
    await up.silence()


@fault(Must.BROKEN, timer="idle")
async def stall_inside_a_frame(up: Stage) -> None:
    """Half a frame comes, and then nothing; the whole frames and the error must arrive, and nothing of the half."""
    await begin(up)
    frame = up.say.text("never to be read")[-1]
    await up.send(frame[: len(frame) // 2])
    await up.silence()


@fault(Must.BROKEN, timer="content", lossy=True)
async def stall_in_text_with_pings(up: Stage) -> None:
    """Some text comes, and then pings and nothing else for ever; the error must follow in band."""
    await begin(up)
    await _go_on(up, up.say.ping)


@fault(Must.BROKEN, timer="tool_call")
async def stall_in_tool_call(up: Stage) -> None:
    """A tool call stops in the middle of its arguments; the error must follow in band."""
    await _half_a_call(up)
    await up.silence()


@fault(Must.BROKEN, timer="tool_call", lossy=True)
async def stall_in_tool_call_with_pings(up: Stage) -> None:
    """A tool call stops in the middle of its arguments while pings go on; they must not hide it."""
    await _half_a_call(up)
    await _go_on(up, up.say.ping)


@fault(Must.BROKEN, timer="tool_call", forms=("chat", "responses", "messages"), lossy=True)
async def stall_in_parallel_tool_calls(up: Stage) -> None:
    """Of two tool calls one goes on for ever and the other has stopped; the one must not hide the other. (In Chat a call ends where the
    next begins: there the second one stops.)"""
    await _half_a_call(up)
    await up.send(*up.say.call(1), *up.say.arguments(1, '{"query": "'))
    if up.form.name == "chat":
        await _go_on(up, up.say.ping)
        return
    await up.send(*up.say.arguments(0, "\\u00fc"))
    await _go_on(up, lambda: up.say.arguments(1, "more "))


@fault(Must.BROKEN, timer="idle", forms=TERMINATED)
async def stall_after_finish(up: Stage) -> None:
    """The finish reason comes, and then neither the terminal event nor an end; the error must follow in band."""
    await begin(up)
    await up.send(*up.say.finish())
    await up.silence()


async def _take_nothing(asking: Asking) -> None:
    client = asking.client
    client.shrink(8192)
    await client.answer.came.wait()
    client.pause()
    await asking.watch.visits[-1].asked.over.wait()
    client.leave()


@fault(Must.LET_GO, timer="client_stall", client=_take_nothing)
async def client_reads_nothing(up: Stage) -> None:
    """The client stays and reads nothing, for ever; the provider must be let go when the time is up."""
    await up.head()
    await up.send(*up.say.opening())
    piece = "many words, " * 5_000
    while True:
        await up.send(*up.say.text(piece))


async def _half_a_call(up: Stage) -> None:
    await begin(up)
    await up.send(*up.say.call(0), *up.say.arguments(0, '{"query": "Gr'))


async def _go_on(up: Stage, frames: Callable[[], list[bytes]]) -> None:
    """More of them, four times a pause, until the gateway leaves. None counts as progress."""
    up.ready()
    while True:
        await asyncio.sleep(up.pause / 4)
        for frame in frames():
            await up.body(frame)
