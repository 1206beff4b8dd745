"""A request's head: what llhttp let through, and what we ask of it besides.

Refused beyond llhttp's strict mode (RFC 9112): a missing or second `Host` (3.2), versions other than 1.0 and 1.1 (llhttp takes 0.9 and
2.0), both `close` and `keep-alive` on HTTP/1.0 (9.3: llhttp would keep what is to be closed), Transfer-Encoding on HTTP/1.0 and codings
other than `chunked` alone (6.1), a fragment in the target (3.2.1), CONNECT.
The absolute form is taken, and its authority replaces `Host` (3.2.2), so that whoever checks `Host` sees whom the client meant.
"""

from __future__ import annotations

import httptools

from penstock.exchange.contract import ClientRequest, Handler, Headers, HeadMemo

_LENGTHS = frozenset({4, 6, 7, 10, 17})
"""Of the names that are looked at here; all others cost one test of their length."""
LONG_HEAD = "The request's head is too large."
_HOST_ASKED = "A request needs exactly one Host header."
_CODING = "This transfer coding is not taken; use chunked alone, or Content-Length."
_UNDECIDED = "Connection cannot be both close and keep-alive."
_TARGET = "The request's target must begin with a slash, and have no fragment."


class Bad(Exception):
    """A request that is refused for its form."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Known:
    """What one head says, `Content-Length` apart."""

    __slots__ = ("chunked", "expects", "headers", "memo", "method", "one_zero", "path", "query", "upgrade")

    def __init__(self, method: str, path: str, query: str, headers: Headers, one_zero: bool, chunked: bool, expects: bool, upgrade: bool) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.one_zero = one_zero
        self.chunked = chunked
        self.expects = expects
        """It waits for `100 Continue` before it sends its body."""
        self.upgrade = upgrade
        """It offers another protocol."""
        self.memo = HeadMemo()


class KnownHeads(dict[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], Known]):
    """The heads that came lately: by target, method and header lines, and some by their very bytes. Bounded: at most 512 of each, none of
    more than 4 KiB."""

    MOST = 512
    LONGEST = 4096

    def __init__(self) -> None:
        super().__init__()
        self._bytes: dict[bytes, Known] = {}
        """By all bytes of the head but the digits of its `Content-Length`."""
        self._last: tuple[bytes, bytes, Known] | None = None
        """What stood before and behind the digits of the one that was recalled last: mostly it comes again."""
        self._near: KnownHeads | None = None

    @property
    def near(self) -> KnownHeads:
        """Those of clients on this machine, where others come the same way: what is remembered of a head may depend on who sent it."""
        if self._near is None:
            self._near = KnownHeads()
        return self._near

    def keep(self, key: tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], known: Known) -> None:
        """Remember it, where it is short."""
        if len(key[0]) + sum([len(name) + len(value) for name, value in key[2]]) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[key] = known

    def recall(self, data: bytes) -> tuple[Known, int | None, bytes] | None:
        """What `data` is, a read that came where a request may begin: one request whose head was remembered, the length that it states, and its
        whole body.

        The same bytes in the same place mean the same to llhttp, so it need not see them again; only the digits of the length may differ.
        """
        last = self._last
        if last is not None:
            before, behind, known = last
            if data.startswith(before):
                at = len(before)
                stop = data.find(b"\r", at)
                if data.startswith(behind, stop):
                    digits, body = data[at:stop], data[stop + len(behind) :]
                    return (known, len(body), body) if _states(digits, len(body)) else None
        end = data.find(b"\r\n\r\n") + 4
        at = data.find(_LENGTH, 0, end)
        if at < 0:
            at = data.find(_LENGTH_LOW, 0, end)
            if at < 0:
                known = self._bytes.get(data) if end == len(data) else None
                return (known, None, b"") if known is not None else None
        at += len(_LENGTH)
        stop = data.find(b"\r", at)
        before, behind = data[:at], data[stop:end]
        known = self._bytes.get(before + behind)
        if known is None:
            return None
        body = data[end:]
        if not _states(data[at:stop], len(body)):
            return None
        self._last = before, behind, known
        return known, len(body), body

    def learn(self, data: bytes, known: Known, length: int | None) -> None:
        """Remember the head that `data` begins with, which llhttp took, alone in this read, for `known` and `length`."""
        end = data.find(b"\r\n\r\n") + 4
        if not 4 < end <= self.LONGEST or data[0] in b"\r\n" or known.one_zero or known.chunked or known.expects or known.upgrade:
            return
        key = data[:end]
        if length is not None:
            low = data.find(_LENGTH, 0, end) < 0
            at = data.find(_LENGTH_LOW if low else _LENGTH, 0, end) + len(_LENGTH)
            stop = data.find(b"\r", at)
            digits = data[at:stop]
            if at < len(_LENGTH) or not digits.isdigit() or int(digits) != length:
                return  # spelled otherwise
            key = data[:at] + data[stop:end]
        if len(self._bytes) >= self.MOST:
            self._bytes.clear()
        self._bytes[key] = known


def _states(digits: bytes, length: int) -> bool:
    return digits.isdigit() and len(digits) <= 18 and int(digits) == length


_LENGTH, _LENGTH_LOW = b"\r\nContent-Length: ", b"\r\ncontent-length: "
"""A second one is refused by llhttp, so no head that was taken has two."""


class Incoming:
    """A request that is being read, that waits for the answers before it, or that is being answered."""

    __slots__ = ("bodiless", "body", "chunked", "complete", "expects", "handler", "head_only", "keep_alive", "one_zero", "plain", "refusal",
                 "request", "upgrade")

    def __init__(self, known: Known, length: int | None, keep_alive: bool, local: bool) -> None:
        method = known.method
        chunked = known.chunked
        self.request = ClientRequest(method, known.path, known.query, known.headers, length, chunked, local, known.memo)
        self.keep_alive = keep_alive
        self.one_zero = known.one_zero
        self.expects = known.expects
        self.upgrade = known.upgrade
        self.chunked = chunked
        self.bodiless = not (chunked or length)
        self.head_only = method == "HEAD"
        self.plain = keep_alive and not known.one_zero and method != "HEAD"
        """An answer to it is of the usual form: HTTP/1.1, with a body, on a connection that goes on."""
        self.body: bytearray | None = None
        """What came of the body before its turn."""
        self.complete = False
        self.handler: Handler | None = None
        self.refusal: bytes | None = None
        """The whole answer, where it was refused while others were before it."""


NOTHING = Known("", "", "", [], False, False, False, False)
"""Stands where no head could be read."""


def read_head(parser: httptools.HttpRequestParser, url: bytes, headers: Headers, heads: KnownHeads) -> Known:
    """The head that is complete in `parser`; `headers` without `Content-Length`. Raises `Bad`."""
    version = parser.get_http_version()
    one_zero = version == "1.0"
    if not one_zero:
        if version != "1.1":
            raise Bad(505, "This gateway speaks HTTP/1.1.")
        key = (url, parser.get_method(), tuple(headers))
        known = heads.get(key)
        if known is None:
            known = _read(parser, url, headers, one_zero)
            heads.keep(key, known)
        return known
    return _read(parser, url, headers, one_zero)


def _read(parser: httptools.HttpRequestParser, url: bytes, headers: Headers, one_zero: bool) -> Known:
    hosts = 0
    padded: bytes | None = None
    options: set[bytes] = set()
    chunked = expects = upgrade = False
    for name, value in headers:
        if len(name) in _LENGTHS:
            name = name.lower()
            if name == b"host":
                hosts += 1
                if value[-1:] in (b" ", b"\t"):
                    padded = value
            elif name == b"transfer-encoding":
                if one_zero or value.strip().lower() != b"chunked":
                    raise Bad(400, _CODING)
                chunked = True
            elif name == b"expect":
                expects = not one_zero and value.strip().lower() == b"100-continue"
            elif name == b"upgrade":
                upgrade = True
            elif name == b"connection" and one_zero:
                options |= {option.strip() for option in value.lower().split(b",")}
    if b"close" in options and b"keep-alive" in options:
        raise Bad(400, _UNDECIDED)
    if hosts != 1 and not (one_zero and hosts == 0):
        raise Bad(400, _HOST_ASKED)
    if padded is not None:  # llhttp leaves the blanks behind values where they are
        headers = [(name, value.strip()) if name.lower() == b"host" else (name, value) for name, value in headers]
    method = parser.get_method().decode("ascii")
    target = url.decode("latin-1")  # ASCII: llhttp lets nothing else through
    if target[:1] != "/" or "#" in target or method == "CONNECT":  # behind any CONNECT llhttp reads no body
        target, headers = _unusual(method, target, headers)
    path, _, query = target.partition("?")
    return Known(method, path, query, headers, one_zero, chunked, expects, upgrade)


def path_of(url: bytes) -> str:
    """The path that a target names, as far as it is there, good or bad."""
    target = url.partition(b"?")[0].decode("latin-1")
    if target[:1] != "/":
        _, found, rest = target.partition("://")
        if found:
            return "".join(rest.partition("/")[1:])
    return target


def _unusual(method: str, target: str, headers: Headers) -> tuple[str, Headers]:
    """A target that is not in origin form: `*`, or the absolute form, which servers must accept. Raises `Bad`."""
    if method == "CONNECT":
        raise Bad(405, "This is no forward proxy.")
    if target == "*" and method == "OPTIONS":
        return target, headers
    scheme, found, rest = target.partition("://")
    if "#" in target or not found or scheme.lower() not in ("http", "https"):
        raise Bad(400, _TARGET)
    end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, rest = rest[:end].rpartition("@")[2], rest[end:]
    if not authority:
        raise Bad(400, _TARGET)
    headers = [pair for pair in headers if pair[0].lower() != b"host"]
    headers.append((b"host", authority.encode("latin-1")))
    return rest if rest[:1] == "/" else "/" + rest, headers
