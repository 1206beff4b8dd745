"""What a listener and an exchange are to each other. `server` implements `Reply`; `Intake` implements `Handler`."""

from __future__ import annotations

from typing import Any, Protocol

Headers = list[tuple[bytes, bytes]]


class HeadMemo:
    """What was found out from one head. A listener hands the same memo out with every request whose head is the same, `Content-Length`
    apart, and that is as `local`: clients send the same head again and again, and most of what a request needs is decided by it."""

    __slots__ = ("client", "names", "plan")

    def __init__(self) -> None:
        self.names: dict[bytes, bytes] | None = None
        self.client: tuple[str | None, str | None, str | None, str | None, str | None, str] | None = None
        """User agent, fingerprint of the credential, what it says of user, project and session, and the path as it may be shown."""
        self.plan: Any = None
        """The front's own."""


class ClientRequest:
    """The head of one request. `path` and `query` as they came (percent-encoding untouched), split at the first `?`."""

    __slots__ = ("chunked", "content_length", "headers", "local", "memo", "method", "path", "query")

    def __init__(
        self, method: str, path: str, query: str, headers: Headers, content_length: int | None, chunked: bool, local: bool,
        memo: HeadMemo | None = None,
    ) -> None:  # fmt: skip
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        """Without `Content-Length`. Not to be changed."""
        self.content_length = content_length
        self.chunked = chunked
        self.local = local
        """It came in on a loopback address or a unix socket."""
        self.memo = memo or HeadMemo()

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name (given in lower case)."""
        names = self.memo.names
        if names is None:
            self.memo.names = names = {key.lower(): value for key, value in reversed(self.headers)}
        return names.get(name)


class Reply(Protocol):
    """The client's side of one exchange. After `end` or `abort` no call may follow; none of them raises, however the client is."""

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Send the head, together with the first bytes behind it or with the end. `length`: of the body in bytes; `None`: chunks (to an
        HTTP/1.0 client: until the connection closes)."""
        ...

    def write(self, data: bytes) -> None: ...

    def end(self) -> None:
        """The answer is whole. The connection goes on to the next request where it can."""
        ...

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """`head`, `write` and `end` in one."""
        ...

    def abort(self) -> None:
        """The answer is not whole, and the framing must show it: close without the last chunk."""
        ...

    def pause_upload(self) -> None:
        """Stop reading the request's body."""
        ...

    def resume_upload(self) -> None: ...

    def unsent(self) -> int:
        """Bytes that were written and that the client has not taken yet, as far as is known."""
        ...

    def peer(self) -> str | None:
        """The address that the client is connected from; `None`: a unix socket, or no longer known."""
        ...


class Handler(Protocol):
    """What the listener tells of a request after its head."""

    def client_body(self, data: bytes) -> None: ...

    def client_end(self) -> None:
        """The request's body is whole. Comes for every request, with or without a body."""
        ...

    def client_whole(self, body: bytes) -> None:
        """`client_body` and `client_end` in one, where the request came in one read."""
        ...

    def client_gone(self) -> None: ...

    def client_bad(self, status: int, why: str) -> tuple[Headers, bytes]:
        """The request's body broke its own framing. Returns headers and body of the refusal, which the listener sends where no answer
        has begun; nothing can be replied any more."""
        ...

    def client_paused(self) -> None:
        """The client reads more slowly than it is written to."""
        ...

    def client_resumed(self) -> None: ...


class Front(Protocol):
    """Whoever takes requests."""

    def open(self, request: ClientRequest, reply: Reply) -> Handler: ...
