"""`ReplayServer`: recorded streams, served as a provider would serve them, with faults where a test wants them."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Literal

from penstock.lab.http1 import Asked, LabServer, Link
from penstock.lab.recordings import Recording
from penstock.lab.replies import SSE, Chooser, Reply

Pace = Literal["original", "fast"] | float
"""Milliseconds from one event to the next; `fast`: none."""
Chunk = Literal["whole", "random"] | int
"""How the body is cut: `whole`: events as they are (`fast`: the whole body at once); a number: pieces of so many bytes; `random`: of 1 to 64."""
Cut = Literal["eof", "reset", "clean"]

ORIGINAL_MS = 20.0
"""The pace of `original`: the recordings have no times, and fifty events a second is a usual model's speed."""
_TURNS = 4096


def parse_pace(text: str) -> Pace:
    """`original`, `fast` or milliseconds. Raises `ValueError` with a sentence."""
    if text in ("original", "fast"):
        return text
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0 <= pace < float("inf"):
        raise ValueError(f"{text!r} is no pace: write original, fast, or milliseconds per event")
    return pace


def parse_chunk(text: str) -> Chunk:
    """`whole`, `random` or a number of bytes. Raises `ValueError` with a sentence."""
    if text in ("whole", "random"):
        return text
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(f"{text!r} is no way to cut: write whole, random, or a number of bytes")


class ReplayServer(LabServer):
    """A provider made of recordings. The attributes below may be changed between requests; an answer keeps what held when it began.

    A streamed body is the recording's bytes, each piece in an HTTP chunk and a write of its own. Whole bodies have a Content-Length. The log
    (`log`, `asked`) tells what came and how it ended. Random pieces depend on `seed` and on the number of the request alone.
    """

    def __init__(self, recordings: Sequence[Recording], pace: Pace = "fast", chunk: Chunk = "whole", seed: int = 0) -> None:
        super().__init__()
        self.pace: Pace = pace
        self.chunk: Chunk = chunk
        self.seed = seed
        self.cut_at: int | None = None
        """Bytes of body (as sent, so of the compressed one with `gzip`) after which the answer ends by `cut_how`; 0: right after its head."""
        self.cut_how: Cut = "eof"
        """`eof`: FIN without the last HTTP chunk; `reset`: RST; `clean`: a proper end of the message."""
        self.stall_at: int | None = None
        """Bytes of body after which nothing more comes, until the client leaves."""
        self.gzip = False
        """Compress streamed bodies, every event flushed, whatever the client accepts."""
        self.connection_close = False
        """Announce and do a close after each answer."""
        self._chooser = Chooser(recordings)

    async def answer(self, link: Link, asked: Asked) -> None:
        if (asked.header("expect") or "").lower() == "100-continue":
            await link.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asked.arrived.wait()
        reply = self._chooser.reply(asked.method, asked.path, asked.query, asked.headers, asked.body)
        asked.note = f"{reply.status} {reply.recording.protocol}/{reply.recording.name}" if reply.recording else str(reply.status)
        await self._send(link, asked, reply)

    async def _send(self, link: Link, asked: Asked, reply: Reply) -> None:
        cut_at, cut_how, stall_at = self.cut_at, self.cut_how, self.stall_at
        if self.connection_close:
            asked.keep_alive = False
        gzip = self.gzip and reply.streamed
        events = tuple(_compress(reply.events)) if gzip else reply.events
        size = sum(map(len, events))
        stop = min(at for at in (cut_at, stall_at, size) if at is not None)
        # A clean cut of a body with a length would contradict its length; such bodies are announced as long as they will be.
        length = None if reply.streamed else (stop if cut_at == stop and cut_how == "clean" else size)
        await link.write(_head(reply, length, gzip, asked))
        if asked.method == "HEAD":
            return
        await self._send_body(link, asked, events, stop, chunked=length is None)
        if cut_at is not None and cut_at == stop:
            if cut_how != "clean":
                await link.flush()
                (link.reset if cut_how == "reset" else link.close)()
                return
        elif stall_at is not None and stall_at == stop:
            await link.lost.wait()
        if length is None:
            await link.write(b"0\r\n\r\n")

    async def _send_body(self, link: Link, asked: Asked, events: Sequence[bytes], stop: int, *, chunked: bool) -> None:
        pause = {"original": ORIGINAL_MS, "fast": 0.0}.get(self.pace, 0.0) if isinstance(self.pace, str) else self.pace
        if not pause:
            events = (b"".join(events),)
        loop = asyncio.get_running_loop()
        due = loop.time()
        cutter = _Cutter(self.chunk if chunked else "whole", random.Random(f"{self.seed} {asked.number}"))
        # A turn of the loop after each piece makes it a write of its own; very many pieces share turns, or one-byte pieces would take minutes.
        pieces, every = 0, max(1, stop // _TURNS)
        for number, event in enumerate(events):
            if number and pause:
                due += pause / 1000
                await asyncio.sleep(max(0.0, due - loop.time()))
            for piece in cutter.cut(event[: stop - asked.sent]):
                await link.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                asked.sent += len(piece)
                pieces += 1
                if pieces % every == 0:
                    await asyncio.sleep(0)
            if asked.sent >= stop:
                return


class _Cutter:
    """Cuts bytes into pieces; together they are the bytes, none is empty."""

    def __init__(self, chunk: Chunk, dice: random.Random) -> None:
        self._chunk = chunk
        self._dice = dice

    def cut(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if isinstance(self._chunk, int):
                size = self._chunk
            else:
                size = len(data) if self._chunk == "whole" else self._dice.randint(1, 64)
            yield data[at : at + size]
            at += size


def _compress(events: Sequence[bytes]) -> Iterator[bytes]:
    """gzip, flushed after each event, so that each can be read when it comes."""
    packer = zlib.compressobj(wbits=31)
    for event in events:
        yield packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush(zlib.Z_FINISH)


def _head(reply: Reply, length: int | None, gzip: bool, asked: Asked) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}", f"content-type: {reply.content_type}"]
    if reply.content_type == SSE:
        lines.append("cache-control: no-cache")
    lines.append(f"content-length: {length}" if length is not None else "transfer-encoding: chunked")
    if gzip:
        lines.append("content-encoding: gzip")
    lines.append(f"x-request-id: req_replay_{asked.connection}")
    if reply.recording is not None:
        lines.append(f"x-replay: {reply.recording.protocol}/{reply.recording.name}")
    if not asked.keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
