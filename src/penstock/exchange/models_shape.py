"""Lists of models in the three shapes that clients know, and from each into the others. Pure.

Shapes: OpenAI `{"object":"list","data":[{"id","object":"model","created","owned_by"}]}` (platform.openai.com/docs/api-reference/models);
Anthropic `{"data":[{"type":"model","id","display_name","created_at","lifecycle"}],"has_more","first_id","last_id"}`, where an unknown
release is told as the epoch (docs.anthropic.com/en/api/models-list); Gemini `{"models":[{"name":"models/...","displayName",...}]}`
(ai.google.dev/api/models).

An entry in the client's own shape is passed on byte for byte, whatever else stands in it. A converted one says only what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.providers import Kind
from penstock.vocabulary.ids import ProtocolId

SHAPES: dict[ProtocolId, Kind] = {
    ProtocolId.OPENAI_CHAT: "openai", ProtocolId.OPENAI_RESPONSES: "openai", ProtocolId.ANTHROPIC_MESSAGES: "anthropic", ProtocolId.GEMINI: "gemini",
}  # fmt: skip
"""The shape of the list that a client of each protocol expects."""
HOUSE = "penstock"
"""The owner of what is the gateway's own: `demo`, and the names that routes give."""

_PREFIX = "models/"
_EPOCH = "1970-01-01T00:00:00Z"
_WRITES = ("generateContent", "streamGenerateContent")


class BadListing(ValueError):
    """An answer that is no list of models. Its text is one clause for people."""


class Model:
    """One model of one list. `id` is its bare name, `created` is in seconds since the epoch where known."""

    __slots__ = ("_shaped", "created", "id", "owner", "title")

    def __init__(self, id: str, owner: str, title: str | None = None, created: int | None = None, own: tuple[Kind, bytes] | None = None) -> None:
        """`own`: the entry as its provider gave it, and in which shape."""
        self.id = id
        self.owner = owner
        self.title = title
        self.created = created
        self._shaped: dict[Kind, bytes] = {} if own is None else {own[0]: own[1]}

    def shaped(self, kind: Kind) -> bytes:
        """The entry in the shape of `kind`, as JSON."""
        found = self._shaped.get(kind)
        if found is None:
            found = self._shaped[kind] = msgspec.json.encode(self._convert(kind))
        return found

    def _convert(self, kind: Kind) -> dict[str, object]:
        match kind:
            case "openai" | "argo_legacy":  # whose clients are OpenAI's
                return {"id": self.id, "object": "model", "created": self.created or 0, "owned_by": self.owner}
            case "anthropic":
                named = {"id": self.id, "display_name": self.title or self.id}
                # What is listed can be called: that is all that `active` (which the official client requires) says here.
                return {"type": "model", **named, "created_at": _rfc3339(self.created), "lifecycle": "active"}
            case "gemini":
                entry: dict[str, object] = {"name": _PREFIX + self.id, "displayName": self.title or self.id}
                if self.owner == HOUSE:
                    # Clients choose by this. Of another protocol's model it would be a promise that no path here keeps.
                    entry["supportedGenerationMethods"] = _WRITES
                return entry


class _Entry(msgspec.Struct):
    """What is read of an entry, in any shape. Untyped: one odd member must not cost the entry."""

    id: Any = None
    name: Any = None
    display_name: Any = None
    displayName: Any = None
    created: Any = None
    created_at: Any = None


class _Listing(msgspec.Struct):
    data: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    models: list[msgspec.Raw] | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_listing: msgspec.json.Decoder[_Listing | list[msgspec.Raw]] = msgspec.json.Decoder(_Listing | list[msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)


def parse(kind: Kind, owner: str, body: bytes) -> tuple[Model, ...]:
    """The models that a provider of this kind lists in `body`; entries without a name are left out. Raises `BadListing`.

    A bare array is a list as well (Together answers so), and so is `"data": null` (Ollama without a model). An object without it is none (a
    refusal that comes with 200), but Google's, which leaves out what is empty.
    """
    try:
        # What is copied from it must be UTF-8 throughout, and the decoder looks only at what it reads.
        body.decode()
        found: _Listing | list[msgspec.Raw] = _listing.decode(body)
    except (ValueError, RecursionError):
        raise BadListing("the answer is no list of models") from None
    if isinstance(found, list):
        raws = found
    elif kind == "gemini" and (found.models is not None or found.error is msgspec.UNSET):
        raws = found.models or []
    elif kind == "gemini" or found.data is msgspec.UNSET:
        raise BadListing("the answer is no list of models")
    else:
        raws = found.data or []
    return tuple(model for model in (_parse_entry(kind, owner, bytes(raw)) for raw in raws) if model is not None)


def _parse_entry(kind: Kind, owner: str, raw: bytes) -> Model | None:
    try:
        entry = _entry.decode(raw)
    except (ValueError, RecursionError):
        return None
    name = entry.name if kind == "gemini" else entry.id
    if not isinstance(name, str) or not name.removeprefix(_PREFIX):
        return None
    title = entry.displayName if kind == "gemini" else entry.display_name
    created = entry.created if kind == "openai" else _seconds(entry.created_at)
    return Model(
        id=name.removeprefix(_PREFIX),
        owner=owner,
        title=title if isinstance(title, str) and title else None,
        created=created if type(created) is int and created >= 0 else None,
        own=(kind, raw),
    )


def merge(kind: Kind, lists: Iterable[Sequence[Model]], shown: Callable[[str, str], bool] | None = None) -> bytes:
    """One list in the shape of `kind`, of the models that `shown` takes (`None`: of all). Of models of the same name the first one stands."""
    models: dict[str, Model] = {}
    for some in lists:
        for model in some:
            models.setdefault(model.id, model)
    if shown is not None:
        models = {id: model for id, model in models.items() if shown(id, model.owner)}
    entries = b",".join(model.shaped(kind) for model in models.values())
    match kind:
        case "openai" | "argo_legacy":
            return b'{"object":"list","data":[%b]}' % entries
        case "anthropic":
            first, last = (next(iter(models)), next(reversed(models))) if models else (None, None)
            ends = msgspec.json.encode(first), msgspec.json.encode(last)
            return b'{"data":[%b],"has_more":false,"first_id":%b,"last_id":%b}' % (entries, *ends)
        case "gemini":
            return b'{"models":[%b]}' % entries


def _seconds(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _rfc3339(seconds: int | None) -> str:
    try:
        return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return _EPOCH


def house_models(names: Iterable[str]) -> tuple[Model, ...]:
    return tuple(Model(name, HOUSE) for name in names)
