"""What a provider in a file may say, and hardly anybody means: a variable as other programs write it in the place of a key, a whole endpoint
in the place of a base URL. Both are taken as they stand, and told in a note, for the provider would only say 401 or 404 to every request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from penstock.config.providers import FoundProvider
from penstock.providers.urls import parse_base

_VARIABLE = re.compile(r"(?:\$\(?|\$?env:|os\.environ/)[A-Z_][A-Z0-9_]*\)?\Z|%[A-Z_][A-Z0-9_]*%\Z")
_ENDPOINT = re.compile(r"/(?:(?:chat/)?completions|responses|messages|embeddings)\Z")


def slips(found: Iterable[FoundProvider]) -> list[str]:
    """A sentence for each. None repeats a key or a URL."""
    notes: list[str] = []
    for provider in found:
        settings = provider.settings
        if settings.api_key is not None and _VARIABLE.match(settings.api_key):
            notes.append(f"{provider.place.below('api_key')}: looks like a variable's name, and is sent as it stands; write \"${{NAME}}\"")
        endpoint = _ENDPOINT.search(parse_base(settings.base_url).path)
        if endpoint is not None:
            notes.append(f"{provider.place.below('base_url')}: ends with {endpoint[0]}, and a request's path comes behind it; "
                         f"leave {endpoint[0]} out, unless the provider has it twice")
    return notes
