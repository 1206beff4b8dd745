"""Codex's sessions: `~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl`.

Lines of `{"timestamp", "type", "payload"}`. `session_meta` comes first and names the session, its directory and the provider; `turn_context`
names the model and the effort of what follows; `event_msg` of the type `token_count` tells after each answer what the session used so far
(`info.total_token_usage`) and what the last answer used (`info.last_token_usage`). It also comes when only the rate limits changed: then the
totals are those of before, and it counts for nothing. Where only totals are told (the first versions), an answer is their difference.

Figures are the API's: `input_tokens` contains `cached_input_tokens`, `output_tokens` contains `reasoning_output_tokens`. No response is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock.ledger.histories.found import Found, project_of, seconds_of
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import Usage

ORIGIN = "codex"
_LONGEST = 1 << 20
"""Bytes of a line that is read: those that matter are short, and those with a whole prompt are not."""


class _Tokens(msgspec.Struct, gc=False, frozen=True):
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0

    def minus(self, other: _Tokens) -> _Tokens:
        return _Tokens(
            max(0, self.input_tokens - other.input_tokens), max(0, self.cached_input_tokens - other.cached_input_tokens),
            max(0, self.output_tokens - other.output_tokens), max(0, self.reasoning_output_tokens - other.reasoning_output_tokens),
        )  # fmt: skip


class _Info(msgspec.Struct, gc=False):
    total_token_usage: _Tokens | None = None
    last_token_usage: _Tokens | None = None


class _Payload(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    cwd: Any = None
    model: Any = None
    effort: Any = None
    model_provider: Any = None
    info: _Info | None = None


class _Line(msgspec.Struct, gc=False):
    type: Any = None
    timestamp: Any = None
    payload: _Payload | None = None


_decode = msgspec.json.Decoder(_Line).decode
_NONE = _Tokens()


def read(path: Path, told: Callable[[int], None]) -> Iterator[Found]:
    """What is found in a file, in order. `told` hears of the bytes that were read. Raises `OSError`."""
    session, project, provider = path.stem, None, "openai"
    model: str | None = None
    effort: str | None = None
    before = _NONE
    named = False
    with path.open("rb") as file:
        for text in file:
            told(len(text))
            line = _line(text)
            if line is None or line.payload is None:
                continue
            payload = line.payload
            if line.type == "session_meta":
                if not named:
                    named = True
                    session, project = _word(payload.id) or session, project_of(payload.cwd)
                    provider = _word(payload.model_provider) or provider
            elif line.type == "turn_context":
                model, effort = _word(payload.model) or model, _word(payload.effort)
            elif payload.type == "token_count" and payload.info is not None:
                total, last = payload.info.total_token_usage, payload.info.last_token_usage
                at = seconds_of(line.timestamp)
                if total is None or total == before or at is None:
                    continue
                used = last if last is not None else total.minus(before)
                before = total
                yield Found(
                    ORIGIN, f"{session}:{total.input_tokens}:{total.output_tokens}", at, provider, ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES,
                    model, Usage(used.input_tokens, used.output_tokens, used.cached_input_tokens, reasoning=used.reasoning_output_tokens),
                    session=session, project=project, client="codex", effort=effort,
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
