"""Bodies of requests to the admin API: small, or refused before they are all there."""

from __future__ import annotations

from starlette.requests import Request

LARGEST = 64 * 1024


class TooLarge(Exception):
    """It has more than `LARGEST` bytes."""


async def read_body(request: Request) -> bytes:
    """All of it. Raises `TooLarge`, and what Starlette raises where the client leaves."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise TooLarge
    return bytes(body)
