"""The keys of issuers, from their JWKS URL: fetched at the start, again every so often, and when a token names a key that is not known.

What was fetched last stays in use for as long as the issuer is away or answers nonsense. A token with an unknown key makes one fetch, and
then none for `HOLD` seconds: else strangers could make us ask the issuer as often as they like. Fetches that no token asked for do not count there:
an issuer may take a new key up right after one of them.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import ssl
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, Timer
from time import monotonic
from typing import Any

from penstock.admission.issuers import BadKeys, Issuer, KeySet, read_keys

log = logging.getLogger("penstock.jwks")
REFRESH = 3600.0
"""Seconds between two fetches that nobody asked for; after one that failed, `RETRY`."""
RETRY = 60.0
HOLD = 30.0
PATIENCE = 5.0
"""Seconds for one fetch."""
_LARGEST = 1 << 20
Fetch = Callable[[str], bytes]
"""Blocks; raises `OSError`."""


class Jwks:
    """One issuer's. `put` takes every good set."""

    def __init__(self, issuer: Issuer, put: Callable[[Issuer, KeySet], None], fetch: Fetch, clock: Callable[[], float] = monotonic) -> None:
        self.issuer = issuer
        self._put = put
        self._fetch = fetch
        self._clock = clock
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        """When a token last made a fetch."""
        self._well = False
        self._running: asyncio.Future[None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="penstock-jwks")

    @property
    def due_in(self) -> float:
        """Seconds until it is to be refreshed."""
        if self._fetched_at is None:
            return 0.0
        return max(0.0, self._fetched_at + (REFRESH if self._well else RETRY) - self._clock())

    async def refresh(self, *, asked: bool = False) -> bool:
        """Fetch now; whoever comes while that is under way waits for the same. `asked`: a token asks for it, so not more often than `HOLD`
        allows. False: nothing new came. Never raises."""
        running = self._running
        if running is not None:
            await asyncio.shield(running)
            return self._well
        if asked:
            if self._asked_at is not None and self._clock() - self._asked_at < HOLD:
                return False
            self._asked_at = self._clock()
        self._running = running = asyncio.get_running_loop().create_future()
        try:
            return await self._once()
        finally:
            self._running = None
            running.set_result(None)

    async def look_again(self) -> bool:
        """A token names a key that is not known. What is due anyway, as right after the start, is no fetch that a token has made."""
        return await self.refresh(asked=self.due_in > 0.0)

    async def _once(self) -> bool:
        url = self.issuer.jwks_url
        assert url is not None
        self._fetched_at = self._clock()
        try:
            async with asyncio.timeout(2 * PATIENCE):
                text = await asyncio.get_running_loop().run_in_executor(self._pool, self._fetch, url)
            self._put(self.issuer, read_keys(text, self.issuer))
        except Exception as error:  # an issuer's server may answer anything at all
            self._well = False
            why = str(error) if isinstance(error, BadKeys) else type(error).__name__
            log.warning("issuer %s: its keys could not be fetched (%s); the last good ones stay in use", self.issuer.issuer, why)
            return False
        self._well = True
        return True

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Whom we trust with keys is written in the configuration."""

    def redirect_request(self, *args: object, **more: object) -> None:
        return None


class _Deadline:
    """Ends the connections of one fetch when its time is over, whatever still comes on them: a socket's own timeout begins anew with each byte."""

    def __init__(self) -> None:
        self.over = False
        self._socks: list[socket.socket] = []
        self._lock = Lock()
        self._timer = Timer(PATIENCE, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        with self._lock:
            for sock in self._socks:
                sock.close()
            self._socks.clear()

    def watch(self, sock: socket.socket) -> None:
        with self._lock:
            self._socks.append(sock.dup())  # TLS takes the socket itself over; both are one connection
        if self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        with self._lock:
            for sock in self._socks:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class _Plain(http.client.HTTPConnection):
    deadline: _Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _Secure(http.client.HTTPSConnection, _Plain):
    """In this order: TLS begins on a connection that is watched."""


def _made_by(kind: type[_Plain], deadline: _Deadline) -> Any:
    def make(host: str, **more: Any) -> _Plain:
        made = kind(host, **more)
        made.deadline = deadline
        return made

    return make


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_made_by(_Plain, self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline, context: ssl.SSLContext) -> None:
        super().__init__()
        self._deadline = deadline
        self._trust = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_made_by(_Secure, self._deadline), req, context=self._trust)


def fetcher(ca_file: str | None = None) -> Fetch:
    """A fetch over HTTPS (or to this machine over HTTP), without redirects, of bounded size and time."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)

    def fetch(url: str) -> bytes:
        request = urllib.request.Request(url, headers={"accept": "application/json", "user-agent": "penstock"})
        with _Deadline() as deadline:
            opener = urllib.request.build_opener(_NoRedirects(), _Http(deadline), _Https(deadline, context))
            try:
                with opener.open(request, timeout=PATIENCE) as answer:
                    body: bytes = answer.read(_LARGEST + 1)
            except http.client.HTTPException as error:
                raise OSError(type(error).__name__) from None
            if deadline.over:
                raise TimeoutError
        if len(body) > _LARGEST:
            raise OSError("too large")
        return body

    return fetch
