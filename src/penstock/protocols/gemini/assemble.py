"""Folds a stream into the one body that `generateContent` would have given.

Rules
-----
1. A stream of one frame is that frame.
2. Candidates go by their index (absent: 0), in the order in which they began.
3. Parts: text that comes first in a frame grows the text that was last before it, if both are plain (see `body.plain`) and have the same
   `thought` flag. Parts of one frame are never merged with each other, so an answer may have two texts side by side: the frames of
   `unfold` cut inside texts, never between two that would merge. A real stream has one part a frame and one text for a run of frames.
4. An empty plain text that would stand alone is dropped: Google puts one beside a finish reason. With a signature it is kept.
5. A call whose arguments came in pieces becomes one part with `args`; one that was not ended cannot be made whole (`BodyError`).
6. `usageMetadata`, `promptFeedback`, `groundingMetadata`, `urlContextMetadata` and `content`: the last value of each field that is not null.
   `citationMetadata`: its lists are united (each frame cites its own stretch). `logprobsResult`: its lists are joined (each frame has
   its own tokens). Any other field, known or not: the last value that is not null.
"""

from __future__ import annotations

from typing import Any, cast

from penstock.protocols.contract import Assembler, BodyError
from penstock.protocols.gemini.arguments import PartialArguments
from penstock.protocols.gemini.body import complete, continues, dump, load, plain
from penstock.protocols.gemini.words import NOT_FINISHED

_BY_FIELD = frozenset({"usageMetadata", "promptFeedback", "groundingMetadata", "urlContextMetadata"})
_UNITED = "citationMetadata"
_JOINED = "logprobsResult"


class GeminiAssembler(Assembler):
    """See the rules above. Keeps what the body will have, and nothing else."""

    __slots__ = ("_candidates", "_fields", "_first", "held")

    def __init__(self) -> None:
        self._first: dict[str, Any] | None = None  # the only frame so far
        self._fields: dict[str, Any] | None = None  # the fold, from the second frame on
        self._candidates: dict[int, _Candidate] = {}
        self.held = 0

    def feed(self, name: bytes, data: bytes) -> None:
        frame = load(data)
        self.held += len(data)
        if self._fields is None:
            if self._first is None:
                self._first = frame
                return
            self._fields = {}
            self._add(self._fields, self._first)
            self._first = None
        self._add(self._fields, frame)

    def body(self) -> bytes:
        if self._fields is None:
            whole = self._first or {}
        else:
            whole = dict(self._fields)
            if self._candidates:
                whole["candidates"] = [c.whole() for c in self._candidates.values()]
        if not complete(whole):
            raise BodyError("the stream ended before every candidate had a finish reason")
        return dump(whole)

    def _add(self, fields: dict[str, Any], frame: dict[str, Any]) -> None:
        for key, value in frame.items():
            if key != "candidates":
                _merge(fields, key, value)
                continue
            for item in _list(value, "candidates"):
                if not isinstance(item, dict):
                    raise BodyError("a candidate is not an object")
                self._candidate_of(cast("dict[str, Any]", item)).add(cast("dict[str, Any]", item))

    def _candidate_of(self, item: dict[str, Any]) -> _Candidate:
        index = item.get("index")
        if index is None:
            index = 0
        if type(index) is not int:
            raise BodyError("a candidate's index is not a number")
        found = self._candidates.get(index)
        if found is None:
            found = self._candidates[index] = _Candidate()
        return found


class _Candidate:
    """One candidate's fold."""

    __slots__ = ("_call", "_content", "_fields", "_parts", "_run")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._content: dict[str, Any] | None = None  # without its parts
        self._parts: list[Any] | None = None
        self._run: list[str] = []  # pieces of the last part's text: joined once, so that many small pieces stay linear
        self._call: tuple[dict[str, Any], PartialArguments] | None = None  # the open call, its arguments so far

    def add(self, item: dict[str, Any]) -> None:
        for key, value in item.items():
            if key == "content" and isinstance(value, dict):
                self._add_content(cast("dict[str, Any]", value))
            elif key == "finishReason" and isinstance(value, str) and value in NOT_FINISHED and self._fields.get(key):
                continue
            else:
                _merge(self._fields, key, value)

    def whole(self) -> dict[str, Any]:
        if self._call is not None:
            raise BodyError("the stream ended inside a function call")
        self._end_run()
        whole = dict(self._fields)
        if self._content is not None:
            whole["content"] = dict(self._content)
            if self._parts is not None:
                whole["content"]["parts"] = self._parts
        return whole

    def _add_content(self, content: dict[str, Any]) -> None:
        if self._content is None:
            self._content = {}
        for key, value in content.items():
            if key == "parts" and isinstance(value, list):
                if self._parts is None:
                    self._parts = []
                for number, part in enumerate(cast("list[Any]", value)):
                    self._add_part(self._parts, part, first=not number)
            elif key != "parts" or self._parts is None:
                _merge(self._content, key, value)

    def _add_part(self, parts: list[Any], part: Any, *, first: bool) -> None:
        last = parts[-1] if parts else None
        if self._add_to_call(part):
            return
        if first and isinstance(last, dict):
            if continues(cast("dict[str, Any]", last), part):
                if not self._run:
                    self._run.append(cast("dict[str, Any]", last)["text"])
                self._run.append(part["text"])
                return
            if plain(part) and not part["text"] and not part.get("thought"):
                return
        self._end_run()
        parts.append(self._begin_call(part))

    def _end_run(self) -> None:
        if self._run and self._parts:
            self._parts[-1]["text"] = "".join(self._run)
        self._run = []

    def _begin_call(self, part: Any) -> Any:
        """The part as the body will have it; a call that will go on is opened."""
        call = _call_of(part)
        if call is None or call.get("willContinue") is not True:
            if call is not None and "partialArgs" in call:  # begun and ended at once, in pieces all the same
                arguments = PartialArguments(_object(call.get("args")))
                arguments.add(call["partialArgs"])
                return {**part, "functionCall": {**_bare(call), "args": arguments.value()}}
            return part
        arguments = PartialArguments(_object(call.get("args")))
        arguments.add(call.get("partialArgs"))
        begun = {**part, "functionCall": _bare(call)}
        self._call = (begun, arguments)
        return begun

    def _add_to_call(self, part: Any) -> bool:
        """Is `part` more of the open call? Then it is taken in."""
        if self._call is None:
            return False
        begun, arguments = self._call
        call = _call_of(part)
        if call is None:
            if plain(part) and not part["text"]:
                return True  # beside a finish reason; `whole` will tell that the call has no end
            raise BodyError("something else came inside a function call")
        name = call.get("name")
        if name is not None and (name != begun["functionCall"].get("name") or "args" in call):
            raise BodyError("a function call began inside another")
        arguments.add(call.get("partialArgs"))
        for key, value in cast("dict[str, Any]", part).items():
            if key != "functionCall":
                _merge(begun, key, value)
        for key, value in _bare(call).items():
            _merge(begun["functionCall"], key, value)
        if call.get("willContinue") is not True:
            begun["functionCall"]["args"] = arguments.value()
            self._call = None
        return True


def _merge(fields: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` under `key`, by rule 6. What is there is replaced, not changed: it may be the frame's own."""
    if key not in fields:
        fields[key] = value
        return
    if value is None:
        return
    old = fields[key]
    if isinstance(old, dict) and isinstance(value, dict):
        before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", value)
        if key in _BY_FIELD:
            fields[key] = before | {k: v for k, v in after.items() if v is not None or k not in before}
            return
        if key in (_UNITED, _JOINED):
            fields[key] = before | {k: _lists(before.get(k), v, unite=key == _UNITED) for k, v in after.items()}
            return
    fields[key] = value


def _lists(before: object, after: object, *, unite: bool) -> object:
    if isinstance(before, list) and isinstance(after, list):
        old, new = cast("list[Any]", before), cast("list[Any]", after)
        return [*old, *(v for v in new if not unite or v not in old)]
    return cast("object", before if after is None else after)


def _list(value: Any, what: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BodyError(f"{what} is not a list")
    return cast("list[object]", value)


def _object(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _call_of(part: Any) -> dict[str, Any] | None:
    return _object(cast("dict[str, Any]", part).get("functionCall")) if isinstance(part, dict) else None


def _bare(call: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in call.items() if k not in ("args", "partialArgs", "willContinue")}
