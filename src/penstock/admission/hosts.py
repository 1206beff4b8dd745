"""The Host header, against DNS rebinding: a web page whose name resolves to 127.0.0.1 would otherwise be same-origin with us."""

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


def _is_named(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name.strip("[]") == pattern.strip("[]").rstrip(".")


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:127.0.0.1` is 127.0.0.1 by another name."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
