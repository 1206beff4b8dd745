"""`ScriptedServer`: a provider whose every response byte a test writes down.

A script is a list of steps, or an async function of the request; one script for all requests, or one for each in order (the last one then
serves all that follow). Nothing is added to what a script sends: status line, headers and framing are its own (`head` and `chunk` help).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from penstock.lab.http1 import Asked, LabServer, Link


class Do(Enum):
    """Steps without words."""

    READ = "read"
    """Wait until the request's body is whole."""
    FLUSH = "flush"
    """Wait until the peer's kernel has what was sent."""
    RESET = "reset"
    """RST, after a flush."""
    CLOSE = "close"
    """FIN, after what is pending."""
    WAIT_FOR_CLIENT = "wait_for_client"
    """Wait until the peer leaves."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


Step = bytes | Sleep | Do
"""Bytes are sent as they are, in a write of their own."""
Steps = Sequence[Step]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request and the way to answer it."""

    asked: Asked
    link: Link

    async def body(self) -> bytes:
        """The request's body, once it is whole."""
        await self.asked.arrived.wait()
        return self.asked.body

    async def send(self, data: bytes) -> None:
        """Send bytes as they are. Raises `Gone` where the peer has left."""
        await self.link.write(data)
        await asyncio.sleep(0)  # what comes next is a write of its own

    async def reset(self) -> None:
        await self.link.flush()
        self.link.reset()

    def close(self) -> None:
        self.link.close()

    async def left(self) -> None:
        """Wait until the peer leaves."""
        await self.link.lost.wait()


Handler = Callable[[Visit], Awaitable[None]]
Script = Steps | Handler


class ScriptedServer(LabServer):
    """Plays scripts. An exception in a handler resets the connection and is raised again by `close()`."""

    def __init__(self, *scripts: Script) -> None:
        """`scripts`: for the first request, the second, and so on; the last one is for all that follow."""
        super().__init__()
        if not scripts:
            raise ValueError("a scripted server needs a script")
        self.scripts: list[Script] = list(scripts)
        self._played = 0

    async def answer(self, link: Link, asked: Asked) -> None:
        script = self.scripts[min(self._played, len(self.scripts) - 1)]
        self._played += 1
        visit = Visit(asked, link)
        if callable(script):
            await script(visit)
        else:
            await _play(visit, script)


async def _play(visit: Visit, steps: Steps) -> None:
    for step in steps:
        match step:
            case bytes():
                await visit.send(step)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Do.READ:
                await visit.body()
            case Do.FLUSH:
                await visit.link.flush()
            case Do.RESET:
                await visit.reset()
            case Do.CLOSE:
                visit.close()
            case Do.WAIT_FOR_CLIENT:
                await visit.left()
            case _:
                assert_never(step)


def head(status: int = 200, *headers: str, reason: str = "OK") -> bytes:
    """A response head of raw header lines: `head(200, "content-type: text/event-stream", "transfer-encoding: chunked")`."""
    return "\r\n".join((f"HTTP/1.1 {status} {reason}", *headers, "", "")).encode("latin-1")


SSE_HEAD = head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
"""The usual head of a stream."""
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, status: int = 200, *headers: str) -> bytes:
    """A response with a Content-Length; JSON unless `headers` name another type."""
    typed = any(h.lower().startswith("content-type:") for h in headers)
    return head(status, *(() if typed else ("content-type: application/json",)), f"content-length: {len(body)}", *headers) + body
