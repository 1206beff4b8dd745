"""An issuer's keys: fetched, kept while it is away, and not fetched as often as strangers like."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from penstock.admission.issuers import Issuer, KeySet
from penstock.stores.jwks import HOLD, REFRESH, RETRY, Jwks, fetcher
from tests.support.tokens import issuer, jwk, jwks

URL = "https://id.example.com/keys"


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.answer: str | Exception = jwks(jwk("RSA", "k1"))
        self.asked = 0
        self.got: list[KeySet] = []
        self.jwks = Jwks(issuer(jwks_url=URL), self._put, self._fetch, lambda: self.now)

    def _put(self, of: Issuer, keys: KeySet) -> None:
        assert of.jwks_url == URL
        self.got.append(keys)

    def _fetch(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer.encode()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_fetched_and_due_again() -> None:
    async def main() -> None:
        bench = Bench()
        assert bench.jwks.due_in == 0.0
        assert await bench.jwks.refresh()
        assert (len(bench.got), bench.jwks.due_in) == (1, REFRESH)
        bench.now += REFRESH - 5
        assert bench.jwks.due_in == 5
        bench.jwks.close()

    run(main())


@pytest.mark.parametrize("trouble", ["no json", '{"keys": []}', OSError("gone"), TimeoutError(), RuntimeError("odd")])
def test_the_last_good_ones_stay_while_it_is_away(trouble: str | Exception) -> None:
    async def main() -> None:
        bench = Bench()
        await bench.jwks.refresh()
        bench.now += REFRESH
        bench.answer = trouble
        assert not await bench.jwks.refresh()
        assert (len(bench.got), bench.jwks.due_in) == (1, RETRY)
        bench.jwks.close()

    run(main())


def test_an_unknown_key_makes_one_fetch_and_then_none_for_a_while() -> None:
    async def main() -> None:
        bench = Bench()
        assert await bench.jwks.refresh(asked=True)
        for _ in range(5):
            assert not await bench.jwks.refresh(asked=True)
        bench.now += HOLD
        assert await bench.jwks.refresh(asked=True)
        for _ in range(5):
            assert not await bench.jwks.refresh(asked=True)
        assert bench.asked == 2
        bench.jwks.close()

    run(main())


def test_a_key_that_is_new_right_after_a_fetch_nobody_asked_for_is_fetched() -> None:
    """At the start and at each refresh: an issuer may rotate its keys in the very next second."""

    async def main() -> None:
        bench = Bench()
        await bench.jwks.refresh()
        bench.answer = jwks(jwk("RSA", "k2"))
        assert await bench.jwks.refresh(asked=True)
        bench.got[-1].find("k2", "RS256")
        await bench.jwks.refresh()
        assert not await bench.jwks.refresh(asked=True), "the last one that was asked for is not long ago"
        bench.jwks.close()

    run(main())


def test_a_token_that_comes_before_the_first_fetch_makes_no_other_wait() -> None:
    """Clients may be quicker than the start: an issuer that rotates its keys right then is asked again all the same."""

    async def main() -> None:
        bench = Bench()
        assert await bench.jwks.look_again()
        bench.answer = jwks(jwk("RSA", "k2"))
        assert await bench.jwks.look_again()
        bench.got[-1].find("k2", "RS256")
        for _ in range(5):
            assert not await bench.jwks.look_again()
        assert bench.asked == 2
        bench.jwks.close()

    run(main())


def test_who_comes_meanwhile_waits_for_the_same() -> None:
    async def main() -> None:
        bench = Bench()
        assert await asyncio.gather(*(bench.jwks.refresh(asked=True) for _ in range(5))) == [True] * 5
        assert bench.asked == 1
        bench.jwks.close()

    run(main())


DRIPPING: dict[str, tuple[str, bytes, bytes]] = {
    "head": ("http", b"HTTP/1.1 200 OK\r\nx: ", b"x"), "body": ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
    "until the end": ("http", b"HTTP/1.1 200 OK\r\n\r\n{}", b" "),
    "chunks": ("http", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"), "nothing": ("http", b"", b""),
    "TLS": ("https", b"\x16\x03\x03\x3f\xff\x02", b"\0"),
}  # fmt: skip


@pytest.mark.parametrize("where", list(DRIPPING))
def test_a_server_that_drips_holds_the_fetch_no_longer_than_its_patience(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread fetches: it would fetch nothing else any more, and a process that ends waits for it."""
    monkeypatch.setattr("penstock.stores.jwks.PATIENCE", 0.3)
    scheme, first, drop = DRIPPING[where]
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.sendall(first)
            for _ in range(200):
                if over.wait(0.02):
                    return
                peer.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(OSError):
                fetcher()(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/keys")
            assert time.monotonic() - began < 2.0
        finally:
            over.set()
            thread.join(5.0)


def test_over_http() -> None:
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/away":
                self.send_response(302)
                self.send_header("location", "/keys")
                self.end_headers()
                return
            body = b"x" * ((1 << 20) + 1) if self.path == "/large" else b"{}"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    try:
        fetch = fetcher()
        assert fetch(f"{at}/keys") == b"{}"
        for path in ("/away", "/large"):
            with pytest.raises(OSError):
                fetch(at + path)
    finally:
        server.shutdown()
        server.server_close()
