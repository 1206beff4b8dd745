"""Which proxy the environment names for a host: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case.

Loopback never goes through a proxy. An entry of `NO_PROXY` is `*`, a domain (which its subdomains are part of, with or without a dot
in front), a host with a port, an address, or a network such as `10.0.0.0/8`.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

_PORTS = {"http": 80, "https": 443}


class BadProxy(ValueError):
    """The environment names a proxy that cannot be used. Going around it in silence is not what was asked for. Its text is one clause."""


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    tls: bool
    credentials: bytes | None = field(default=None, repr=False)

    @property
    def authorization(self) -> bytes:
        """The header line that the proxy wants, or nothing (RFC 7617)."""
        return b"Proxy-Authorization: Basic " + base64.b64encode(self.credentials) + b"\r\n" if self.credentials else b""


def read_proxies() -> Mapping[str, str]:
    """What the environment says, by scheme; `all`, and `no` for the exceptions."""
    return getproxies_environment()


def proxy_for(proxies: Mapping[str, str], scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for one origin; `None`: go directly. Raises `BadProxy`."""
    url = proxies.get(scheme) or proxies.get("all")
    if not url or is_loopback(host) or is_exempt(proxies.get("no", ""), host, port):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        at = parts.port
    except ValueError:
        raise BadProxy("the proxy's URL in the environment is not valid") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadProxy("the environment names a proxy that is no HTTP proxy")
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode() if parts.username else None
    return Proxy(parts.hostname, at or _PORTS[parts.scheme], parts.scheme == "https", credentials)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_exempt(exceptions: str, host: str, port: int) -> bool:
    """`exceptions`: the value of `NO_PROXY`. `host` in lower case, an IPv6 address without brackets."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in exceptions.lower().replace(",", " ").split():
        if entry == "*":
            return True
        try:
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            pass  # a name, or something with a port
        name, colon, at = entry.rpartition(":")
        if colon and at.isdigit() and (name.startswith("[") or ":" not in name):
            if int(at) != port:
                continue
            entry = name
        entry = entry.strip("[]").removeprefix("*").lstrip(".")
        if entry and (host == entry or (address is None and host.endswith(f".{entry}"))):
            return True
    return False
