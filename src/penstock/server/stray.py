"""The first line of a request whose method llhttp does not know.

llhttp stops inside such a method and says nothing of what follows. Such a request is refused all the same; but whoever sent it reads errors as
its path says, so the rest of the line is read for that: by llhttp, as the line of a GET, so that it is as strict as with all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools

from penstock.exchange.contract import Headers
from penstock.server.heads import LONG_HEAD, Bad, KnownHeads, read_head

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*")
"""Of RFC 9110, 5.6.2."""


class StrayLine:
    """Stands in a parser's place until the line is whole, or cannot be one: `feed_data` raises `Bad` then, and always in the end."""

    def __init__(self, on_url: Callable[[bytes], None], why: str, longest: int, *, begun: bool) -> None:
        """`on_url` is told the target, of at most `longest` bytes. `why`: what is said of a line that is none. `begun`: llhttp has taken the first
        letters of the method, or all of it."""
        self._on_url = on_url
        self._why = why
        self._longest = longest
        self._begun = begun
        self._rest: httptools.HttpRequestParser | None = None  # what is behind the method
        self._target = b""

    def feed_data(self, data: bytes) -> None:
        if self._rest is None:
            data = data if self._begun else data.lstrip(b"\r\n")
            found = _TOKEN.match(data)
            end = found.end() if found is not None else 0
            self._begun = self._begun or end > 0
            if end == len(data):
                return
            if not self._begun or data[end : end + 1] != b" ":
                raise Bad(400, self._why)
            self._rest = httptools.HttpRequestParser(_Target(self._told))
            self._rest.feed_data(b"GET")
            data = data[end:]
        line, end_of_line, _ = data.partition(b"\n")
        try:
            self._rest.feed_data(line + end_of_line)
            if not end_of_line:
                return
            self._rest.feed_data(b"Host: x\r\n")
            headers: Headers = [(b"host", b"x")]
            read_head(self._rest, self._target, headers, KnownHeads())
        except (httptools.HttpParserError, Bad):
            raise Bad(400, self._why) from None
        if len(self._target) > self._longest:
            raise Bad(431, LONG_HEAD)
        raise Bad(405, "This method is not known here.")

    def get_method(self) -> bytes:
        return b""

    def _told(self, url: bytes) -> None:
        self._target += url
        self._on_url(url)


class _Target:
    """What llhttp tells of a first line."""

    def __init__(self, on_url: Callable[[bytes], None]) -> None:
        self.on_url = on_url
