"""What admission must be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from penstock.admission.address import Network
from penstock.admission.budget.spec import Budget
from penstock.admission.issuers import Issuer
from penstock.admission.limits.spec import Limit
from penstock.admission.rules import Rule


class Mode(StrEnum):
    STRICT = "strict"
    """Everybody shows a good credential."""
    OPTIONAL = "optional"
    """Who shows one shows a good one; who shows none is anonymous."""
    PERMISSIVE = "permissive"
    """Nobody is refused for a credential; who shows a good one is known by it."""


MODES: tuple[str, ...] = tuple(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    mode: Mode | None = None
    """`None`: strict as soon as there is a key or an issuer, else open."""
    open: bool = False
    """Somebody said in words that everybody may enter who can connect."""
    keys_secret: str | None = field(default=None, repr=False)
    """Under which keys are sealed; `None`: one that is made and kept in the data directory."""
    trusted_proxies: tuple[Network, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    rules: tuple[Rule, ...] = ()
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    route_modes: tuple[Mode | None, ...] = ()
    """In the order of the routes; `None`: as everywhere."""

    @property
    def says_nothing(self) -> bool:
        """Nothing is to be decided, unless there are keys."""
        return not (self.mode or self.issuers or self.rules or self.limits or self.budgets or any(self.route_modes))
