"""Virtual keys: the gateway's own, which its clients show.

A key is shown once, when it is made. Kept is the HMAC of its SHA-256 under a secret of the house: whoever reads the database can neither use
nor guess a key, and the SHA-256 digests that other gateways store can be taken over as they are. A key is found by that HMAC, whose bytes nobody
outside can steer, so the time of the look-up tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import digest
from math import inf

from penstock.admission.budget.spec import Budget
from penstock.admission.limits.spec import Limit
from penstock.admission.patterns import any_matches
from penstock.admission.subject import Kind, Subject

PREFIX = "sk-pst-"
"""Of every key that is made here: so one that is unknown, or no longer known, is still seen to be ours and goes to no provider. It begins as OpenAI's
do, because some clients look at that, and because such words are masked everywhere."""
_PREFIX = PREFIX.encode()


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """Times in seconds since the epoch. What is allowed: patterns; empty is everything."""

    id: str
    """Shown everywhere; no secret."""
    name: str
    fingerprint: str
    """The first 12 hex digits of its SHA-256, as in the ledger."""
    created_at: float
    owner: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    revoked_at: float | None = None
    models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    """Model patterns of routes, as the configuration writes them."""
    protocols: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    previous_until: float | None = None
    """Until then the key's secret before its last rotation is taken as well."""


def hash_of(key: bytes) -> bytes:
    """The SHA-256 of a key as it is sent, which other gateways store in hexadecimal digits."""
    return sha256(key).digest()


def seal(sha: bytes, secret: bytes) -> bytes:
    """What is kept of it."""
    return digest(secret, sha, "sha256")


def mark_of(secret: bytes) -> str:
    """Tells secrets apart: a key that was sealed under another one cannot be recognised."""
    return digest(secret, b"penstock keys", "sha256").hex()[:16]


def is_ours(value: bytes) -> bool:
    """By its form alone."""
    return value.startswith(_PREFIX)


def holds_ours(value: bytes) -> bool:
    """Does a key of ours, by its form, stand anywhere in it?"""
    return _PREFIX in value


class Ring:
    """All keys that there are, revoked ones too: they must be seen to be ours. Replaced as a whole when something changed."""

    __slots__ = ("_by_seal", "_secret", "count", "foreign")

    def __init__(
        self, secret: bytes, keys: Iterable[tuple[bytes, VirtualKey]] = (), previous: Mapping[bytes, VirtualKey] | None = None, foreign: int = 0
    ) -> None:
        """`keys` by their seals; `previous`: the seals from before a rotation. `foreign`: so many more are there, sealed under another secret:
        nobody is known by them, and nobody enters for want of them."""
        self._secret = secret
        self._by_seal: dict[bytes, tuple[VirtualKey, bool]] = {sealed: (key, True) for sealed, key in (previous or {}).items()}
        self._by_seal |= {sealed: (key, False) for sealed, key in keys}
        self.count = len({key.id for key, _ in self._by_seal.values()})
        self.foreign = foreign

    def __bool__(self) -> bool:
        """Is there any key at all?"""
        return bool(self.count or self.foreign)

    def find(self, value: bytes) -> tuple[VirtualKey, bool] | None:
        """The key that was sent, and whether it is one from before its rotation."""
        return self._by_seal.get(seal(hash_of(value), self._secret))


def refused(key: VirtualKey, previous: bool, now: float) -> str | None:
    """Why it does not let in; `None`: it does."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return f"key {key.id} is revoked"
    if previous and (key.previous_until is None or key.previous_until <= now):
        return f"key {key.id} was rotated"
    if key.expires_at is not None and key.expires_at <= now:
        return f"key {key.id} has expired"
    return None


def subject_of(key: VirtualKey, previous: bool) -> Subject:
    ends = [at for at in (key.expires_at, key.revoked_at, key.previous_until if previous else None) if at is not None]
    until = min(ends) if ends else inf
    return Subject(Kind.KEY, key, user=key.owner, project=key.project, until=until, fingerprint=key.fingerprint)


def out_of_scope(key: VirtualKey, model: str | None, route: str | None, protocol: str) -> str | None:
    """What of this request the key does not allow, for the ledger; `None`: nothing. A request whose model or route is not known is not allowed
    to a key that names some."""
    for word, patterns, value in (("protocol", key.protocols, protocol), ("model", key.models, model), ("route", key.routes, route)):
        if patterns and (value is None or not (value in patterns or any_matches(patterns, value))):
            return f"key {key.id} does not allow this {word}"
    return None
