"""Providers: what is particular to whom we ask. One file per kind, one line in `KINDS`; `users` for those that know their users by name,
`argo_names` for Argo's names of models.

Enters: a provider's settings; a client's path, query and headers. Leaves: the origin to dial, the request target, the headers that go
upstream, the headers of the answer that go down.

Laws: nothing ever yields `/v1/v1`. Names, values, order and spelling of what passes are the client's own. Where a key is
configured, the client's key never passes, and a login always does; where a user is named (or each client names one), neither does. No key,
of either side, stands in a `repr` or in an error.

Not here: sockets, framing (`content-length`, `transfer-encoding` and `host` are the caller's), which provider is asked (`routing`),
what a body means (`protocols`).
"""

from penstock.providers.anthropic import AnthropicProvider
from penstock.providers.argo_legacy import ArgoLegacyProvider
from penstock.providers.contract import Auth, BadUrl, Header, Kind, Origin, Provider, ProviderSettings
from penstock.providers.credentials import credential, is_login, redact_query
from penstock.providers.gemini import GeminiProvider
from penstock.providers.headers import BUFFERING, REQUEST_IDS, AnswerNames
from penstock.providers.openai import OpenAIProvider

KINDS: dict[Kind, type[Provider]] = {
    "openai": OpenAIProvider, "anthropic": AnthropicProvider, "gemini": GeminiProvider, "argo_legacy": ArgoLegacyProvider,
}


def build(settings: ProviderSettings) -> Provider:
    """The provider that `settings` describe. Raises `BadUrl` where its base URL is none."""
    return KINDS[settings.kind](settings)


__all__ = [
    "BUFFERING", "KINDS", "REQUEST_IDS", "AnswerNames", "ArgoLegacyProvider", "Auth", "BadUrl", "Header", "Kind", "Origin", "Provider",
    "ProviderSettings", "build", "credential", "is_login", "redact_query",
]
