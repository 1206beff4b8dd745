"""Who asks, once that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.admission.keys import VirtualKey


class Kind(StrEnum):
    ANONYMOUS = "anonymous"
    KEY = "key"
    JWT = "jwt"
    TOKEN = "token"
    """The one token of the whole gateway."""


class By(StrEnum):
    """By what kind of thing somebody is refused, or an answer is cut."""

    MODE = "mode"
    """No credential was shown where one is asked for."""
    TOKEN = "token"
    """The one token of the whole gateway was not."""
    KEY = "key"
    """The key is not good, or is not for this."""
    JWT = "jwt"
    RULE = "rule"
    LIMIT = "limit"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Subject:
    kind: Kind
    key: VirtualKey | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of a token that was verified."""
    user: str | None = None
    project: str | None = None
    limits_key: str | None = None
    """What a token's issuer names as that by which limits are kept."""
    until: float = inf
    """Seconds since the epoch: then it has to be looked at again."""
    fingerprint: str | None = None
    """Of the credential, for the ledger; `None`: as the ledger finds it."""

    @property
    def shown(self) -> str:
        """For causes and logs: no secret."""
        if self.key is not None:
            return f"key {self.key.id}"
        return f"user {self.user}" if self.user else self.kind.value


ANONYMOUS = Subject(Kind.ANONYMOUS)
BEARER = Subject(Kind.TOKEN)
