"""A whole body as a stream: what a client that asked to stream gets where the provider gave the answer at once.

`assemble` folds the frames back into the same body, every field of it. Texts come by words, or in pieces of a size that is asked for; every
other part travels whole. A cut lies inside a text, or between two parts that folding would not merge: two plain texts side by side meet in
one frame (see `assemble`, rule 3), which no real stream has. All candidates begin in the first frame, so that the stream cannot look
complete while one has not begun; finish reasons, usage and all else come last. A body with anything unusual in it (two candidates
of one index, arguments in pieces) becomes a single frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, cast

from penstock.protocols.contract import BodyError
from penstock.protocols.gemini.body import complete, continues, frame, load, plain
from penstock.protocols.pieces import pieces_of
from penstock.vocabulary.ids import Operation

_IN_EVERY_FRAME = ("modelVersion", "responseId", "createTime")


def unfold(operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterator[bytes]:
    """The frames, in SSE form. Raises `BodyError` at once where the body is no whole answer: an error, a candidate without a finish."""
    del operation
    whole = load(body)
    if not complete(whole):
        raise BodyError("the body is not a whole answer: not every candidate has a finish reason")
    return _frames(whole, size)


def _frames(whole: dict[str, Any], size: int | None) -> Iterator[bytes]:
    candidates = whole.get("candidates")
    if not isinstance(candidates, list) or not _usual(cast("list[Any]", candidates)):
        yield frame(whole)
        return
    steps = list(zip_longest(*[_slices(c, size) for c in cast("list[dict[str, Any]]", candidates)]))
    shared = {key: whole[key] for key in _IN_EVERY_FRAME if key in whole}
    for number, step in enumerate(steps, 1):
        fields = {k: v for k, v in whole.items() if k != "candidates"} if number == len(steps) else shared
        yield frame({"candidates": [s for s in step if s is not None], **fields})


def _usual(candidates: list[Any]) -> bool:
    seen: set[int] = set()
    for item in candidates:
        if not isinstance(item, dict):
            return False
        candidate = cast("dict[str, Any]", item)
        index = candidate.get("index", 0)
        if type(index) is not int or index in seen:
            return False
        seen.add(index)
        for part in _parts(candidate) or ():
            call = part.get("functionCall")
            if isinstance(call, dict) and ("willContinue" in call or "partialArgs" in call):
                return False
    return bool(seen)


def _parts(candidate: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The parts, where there are some and all are objects."""
    content = candidate.get("content")
    parts = cast("dict[str, Any]", content).get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not parts:
        return None
    return cast("list[dict[str, Any]]", parts) if all(isinstance(p, dict) for p in cast("list[Any]", parts)) else None


def _slices(candidate: dict[str, Any], size: int | None) -> list[dict[str, Any]]:
    """The candidate cut into frames' worth, in order; the last one has what is not content."""
    parts = _parts(candidate)
    if parts is None:
        return [candidate]
    content = {k: v for k, v in candidate["content"].items() if k != "parts"}
    index = {"index": candidate["index"]} if "index" in candidate else {}
    groups = _groups(parts, size)
    slices = [{"content": {"parts": group, **content}, **index} for group in groups[:-1]]
    slices.append({**candidate, "content": {"parts": groups[-1], **content}})
    return slices


def _groups(parts: list[dict[str, Any]], size: int | None) -> list[list[dict[str, Any]]]:
    groups: list[list[dict[str, Any]]] = [[]]
    before: dict[str, Any] | None = None
    for part in parts:
        pieces = [part]
        if plain(part):
            pieces = [{**part, "text": piece} for piece in pieces_of(part["text"], size) or [""]]
        # An empty text that came first in a frame would be dropped; one that would merge must not come first.
        together = before is None or continues(before, part) or (plain(part) and not part["text"])
        if together:
            groups[-1].append(pieces[0])
        else:
            groups.append([pieces[0]])
        groups.extend([piece] for piece in pieces[1:])
        before = part
    return groups
