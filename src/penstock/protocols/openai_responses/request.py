"""What routing must know of a request; the change of its model's name, and asking it as a stream or whole.

Source: OpenAI, "Create a model response": `model` may be left out where `prompt` names a stored template, which has its own; `stream` is a
boolean. `GET /v1/responses/{id}` streams with `?stream=true`. `POST /v1/responses/input_tokens` needs no model.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.flags import ask_plainly, set_stream, states
from penstock.protocols.openai_responses.frames import UNDECODABLE
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.said import NOTHING, Said, keep
from penstock.wire.json import replace_field


class _Request(msgspec.Struct, gc=False):
    model: Any = None
    stream: Any = None
    prompt: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = NOTHING
    safety_identifier: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING
    prompt_cache_key: msgspec.Raw = NOTHING
    previous_response_id: Any = None
    reasoning: msgspec.Raw = NOTHING

    def said(self) -> Said | None:
        user = self.user if self.safety_identifier is NOTHING else self.safety_identifier
        return keep(user, self.metadata, self.prompt_cache_key, self.reasoning)


_decode = msgspec.json.Decoder(_Request).decode


def peek(operation: Operation, path: str, query: str, body: bytes) -> Peek:
    """Model and stream flag of a request; raises `BadRequest` where a response is to be made and the body cannot say by which model."""
    if operation is Operation.RESPONSE_ITEM:
        return _peek_item(query, body)
    try:
        request = _decode(body)
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.") from None
    except UNDECODABLE as error:
        raise BadRequest(f"The request body is not valid JSON: {_why(error)}.") from None
    model = request.model
    if model is None and (operation is not Operation.RESPONSES or bytes(request.prompt)[:1] == b"{"):
        return Peek(None, request.stream is True, said=request.said(), goes_on_from=_id_of(request))
    if model is None:
        raise BadRequest("The request body has no 'model'. Name one, or a stored 'prompt' that has its own.")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must be a string that is not empty.")
    return Peek(model, request.stream is True, said=request.said(), goes_on_from=_id_of(request))


def _id_of(request: _Request) -> str | None:
    id = request.previous_response_id
    return id if isinstance(id, str) and id else None


def rename(operation: Operation, path: str, body: bytes, model: str) -> tuple[str, bytes]:
    """Path and body with the model renamed and no other byte changed; as they are where the body names no model."""
    if peek(operation, path, "", body).model is None:
        return path, body
    return path, replace_field(body, "model", msgspec.json.encode(model))


def ask_stream(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": true`; the terminal event tells the usage. Not for background responses, whose answer comes before they
    are made, nor for `/responses/compact`, which has no stream."""
    asking = set_stream(body, on=True) if _may_change(operation, path, body) else None
    return None if asking is None else (path, query, asking)


def ask_whole(operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
    """The same request with `"stream": false`, without `stream_options`. Not for background responses: their body is the queued response."""
    asking = ask_plainly(body) if _may_change(operation, path, body) else None
    return None if asking is None else (path, query, asking)


def _may_change(operation: Operation, path: str, body: bytes) -> bool:
    return operation is Operation.RESPONSES and not path.rstrip("/").endswith("/compact") and not states(body, "background", b"true")


def _why(error: Exception) -> str:
    if isinstance(error, msgspec.DecodeError):
        return str(error).removeprefix("JSON is malformed: ")
    return "it is nested too deeply" if isinstance(error, RecursionError) else "it is not UTF-8"


def _peek_item(query: str, body: bytes) -> Peek:
    """A response that exists already: no model is needed, and the query tells whether it is streamed. A body is the provider's business."""
    model: object = None
    stream = ("stream", "true") in parse_qsl(query)
    if body:
        try:
            request = _decode(body)
        except UNDECODABLE:
            pass
        else:
            model = request.model
            stream = stream or request.stream is True
    return Peek(model if isinstance(model, str) and model else None, stream)
