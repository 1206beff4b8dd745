"""`legacy_argo` and `real_stream`: the two switches of argo-proxy that are about the gateway's own API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.config.argo_text import NOTICES
from penstock.config.conduct import Level
from penstock.config.document import Scalar
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.values import read_base_url, read_user
from penstock.providers import ArgoLegacyProvider, ProviderSettings

USER, BASE_URL = "ARGO_USER", "ARGO_BASE_URL"
"""The variables that say who asks, and where, in the place of a provider."""
_KIND = "argo_legacy"
Found = tuple[ProviderSettings, Level]


def alone(found: Sequence[Found], environ: Mapping[str, str], place: Place, problems: Problems) -> list[Found]:
    """The one provider that takes everything: the first `argo_legacy` of the file, else the one of the environment."""
    configured = next((one for one in found if one[0].kind == _KIND), None)
    if configured is not None:
        return [configured]
    user, base_url = environ.get(USER, "").strip(), environ.get(BASE_URL, "").strip() or ArgoLegacyProvider.default_base_url
    if not user:
        problems.add(place, f"there is no argo_legacy provider; add one, like argo: {{protocol: argo_legacy, user: NAME}}, or set {USER}")
        return []
    try:
        settings = ProviderSettings(
            "argo", _KIND, read_base_url(Scalar(base_url, "str")), user=read_user(Scalar(user, "str")), notices=NOTICES)
    except Unfit as error:
        problems.add(Place("environment", None, f"{USER}, {BASE_URL}"), str(error))
        return []
    return [(settings, {})]


def streaming(settings: ProviderSettings, real_stream: bool | None) -> ProviderSettings:
    """`real_stream` as the command line, the environment or the top of the file says it: that beats what a provider says."""
    if settings.kind != _KIND or real_stream is None:
        return settings
    return replace(settings, real_stream=real_stream)


def idle(found: Iterable[ProviderSettings]) -> list[str]:
    """Notes where a provider's `real_stream` says something that nobody hears; `modes.unheard_words` looks at the others."""
    others = [settings.name for settings in found if settings.real_stream is not None and settings.kind != _KIND]
    return [f"providers.{name}.real_stream has no effect: it is legacy Argo's; pseudo_stream is what other providers have" for name in others]
