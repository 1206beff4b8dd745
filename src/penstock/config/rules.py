"""Rules that hold between settings: a provider that is ourselves, a key that strangers could spend, two listeners on one port."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from socket import inet_aton, inet_ntoa

from penstock.admission.hosts import is_loopback
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.config.settings import Address
from penstock.providers import BadUrl, Origin, ProviderSettings
from penstock.providers.urls import parse_base

_EVERYBODY = frozenset({"0.0.0.0", "::"})


def own_listener(base_url: str, listen: Address, admin: Address, socket: Path | None) -> str | None:
    """Which listener of ours `base_url` points at, as an address; `None`: none, as far as names tell.

    A gateway that asks itself would do so until its sockets run out.
    """
    try:
        origin = parse_base(base_url).origin
    except BadUrl:
        return None
    if origin.socket_path is not None:
        return str(socket) if socket is not None and Path(origin.socket_path) == socket else None
    listeners = [admin] if socket is not None else [listen, admin]
    return next((str(address) for address in listeners if address.port and _is_at(origin, address)), None)


def exposure(
    listen: Address, socket: Path | None, providers: Iterable[ProviderSettings], token: str | None, admission: AdmissionSettings
) -> str | None:  # fmt: skip
    """Why these settings may not be served, in words that say what to do; `None`: they may.

    Whoever reaches the listener spends the keys behind it, and asks under the users that are named there. Keys of the gateway's own are in its
    database, which is not read here: to rely on them, `admission.mode: strict` has to be written.
    """
    if socket is not None or listen.loopback or token is not None or admission.open:
        return None
    asked = admission.mode or (Mode.STRICT if admission.issuers else None)
    if asked is Mode.STRICT:
        return None
    lent = [provider for provider in providers if provider.api_key is not None or provider.user is not None]
    names = [repr(provider.name) for provider in lent]
    what = "key" if any(provider.api_key is not None for provider in lent) else "user"
    whose = "" if not lent else f", provider {names[0]} has a {what}" if len(names) == 1 else f", providers {', '.join(names)} have {what}s"
    why = "no token is set" if asked is None else f"admission.mode is {asked.value}"
    verb = "spend" if lent and what == "key" else "use"
    spent = f"whoever connects would {verb} {'it' if len(names) == 1 else 'them'}" if lent else "whoever connects may use it"
    return (
        f"others can reach {listen}{whose}, and {why}: {spent}. Set a token (token: auto, PENSTOCK_TOKEN or --token auto), or ask for keys "
        f"(admission: {{mode: strict}}, then penstock keys create), or listen on 127.0.0.1:{listen.port}, or write admission: {{open: true}} if "
        "everybody who can connect is welcome"
    )


def same_place(listen: Address, admin: Address) -> bool:
    """Would the two listeners want the same port of the same address?"""
    if listen.port != admin.port or listen.port == 0:
        return False
    return _meet(listen.host, admin.host)


def _is_at(origin: Origin, address: Address) -> bool:
    return origin.port == address.port and _meet(origin.host, address.host)


def _meet(one: str, other: str) -> bool:
    """Do two hosts name one listener? Names are not looked up; `localhost` is every loopback address, `0.0.0.0` every address."""
    one, other = _plain(one), _plain(other)
    if one == other:
        return True
    if {one, other} & _EVERYBODY:
        return all(host in _EVERYBODY or is_loopback(host) for host in (one, other))
    named = [host for host in (one, other) if not host[:1].isdigit() and ":" not in host]
    return bool(named) and is_loopback(one) and is_loopback(other)


def _plain(host: str) -> str:
    """An address in its usual spelling: `127.1`, `0x7f000001` and `::ffff:127.0.0.1` are dialed as 127.0.0.1."""
    host = host.rstrip(".")
    with suppress(OSError, ValueError):
        if ":" not in host:
            return inet_ntoa(inet_aton(host))
        address = IPv6Address(host)
        return str(address.ipv4_mapped or address)
    return host
