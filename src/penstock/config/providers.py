"""The `providers` and `routes` of a file, and the providers that exist without one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from penstock.admission.settings import Mode
from penstock.config.conduct import read_level
from penstock.config.document import Listing, Node, Scalar, Section
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.guards import read_guards
from penstock.config.model import PROTOCOLS, PROVIDER, ROUTE
from penstock.config.modes import Level, check_names
from penstock.config.values import read_base_url, read_header_name, read_header_value, read_secret
from penstock.config.walk import Given, read_fields, section_of, suggest
from penstock.policy.guards import Guard
from penstock.providers import KINDS, Auth, Kind, ProviderSettings
from penstock.providers.credentials import CREDENTIAL_HEADERS
from penstock.routing import RESERVED_NAMES, Glob, Route
from penstock.routing.routes import DEMO
from penstock.vocabulary.ids import ProtocolId
from penstock.wire.secrets import mask_secrets

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KIND_OF: Mapping[str, tuple[Kind, ProtocolId | None]] = {
    "openai": ("openai", None), "anthropic": ("anthropic", None), "gemini": ("gemini", None), "anthropic_messages": ("anthropic", None),
    "openai_chat": ("openai", ProtocolId.OPENAI_CHAT), "openai_responses": ("openai", ProtocolId.OPENAI_RESPONSES),
    "argo_legacy": ("argo_legacy", None),
}
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "accept-encoding", "expect"})
_EXAMPLE = "{protocol: openai, base_url: https://api.example.com/v1}"

# The variables that each maker's own client reads: (name and kind, keys in order of preference, base URL).
_ENVIRONMENT: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    ("openai", ("OPENAI_API_KEY",), "OPENAI_BASE_URL"),
    ("anthropic", ("ANTHROPIC_API_KEY",), "ANTHROPIC_BASE_URL"),
    ("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "GOOGLE_GEMINI_BASE_URL"),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundProvider:
    settings: ProviderSettings
    place: Place
    level: Level
    """What it says of how its exchanges are conducted."""
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundRoute:
    route: Route
    level: Level
    guards: tuple[Guard, ...] = ()
    mode: Mode | None = None
    """Who may use it; `None`: as everywhere."""
    place: Place | None = None


def read_providers(node: Node, place: Place, absolute: Callable[[Path], Path], problems: Problems) -> dict[str, FoundProvider]:
    """The file's providers by name, in its order. One that is wrong is left out, and noted."""
    section = section_of(node, place, problems, f"{{openai: {_EXAMPLE}}}")
    found: dict[str, FoundProvider] = {}
    if section is None:
        return found
    if not section.items:
        problems.add(place, "holds no provider; add one, or leave providers out for OpenAI, Anthropic and Gemini")
    for key, below in section.items:
        here = place.below(mask_secrets(key.text), key.line)
        if key.text == DEMO:
            problems.add(here, "demo is the built-in provider; choose another name")
        elif key.text in RESERVED_NAMES:
            problems.add(here, f"/{key.text} is a path of the gateway's own, so no provider can have this name; choose another one")
        elif not _NAME.match(key.text):
            problems.add(here, "a provider's name is part of its path: letters, digits, '.', '_' and '-', at most 64")
        elif mask_secrets(key.text) != key.text:
            problems.add(here, "looks like a key, and a provider's name is shown everywhere; write the name here and the key into api_key")
        else:
            fields = section_of(below, here, problems, _EXAMPLE)
            provider = _read_provider(key.text, fields, here, absolute, problems) if fields is not None else None
            if provider is not None:
                found[key.text] = provider
    return found


def read_routes(node: Node, place: Place, known: list[str], absolute: Callable[[Path], Path], problems: Problems) -> tuple[FoundRoute, ...]:
    """The file's routes. `known`: every name that a provider has or was meant to have."""
    if not isinstance(node, Listing):
        if not (isinstance(node, Scalar) and node.tag == "null"):
            problems.add(place, "must be a list, like [{model: \"claude-*\", provider: anthropic}]")
        return ()
    routes: list[FoundRoute] = []
    for index, item in enumerate(node.items):
        here = place.below(f"[{index}]", item.line)
        section = section_of(item, here, problems, "{model: \"claude-*\", provider: anthropic}")
        if section is None:
            continue
        given = read_fields(section, ROUTE, here, problems, others=("guards",))
        guards = read_guards(section, here, absolute, problems)
        level = read_level(given, problems)
        named = {key.text for key, _ in section.items}
        for name, example in (("model", "\"gpt-*\""), ("provider", known[0] if known else "openai")):
            if name not in named:
                problems.add(here, f"has no {name}; add one, like {name}: {example}")
        provider = _value(given, "provider", str)
        if provider is not None and provider not in known and provider != DEMO:
            problems.add(given["provider"].place, f"there is no provider {given['provider'].shown}; {suggest(provider, known)}")
        model = _value(given, "model", Glob)
        if provider is not None and model is not None:
            mode = _value(given, "admission", str)
            route = Route(model, provider, _value(given, "rename", str))
            routes.append(FoundRoute(route, level, guards, Mode(mode) if mode is not None else None, here))
    return tuple(routes)


def from_environment(
    environ: Mapping[str, str], is_own: Callable[[str], str | None], problems: Problems
) -> tuple[tuple[ProviderSettings, ...], list[str]]:
    """OpenAI, Anthropic and Gemini, with the keys and base URLs that the environment has, and notes for people.

    `is_own(base_url)` names our own listener that a URL points at. People export these variables so that their clients find us; such
    a one cannot also say where the provider is, so it is passed over.
    """
    found: list[ProviderSettings] = []
    notes: list[str] = []
    for kind, keys, url_variable in _ENVIRONMENT:
        base_url = environ.get(url_variable, "").strip() or KINDS[kind].default_base_url
        if url_variable in environ and (own := is_own(base_url)) is not None:
            base_url = KINDS[kind].default_base_url
            notes.append(f"{url_variable} points at this gateway itself ({own}), which is right for its clients; here {base_url} is asked instead")
        try:
            read_base_url(Scalar(base_url, "str"))
        except Unfit as error:
            problems.add(Place("environment", None, url_variable), str(error))
            continue
        found.append(ProviderSettings(name=kind, kind=kind, base_url=base_url, api_key=_environment_key(environ, keys, problems)))
    return tuple(found), notes


def _environment_key(environ: Mapping[str, str], variables: tuple[str, ...], problems: Problems) -> str | None:
    for variable in variables:
        if environ.get(variable, "").strip():
            try:
                return read_secret(Scalar(environ[variable], "str"))
            except Unfit as error:
                problems.add(Place("environment", None, variable), str(error))
    return None


def _read_provider(name: str, section: Section, place: Place, absolute: Callable[[Path], Path], problems: Problems) -> FoundProvider | None:
    given = read_fields(section, PROVIDER, place, problems, others=("headers", "guards"))
    guards = read_guards(section, place, absolute, problems)
    stated = {key.text for key, _ in section.items}
    before = len(problems.found)
    level = read_level(given, problems)
    protocol = _value(given, "protocol", str)
    if "protocol" not in stated:
        if name in KINDS:
            protocol = name
        else:
            problems.add(place, f"has no protocol; add one of {', '.join(PROTOCOLS)}")
    auth = _value(given, "auth", str)
    if "api_key" in stated and "api_key_file" in stated:
        problems.add(place, "has both api_key and api_key_file; keep one")
    key = _value(given, "api_key", str) or _key_from_file(given, absolute, problems)
    _check_user(given, stated, place, problems)
    if auth is not None and not stated & {"api_key", "api_key_file", "user", "user_from"}:
        problems.add(given["auth"].place, "says how a key is sent, but there is none; add api_key, or leave auth out")
    if protocol == "argo_legacy":
        _check_argo(given, stated, place, problems)
    headers = next((_headers(node, place.below("headers", key.line), problems) for key, node in section.items if key.text == "headers"), ())
    if protocol is not None:
        check_names(given, problems, anthropic=_KIND_OF[protocol][0] == "anthropic")
    if protocol is None or len(problems.found) > before:
        return None
    kind, restricted = _KIND_OF[protocol]
    for name_of_key in ("user", "user_from", "model_names", "notices"):
        if name_of_key in given and kind == "gemini":
            problems.add(given[name_of_key].place, "is not for Gemini's protocol; leave it out")
            return None
    settings = ProviderSettings(
        name=name,
        kind=kind,
        base_url=_value(given, "base_url", str) or KINDS[kind].default_base_url,
        api_key=key,
        auth=cast("Auth | None", auth),
        ask_usage=_value(given, "ask_usage", bool) is not False,
        protocols=frozenset({restricted}) if restricted is not None else None,
        headers=headers,
        drop_headers=cast("tuple[str, ...]", _value(given, "drop_headers", tuple) or ()),
        user=_value(given, "user", str),
        user_from_key=_value(given, "user_from", str) is not None,
        argo_names=_value(given, "model_names", str) == "argo",
        notices=cast("tuple[str, ...]", _value(given, "notices", tuple) or ()),
        real_stream=_value(given, "real_stream", bool),
    )
    return FoundProvider(settings, place, level, guards)


def _check_user(given: Mapping[str, Given], stated: set[str], place: Place, problems: Problems) -> None:
    if "user_from" not in given:
        return
    if "user" in stated:
        problems.add(place, "has both user and user_from; keep one: either all requests have one user, or each client names its own")
    for key in sorted(stated & {"api_key", "api_key_file"}):
        problems.add(given[key].place if key in given else place,
                     "would be sent in the place of the client's key, which user_from asks for; keep one of the two")


def _check_argo(given: Mapping[str, Given], stated: set[str], place: Place, problems: Problems) -> None:
    if not stated & {"user", "user_from"}:
        problems.add(place, "has no user; add one, like user: NAME, or user_from: api_key: legacy Argo asks who it is, and knows no keys")
    if _value(given, "user", str) == "cels":  # as its own proxy does it
        problems.add(given["user"].place, "'cels' is nobody's name at Argo; write your own")
    for name in ("api_key", "api_key_file", "auth"):
        if name in stated:
            problems.add(place.below(name), "legacy Argo knows no keys; leave it out, and say who asks by user")


def _key_from_file(given: Mapping[str, Given], absolute: Callable[[Path], Path], problems: Problems) -> str | None:
    path = _value(given, "api_key_file", Path)
    if path is None:
        return None
    place = given["api_key_file"].place
    try:
        return read_secret(Scalar(absolute(path).read_text(encoding="utf-8"), "str"))
    except OSError as error:
        problems.add(place, f"cannot be read: {error.strerror or type(error).__name__}; write the path of a file that holds the key and nothing else")
    except UnicodeDecodeError:
        problems.add(place, "names a file that holds no text; it must hold the key and nothing else")
    except Unfit as error:
        problems.add(place, f"the key in this file {error}")
    return None


def _headers(node: Node, place: Place, problems: Problems) -> tuple[tuple[str, str], ...]:
    section = section_of(node, place, problems, "{OpenAI-Organization: org-123}")
    headers: list[tuple[str, str]] = []
    for key, value in section.items if section is not None else ():
        here = place.below(mask_secrets(key.text), key.line)
        if not isinstance(value, Scalar):
            problems.add(here, "must be one value")
            continue
        try:
            low = read_header_name(Scalar(key.text, "str"))
            if low.encode() in CREDENTIAL_HEADERS:
                raise Unfit("carries a credential; put it into api_key, and how it is sent into auth")
            if low in _FRAMING:
                raise Unfit("is the gateway's own to set; leave it out")
            headers.append((key.text, read_header_value(value)))
        except Unfit as error:
            problems.add(here, str(error))
    return tuple(headers)


def _value(given: Mapping[str, Given], name: str, kind: type[T]) -> T | None:
    found = given.get(name)
    return found.value if found is not None and isinstance(found.value, kind) else None
