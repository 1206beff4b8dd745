"""Web pages stay out. By the Host header, against DNS rebinding: a page whose name resolves to 127.0.0.1 would otherwise be same-origin with
us. By the Origin header, against pages that ask under our own name: no page can read such an answer, but it would be made, and paid for.
That it is a browser who asks is known by Sec-Fetch-Site (Fetch Metadata, W3C), which no page can set or leave out."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{0,5})?\Z")


def is_loopback(host: str) -> bool:
    """Is this name or address this machine alone? `localhost`, `*.localhost` (RFC 6761 6.3), 127.0.0.0/8, ::1.

    `0.0.0.0` and `::` are not: they listen to everybody, and some browsers take them for this machine.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return _unmapped(address).is_loopback


@lru_cache(maxsize=256)
def host_allowed(host_header: str, listen_host: str | None, extra: tuple[str, ...] = ()) -> bool:
    """May a request that names `host_header` be answered by a listener on `listen_host` (`None`: a unix socket)?

    `extra`: the configured names, `*.example.com` for everything below one. Ports do not count. A listener on another address than
    loopback answers to every well-formed name: its names cannot be known from here, and a token guards its keys.
    """
    found = _HOST.match(host_header)
    if listen_host is None:
        return True
    if found is None:
        return False
    if not is_loopback(listen_host):
        return True
    name = found.group(1).rstrip(".").lower()
    return is_loopback(name) or any(_is_named(name, pattern.lower()) for pattern in extra)


@lru_cache(maxsize=256)
def origin_allowed(origin: str, listen_host: str | None, extra: tuple[str, ...] = ()) -> bool:
    """May what a browser calls `origin` ask a listener on `listen_host`? The same names as in `host_allowed`.

    A page whose origin is `null` may be anybody's. Other schemes than http and https are those of programs and extensions, which somebody installed.
    """
    text = origin.strip().lower()
    if listen_host is None or not is_loopback(listen_host):
        return True
    if text == "null":
        return False
    scheme, found, host = text.partition("://")
    return not found or scheme not in ("http", "https") or host_allowed(host, listen_host, extra)


def _is_named(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name.strip("[]") == pattern.strip("[]").rstrip(".")


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:127.0.0.1` is 127.0.0.1 by another name."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
