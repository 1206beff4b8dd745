"""Virtual keys in the database: made, listed, rotated, revoked, taken over from others. Blocking: call it off the loop.

A key's own text exists only in the answer of `create` and `rotate`; what is kept cannot be turned back into it (`admission.keys`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from penstock.admission.budget.spec import BadBudget, budgets_of, spell_budget
from penstock.admission.keys import PREFIX, Ring, VirtualKey, hash_of, mark_of, seal
from penstock.admission.limits.spec import BadLimit, limits_of, spell_limit
from penstock.stores.errors import KeyProblem, StoreError
from penstock.stores.schema import virtual_keys as table
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.moments import LAST

T = TypeVar("T")
log = logging.getLogger("penstock.admission")

SECRET_FILE = "keys.secret"
"""The file of the data directory that holds the secret under which keys are sealed, where the configuration names none."""
_SHORTEST = 4
"""Characters of an id's beginning that are enough to name it."""


class _Details(msgspec.Struct, omit_defaults=True):
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    first_seal: str | None = None
    """Of a key that was rotated: its first text may have been made elsewhere, where nothing in its form says that it is ours."""


class Keys:
    """The keys of one database, sealed under one secret. Every change is one transaction; all methods raise `StoreError`, and `KeyProblem` where
    what is asked cannot be done."""

    def __init__(self, engine: sa.Engine, secret: bytes, reader: sa.Engine | None = None) -> None:
        """`reader`: an engine for reading, which takes no lock; left out: the same."""
        self._engine = engine
        self._reader = reader or engine
        self._secret = secret
        self._mark = mark_of(secret)

    def create(self, wanted: VirtualKey) -> tuple[VirtualKey, str]:
        """`wanted` without its id and fingerprint, which are made. The key itself stands in the answer and nowhere else."""
        text = PREFIX + secrets.token_urlsafe(32)
        return self._add(wanted, hash_of(text.encode())), text

    def adopt(self, wanted: VirtualKey, sha: bytes) -> VirtualKey:
        """Take over the SHA-256 of a key that was made elsewhere: its holder goes on using it."""
        if len(sha) != 32:
            raise KeyProblem("a SHA-256 has 32 bytes: 64 hexadecimal digits")
        return self._add(wanted, sha)

    def _add(self, wanted: VirtualKey, sha: bytes) -> VirtualKey:
        if not wanted.name.strip():
            raise KeyProblem("a key needs a name")
        key = replace(wanted, id="key_" + secrets.token_hex(6), fingerprint=sha.hex()[:12])

        def act(connection: sa.Connection) -> None:
            sealed = seal(sha, self._secret).hex()
            connection.execute(sa.insert(table).values(**_row(key), seal=sealed, secret_mark=self._mark, change=_next(connection)))

        try:
            self._do(act)
        except IntegrityError:
            raise KeyProblem("this key is there already") from None
        return key

    def rotate(self, id: str, now: float, grace: float) -> tuple[VirtualKey, str]:
        """A new text for a key; the old one is taken for `grace` seconds more."""
        text = PREFIX + secrets.token_urlsafe(32)
        sha = hash_of(text.encode())

        def act(connection: sa.Connection) -> VirtualKey:
            row = _find(connection, id)
            if row["revoked_at"] is not None:
                raise KeyProblem(f"{row['id']} is revoked; make a new key")
            details = _details(row)
            details.first_seal = details.first_seal or row["previous_seal"] or row["seal"]
            changed: dict[str, Any] = {
                "seal": seal(sha, self._secret).hex(), "fingerprint": sha.hex()[:12], "secret_mark": self._mark, "change": _next(connection),
                "previous_seal": row["seal"], "previous_until": now + grace, "details": msgspec.json.encode(details).decode(),
            }  # fmt: skip
            connection.execute(sa.update(table).where(table.c.id == row["id"]).values(**changed))
            return _key({**row, **changed})

        return self._do(act), text

    def revoke(self, id: str, now: float) -> VirtualKey:
        """At once and for ever; a key that is revoked already stays as it is."""

        def act(connection: sa.Connection) -> VirtualKey:
            row = _find(connection, id)
            if row["revoked_at"] is None:
                row["revoked_at"] = now
                connection.execute(sa.update(table).where(table.c.id == row["id"]).values(revoked_at=now, change=_next(connection)))
            return _key_or_none_of_it(row)

        return self._do(act)

    def all(self) -> list[VirtualKey]:
        """The newest last; of one that cannot be read nothing but its columns, and it is revoked."""
        ordered = sa.select(table).order_by(table.c.created_at, table.c.change)
        return self._read(lambda connection: [_key_or_none_of_it(dict(row)) for row in connection.execute(ordered).mappings()])

    def change(self) -> int:
        """Another number whenever a key has changed. The sum: of two that change at the same time neither sees the other's number."""
        return self._read(lambda connection: int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(table.c.change), 0))) or 0))

    def ring(self) -> tuple[Ring, int, int]:
        """All keys as the door takes them, the number of `change`, and how many keys are sealed under another secret: those cannot be recognised,
        but that there are keys is so. One that cannot be read lets nobody in, and keeps no other from being read."""

        def act(connection: sa.Connection) -> tuple[Ring, int, int]:
            rows = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            ours = [(row, _key_or_none_of_it(row)) for row in rows if row["secret_mark"] == self._mark]
            current = [(_bytes(row["seal"]), key) for row, key in ours]
            first = {_bytes(sealed): replace(key, previous_until=None) for row, key in ours if (sealed := _first_seal(row))}
            previous = first | {_bytes(row["previous_seal"]): key for row, key in ours if row["previous_seal"]}
            foreign = len(rows) - len(ours)
            return Ring(self._secret, current, previous, foreign), sum(row["change"] for row in rows), foreign

        return self._read(act)

    def _read(self, act: Callable[[sa.Connection], T]) -> T:
        return self._do(act, self._reader)

    def _do(self, act: Callable[[sa.Connection], T], engine: sa.Engine | None = None) -> T:
        try:
            with (engine or self._engine).begin() as connection:
                return act(connection)
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            why = str(getattr(error, "orig", None) or type(error).__name__)
            raise StoreError(f"the keys cannot be had: {' '.join(why.split())[:300]}") from error


def _next(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.max(table.c.change), 0))) or 0) + 1


def _find(connection: sa.Connection, id: str) -> dict[str, Any]:
    """By its id, its beginning, or its name; locked, so that `_next` is beyond its number. Raises `KeyProblem`."""
    named = (table.c.id == id) | (table.c.name == id)
    if len(id) >= _SHORTEST + len("key_"):
        named |= table.c.id.startswith(id.lower(), autoescape=True)  # as ids are: only SQLite's LIKE takes either case
    found = [dict(row) for row in connection.execute(sa.select(table).where(named).with_for_update()).mappings()]
    if len(found) > 1:
        living = [row for row in found if row["revoked_at"] is None]
        found = living if len(living) == 1 else found
    if len(found) != 1:
        raise KeyProblem(f"there is no key {id}" if not found else f"{len(found)} keys are called {id}; name one by its id")
    return found[0]


def _row(key: VirtualKey) -> dict[str, Any]:
    details = _Details(
        key.tags, key.models, key.routes, key.protocols, tuple(map(spell_limit, key.limits)), tuple(map(spell_budget, key.budgets)))
    return {
        "id": key.id, "fingerprint": key.fingerprint, "name": key.name, "owner": key.owner, "project": key.project, "created_at": key.created_at,
        "expires_at": key.expires_at, "revoked_at": key.revoked_at, "details": msgspec.json.encode(details).decode(),
    }  # fmt: skip


def _bytes(sealed: str) -> bytes:
    """Of what is no seal, those that no key has."""
    try:
        return bytes.fromhex(sealed)
    except ValueError:
        return sealed.encode()


def _details(row: Mapping[str, Any]) -> _Details:
    try:
        return msgspec.json.decode(row["details"], type=_Details)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"key {row['id']} in the database cannot be read: {error}") from error


def _first_seal(row: Mapping[str, Any]) -> str | None:
    try:
        return _details(row).first_seal
    except StoreError:
        return None


def _key_or_none_of_it(row: Mapping[str, Any]) -> VirtualKey:
    """A key that cannot be read is still seen to be ours, and is good for nothing."""
    try:
        return _key(row)
    except StoreError as error:
        log.warning("%s; it lets nobody in", error)
        since = row["revoked_at"] if row["revoked_at"] is not None else row["created_at"]
        return VirtualKey(row["id"], row["name"], row["fingerprint"], row["created_at"], row["owner"], row["project"], revoked_at=since)


def _key(row: Mapping[str, Any]) -> VirtualKey:
    details = _details(row)
    try:
        limits, budgets = limits_of(details.limits), budgets_of(details.budgets)
    except (BadLimit, BadBudget) as error:
        raise StoreError(f"key {row['id']} in the database cannot be read: {error}") from error
    return VirtualKey(
        id=row["id"], name=row["name"], fingerprint=row["fingerprint"], created_at=row["created_at"], owner=row["owner"], project=row["project"],
        tags=details.tags, expires_at=row["expires_at"], revoked_at=row["revoked_at"], models=details.models, routes=details.routes,
        protocols=details.protocols, limits=limits, budgets=budgets, previous_until=row["previous_until"],
    )  # fmt: skip


def shown(key: VirtualKey) -> dict[str, Any]:
    """A key for people and programs: nothing of its text."""
    return {
        "id": key.id, "name": key.name, "fingerprint": key.fingerprint, "owner": key.owner, "project": key.project, "tags": list(key.tags),
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at, "models": list(key.models),
        "routes": list(key.routes), "protocols": list(key.protocols), "limits": [spell_limit(limit) for limit in key.limits],
        "budgets": [spell_budget(budget) for budget in key.budgets], "previous_until": key.previous_until,
    }  # fmt: skip


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A key as it is asked for, by a program."""

    name: str
    owner: str | None = None
    project: str | None = None
    tags: Sequence[str] = ()
    expires_at: float | None = None
    models: Sequence[str] = ()
    routes: Sequence[str] = ()
    protocols: Sequence[str] = ()
    limits: Sequence[str] = ()
    budgets: Sequence[str] = ()

    def key(self, now: float) -> VirtualKey:
        """Raises `KeyProblem`."""
        try:
            limits, budgets = limits_of(self.limits), budgets_of(self.budgets)
        except (BadLimit, BadBudget) as error:
            raise KeyProblem(str(error)) from None
        unknown = [name for name in self.protocols if name not in set(ProtocolId)]
        if unknown:
            raise KeyProblem(f"there is no protocol {', '.join(unknown)}; there is {', '.join(ProtocolId)}")
        if self.expires_at is not None and self.expires_at <= now:
            raise KeyProblem("it would have expired already")
        if self.expires_at is not None and self.expires_at > LAST:
            raise KeyProblem("expires_at is in seconds since 1970, up to the year 9999; leave it out for a key that does not expire")
        return VirtualKey(
            id="", name=self.name, fingerprint="", created_at=now, owner=self.owner, project=self.project, tags=tuple(self.tags),
            expires_at=self.expires_at, models=tuple(self.models), routes=tuple(self.routes), protocols=tuple(self.protocols), limits=limits,
            budgets=budgets,
        )  # fmt: skip
