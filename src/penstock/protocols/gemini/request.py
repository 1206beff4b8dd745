"""What a request says before it is passed on: the model and the way of answering stand in its path.

Source: ai.google.dev/api (REST): `POST /v1beta/{model=models/*}:streamGenerateContent` and its like; `tunedModels/*` and `dynamic/*` in the
place of `models/*`; Vertex AI puts a project in front (`/v1/projects/.../publishers/google/models/{model}:...`) and has `endpoints/*`.
The answer to `streamGenerateContent` is a JSON array, or server-sent events where `alt=sse` is asked for (Google's system parameter `$alt`;
`json`, its default, and `proto`, `media` are the others).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from penstock.protocols.contract import BadRequest, Peek
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.said import NOTHING, Said, keep
from penstock.wire.json import find_fields, set_field

STREAM_METHOD = "streamGenerateContent"
WHOLE_METHOD = "generateContent"

_COLLECTIONS = ("models", "tunedModels", "dynamic", "endpoints")
# The last collection in the path: a project of the name `models` stands in front of it. Some clients write the colon as %3A.
_PATH = re.compile(rf"^(|.*/)({'|'.join(_COLLECTIONS)})/(.+)((?::|%3[Aa])([A-Za-z]+))$", re.DOTALL)
_NEEDS_MODEL = frozenset({Operation.GENERATE, Operation.COUNT_TOKENS, Operation.EMBEDDINGS})


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: its other fields are skipped unread, so that media of megabytes cost next to nothing."""

    generationConfig: msgspec.Raw = NOTHING
    generation_config: msgspec.Raw = NOTHING


class _Cached(msgspec.Struct, gc=False):
    model: str | None = None


_check = msgspec.json.Decoder(_Object).decode
_decode_cached = msgspec.json.Decoder(_Cached).decode


class Target(NamedTuple):
    """A path, taken apart; put together again it is the same, byte for byte."""

    front: str
    collection: str
    name: str
    """Percent-encoded, as it came."""
    back: str
    """The colon and the method."""
    method: str


def target(path: str) -> Target | None:
    """The model and the method that `path` names; `None` where it names none."""
    found = _PATH.match(path)
    return None if found is None else Target(*found.groups())


def is_sse(query: str) -> bool:
    """Does the query ask for server-sent events in the place of a JSON array?"""
    return any(key in ("alt", "$alt") and value.lower() == "sse" for key, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True))


def peek(operation: Operation, path: str, query: str, body: bytes) -> Peek:
    """The model: its bare name for `models/*`, the whole resource name for the other collections (`tunedModels/x`), percent-decoded."""
    del query
    aim = target(path) or target(re.sub("/{2,}", "/", unquote(path)).rstrip("/"))  # as a lenient server may read it
    said: Said | None = None
    if operation in _NEEDS_MODEL:
        if aim is None:
            raise BadRequest("The path names no model: it should end like /v1beta/models/MODEL:generateContent.")
        try:
            found = _check(body)
        except RecursionError:
            raise BadRequest("The request body is nested too deeply.") from None
        except ValueError as error:
            raise BadRequest(f"The request body is not a JSON object: {error}." if body else "The request body is empty.") from None
        config = found.generation_config if found.generationConfig is NOTHING else found.generationConfig
        said = keep(NOTHING, NOTHING, NOTHING, config)
    if aim is None:
        return Peek(_cached_for(body) if operation is Operation.OTHER else None, stream=False)
    return Peek(_named(aim), aim.method == STREAM_METHOD, said=said)


def _named(aim: Target) -> str:
    name = unquote(aim.name)
    return name if aim.collection == "models" else f"{aim.collection}/{name}"


def _cached_for(body: bytes) -> str | None:
    """The model that `cachedContents` name in their body, as a resource."""
    try:
        name = _decode_cached(body).model
    except (ValueError, RecursionError):
        return None
    aim = target(f"/{name}:{WHOLE_METHOD}") if name else None
    return name or None if aim is None else _named(aim)


def rename(operation: Operation, path: str, body: bytes, model: str) -> tuple[str, bytes]:
    """The path with another model, the body as it was (but for `cachedContents`, which name it there). `model` may say its collection
    (`tunedModels/x`); it is percent-encoded, a slash in it too, so that no name reaches beyond its place in the path."""
    collection, _, name = model.partition("/")
    if not name or collection not in _COLLECTIONS:
        collection, name = "models", model
    aim = target(path)
    if aim is None:
        return path, set_field(body, "model", msgspec.json.encode(f"{collection}/{name}")) if operation is Operation.OTHER and body else body
    return f"{aim.front}{collection}/{quote(name, safe='@')}{aim.back}", body


def ask_stream(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """`:generateContent` as `:streamGenerateContent` with `alt=sse`, the body as it was; usage is told without being asked for. Not for spoken
    answers: Google has no stream of them, and pieces of sound cannot be put together as texts can."""
    aim = target(path)
    if operation is not Operation.GENERATE or aim is None or aim.method != WHOLE_METHOD or _is_spoken(body):
        return None
    pairs = _pairs(query)
    stated = [_is_alt(pair) for pair in pairs]
    if any(value not in (None, "", "json", "sse") for value in stated):
        return None  # it is no JSON that the client wants
    pairs = [pair.partition("=")[0] + "=sse" if value is not None else pair for pair, value in zip(pairs, stated, strict=True)]
    return _with_method(aim, STREAM_METHOD), "&".join(pairs if any(v is not None for v in stated) else [*pairs, "alt=sse"]), body


def ask_whole(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """`:streamGenerateContent` as `:generateContent`, without `alt=sse`, the body as it was."""
    aim = target(path)
    if operation is not Operation.GENERATE or aim is None or aim.method != STREAM_METHOD:
        return None
    return _with_method(aim, WHOLE_METHOD), "&".join(pair for pair in _pairs(query) if _is_alt(pair) != "sse"), body


def _with_method(aim: Target, method: str) -> str:
    return f"{aim.front}{aim.collection}/{aim.name}{aim.back.removesuffix(aim.method)}{method}"


def _pairs(query: str) -> list[str]:
    return query.split("&") if query else []


def _is_alt(pair: str) -> str | None:
    """The value, in lower case, where `pair` is the parameter that says in what form the answer comes."""
    name, _, value = pair.partition("=")
    return unquote(value).lower() if unquote(name) in ("alt", "$alt") else None


def _is_spoken(body: bytes) -> bool:
    """Is sound asked for? `generationConfig.responseModalities`; Google's JSON reads the names in either spelling."""
    for config in find_fields(body, ("generationConfig", "generation_config")):
        if body[config.start : config.start + 1] == b"{":
            for stated in find_fields(body, ("responseModalities", "response_modalities"), config.start):
                if b"audio" in body[stated.start : stated.end].lower():
                    return True
    return False
