"""Whose address a request comes from, where proxies stand in between.

Each proxy adds the address that it was connected from to the end of `x-forwarded-for`; what stands before that, a client may have written
itself. So the list is read from its end for as long as the speaker is trusted, and the first address that is not is the client's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
FORWARDED = b"x-forwarded-for"
_MAPPED = 96
"""Bits of an IPv6 address before the IPv4 address in it."""


@lru_cache(maxsize=4096)
def read_address(text: str) -> Address | None:
    """An address without its port or zone; an IPv4 address that is written as IPv6 is IPv4."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def read_network(text: str) -> Network:
    """An address, or a range of them. As of addresses, one of IPv4 that is written as IPv6 (`::ffff:10.0.0.0/104`) is one of IPv4. Raises
    `ValueError`."""
    found = ip_network(text.strip(), strict=False)
    if not isinstance(found, IPv6Network) or found.prefixlen < _MAPPED or found.network_address.ipv4_mapped is None:
        return found
    return IPv4Network((found.network_address.ipv4_mapped, found.prefixlen - _MAPPED))


def inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def client_address(peer: str | None, headers: Sequence[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str | None:
    """`peer`: who is connected; `None`: a unix socket, which counts as 127.0.0.1. The answer is `None` where a trusted proxy told it in no way that
    can be read."""
    address = read_address(peer or "127.0.0.1")
    if address is None:
        return None
    if not trusted or not inside(address, trusted):
        return str(address)
    listed = b",".join([value for name, value in headers if name.lower() == FORWARDED]).decode("latin-1")
    for text in reversed(listed.split(",") if listed.strip() else []):
        address = read_address(text)
        if address is None:
            return None
        if not inside(address, trusted):
            break
    return str(address)
