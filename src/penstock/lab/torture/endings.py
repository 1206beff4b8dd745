"""Streams that end badly: each stage in each manner, and lies about the framing."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from functools import partial

from penstock.lab.torture.faults import FAULTS, TERMINATED, Fault, Must, begin, breathe, fault
from penstock.lab.torture.forms import FORMS
from penstock.lab.torture.upstream import Stage

Step = Callable[[Stage], Awaitable[None]]


# -- how far it goes ----------------------------------------------------------------------------------------------------------------------


async def before_head(up: Stage) -> None:
    """before any byte of the answer"""
    del up


async def inside_head(up: Stage) -> None:
    """inside the answer's head"""
    await up.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev")


async def after_head(up: Stage) -> None:
    """right after the head"""
    await up.head()


async def inside_first_frame(up: Stage) -> None:
    """inside the first frame"""
    await up.head()
    frame = up.say.opening()[0]
    await up.send(frame[: len(frame) // 2])


async def mid_stream(up: Stage) -> None:
    """between two frames"""
    await begin(up)


async def inside_a_frame(up: Stage) -> None:
    """inside a frame, half of which was sent"""
    await begin(up)
    frame = up.say.text("never to be read")[-1]
    await up.send(frame[: len(frame) // 2])


async def inside_a_tool_call(up: Stage) -> None:
    """between two frames of a tool call's arguments"""
    await begin(up)
    await up.send(*up.say.call(0), *up.say.arguments(0, '{"query": "Gr'))


async def after_finish(up: Stage) -> None:
    """after the finish reason, before the terminal event"""
    await begin(up)
    await up.send(*up.say.finish())


# -- how it ends --------------------------------------------------------------------------------------------------------------------------


async def eof(up: Stage) -> None:
    """The provider closes the connection"""
    await up.eof()


async def clean_end(up: Stage) -> None:
    """The provider ends its message properly"""
    await breathe()
    await up.end()


async def reset(up: Stage) -> None:
    """The provider resets the connection"""
    await up.reset()


_HELD: tuple[Step, ...] = (before_head, inside_head, after_head, inside_first_frame)
_OPEN: tuple[Step, ...] = (mid_stream, inside_a_frame, inside_a_tool_call, after_finish)


async def _both(stage: Step, manner: Step, up: Stage) -> None:
    await stage(up)
    await manner(up)


def _enter_all() -> None:
    for manner in (eof, clean_end, reset):
        for stage in (*_HELD, *_OPEN):
            if manner is clean_end and stage in (before_head, inside_head):
                continue
            held = stage in _HELD
            then = "an error with a true status" if held else "the frames until then, and then the error in band,"
            name = f"{manner.__name__}-{stage.__name__}".replace("_", "-")
            # Gemini's frames have no terminal event: there a clean end behind the finish reason is the proper end.
            forms = TERMINATED if manner is clean_end and stage is after_finish else tuple(FORMS)
            FAULTS[name] = Fault(
                name, "endings", f"{manner.__doc__} {stage.__doc__}; {then} must arrive.", partial(_both, stage, manner),
                Must.REFUSED if held else Must.BROKEN, forms=forms, lossy=manner is reset,
            )  # fmt: skip


_enter_all()


@fault(Must.BROKEN, forms=("gemini", "array"))
async def end_without_finish_reason(up: Stage) -> None:
    """Gemini's stream ends cleanly without a finish reason; the error must follow, and no clean end (behind a closed array a broken one will do)."""
    await up.head()
    await up.send(*up.say.opening(), *up.texts(), *up.say.terminal())
    await up.end()


@fault(Must.BROKEN)
async def close_delimited_cut(up: Stage) -> None:
    """The body ends with the connection, before its terminal event: HTTP cannot tell, the protocol can; the error must follow in band."""
    await up.head(framing="connection: close")
    await up.send(*up.say.opening(), *up.texts(3))
    await up.eof()


@fault(Must.BROKEN)
async def garbage_chunks(up: Stage) -> None:
    """The chunked framing breaks in the middle of the stream; the frames until then, and then the error in band, must arrive."""
    await begin(up)
    await breathe()
    await up.raw(b"zz\r\nthis is no chunk\r\n")
    await up.silence()


@fault(Must.REFUSED)
async def garbage_head(up: Stage) -> None:
    """What comes is not HTTP; an error with a true status must arrive, and nothing of what came."""
    await up.raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await up.silence()


@fault(Must.BROKEN)
async def gzip_cut(up: Stage) -> None:
    """A compressed stream ends cleanly in the middle; the frames until then, and then the error in band, must arrive."""
    await up.head("content-encoding: gzip")
    packer = zlib.compressobj(wbits=31)
    for frame in (*up.say.opening(), *up.texts(3)):
        await up.body(frame, packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH))
    await breathe()
    await up.end()
