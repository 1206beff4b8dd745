"""Which answer a request gets: a recorded stream, the same as one body, a list of models, or an error in words. Pure.

The model `replay/NAME` or `replay/PROTOCOL/NAME` asks for one recording (a prefix will do where only one has it); any other model gets the
recordings of the path's operation in turn. Gemini's model stands in its path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, unquote

import msgspec

from penstock.lab.recordings import Recording, RecordingError, find_recording
from penstock.protocols import REGISTRY
from penstock.protocols.contract import BodyError
from penstock.vocabulary.ids import Operation, ProtocolId

JSON = "application/json"
SSE = "text/event-stream"

_PATHS = {
    "/chat/completions": Operation.CHAT,
    "/completions": Operation.COMPLETIONS,
    "/responses": Operation.RESPONSES,
    "/messages": Operation.MESSAGES,
}
_GEMINI = re.compile(r"^/v\d+(?:alpha|beta)?\d*/models/(?P<model>.+):(?P<method>generateContent|streamGenerateContent)$")
_FAMILIES = {
    "openai": (ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES),
    "anthropic": (ProtocolId.ANTHROPIC_MESSAGES,),
    "gemini": (ProtocolId.GEMINI,),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. `events` are the pieces between which a pace pauses; together they are the body."""

    status: int
    content_type: str
    events: tuple[bytes, ...]
    recording: Recording | None = None
    streamed: bool = False


@dataclass(slots=True)
class Chooser:
    """Picks among recordings; remembers per operation whose turn it is."""

    recordings: Sequence[Recording]
    _turns: dict[Operation, int] = field(default_factory=dict[Operation, int])

    def reply(self, method: str, path: str, query: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """The answer to one request whose body is whole. Never raises: what cannot be answered is a status and a sentence."""
        if method in ("GET", "HEAD") and path.rstrip("/").endswith("/models"):
            return self._models(path, any(name == "anthropic-version" for name, _ in headers))
        gemini = _GEMINI.match(path)
        operation = Operation.GENERATE if gemini else _PATHS.get(path.rstrip("/").removeprefix("/v1"))
        if operation is None:
            return _refuse(404, f"{path} is none of the paths that recorded streams are served at")
        if method != "POST":
            return _refuse(405, f"{path} takes POST, not {method}")
        try:
            request: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return _refuse(400, f"the request's body is not JSON: {error}")
        if not isinstance(request, dict):
            return _refuse(400, "the request's body is not a JSON object")
        if gemini:
            model, stream = unquote(gemini["model"]), gemini["method"] == "streamGenerateContent"
        else:
            said = cast("dict[str, Any]", request)
            model, stream = said.get("model"), said.get("stream") is True
        try:
            recording = self._pick(operation, model if isinstance(model, str) else "")
        except RecordingError as error:
            return _refuse(404, str(error))
        if not stream:
            return _whole(recording)
        if gemini and parse_qs(query).get("alt") != ["sse"]:
            return Reply(200, JSON, _as_array(recording), recording, streamed=True)
        return Reply(200, SSE, tuple(frame.raw for frame in recording.frames), recording, streamed=True)

    def _pick(self, operation: Operation, model: str) -> Recording:
        some = [r for r in self.recordings if r.operation == operation]
        if model.startswith("replay/"):
            return find_recording(some, model.removeprefix("replay/"))
        if not some:
            raise RecordingError(f"no recorded stream answers {operation}")
        turn = self._turns.get(operation, 0)
        self._turns[operation] = turn + 1
        return some[turn % len(some)]

    def _models(self, path: str, anthropic: bool) -> Reply:
        family = "anthropic" if anthropic else "gemini" if path.startswith("/v1beta") else "openai"
        some = [r for r in self.recordings if r.protocol in _FAMILIES[family]]
        names = [r.name for r in some]
        ids = [f"replay/{r.name}" if names.count(r.name) == 1 else f"replay/{r.protocol}/{r.name}" for r in some]
        listed: dict[str, Any]
        match family:
            case "anthropic":
                entries = [{"type": "model", "id": i, "display_name": i, "created_at": "1970-01-01T00:00:00Z"} for i in ids]
                listed = {"data": entries, "has_more": False, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
            case "gemini":
                methods = ["generateContent", "streamGenerateContent"]
                listed = {"models": [{"name": f"models/{i}", "displayName": i, "supportedGenerationMethods": methods} for i in ids]}
            case _:
                listed = {"object": "list", "data": [{"id": i, "object": "model", "created": 0, "owned_by": "replay"} for i in ids]}
        return Reply(200, JSON, (msgspec.json.encode(listed),))


def _whole(recording: Recording) -> Reply:
    """The recording as the body of a request without streaming; where it ended in the provider's error, that error with its status."""
    spec = REGISTRY[recording.protocol]
    assembler, observer = spec.assembler(recording.operation), spec.observer(recording.operation)
    try:
        for frame in recording.frames:
            if frame.data:
                observer.observe(frame.name, frame.data, 0.0)
                assembler.feed(frame.name, frame.data)
        body = assembler.body()
    except BodyError as error:
        told = observer.error
        if told is None:
            return _refuse(422, f"{recording.name} cannot be told as one body: {error}")
        status = told.status if told.status is not None and 400 <= told.status < 600 else 500
        return _refuse(status, told.message or str(error), told.type or "upstream_error", told.code)
    return Reply(200, JSON, (body,), recording)


def _as_array(recording: Recording) -> tuple[bytes, ...]:
    """Gemini's stream without `alt=sse`: one JSON array whose elements come one by one, as its servers punctuate it."""
    data = [frame.data for frame in recording.frames if frame.data]
    return (*((b"[" if i == 0 else b",\r\n") + element + b"\n" for i, element in enumerate(data)), b"]\n" if data else b"[]\n")


def _refuse(status: int, message: str, kind: str = "replay_error", code: str | None = None) -> Reply:
    """An error that clients of every protocol can read: OpenAI's and Anthropic's fields, and Gemini's numeric code where there is no other."""
    error = {"type": kind, "message": message, "code": status if code is None else code, "param": None}
    return Reply(status, JSON, (msgspec.json.encode({"type": "error", "error": error}),))
