"""`resolve`: addresses to dial by host and port, as by `curl --resolve HOST:PORT:ADDRESS`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from penstock.config.document import Node, Scalar
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.values import read_address, read_text
from penstock.config.walk import section_of
from penstock.providers import BadUrl, ProviderSettings
from penstock.providers.urls import parse_base
from penstock.wire.secrets import mask_secrets

MEANS = "Which address to dial for a host and port, in the place of a look-up: \"host:port\": address."
Pinned = Mapping[tuple[str, int], str]


def read_resolve(node: Node, place: Place, problems: Problems) -> dict[tuple[str, int], tuple[str, Place]]:
    """The address of each host (in lower case, without brackets) and port, and where it stands."""
    section = section_of(node, place, problems, '{"api.example.com:443": 192.0.2.7}')
    found: dict[tuple[str, int], tuple[str, Place]] = {}
    for key, value in section.items if section is not None else ():
        here = place.below(mask_secrets(key.text), key.line)
        if not isinstance(value, Scalar):
            problems.add(here, "must be one address, like 192.0.2.7")
            continue
        try:
            host, port = _read_target(key)
            address = _read_ip(value)
        except Unfit as error:
            problems.add(here, str(error))
            continue
        if (host, port) in found:
            problems.add(here, f"is the same as {found[host, port][1].path}; keep one of the two")
        else:
            found[host, port] = address, here
    return found


def note_unused(pinned: Mapping[tuple[str, int], tuple[str, Place]], providers: Iterable[ProviderSettings]) -> list[str]:
    """A note for each that no provider is dialed by. (A proxy of the environment may be, so it is no error.)"""
    dialed: set[tuple[str, int]] = set()
    for settings in providers:
        try:
            origin = parse_base(settings.base_url).origin
        except BadUrl:
            continue
        dialed.add((origin.host, origin.port))
    unused = [place for target, (_, place) in pinned.items() if target not in dialed]
    return [f"{place}: no provider is at this host and port, so nothing is dialed by it" for place in unused]


def _read_target(key: Scalar) -> tuple[str, int]:
    if ":" not in key.text:
        raise Unfit(f"{key.shown} has no port; write \"HOST:PORT\", like \"api.example.com:443\"")
    address = read_address(key)
    if address.port == 0:
        raise Unfit("port 0 is no port to dial")
    return address.host, address.port


def _read_ip(value: Scalar) -> str:
    text = read_text(value).strip()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        raise Unfit(f"{value.shown} is no IP address; write one, like 192.0.2.7: a name would have to be looked up again") from None
