"""Who may enter, and what every answer says of itself. Plain ASGI, so that nothing stands between these checks and the wire."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.admin.token import is_token
from penstock.admission import host_allowed

# On every answer.
SAFE: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_OURS = frozenset(name for name, _ in SAFE)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`body` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def refusal(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error: `type` is a word for programs, `message` a sentence for people."""
    return answer({"error": {"type": kind, "message": message}}, status, headers)


class HostGuard:
    """Refuses requests that name another host (DNS rebinding), and makes every answer private to whoever asked."""

    def __init__(self, app: ASGIApp, listen_host: str, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._listen_host = listen_host
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan and no websockets here

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _OURS]
                message = {**message, "headers": [*said, *SAFE]}
            await send(message)

        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1 or not host_allowed(named[0].decode("latin-1"), self._listen_host, self._hosts):
            refused = refusal(403, "forbidden", "The admin plane does not answer to this Host; use a loopback name, or add the name to hosts.")
            await refused(scope, receive, send_safely)
            return
        await self._app(scope, receive, send_safely)


class TokenGuard:
    """Lets through only those who show the token: `Authorization: Bearer <token>`, once."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, given = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not is_token(given.strip(), self._token):
            message = "The admin API wants its token: Authorization: Bearer, with the content of admin.token in the data directory."
            await refusal(401, "unauthenticated", message, {"www-authenticate": 'Bearer realm="penstock admin"'})(scope, receive, send)
            return
        await self._app(scope, receive, send)
