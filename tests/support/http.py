"""A client that keeps what came and how it ended, and cleans nothing up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    clean: bool = False
    """The framing said that the body was whole."""
    chunks: list[bytes] = field(default_factory=list[bytes])
    """The body's HTTP chunks, where it was chunked."""

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    named = {"host": "127.0.0.1", "content-type": "application/json", **(headers or {})}
    if body is not None:
        named["content-length"] = str(len(body))
    return f"{method} {path} HTTP/1.1\r\n".encode() + b"".join(f"{n}: {v}\r\n".encode() for n, v in named.items()) + b"\r\n" + (body or b"")


async def read_answer(reader: asyncio.StreamReader, method: str = "POST") -> Answer:
    """One answer. An answer that breaks off comes back with `clean` false and what there was of it."""
    answer = Answer()
    try:
        line = await reader.readuntil(b"\r\n")
        answer.status = int(line.split()[1])
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            answer.headers.append((name, value))
        if 100 <= answer.status < 200:
            return await read_answer(reader, method)
        if method == "HEAD" or answer.status in (204, 304):
            answer.clean = True
        elif (answer.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                chunk = await reader.readexactly(size)
                answer.chunks.append(chunk)
                answer.body += chunk
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
            answer.clean = True
        elif (length := answer.header("content-length")) is not None:
            while len(answer.body) < int(length):
                piece = await reader.read(int(length) - len(answer.body))
                if not piece:
                    return answer
                answer.body += piece
            answer.clean = True
        else:
            answer.body = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    return answer


async def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, raw: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    try:
        writer.write(request(method, path, data, headers))
        async with asyncio.timeout(30):
            return await read_answer(reader, method)
    finally:
        writer.close()
