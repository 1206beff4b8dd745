"""Streams that are odd and healthy: every byte of them must arrive."""

from __future__ import annotations

import asyncio
import zlib

from penstock.lab.torture.faults import SSE, TERMINATED, Asking, Must, breathe, fault, tell
from penstock.lab.torture.upstream import Stage

MIB = 1024 * 1024
_WORDS = "many words, " * 87_381
"""One MiB."""


@fault(Must.WHOLE)
async def plain(up: Stage) -> None:
    """A usual stream, one frame a write; it must arrive byte for byte."""
    await tell(up, *up.story())


@fault(Must.WHOLE)
async def one_write(up: Stage) -> None:
    """A whole stream in a single write and HTTP chunk; it must arrive byte for byte."""
    await tell(up, b"".join(up.story()))


@fault(Must.WHOLE)
async def one_byte_writes(up: Stage) -> None:
    """Every byte in an HTTP chunk and a write of its own; the same bytes must arrive."""
    await tell(up, *_bytes(b"".join(up.story())))


@fault(Must.WHOLE)
async def split_utf8(up: Stage) -> None:
    """Writes end inside characters of two, three and four bytes; no character may be lost or replaced."""
    body = b"".join(up.story())
    cuts = [at for at in range(1, len(body)) if 0x80 <= body[at] < 0xC0]
    await tell(up, *(body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)))


@fault(Must.WHOLE)
async def crlf(up: Stage) -> None:
    """Lines end with CRLF, some of which are split between two writes; the same bytes must arrive."""
    body = _with_ends(up, b"\r\n")
    at = body.index(b"\r\n") + 1
    await tell(up, body[:at], body[at:-1], body[-1:])


@fault(Must.WHOLE, forms=SSE)
async def cr(up: Stage) -> None:
    """Lines end with a bare CR, as the standard allows; the same bytes must arrive."""
    await tell(up, *_split_after(_with_ends(up, b"\r"), b"\r\r"))


@fault(Must.WHOLE, forms=SSE)
async def comments(up: Stage) -> None:
    """Comments before, between and after the frames; they must arrive, and none may be taken for an event."""
    frames = [part for frame in up.story() for part in (b": a comment\n\n", b":\n", frame)]
    await tell(up, *frames, b": bye\n\n")


@fault(Must.WHOLE)
async def unknown_events(up: Stage) -> None:
    """Events of a type that nobody knows stand between the others; they must arrive."""
    await tell(up, *up.say.opening(), *up.say.unknown(), *up.texts(), *up.say.unknown(), *up.say.finish(), *up.say.terminal())


@fault(Must.WHOLE, forms=SSE)
async def odd_fields(up: Stage) -> None:
    """Frames with id, retry and unknown fields, without the space behind the colon, with their data on several lines; they must arrive."""
    frames = up.story()
    odd = [b"id: 7\nretry: 3000\nweather: fine\n" + frame.replace(b"data: {", b"data:{") for frame in frames]
    odd[1] = odd[1].replace(b"data:{", b"data:{\ndata:", 1)
    await tell(up, *odd)


@fault(Must.WHOLE)
async def pings(up: Stage) -> None:
    """The provider's own pings stand between the frames; they must arrive."""
    head = up.say.opening()
    await tell(up, *head, *(part for piece in "abc" for part in (*up.say.ping(), *up.say.text(piece))), *up.say.finish(), *up.say.terminal())


@fault(Must.WHOLE)
async def tool_calls(up: Stage) -> None:
    """Text and two tool calls; the stream must arrive byte for byte."""
    frames = [*up.say.opening(), *up.texts()]
    for number in (0, 1):
        frames += [*up.say.call(number), *up.say.arguments(number, '{"query": "Gr'), *up.say.arguments(number, 'üße"}')]
    await tell(up, *frames, *up.say.finish(), *up.say.terminal())


@fault(Must.WHOLE, forms=("chat", "messages"))
async def no_finish_reason(up: Stage) -> None:
    """The terminal event comes without a finish reason before it; that is a complete stream, and must arrive as it is."""
    await tell(up, *up.say.opening(), *up.texts(), *up.say.finish(reason=False), *up.say.terminal())


@fault(Must.WHOLE)
async def slow_head(up: Stage) -> None:
    """The head comes late, but in time; the stream must arrive, after keep-alives at most."""
    await asyncio.sleep(up.pause)
    await tell(up, *up.story())


@fault(Must.WHOLE, quiet=True)
async def gap(up: Stage) -> None:
    """A healthy pause between two frames; the stream must arrive, with keep-alives in the pause at most."""
    frames = up.story()
    await up.head()
    await up.send(*frames[:5])
    await asyncio.sleep(up.pause)
    await up.send(*frames[5:])
    await up.end()


@fault(Must.WHOLE, quiet=True)
async def gap_inside_a_frame(up: Stage) -> None:
    """A healthy pause in the middle of a frame; no keep-alive may come between its halves, and the stream must arrive."""
    frames = up.story()
    half = len(frames[5]) // 2
    await up.head()
    await up.send(*frames[:5], frames[5][:half])
    await asyncio.sleep(up.pause)
    await up.send(frames[5][half:], *frames[6:])
    await up.end()


@fault(Must.WHOLE)
async def slow_tool_call(up: Stage) -> None:
    """A tool call that takes longer than any pause but goes on all the time; it must arrive."""
    await up.head()
    await up.send(*up.say.opening(), *up.say.call(0), *up.say.arguments(0, '{"query": "'))
    for piece in "abcd":
        await asyncio.sleep(up.pause / 2)
        await up.send(*up.say.arguments(0, piece))
    await up.send(*up.say.arguments(0, '"}'), *up.say.finish(), *up.say.terminal())
    await up.end()


@fault(Must.WHOLE, early=True, quiet=True)
async def early_head(up: Stage) -> None:
    """The head comes so late that the gateway may open the stream before it; the stream must arrive all the same."""
    await asyncio.sleep(1.5 * up.pause)
    await tell(up, *up.story())


@fault(Must.WHOLE)
async def gzip(up: Stage) -> None:
    """The stream is compressed though nobody asked for it; decoded or passed on, it must be the same stream."""
    await up.head("content-encoding: gzip")
    packer = zlib.compressobj(wbits=31)
    for frame in up.story():
        await up.body(frame, packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH))
    await up.body(b"", packer.flush(zlib.Z_FINISH))
    await up.end()


@fault(Must.WHOLE)
async def close_delimited(up: Stage) -> None:
    """The body's end is the connection's end, as in HTTP/1.0; behind a terminal event that is a clean end."""
    await up.head(framing="connection: close")
    await up.send(*up.story())
    await up.eof()


@fault(Must.WHOLE, forms=TERMINATED)
async def lingering(up: Stage) -> None:
    """After its terminal event the provider neither ends its message nor closes; the client's answer must end all the same."""
    await up.head()
    await up.send(*up.story())
    await up.silence()


@fault(Must.WHOLE, requests=2)
async def stale_keep_alive(up: Stage) -> None:
    """The provider closes a kept connection just when the next request comes; a new one must be made, and the client see nothing of it."""
    if up.reused and not up.watch.dropped:
        up.watch.dropped += 1
        await up.eof()
        return
    await tell(up, *up.story())


@fault(Must.UNTIL_TERMINAL, forms=TERMINATED)
async def bytes_after_terminal(up: Stage) -> None:
    """More text and a second terminal event come in one write with the terminal event; it is complete, and nothing of the gateway comes behind."""
    story = up.story()
    more = b"".join((*up.say.text("And then?"), *up.say.terminal()))
    await tell(up, *story[:-1], story[-1] + more)


@fault(Must.UNTIL_TERMINAL, forms=TERMINATED)
async def late_bytes_after_terminal(up: Stage) -> None:
    """More text and a second terminal event come a moment after the terminal event; it is complete, and nothing of the gateway comes behind."""
    await up.head()
    await up.send(*up.story())
    await breathe()
    await up.send(*up.say.text("And then?"), *up.say.terminal())
    await up.end()


async def _slowly(asking: Asking) -> None:
    client = asking.client
    client.shrink(256 * 1024)
    await client.answer.came.wait()
    client.pause()
    await asyncio.sleep(2 * asking.pause)
    client.resume()
    await client.answer.over.wait()


@fault(Must.WHOLE, client=_slowly)
async def slow_reader(up: Stage) -> None:
    """The client stops reading for longer than a provider may be silent, and then reads on; all 4 MiB must arrive."""
    await up.head()
    await up.send(*up.say.opening(), *(frame for _ in range(64) for frame in up.say.text(_WORDS[:65_536])))
    await up.send(*up.say.finish(), *up.say.terminal())
    await up.end()


@fault(Must.WHOLE, heavy=True)
async def huge_frame(up: Stage) -> None:
    """One frame of 16 MiB; it must arrive whole."""
    await tell(up, *up.say.opening(), *_large(up.say.text("x" * (16 * MIB))), *up.say.finish(), *up.say.terminal())


@fault(Must.WHOLE, heavy=True, outcomes=("COMPLETE", "UNVERIFIED"))
async def oversized_frame(up: Stage) -> None:
    """One frame of 65 MiB, more than anybody need understand; its bytes must arrive all the same."""
    await tell(up, *up.say.opening(), *_large(up.say.text("x" * (65 * MIB))), *up.say.finish(), *up.say.terminal())


@fault(Must.WHOLE, heavy=True)
async def hundred_megabytes(up: Stage) -> None:
    """A stream of 100 MB in frames of 1 MiB; every byte must arrive."""
    await up.head()
    await up.send(*up.say.opening())
    for _ in range(96):
        await up.send(*up.say.text(_WORDS))
    await up.send(*up.say.finish(), *up.say.terminal())
    await up.end()


def _bytes(body: bytes) -> list[bytes]:
    return [body[at : at + 1] for at in range(len(body))]


def _with_ends(up: Stage, end: bytes) -> bytes:
    """The usual stream with other line ends. Frames hold no line end but those of their lines."""
    return b"".join(up.story()).replace(b"\r\n", b"\n").replace(b"\n", end)


def _split_after(body: bytes, mark: bytes) -> list[bytes]:
    return [piece + mark for piece in body.split(mark)[:-1]]


def _large(frames: list[bytes]) -> list[bytes]:
    """In writes of 64 KiB."""
    return [frame[at : at + 65_536] for frame in frames for at in range(0, len(frame), 65_536)]
