"""Asking the providers of a configuration themselves, without a gateway that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.cli.setup import fail

if TYPE_CHECKING:
    from penstock.config import Config
    from penstock.exchange.probe import Listed
    from penstock.providers import Provider

PATIENCE = 5.0
"""Seconds for each, where the configuration says nothing."""


def ask_providers(config: Config, providers: Sequence[Provider]) -> list[Listed]:
    """What each of `providers` answers to the question for its models. An authority's file that cannot be read is told, with exit code 1."""
    from penstock.app import upstream_settings
    from penstock.exchange.probe import ask_models
    from penstock.upstream.client import Client

    async def ask() -> list[Listed]:
        client = Client(upstream_settings(config))
        try:
            return await ask_models(client, providers, config.connection_test or PATIENCE)
        finally:
            client.close()

    try:
        return asyncio.run(ask())
    except OSError as error:
        fail(str(error))


def build_providers(config: Config, only: Sequence[str] = ()) -> list[Provider]:
    """Those of the configuration, or `only` some; a name that none has is told, with exit code 2."""
    from penstock.providers import build

    known = [provider.name for provider in config.providers]
    unknown = [name for name in only if name not in known]
    if unknown:
        fail(f"there is no provider {', '.join(map(repr, unknown))}; there is {', '.join(known)}", 2)
    return [build(settings) for settings in config.providers if not only or settings.name in only]
