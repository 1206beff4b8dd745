"""Making a connection to an origin: addresses, TLS, proxies, unix sockets.

Happy eyeballs (RFC 8305) is `aiohappyeyeballs`'s. Trust is the system's: on Linux one default context made at start (per-dial verification
through `truststore` costs 20 ms of the loop there), elsewhere `truststore`. Proxies come from the environment (`HTTPS_PROXY`,
`HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), as the standard library reads them.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment

import aiohappyeyeballs

from penstock.providers.contract import Origin

P = TypeVar("P", bound=asyncio.Protocol)


class DialError(Exception):
    """No connection. Its text is one clause, without addresses. `tls`: the peer was reached and TLS failed."""

    def __init__(self, cause: str, *, tls: bool = False) -> None:
        super().__init__(cause)
        self.tls = tls


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    tls: bool
    credentials: bytes | None

    @property
    def authorization(self) -> bytes:
        """The header line that the proxy wants, or nothing."""
        return b"Proxy-Authorization: Basic " + base64.b64encode(self.credentials) + b"\r\n" if self.credentials else b""


def make_tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """The one context of the process, with the system's trust and what `SSL_CERT_FILE` and `ca_file` add. ALPN: HTTP/1.1."""
    if sys.platform == "linux":
        context = ssl.create_default_context()
    else:
        import truststore  # only where it is installed

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy that the environment names for this host; loopback never goes through one."""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            return None
    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass_environment(host, proxies):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode() if parts.username else None
    return Proxy(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), parts.scheme == "https", credentials)


class Dialer:
    """Connects protocols to origins. `tls` is made at the first need where none is given."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    @property
    def tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = make_tls_context()
        return self._tls

    async def dial(self, origin: Origin, make: Callable[[], P], timeout: float) -> tuple[P, bytes]:
        """A connected protocol, and what must precede each request target (an `http://host:port` where a plain proxy is in between).

        Raises `DialError`, or `TimeoutError` after `timeout` seconds for everything together.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._dial(origin, make)
        except ssl.SSLCertVerificationError as error:
            raise DialError(f"the provider's certificate is not trusted ({error.verify_message})", tls=True) from None
        except ssl.SSLError as error:
            raise DialError(f"TLS failed ({error.reason or 'unknown reason'})", tls=True) from None
        except TimeoutError:
            raise
        except socket.gaierror:
            raise DialError("the provider's host name was not found") from None
        except ConnectionRefusedError:
            raise DialError("the provider refused the connection") from None
        except OSError as error:
            raise DialError(f"no connection to the provider ({error.strerror or type(error).__name__})") from None

    async def _dial(self, origin: Origin, make: Callable[[], P]) -> tuple[P, bytes]:
        loop = asyncio.get_running_loop()
        tls = self.tls if origin.scheme == "https" else None
        if origin.socket_path is not None:
            _, protocol = await loop.create_unix_connection(make, origin.socket_path, ssl=tls, server_hostname=origin.host if tls else None)
            return protocol, b""
        proxy = proxy_for(origin.scheme, origin.host)
        if proxy is not None:
            return await self._through(proxy, origin, make)
        sock = await self._connect(origin.host, origin.port)
        return await self._adopt(sock, make, tls, origin.host), b""

    async def _connect(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25, interleave=1, loop=loop)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _adopt(self, sock: socket.socket, make: Callable[[], P], tls: ssl.SSLContext | None, host: str) -> P:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=host if tls else None)
        except BaseException:
            sock.close()
            raise
        return protocol

    async def _through(self, proxy: Proxy, origin: Origin, make: Callable[[], P]) -> tuple[P, bytes]:
        sock = await self._connect(proxy.host, proxy.port)
        at = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.scheme == "http":
            protocol = await self._adopt(sock, make, self.tls if proxy.tls else None, proxy.host)
            return protocol, f"http://{at}:{origin.port}".encode()
        loop = asyncio.get_running_loop()
        tunnel = await self._adopt(sock, _Tunnel, self.tls if proxy.tls else None, proxy.host)
        transport = tunnel.transport
        if transport is None:
            raise DialError("the proxy closed the connection")
        try:
            transport.write(f"CONNECT {at}:{origin.port} HTTP/1.1\r\nHost: {at}:{origin.port}\r\n".encode() + proxy.authorization + b"\r\n")
            await tunnel.opened
            protocol = make()
            wrapped = await loop.start_tls(transport, protocol, self.tls, server_hostname=origin.host)
            if wrapped is None:
                raise DialError("TLS through the proxy failed", tls=True)
            protocol.connection_made(wrapped)
        except BaseException:
            transport.abort()
            raise
        return protocol, b""


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]  # uvloop's transports are not subclasses

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.opened.done() or (b"\r\n\r\n" not in self._head and len(self._head) < 65536):
            return
        words = self._head.partition(b"\r\n")[0].split(b" ", 2)
        status = words[1].decode("latin-1") if len(words) > 1 else "nothing"
        if status.startswith("2"):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(DialError(f"the proxy answered {status} to CONNECT"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(DialError("the proxy closed the connection"))
