"""What is known of one request when it is decided upon: the fields that rules ask for and that limits and budgets are kept by.

A field has no value (an empty tuple), one, or several: tags, a claim that is a list. A value that is there and cannot be read raises
`Unreadable`: whoever decides by it has to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, cast

from penstock.admission.subject import Subject

FIELDS: tuple[str, ...] = (
    "kind", "user", "project", "limits_key", "key", "key.name", "key.owner", "key.project", "key.tag", "model", "route", "provider", "protocol",
    "operation", "address",
)  # fmt: skip
"""Besides `header.NAME` and `claim.NAME` (`claim.realm.roles` goes into an object). `key` is the key's id, `kind` one of `anonymous`, `key`,
`jwt`, `token`, `model` the client's word for it, `route` the model pattern of the route."""
SETTLED: frozenset[str] = frozenset()
PREFIXES: tuple[str, ...] = ("header.", "claim.")
Values = tuple[str, ...]
NONE: Values = ()
_LONGEST = 256
_SHOWN = 64
"""Characters of a value by which counts are kept; of a longer one as many as this, and its digest."""
_SECRET = re.compile(r"header\..*(auth|key|token|secret|cookie|password|credential)")
"""Headers whose values may be credentials, by their names: counts are kept by digests of these."""


class BadField(ValueError):
    """There is no such field. Its text is a sentence for whoever wrote it."""


class Unreadable(Exception):
    """A value is there, and it is none that can be compared."""


def check_field(name: str) -> str:
    """`name` as it is looked up. Raises `BadField`."""
    prefix = name.partition(".")[0].lower() + "."
    if prefix in PREFIXES and len(name) > len(prefix):
        return name.lower() if prefix == "header." else name
    if name not in FIELDS:
        raise BadField(f"there is no {name!r}; there is {', '.join(FIELDS)}, header.NAME and claim.NAME")
    return name


class Unsettled(Exception):
    """It may be any: what is asked for is a list, of which each entry is decided upon by itself."""


class Facts:
    """Of one request. What costs something to find out is found out when it is asked for."""

    __slots__ = ("_address_of", "_headers", "model", "operation", "protocol", "provider", "route", "subject", "unread", "unsettled")

    def __init__(
        self, subject: Subject, protocol: str, operation: str, model: str | None, route: str | None, provider: str | None,
        headers: Sequence[tuple[bytes, bytes]], address_of: Callable[[], str | None], *, unread: bool = False,
    ) -> None:  # fmt: skip
        """`address_of`: the client's address, found out when it is asked for; `None`: it cannot be known. `unread`: there is a model, in a body that
        was not read."""
        self.subject = subject
        self.protocol = protocol
        self.operation = operation
        self.model = model
        self.route = route
        self.provider = provider
        self._headers = headers
        self._address_of = address_of
        self.unread = unread
        self.unsettled: frozenset[str] = SETTLED
        """The fields that are, while it is decided upon a list."""

    def get(self, field: str) -> Values:
        """Raises `Unreadable`, and `Unsettled`."""
        if field.startswith("header."):
            return self._header(field[7:])
        if field.startswith("claim."):
            return claim_values(self.subject.claims, field[6:])
        subject, key = self.subject, self.subject.key
        if field in self.unsettled:
            raise Unsettled
        match field:
            case "kind":
                return (subject.kind.value,)
            case "user":
                return _one(subject.user)
            case "project" | "key.project":
                return _one(subject.project if field == "project" else key.project if key is not None else None)
            case "limits_key":
                return _one(subject.limits_key)
            case "key":
                return _one(key.id if key is not None else None)
            case "key.name":
                return _one(key.name if key is not None else None)
            case "key.owner":
                return _one(key.owner if key is not None else None)
            case "key.tag":
                return key.tags if key is not None else NONE
            case "model":
                if self.unread:
                    raise Unreadable("the model")
                return _one(self.model)
            case "route":
                return _one(self.route)
            case "provider":
                return _one(self.provider)
            case "protocol":
                return (self.protocol,)
            case "operation":
                return (self.operation,)
            case "address":
                address = self._address_of()
                if address is None:
                    raise Unreadable("the client's address")
                return (address,)
            case _:
                raise Unreadable(field)

    def kept_by(self, fields: Sequence[str]) -> Values:
        """The values by which a count is kept; of a field without a value, or with one that cannot be read, the empty text. None is long: clients
        choose some of them. And none is a secret: budgets lie in the database, and are shown."""
        found: list[str] = []
        for field in fields:
            try:
                text = ",".join(self.get(field))
            except Unreadable:
                text = ""
            secret = field.startswith("header.") and _SECRET.match(field)
            if text and (len(text) > _LONGEST or secret):
                shown = "sha256" if secret else f"{text[:_SHOWN]}..."
                text = f"{shown} {sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
            found.append(text)
        return tuple(found)

    def _header(self, name: str) -> Values:
        wanted = name.encode("latin-1", "replace")
        values = {value for key, value in self._headers if key.lower() == wanted}
        if len(values) > 1:
            raise Unreadable(f"header {name} stands there with several values")
        return tuple(value.decode("latin-1").strip() for value in values)


def claim_values(claims: Mapping[str, Any], path: str) -> Values:
    """Of a claim whose name is `path`, or that lies at `path` inside of objects. Raises `Unreadable` for what is neither text, number nor truth,
    nor a list of those."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            if not isinstance(found, dict):
                return NONE
            found = cast("dict[str, Any]", found).get(part)
    if found is None:
        return NONE
    items: list[Any] = cast("list[Any]", found) if isinstance(found, list) else [found]
    return tuple(_text(item, path) for item in items)


def _text(value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise Unreadable(f"claim {path} is no text and no list of texts")


def _one(value: str | None) -> Values:
    return NONE if value is None else (value,)
