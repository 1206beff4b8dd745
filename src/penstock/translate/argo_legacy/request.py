"""A client's request as the gateway is asked. Fields that nothing is known of pass as they came, in their order."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, cast

import msgspec

from penstock.protocols.contract import BadRequest
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.translate.argo_legacy import prompted, responses, tools
from penstock.translate.argo_legacy.messages import Family, Fields, family_of, join_prompt, put_right, read_messages
from penstock.translate.argo_legacy.tokens import of_request
from penstock.vocabulary.ids import Operation

MOST_TOKENS: Final = 21_000
"""Of a Claude model's whole answer: above it, its maker's client refuses to be asked without streaming."""
_OWN: Final = ("user", "model", "stream")


class Resource(StrEnum):
    """What is asked for; the last segment of its path."""

    CHAT = "chat"
    STREAM = "streamchat"
    EMBED = "embed"


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One request to the gateway, and what must be known to tell its answer."""

    resource: Resource
    body: bytes
    streams: bool = False
    """The client is to be told a stream."""
    prompted: bool = False
    """Calls of tools come as text."""
    silent: bool = False
    """Calls of tools have no place in the client's protocol."""
    base64: bool = False
    """Embeddings are wanted as base64."""
    texts: int = 0
    """Of how many texts embeddings are wanted."""
    input_tokens: int | None = None
    """An estimate."""
    notes: tuple[str, ...] = ()
    """What was changed or left out, for the record."""


def ask(operation: Operation, body: bytes, *, user: str, model: str, stream: bool, real_stream: bool) -> Asked:
    """The client's `body` for the gateway. `model`: its internal id. `stream`: the client wants a stream. Raises `BadRequest`."""
    fields = _read(body)
    if operation is Operation.EMBEDDINGS:
        return _embed(fields, user, model)
    notes: list[str] = []
    if operation is Operation.RESPONSES:
        fields, notes = responses.as_chat(fields)
    fields.pop("stream_options", None)
    family = family_of(model)
    silent = operation is Operation.COMPLETIONS
    with_tools = _has_tools(fields)
    in_words = with_tools and family is Family.OTHER and not silent
    raw = stream and real_stream and not with_tools
    if stream and real_stream and with_tools:
        notes.append("asked for a whole body, told as a stream, because of its tools")
    if silent or not with_tools:
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
    messages = read_messages(fields)
    if messages is not None:
        messages = put_right(messages, model, family)
        if family is Family.OTHER:
            messages = prompted.tell_history(messages)
        else:
            messages = tools.tell_history(messages, family)
        fields["messages"] = messages
    if with_tools and not silent:
        tools.narrow(fields)
    if in_words:
        prompted.put_in(fields, messages)
    elif with_tools and not silent:
        tools.tell_tools(fields, family)
    join_prompt(fields, model)
    if messages is None and fields.get("prompt") is None:
        raise BadRequest("The request holds neither 'messages' nor 'prompt'.")
    if family is Family.CLAUDE and not raw and _is_over(fields.get("max_tokens")):
        fields["max_tokens"] = MOST_TOKENS
        notes.append(f"max_tokens lowered to {MOST_TOKENS}")
    told = _identified(fields, user, model)
    if stream:
        told["stream"] = raw
    resource = Resource.STREAM if raw else Resource.CHAT
    return Asked(resource, encode_any(told), streams=stream, prompted=in_words, silent=silent, input_tokens=of_request(told), notes=tuple(notes))


def _embed(fields: Fields, user: str, model: str) -> Asked:
    value = fields.pop("input", None)
    texts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest("The field 'input' must be a text or a list of texts: this provider takes no tokens.")
    fields.pop("stream", None)
    form = fields.pop("encoding_format", None)
    if form not in (None, "float", "base64"):
        raise BadRequest("The field 'encoding_format' must be 'float' or 'base64'.")
    told = {**_identified(fields, user, model), "prompt": texts}
    return Asked(Resource.EMBED, encode_any(told), base64=form == "base64", texts=len(texts), input_tokens=of_request(told))


def _read(body: bytes) -> Fields:
    try:
        value = decode_any(body)
    except UNREADABLE:
        raise BadRequest("The request body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.")
    return cast("Fields", value)


def _has_tools(fields: Fields) -> bool:
    value: Any = fields.get("tools")
    if value is not None and not isinstance(value, list):
        raise BadRequest("The field 'tools' must be a list.")
    return bool(cast("list[Any]", value))


def _identified(fields: Fields, user: str, model: str) -> Fields:
    """Who asks, and whom, before everything else; never who the client says it is."""
    kept = {name: value for name, value in fields.items() if name not in _OWN}
    stream = {"stream": False} if "stream" in fields else {}
    return {"user": user, "model": model, **kept, **stream}


def _is_over(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > MOST_TOKENS
