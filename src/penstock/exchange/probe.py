"""Each provider asked once for its models: what it lists, and whether it can be reached at all. It costs nothing, and nobody's request
waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.exchange.models_fetch import Asker, FetchError, fetch, list_request
from penstock.exchange.models_shape import BadListing, parse
from penstock.providers import ArgoLegacyProvider, Provider
from penstock.providers.argo_names import BadNames, Named, read_directory

_WITHOUT_LIST = frozenset({404, 405, 501})
"""What servers say that have no list of models and are well otherwise."""
_NO_LIST = "the answer is no list of models"


@dataclass(frozen=True, slots=True)
class Listed:
    """What one provider answered."""

    provider: str
    models: tuple[Named, ...] | None
    """`None`: there is no list, and `failure` says why."""
    failure: str = ""
    """One clause for people, without addresses and secrets."""
    status: int | None = None
    """Of an answer that was no list."""


class Finding(NamedTuple):
    """Whether a provider is well, and why not, or what it answered."""

    well: bool
    told: str


async def ask_models(client: Asker, providers: Sequence[Provider], limit: float) -> list[Listed]:
    """What each lists, in their order, all being asked at the same time. `limit`: seconds for each. Never raises for what providers do."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_ask(client, provider, limit), name=f"penstock-probe-{provider.name}") for provider in providers]
    return [task.result() for task in asked]


def judge(listed: Listed, provider: Provider) -> Finding:
    """Is it well, as far as that answer tells?"""
    if listed.models is not None:
        count = len(listed.models)
        return Finding(True, f"answers, and lists {count} model{'' if count == 1 else 's'}")
    if listed.status in _WITHOUT_LIST:
        return Finding(True, f"answers, though not with a list of models ({listed.status})")
    if listed.status in (401, 403):
        if not provider.has_key:
            return Finding(True, f"answers, and wants a key ({listed.status}), which each client brings")
        return Finding(False, f"does not take the {'key' if provider.settings.api_key is not None else 'user'} ({listed.status})")
    if listed.failure == _NO_LIST:
        return Finding(False, f"{_NO_LIST}; is the base URL right?")
    return Finding(False, listed.failure)


async def _ask(client: Asker, provider: Provider, limit: float) -> Listed:
    try:
        async with asyncio.timeout(limit):
            body = await fetch(client, provider.origin, list_request(provider, [], ""))
        if provider.settings.argo_names or isinstance(provider, ArgoLegacyProvider):
            directory = read_directory(body)
            if isinstance(provider, ArgoLegacyProvider):
                provider.names.learn(directory)  # it looks names up without asking
            return Listed(provider.name, tuple(directory.models()))
        return Listed(provider.name, tuple(Named(model.id, ()) for model in parse(provider.kind, provider.name, body)))
    except TimeoutError:
        return Listed(provider.name, None, f"no answer within {limit:g} s")
    except FetchError as error:
        return Listed(provider.name, None, str(error), error.status)
    except (BadListing, BadNames):
        return Listed(provider.name, None, _NO_LIST)
