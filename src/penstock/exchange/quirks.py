"""What single providers want besides, switched on by their settings: a user in the body, their own names of models, notices that are no
answers. Whoever wants none of it is not here (`Gateway.quirks`), and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from penstock.exchange.legacy import serves
from penstock.exchange.models_fetch import Asker
from penstock.exchange.names import LegacyNames, Names, Refused
from penstock.exchange.notice import Gate, Openings, Told
from penstock.exchange.plan import Plan
from penstock.protocols.contract import ProtocolSpec
from penstock.providers import ArgoLegacyProvider, Provider
from penstock.providers.users import Unnameable, names_user, put_user
from penstock.upstream.contract import Receiver
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation

_OWN_WORDS = "argo_legacy"
"""The kind whose requests are made anew (`legacy`), users and names of models with them."""


class Quirks:
    """Of one provider."""

    __slots__ = ("_openings", "_provider", "names")

    def __init__(self, provider: Provider, names: Names | None) -> None:
        self._provider = provider
        self.names = names
        """Where its names of models are looked up; `None`: they are not."""
        settings = provider.settings
        self._openings = Openings(settings.notices) if settings.notices else None

    def name_user(self, plan: Plan, body: bytes | None) -> bytes | None:
        """`body` with the user in it. Raises `Refused`: 401 where the client has to name one and does not, 400 where there is no place for it."""
        settings, operation = self._provider.settings, plan.endpoint.operation
        if (settings.user is None and not settings.user_from_key) or settings.kind == _OWN_WORDS:
            return body
        user = self.user(plan)
        if user is None:
            message = f"Provider {self._provider.name!r} takes your user name as the API key, and this request has none that can be one."
            raise Refused(Fault(FaultKind.UNAUTHENTICATED, 401, message), "no user is named in the place of a key")
        if not body or not names_user(operation):
            return body
        try:
            return put_user(operation, body, user)
        except Unnameable as error:
            raise Refused(Fault(FaultKind.BAD_REQUEST, 400, str(error)), str(error)) from None

    def looks_up(self, plan: Plan) -> bool:
        """Are names of models looked up for these requests? Not where legacy Argo gets what a path names below it as it came."""
        provider = self._provider
        return self.names is not None and (not isinstance(provider, ArgoLegacyProvider) or serves(provider, plan))

    def user(self, plan: Plan) -> str | None:
        return self._provider.user(plan.headers, plan.query)

    def guard(self, receiver: Receiver, spec: ProtocolSpec, operation: Operation, told: Told) -> Gate | None:
        """What stands between the provider and `receiver`; `None`: nothing."""
        return None if self._openings is None else Gate(receiver, self._openings, spec, operation, told)

    async def close(self) -> None:
        if self.names is not None:
            await self.names.close()


def find_quirks(client: Asker, providers: Mapping[str, Provider], clock: Callable[[], float]) -> dict[str, Quirks]:
    """Those of `providers` that have any."""
    found: dict[str, Quirks] = {}
    for name, provider in providers.items():
        settings = provider.settings
        names = settings.argo_names and settings.kind != _OWN_WORDS
        named = (settings.user is not None or settings.user_from_key) and settings.kind != _OWN_WORDS
        if isinstance(provider, ArgoLegacyProvider):
            found[name] = Quirks(provider, LegacyNames(client, provider, clock))
        elif named or names or settings.notices:
            found[name] = Quirks(provider, Names(client, provider, clock) if names else None)
    return found
