"""A configuration without its secrets, for others to read: the file as it was written, and the settings that it came to.

What is secret is told by its key, by what it looks like, and by being the value of a secret that this process knows: each alone is enough.
Comments are not kept (they may hold an old key); `${NAME}` is, for it is only a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from penstock.policy.guards import Guards
from penstock.pricing import Rates
from penstock.pricing.own import EVERYTHING
from penstock.routing import Glob
from penstock.wire.secrets import MASK, mask_secrets

if TYPE_CHECKING:
    from penstock.config import Config

_SECRET_KEY = re.compile(
    r"(?:^|[^a-z])(?:api_?)?(?:key|token|secret|password|passwd|credentials?|authorization|cookie)(?![a-z])(?!.*_file$)", re.IGNORECASE)
_SECRET_PLACES = frozenset({"headers", "jwks", "patterns", "words"})
"""Mappings and lists of which every value is taken out: a header may be a key, a set of keys may hold a shared one, a pattern may spell one, and
what a guard keeps from strangers is not for them."""
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_URL_USER = re.compile(r"(?<=://)[^\s/@]*@")
_URL_QUERY = re.compile(r"(?<=\?)\S*")
_MOST_NODES = 20_000
"""Of a file, as in the configuration itself."""
_SHORTEST = 6
"""Characters: a shorter value is no secret that could be told from a word."""


def redact_document(text: str) -> str:
    """The YAML of a configuration's file, without secrets and comments. Raises `ValueError` where it cannot be read."""
    import yaml

    try:
        root = yaml.SafeLoader(text).get_single_node()
        document = _plainly(root, [_MOST_NODES]) if root is not None else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"the file is not valid YAML ({type(error).__name__})") from None  # an error quotes the line
    return yaml.safe_dump(_redact(document), sort_keys=False, allow_unicode=True, width=140)


def _plainly(node: Any, left: list[int]) -> Any:
    """A node's value as it is meant here: keys are words (`on` is one), and what YAML would make another number or a date of is its text.
    `left`: how many nodes there may be still, those that aliases repeat among them. Raises `ValueError`."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError
    if isinstance(node.value, str):
        kind, word = str(node.tag).rpartition(":")[2], node.value
        if kind in ("null", "bool"):
            return None if kind == "null" else word.lower() in ("yes", "true", "on")
        if kind in ("int", "float"):
            with suppress(ValueError):
                number = int(word) if kind == "int" else float(word)
                return number if str(number) == word else word
        return word
    if node.id == "mapping":
        return {key.value if isinstance(key.value, str) else "?": _plainly(value, left) for key, value in node.value}
    return [_plainly(item, left) for item in node.value]


def redact_settings(config: Config) -> dict[str, Any]:
    """What the configuration came to. Fields that a `repr` does not show are secrets: of those only whether they are set."""
    return cast("dict[str, Any]", _spread(config))


def known_secrets(config: Config | None, environ: Mapping[str, str]) -> list[str]:
    """The secrets that are known literally, the longest first."""
    found = {value for name, value in environ.items() if _SECRET_KEY.search(name)}
    if config is not None:
        found |= {config.token or "", config.admission.keys_secret or "", *(provider.api_key or "" for provider in config.providers)}
        found |= {value for provider in config.providers for _, value in provider.headers}
        found |= set(config.guard_keys)
        password = re.search(r"://[^/@:]*:([^/@]*)@", config.ledger_url or "")
        found |= {password[1]} if password else set[str]()
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of the secrets masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _redact(node: Any, *, secret: bool = False) -> Any:
    if isinstance(node, dict):
        return {
            mask_secrets(str(key)): _redact(value, secret=secret or str(key) in _SECRET_PLACES or _SECRET_KEY.search(str(key)) is not None)
            for key, value in cast("dict[object, object]", node).items()
        }
    if isinstance(node, list):
        return [_redact(value, secret=secret) for value in cast("list[object]", node)]
    if node is None or isinstance(node, bool):
        return node
    if secret:
        return node if node in ("auto", "") or _VARIABLE.fullmatch(str(node)) else MASK
    return node if isinstance(node, int | float) else _plain(str(node))


def _spread(value: Any, *, shown: bool = True) -> Any:
    if not shown:
        return value if value is None or value == "auto" else [] if isinstance(value, Collection) and not value else "set, not shown"
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _spread(getattr(value, field.name), shown=field.repr and field.name not in _SECRET_PLACES) for field in fields(value)
        }
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return {_name(key): _spread(one) for key, one in cast("Mapping[object, object]", value).items()}
    if isinstance(value, Rates):
        return {name: _spread(one) for name, one in value._asdict().items() if one is not None}
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("Collection[object]", value)
        spread = [_spread(one) for one in items]
        return sorted(spread, key=str) if isinstance(value, set | frozenset) else spread
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Guards):
        return {"names": list(value.names), "hold": _spread(value.hold), "windows": _spread(value.windows)}  # their patterns may spell secrets
    if isinstance(value, Decimal):
        return float(value) if value % 1 else int(value)
    if value is EVERYTHING:
        return EVERYTHING.text
    if isinstance(value, Glob):
        return _plain(value.text)
    return _plain(str(value) if isinstance(value, str | Path | IPv4Network | IPv6Network) else repr(value))


def _name(key: object) -> str:
    return ":".join(map(str, cast("tuple[object, ...]", key))) if isinstance(key, tuple) else str(key)


def _plain(text: str) -> str:
    if _VARIABLE.fullmatch(text):
        return text
    if "://" in text:
        text = _URL_QUERY.sub(MASK, _URL_USER.sub(f"{MASK}@", text))
    return mask_secrets(text)
