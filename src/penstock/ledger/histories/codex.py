"""Codex's sessions: `~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl`.

Lines of `{"timestamp", "type", "payload"}`. `session_meta` comes first and names the session, its directory and the provider; `turn_context`
names the model, the effort and (`turn_id`) the turn of what follows. What an answer used is told twice in newer versions, in either order:

- `token_usage_record` (since August 2026) names the answer: `response_id`, `thread_id` (the session that asked), `turn_id`, and its own `usage`.
- `event_msg` of the type `token_count` tells after each answer what the session used so far (`info.total_token_usage`) and what the last answer
  used (`info.last_token_usage`). It also comes when only the rate limits changed: then the totals are those of before, and it counts for nothing.
  Where only totals are told (the first versions), an answer is their difference.

Figures are the API's: `input_tokens` contains `cached_input_tokens` and `cache_write_input_tokens`, `output_tokens` contains
`reasoning_output_tokens`.

A forked session (`forked_from_id`) begins with a copy of the one before it: its `session_meta`, its turns and its counts, with the time of the
fork on every line. (An agent's session may hold that `session_meta` and no counts.) What is copied is told of under its own session, so that it
is one answer whichever file is read first: by `thread_id`, else by the turn, whose UUID (version 7) says when it began; before turns were named,
by totals that go on from one file to the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from penstock.ledger.histories.found import Found, lines_of, project_of, seconds_of
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Usage

ORIGIN = "codex"
_LONGEST = 1 << 20
"""Bytes of a line that is read: those that matter are short, and those with a whole prompt are not."""
_BURST_S = 1.0
"""A copy is written at once; the first answer of one's own comes later than that."""


class _Tokens(msgspec.Struct, gc=False, frozen=True):
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    cache_write_input_tokens: int | None = None

    def minus(self, other: _Tokens) -> _Tokens:
        written = self.cache_write_input_tokens
        return _Tokens(
            max(0, self.input_tokens - other.input_tokens), max(0, self.cached_input_tokens - other.cached_input_tokens),
            max(0, self.output_tokens - other.output_tokens), max(0, self.reasoning_output_tokens - other.reasoning_output_tokens),
            None if written is None else max(0, written - (other.cache_write_input_tokens or 0)),
        )  # fmt: skip

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Those that both kinds of line have."""
        return self.input_tokens, self.cached_input_tokens, self.output_tokens, self.reasoning_output_tokens

    def usage(self) -> Usage:
        return Usage(
            self.input_tokens, self.output_tokens, self.cached_input_tokens, self.cache_write_input_tokens, reasoning=self.reasoning_output_tokens)


class _Info(msgspec.Struct, gc=False):
    total_token_usage: _Tokens | None = None
    last_token_usage: _Tokens | None = None


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    forked_from_id: Any = None
    cwd: Any = None
    model: Any = None
    effort: Any = None
    model_provider: Any = None
    turn_id: Any = None
    thread_id: Any = None
    response_id: Any = None
    usage: _Tokens | None = None
    info: _Info | None = None


class _Line(msgspec.Struct, gc=False):
    type: Any = None
    timestamp: Any = None
    payload: _Payload | None = None


_decode = msgspec.json.Decoder(_Line).decode
_NONE = _Tokens()


def read(path: Path, told: Callable[[int], None]) -> Iterator[Found]:
    """What is found in a file, in order. `told` hears of the bytes that were read. Raises `OSError`."""
    rollout = _Rollout(path.stem)
    for text in lines_of(path, told):
        line = _line(text)
        if line is not None and line.payload is not None:
            rollout.take(line.type, seconds_of(line.timestamp), line.payload)
    yield from rollout.found


class _Rollout:
    """One file, line by line."""

    def __init__(self, name: str) -> None:
        self.found: list[Found] = []
        self._lineage = [name]
        """The session, the one that it was forked from, and so on."""
        self._named = False
        self._created: float | None = None
        self._project: str | None = None
        self._provider = "openai"
        self._model: str | None = None
        self._effort: str | None = None
        self._turn: float | None = None
        """When the turn of what follows began, where its name says so."""
        self._before = _NONE
        self._recorded: defaultdict[tuple[int, ...], int] = defaultdict(int)
        """Answers of records that no count was told of yet, by their figures."""
        self._counted: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        """Answers of counts that no record was told of yet: where they are in `found`."""

    def take(self, kind: object, at: float | None, payload: _Payload) -> None:
        if kind == "session_meta":
            self._session(at, payload)
        elif kind == "turn_context":
            self._model, self._effort = _word(payload.model) or self._model, _word(payload.effort)
            self._turn = _minted(payload.turn_id)
        elif kind == "token_usage_record" and payload.usage is not None and at is not None:
            self._record(at, payload, payload.usage)
        elif payload.type == "token_count" and payload.info is not None and at is not None:
            self._count(at, payload.info)

    def _session(self, at: float | None, payload: _Payload) -> None:
        """The first one is of this file, and those that come with a copy are of the sessions before it."""
        name, former = _word(payload.id), _word(payload.forked_from_id)
        if not self._named:
            self._named, self._created = True, at
            self._lineage = [name or self._lineage[0]]
            self._project = project_of(payload.cwd)
            self._provider = _word(payload.model_provider) or self._provider
        elif name != self._lineage[-1]:
            return
        if former is not None and former not in self._lineage:
            self._lineage.append(former)

    def _record(self, at: float, payload: _Payload, used: _Tokens) -> None:
        response, own = _word(payload.response_id), self._lineage[0]
        if response is None or used == _NONE:
            return
        session = _word(payload.thread_id) or own
        turn = _minted(payload.turn_id)
        one = self._answer(response, at if session == own or turn is None else turn, session, used)
        one = replace(one, response_id=response)
        places = self._counted[used.figures]
        if places:
            self.found[places.pop(0)] = one
        else:
            self._recorded[used.figures] += 1
            self.found.append(one)

    def _count(self, at: float, info: _Info) -> None:
        total, last = info.total_token_usage, info.last_token_usage
        if total is None or total == self._before:
            return
        used = last if last is not None else total.minus(self._before)
        self._before = total
        if not (used.input_tokens or used.output_tokens):
            return  # only the context's estimated size changed
        if self._recorded[used.figures]:
            self._recorded[used.figures] -= 1
            return
        session, keyed, at = self._whose(at)
        self._counted[used.figures].append(len(self.found))
        self.found.append(self._answer(f"{keyed}:{total.input_tokens}:{total.output_tokens}", at, session, used))

    def _whose(self, at: float) -> tuple[str, str, float]:
        """Of a count: the session that asked, the one whose totals it goes by, and when."""
        own, *formers = self._lineage
        if not formers:
            return own, own, at
        if self._turn is not None and all(_minted(name) is not None for name in self._lineage):
            for name in self._lineage:
                if (_minted(name) or 0.0) <= self._turn:
                    return name, name, at if name == own else self._turn
        copied = self._created is not None and at - self._created <= _BURST_S
        return formers[0] if copied else own, formers[-1], at

    def _answer(self, key: str, at: float, session: str, used: _Tokens) -> Found:
        return Found(
            ORIGIN, key, at, self._provider, ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES, self._model, used.usage(),
            session=session, project=self._project, client="codex", effort=self._effort,
        )  # fmt: skip


def _line(text: bytes) -> _Line | None:
    if len(text) > _LONGEST and b'"session_meta"' not in text[:200]:
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _minted(name: object) -> float | None:
    """When a UUID of version 7 was made (RFC 9562, 5.7: its first 48 bits are milliseconds since the epoch); `None`: it is none."""
    if not isinstance(name, str) or len(name) != 36 or name[14] != "7":
        return None
    try:
        return int(name[:8] + name[9:13], 16) / 1e3
    except ValueError:
        return None
