"""What may be captured: the phases, what the configuration says of all captures, and what one order asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from penstock.routing import BadGlob, Glob

MIB = 1 << 20
LONGEST = 7 * 86400.0
"""Seconds for which an order may stand."""
MOST_COUNTED = 10_000
LARGEST = 256 * MIB
"""Bytes of one capture."""
_FINGERPRINT = re.compile(r"[0-9a-f]{4,12}")


class Phase(StrEnum):
    """Where bytes pass us, in the order in which they do."""

    INBOUND_REQUEST = "inbound_request"
    """From the client."""
    PROVIDER_REQUEST = "provider_request"
    """To the provider, as we changed it."""
    UPSTREAM_RESPONSE = "upstream_response"
    """From the provider, behind chunked coding and before anything was done to it."""
    OUTBOUND_RESPONSE = "outbound_response"
    """To the client, before chunked coding."""


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """What holds for all captures of one gateway."""

    patterns: tuple[str, ...] = ()
    """Further regular expressions whose matches are masked in bodies, heads and URLs; of one with a group called `secret`, that group alone."""
    mask_keys: bool = True
    """Mask in bodies what looks like a key or a password. Heads and URLs are always masked."""
    max_bytes: int = 8 * MIB
    """Of one capture, where its order says nothing; shared equally by its phases."""
    total_bytes: int = 256 * MIB
    """Of all captures on the disk. In memory all together hold at most a quarter of it."""
    keep_days: float | None = 7.0
    """`None`: age alone deletes nothing."""
    most: int = 200
    """Captures on the disk."""


class BadOrder(ValueError):
    """An order that cannot be followed. Its text is a sentence for people."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to capture. Every filter that is set must match. Raises `BadOrder` where it makes no sense."""

    phases: tuple[Phase, ...] = tuple(Phase)
    count: int = 1
    """Exchanges to capture; behind the last of them capturing is off again."""
    route: str | None = None
    """A route's model pattern as the file has it, or its number there (`routes[0]` is 0)."""
    model: str | None = None
    """A pattern like a route's, for the model as asked for or as the provider calls it."""
    provider: str | None = None
    key: str | None = None
    """The beginning of the key's fingerprint, as the ledger shows it; at least 4 digits."""
    max_bytes: int | None = None
    """Of one capture; `None`: as configured."""
    seconds: float | None = None
    """For which the order stands; `None`: until it is filled or taken back."""

    def __post_init__(self) -> None:
        if not self.phases:
            raise BadOrder("no phase is named; there are " + ", ".join(Phase))
        if not 1 <= self.count <= MOST_COUNTED:
            raise BadOrder(f"count takes a number from 1 to {MOST_COUNTED}")
        if self.max_bytes is not None and not 1 <= self.max_bytes <= LARGEST:
            raise BadOrder(f"max_bytes takes a number from 1 to {LARGEST}")
        if self.seconds is not None and not 0 < self.seconds <= LONGEST:
            raise BadOrder(f"seconds takes a number above 0, up to {LONGEST:.0f}")
        if self.key is not None and not _FINGERPRINT.fullmatch(self.key):
            raise BadOrder("a key is named by 4 to 12 digits of its fingerprint, as the ledger shows it (key_fingerprint)")
        if self.model is not None:
            try:
                Glob(self.model)
            except BadGlob as error:
                raise BadOrder(f"model: {error}") from None
