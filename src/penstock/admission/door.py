"""The door: from a request's head to who asks, and from there to whether that may be.

What a head shows is looked at once per head (`look`) and again when keys or issuers change (`version`) or its time is over (`Subject.until`).
What is ours is taken out wherever it stands: a key that is known or once was, a word of our keys' form, a token of one of our issuers, and
`x-penstock-key` whatever it holds. A word of our keys' form, and a token, lets nobody in where no key belongs (`Authorization: Token`, `Basic`,
`?api_key=`), and goes no further either. All else is the client's own login at the provider, and passes.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from urllib.parse import unquote_to_bytes

from penstock.admission import keys as virtual
from penstock.admission.address import client_address
from penstock.admission.facts import SETTLED, Facts
from penstock.admission.issuers import BadToken, Issuer, KeySet, UnknownKey, issuer_named, verify
from penstock.admission.issuers import subject_of as subject_of_token
from penstock.admission.keys import Ring
from penstock.admission.rules import in_order, judge
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.admission.subject import ANONYMOUS, BEARER, By, Kind, Subject

Header = tuple[bytes, bytes]
KEY_HEADER = b"x-penstock-key"
_PLACES = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")
_TOKEN = re.compile(rb"(?<![A-Za-z0-9_.-])e[yw][A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SHOWN = 64
"""Characters of an id in an error."""
_CHALLENGE: Header = (b"www-authenticate", b'Bearer realm="penstock"')
ASKED = (
    "this gateway asks for a key or a token of its own: send it as the client's API key (Authorization: Bearer, x-api-key, x-goog-api-key) "
    "or as x-penstock-key beside the client's own login")
NOT_ALLOWED = "this request is not allowed here"


@dataclass(frozen=True, slots=True)
class Found:
    """What a head shows."""

    subject: Subject | None
    """`None`: `why` it is nobody."""
    why: str
    """For the ledger. Empty where there is a subject."""
    headers: list[Header]
    """In the client's order, without what is ours."""
    query: str
    version: int
    """Of the door."""
    until: float
    """Seconds since the epoch: then, or when the door has another version, it has to be looked at again. 0 where what was shown is not good."""
    unsure_of: Issuer | None = None
    """The token may be good: this issuer's keys are to be fetched first."""
    by: By = By.MODE
    """What is not good of it."""
    rule: str | None = None
    """Its id (of a key) or its issuer (of a token), where those are known."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`status` and `message` for the client, the same for every reason of a kind; `cause` for the ledger."""

    status: int
    message: str
    cause: str
    headers: list[Header] = field(default_factory=list[Header])
    by: By = By.RULE
    rule: str | None = None
    """The name of the rule, limit or budget, the id of the key, the mode."""
    code: str | None = None
    param: str | None = None
    """What OpenAI says in the same case, where clients go by it."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """Of a credential. `subject`: `None`: it is nobody, for `why`."""

    subject: Subject | None = None
    why: str = ""
    unsure: Issuer | None = None
    by: By = By.MODE
    rule: str | None = None


class Door:
    """Of one gateway, on its loop."""

    def __init__(self, settings: AdmissionSettings, ring: Ring, key_sets: Mapping[str, KeySet] | None = None) -> None:
        """`key_sets` by issuer."""
        self.settings = settings
        self.version = 0
        """Another one whenever a head may mean something else than before."""
        self._ring = ring
        self._issuers = {issuer.issuer: issuer for issuer in settings.issuers}
        self._key_sets: dict[str, KeySet] = dict(key_sets or {})
        self._rules = in_order(settings.rules)
        self.per_route = any(settings.route_modes)
        """A route may be laxer than the listener: it is not before the route is known that somebody is refused for want of a credential."""

    @property
    def mode(self) -> Mode | None:
        """Of the listener; `None`: open, nothing is asked for."""
        settings = self.settings
        if settings.mode is not None:
            return settings.mode
        return Mode.STRICT if self._ring or settings.issuers else None

    def mode_of(self, route: int | None) -> Mode | None:
        """Of a route, by its place in the configuration."""
        modes = self.settings.route_modes
        own = modes[route] if route is not None and route < len(modes) else None
        return own or self.mode

    def replace_ring(self, ring: Ring) -> None:
        self._ring = ring
        self.version += 1

    def replace_keys(self, issuer: Issuer, keys: KeySet) -> None:
        self._key_sets[issuer.issuer] = keys
        self.version += 1

    # -- who ---------------------------------------------------------------------------------------------------------------------------

    def look(self, headers: Sequence[Header], query: str, now: float, *, trusted: bool = False) -> Found:
        """`trusted`: the gateway's one token was shown. `now` in seconds since the epoch."""
        ours: list[bytes] = []
        kept: list[Header] = []
        named = 0
        for pair in headers:
            name = pair[0].lower()
            if name == KEY_HEADER:
                ours.insert(named, _bare(pair[1]))
                named += 1
            elif name in _PLACES and self._is_ours(_bare(pair[1])):
                ours.append(_bare(pair[1]))
            elif not self._holds_ours(pair[1]):
                kept.append(pair)
        if "=" in query:
            parts = query.split("&")
            values = [unquote_to_bytes(part[4:]) if part.startswith("key=") else b"" for part in parts]
            shown = [value for value in values if value and self._is_ours(value)]
            if shown:
                ours += shown
                query = "&".join(part for part, value in zip(parts, values, strict=True) if value not in shown)
            if self._holds_ours(unquote_to_bytes(query)):
                query = "&".join(part for part in query.split("&") if not self._holds_ours(unquote_to_bytes(part)))
        said = _Judged(BEARER) if trusted else self._judge(ours, now)
        until = said.subject.until if said.subject is not None else inf if not said.why else 0.0
        return Found(said.subject, said.why, kept, query, self.version, until, said.unsure, said.by, said.rule)

    def _is_ours(self, value: bytes) -> bool:
        if not value:
            return False
        return virtual.is_ours(value) or self._ring.find(value) is not None or (bool(self._issuers) and issuer_named(value) in self._issuers)

    def _holds_ours(self, value: bytes) -> bool:
        """Does something of ours stand anywhere in it, where none belongs?"""
        if virtual.holds_ours(value):
            return True
        if value[:6].lower() == b"basic ":
            name, _, word = _unpacked(value[6:]).partition(b":")
            return self._is_ours(name) or self._is_ours(word)
        return bool(self._issuers) and value.count(b".") > 1 and any(issuer_named(found) in self._issuers for found in _TOKEN.findall(value))

    def _judge(self, ours: list[bytes], now: float) -> _Judged:
        """The first that was shown counts, in `x-penstock-key` before any other place: whoever shows two does not get in by the second when the
        first is bad."""
        if not ours:
            return _Judged()
        value = ours[0]
        known = self._ring.find(value)
        if known is not None:
            key, previous = known
            why = virtual.refused(key, previous, now)
            return _Judged(None, why, None, By.KEY, key.id) if why is not None else _Judged(virtual.subject_of(key, previous))
        issuer = self._issuers.get(issuer_named(value) or "")
        if issuer is None:
            return _Judged(None, "the key is not known", None, By.KEY)
        try:
            claims = verify(value, issuer, self._key_sets.get(issuer.issuer) or KeySet(), now)
            return _Judged(subject_of_token(claims, issuer))
        except BadToken as error:
            unsure = issuer if isinstance(error, UnknownKey) else None
            return _Judged(None, f"a token of {issuer.issuer}: {error}", unsure, By.JWT, issuer.issuer)

    # -- whether -----------------------------------------------------------------------------------------------------------------------

    def enter(self, found: Found, mode: Mode | None) -> Subject | Refused:
        """By the credential alone."""
        if found.subject is not None:
            return found.subject
        if mode is None or mode is Mode.PERMISSIVE or (mode is Mode.OPTIONAL and not found.why):
            return ANONYMOUS
        return Refused(401, ASKED, found.why or "no key and no token was shown", [_CHALLENGE], found.by, found.rule or mode.value)

    def allow(self, facts: Facts, *, listing: bool = False, unsettled: frozenset[str] = SETTLED) -> Refused | None:
        """By the key's own scope, then by the rules. `listing`: what is asked for is a list of models, which belongs to no model; `unsettled`:
        fields by which each of its entries is decided upon by itself."""
        key = facts.subject.key
        why: str | None = None
        if key is not None:
            if listing:
                why = virtual.out_of_scope(key, None, None, facts.protocol) if key.protocols else None
            else:
                why = virtual.out_of_scope(key, facts.model, facts.route, facts.protocol)
        if why is not None:
            assert key is not None
            return Refused(403, NOT_ALLOWED, why, by=By.KEY, rule=key.id)
        facts.unsettled = unsettled
        denied = judge(self._rules, facts)
        facts.unsettled = SETTLED
        return None if denied is None else Refused(403, NOT_ALLOWED, denied.why, by=By.RULE, rule=denied.rule)

    def refuse_others(self, subject: Subject, id: str, key_id: str | None, user: str | None, what: str = "Response") -> Refused | None:
        """`what` is asked for by its `id` is not there for whoever it was not made for, as far as that is known: `key_id` and `user` are
        those of the exchange that made it. (Without issuers a user is only what a client says of itself, and so is one of nobody's.)"""
        own = subject.key is not None and subject.key.id == key_id
        same = subject.user is not None and subject.user == user
        if subject.kind is Kind.TOKEN or own or same or (key_id is None and user is None):
            return None
        if key_id is None and (not self._issuers or subject.kind is Kind.ANONYMOUS):
            return None
        by = By.KEY if subject.key is not None else By.JWT if subject.kind is Kind.JWT else By.MODE
        rule = subject.key.id if subject.key is not None else None
        return Refused(404, f"{what} with id {id[:_SHOWN]!r} not found.", f"the {what.lower()} was made for another key or user", by=by, rule=rule)

    def lists_all(self, subject: Subject) -> bool:
        """Whoever it is may know of every model: nothing here depends on one."""
        key = subject.key
        return not (self._rules or self.per_route or (key is not None and (key.models or key.routes or key.protocols)))

    def address(self, peer: str | None, headers: Sequence[Header]) -> str | None:
        """The client's address; `None`: it cannot be known."""
        return client_address(peer, headers, self.settings.trusted_proxies)


def _unpacked(value: bytes) -> bytes:
    """Of `Basic`: name and password."""
    try:
        return b64decode(value.strip() + b"==")
    except ValueError:
        return b""


def _bare(value: bytes) -> bytes:
    value = value.strip()
    return value[7:].strip() if value[:7].lower() == b"bearer " else value
