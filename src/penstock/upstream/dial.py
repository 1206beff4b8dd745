"""Making a connection to an origin: addresses, TLS, proxies, unix sockets.

Happy eyeballs (RFC 8305) is `aiohappyeyeballs`'s. Trust is the system's: on Linux one default context for the process (per-dial verification
through `truststore` costs 20 ms of the loop there), elsewhere `truststore`. Reading the system's authorities takes 25 ms and is done
in a thread at the first need. Proxies come from the environment, as it was at the start.

A host and port may be pinned to an address, as by `curl --resolve`: that address is dialed, and nothing else changes (TLS server name,
certificate check, Host header). It is about whom we dial: what a proxy dials is the proxy's to look up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final

import aiohappyeyeballs

from penstock.providers.contract import Origin
from penstock.upstream.contract import LossKind
from penstock.upstream.deadlines import Deadlines
from penstock.upstream.proxies import BadProxy, Proxy, proxy_for, read_proxies
from penstock.upstream.tunnel import Tunnel, TunnelError

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As `getaddrinfo` gives them."""
Resolve = Callable[[str, int], Awaitable[Sequence[AddressInfo]]]

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH; Python's words for them hold the name.
_MISMATCHES = {62: "it is for another host name", 64: "it is for another address"}
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))  # seconds, seconds, probes
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A stream may be silent for long, but a provider's host that has gone without a word shall not hold it for ever.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, int(getattr(socket, name)), value) for name, value in _KEEPALIVE if hasattr(socket, name)),
)


class DialError(Exception):
    """No connection. Its text is one clause, without addresses."""

    def __init__(self, kind: LossKind, cause: str) -> None:
        super().__init__(cause)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Via:
    """What a request on the connection needs where a plain proxy is in between."""

    absolute: bytes = b""
    """Put before the request's target: `http://host:port`."""
    lines: bytes = b""
    """Put before its headers."""


DIRECT: Final = Via()


def make_tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """The one context of the process, with the system's trust and what `SSL_CERT_FILE` and `ca_file` add. ALPN: HTTP/1.1."""
    if sys.platform == "linux":
        context = ssl.create_default_context()
    else:
        import truststore  # only where it is installed

        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # neither names the file
            raise OSError(f"{ca_file}: {error.strerror or error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


async def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Dialer:
    """Connects protocols to origins. `tls` is made at the first need, and `proxies` read, where none are given.

    `pinned`: addresses by host and port, in the place of what a look-up would find.
    """

    def __init__(
        self, tls: ssl.SSLContext | None = None, proxies: Mapping[str, str] | None = None, resolve: Resolve = resolve,
        pinned: Mapping[tuple[str, int], str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._tls = tls
        self._making = asyncio.Lock()
        self._proxies = read_proxies() if proxies is None else proxies
        self._resolve = resolve
        self._pinned = pinned
        self._deadlines = Deadlines()

    async def dial(self, origin: Origin, protocol: asyncio.Protocol, timeout: float) -> Via:
        """Connect `protocol`; its `connection_made` has been called when this returns. `timeout`: seconds for everything together.

        Raises `DialError`. Then, and where it is cancelled, the caller aborts the transport that `protocol` may have got.
        """
        try:
            return await self._deadlines.within(timeout, self._dial(origin, protocol))
        except TimeoutError:
            raise DialError(LossKind.CONNECT_TIMEOUT, f"no connection to the provider within {timeout:g} s") from None
        except (BadProxy, TunnelError) as error:
            raise DialError(LossKind.CONNECT, str(error)) from None

    async def _dial(self, origin: Origin, protocol: asyncio.Protocol) -> Via:
        provider = "the provider"
        if origin.socket_path is not None:
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: protocol, origin.socket_path)
            except OSError as error:
                raise _explain(error, provider) from None
            return DIRECT
        proxy = proxy_for(self._proxies, origin.scheme, origin.host, origin.port)
        secure = origin.scheme == "https"
        if proxy is None:
            await self._connect(origin.host, origin.port, secure, protocol, provider)
            return DIRECT
        authority = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        if secure:
            await self._connect_through(proxy, authority, origin.host, protocol)
            return DIRECT
        await self._connect(proxy.host, proxy.port, proxy.tls, protocol, "the proxy")
        return Via(f"http://{authority}".encode("ascii"), proxy.authorization)

    async def _connect(self, host: str, port: int, secure: bool, protocol: asyncio.Protocol, who: str) -> None:
        loop = asyncio.get_running_loop()
        at = self._pinned.get((host, port), host)
        if not secure and _is_address(at):
            # Nothing to look up and nothing to race: a third of the work, and no thread. Gateways beside their models are reached so.
            try:
                transport, _ = await loop.create_connection(lambda: protocol, at, port)
            except OSError as error:
                raise _explain(error, who) from None
            _tune(transport.get_extra_info("socket"))
            return
        tls = await self._context() if secure else None
        try:
            infos = await self._resolve(at, port)
            # Its addresses are tuples without types.
            sock: socket.socket = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25, interleave=1, loop=loop)  # pyright: ignore[reportUnknownMemberType]
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: uvloop's, for some addresses; ValueError: no address, or no name
            raise _explain(error, who) from None
        try:
            _tune(sock)
            await loop.create_connection(lambda: protocol, sock=sock, ssl=tls, server_hostname=host if tls else None)
        except BaseException as error:
            sock.close()  # does nothing where the loop has taken it over
            if isinstance(error, OSError):
                raise _explain(error, who, handshake=secure) from None
            raise

    async def _connect_through(self, proxy: Proxy, authority: str, host: str, protocol: asyncio.Protocol) -> None:
        tls = await self._context()
        tunnel = Tunnel()
        try:
            await self._connect(proxy.host, proxy.port, proxy.tls, tunnel, "the proxy")
            transport = await tunnel.open(authority, proxy.authorization)
            try:
                wrapped = await asyncio.get_running_loop().start_tls(transport, protocol, tls, server_hostname=host)
            except OSError as error:
                raise _explain(error, "the provider", handshake=True) from None
            if wrapped is None:
                raise DialError(LossKind.TLS, "the connection was closed in the TLS handshake with the provider")
            # Which `start_tls` leaves to the caller. No byte can have come to `protocol` before: the first read is scheduled behind this.
            protocol.connection_made(wrapped)
        except BaseException:
            if tunnel.transport is not None:
                tunnel.transport.abort()
            raise

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            async with self._making:
                if self._tls is None:
                    self._tls = await asyncio.to_thread(make_tls_context)
        return self._tls


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _tune(sock: socket.socket | None) -> None:
    if sock is None:
        return
    # uvloop's stand-in opens and closes a socket for each option that is set; one of ours on the same descriptor takes a third of the time.
    own = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    try:
        for level, option, value in _OPTIONS:
            own.setsockopt(level, option, value)
    finally:
        own.detach()


def _explain(error: Exception, who: str, *, handshake: bool = False) -> DialError:
    """`error` in a clause without addresses (which the system's own words hold). `who`: the provider, or the proxy."""
    match error:
        case ssl.SSLCertVerificationError():
            why = _MISMATCHES.get(error.verify_code) or error.verify_message
            return DialError(LossKind.TLS, f"{who}'s certificate is not trusted ({why})")
        case ssl.SSLError():
            return DialError(LossKind.TLS, f"TLS with {who} failed ({(error.reason or 'unknown reason').lower().replace('_', ' ')})")
        case TimeoutError():
            return DialError(LossKind.CONNECT_TIMEOUT, f"{who} did not answer in time")
        case socket.gaierror() | UnicodeError():
            return DialError(LossKind.CONNECT, f"{who}'s host name was not found")
        case ConnectionError() if handshake:
            return DialError(LossKind.TLS, f"the connection was closed in the TLS handshake with {who}")
        case ConnectionRefusedError():
            return DialError(LossKind.CONNECT, f"{who} refused the connection")
        case OSError() if error.errno is not None:
            return DialError(LossKind.CONNECT, f"no connection to {who} ({os.strerror(error.errno).lower()})")
        case _:
            return DialError(LossKind.CONNECT, f"no connection to {who}")
