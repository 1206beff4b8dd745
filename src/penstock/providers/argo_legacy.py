"""Argonne's Argo, by its own API: `/api/v1/resource/chat/` and its like. Clients speak OpenAI's protocols to it; `translate` does the rest.

It knows no keys: whoever asks says who they are in the body (`user`), so no credential of a client ever goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.providers.argo_names import Names
from penstock.providers.contract import Provider, ProviderSettings
from penstock.providers.credentials import CREDENTIAL_HEADERS, strip_query
from penstock.providers.headers import Header
from penstock.vocabulary.ids import Operation, ProtocolId

RAW = {"/v1/chat": "chat", "/v1/embed": "embed"}
"""Paths of its own proxy, below which its own bodies pass as they are."""


class ArgoLegacyProvider(Provider):
    kind = "argo_legacy"
    speaks = frozenset({ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES})
    main_protocol = ProtocolId.OPENAI_CHAT
    main_operation = Operation.CHAT
    default_base_url = "https://apps-dev.inside.anl.gov/argoapi"
    default_auth = "bearer"
    version = "v1"
    version_in_base = True
    resources = frozenset[str]()
    lists_to_all = True

    __slots__ = ("names",)

    def __init__(self, settings: ProviderSettings) -> None:
        """Raises `BadUrl`."""
        credentials = tuple(name.decode() for name in CREDENTIAL_HEADERS)
        super().__init__(replace(settings, drop_headers=settings.drop_headers + credentials))
        self.names = Names()
        self._key, self._named = None, False  # the user goes into the body alone

    def resource(self, name: str) -> str:
        """The request target of `chat`, `streamchat` or `embed`. The slash at the end matters: without it, it redirects."""
        return f"{self._base.path}/api/v1/resource/{name}/"

    def target(self, path: str, query: str) -> str:
        """Its list of models stands elsewhere; nothing else of the protocols' paths is asked for as such."""
        if path in ("/v1/models", "/models"):
            return f"{self._base.path}/api/v1/models/"
        return super().target(path, query)

    def headers(self, client_headers: Sequence[Header], query: str) -> tuple[list[Header], str]:
        sent, query = super().headers(client_headers, query)
        return sent, strip_query(query) if query else query

    @property
    def known_models(self) -> tuple[str, ...]:
        """What is listed while it has not been asked, or does not answer."""
        return tuple(Names().aliases)
