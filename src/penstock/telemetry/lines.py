"""What is written of one exchange and of one message of the process: for people, and for programs. Nothing here does I/O.

No text of an outsider can begin a line of its own or steer a terminal: whatever is not printable becomes `?`, and long words are cut.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import msgspec

from penstock.telemetry.metrics import TOKENS_LIMIT, Countable, read_findings
from penstock.vocabulary.outcome import Ending
from penstock.wire.secrets import mask_secrets

WORD = 300
"""Characters of one outsider's word that are shown."""
SENTENCE = 500
MESSAGE = 2000

_COLOURS: dict[str, str] = {Ending.COMPLETE: "32", Ending.CLIENT_GONE: "33", Ending.SHUTDOWN: "33", Ending.UNVERIFIED: "33", Ending.REFUSED: "35"}
"""Every other ending is red, as in the tables of the command line."""
_LEVELS = {"warning": "33", "error": "31"}


class Settled(Countable, Protocol):
    """What a line needs of a settled entry; `ledger.entry.Entry` is one."""

    id: str
    started_at: float
    settled_at: float | None
    method: str | None
    path: str | None
    cause: str | None
    model: str | None
    requested_model: str | None
    route: str | None
    rule: str | None
    replay_of: str | None


class Message:
    """Something that the process says of itself. Made on any thread; what costs time is done when it is written."""

    __slots__ = ("at", "level", "logger", "text", "where")

    def __init__(self, at: float, level: str, logger: str, text: str, where: str | None = None) -> None:
        """`at` in seconds since the epoch. `where`: the type of an exception and where it was raised, never its words."""
        self.at = at
        self.level = level
        self.logger = logger
        self.text = text[: 2 * MESSAGE]
        self.where = where

    def plain(self) -> str:
        """The text as it may be shown: its first line, secrets masked."""
        return _plain(mask_secrets(self.text.strip().partition("\n")[0]), MESSAGE)


class ExchangeLine(msgspec.Struct, gc=False):
    """The object of an exchange; `null` is unknown, never 0. Times of day in UTC, tokens as the provider states them."""

    time: str
    level: str
    id: str
    outcome: str | None
    cause: str | None
    ended_by: str | None
    timer: str | None
    rule: str | None
    status: int | None
    upstream_status: int | None
    provider: str | None
    route: str | None
    model: str | None
    requested_model: str | None
    method: str | None
    path: str | None
    protocol: str | None
    operation: str | None
    streamed: bool | None
    ttft_ms: float | None
    duration_ms: float | None
    largest_gap_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    retries: int | None
    bytes_in: int | None
    bytes_out: int | None
    replay: str | None
    replay_of: str | None
    findings: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """What guards found; left out where that is nothing."""


class MessageLine(msgspec.Struct, gc=False):
    """The object of a message."""

    time: str
    level: str
    logger: str
    message: str
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_COMPLETE = str.__str__(Ending.COMPLETE)


def level_of(entry: Settled) -> str:
    """`info`, or `warning` where the answer did not come to its proper end."""
    return "info" if entry.outcome == _COMPLETE else "warning"


def exchange_json(entry: Settled) -> bytes:
    """One object, without the line's end."""
    cause, route, model, requested, method, path = entry.cause, entry.route, entry.model, entry.requested_model, entry.method, entry.path
    rule = None if entry.rule is None else _word(entry.rule)
    # Mostly there is nothing to be cut or replaced in any of them, and one look at all is enough.
    told = f"{cause}{route}{model}{requested}{method}{path}"
    if len(told) > WORD or not told.isprintable():
        cause, route, model, requested, method, path = (
            _word(cause, SENTENCE), _word(route), _word(model), _word(requested), _word(method), _word(path))  # fmt: skip
    ttft, duration, gap = entry.ttft_ms, entry.duration_ms, entry.largest_gap_ms
    return _encode(ExchangeLine(
        _time(entry.settled_at or entry.started_at), "info" if entry.outcome == _COMPLETE else "warning", entry.id, entry.outcome, cause,
        entry.ended_by, entry.timer, rule, entry.status, entry.upstream_status, entry.provider, route, model, requested, method, path,
        entry.client_protocol, entry.operation, entry.streamed, None if ttft is None else round(ttft, 3),
        None if duration is None else round(duration, 3), None if gap is None else round(gap, 3), _tokens(entry.input_tokens),
        _tokens(entry.output_tokens), _tokens(entry.cache_read_tokens), _tokens(entry.cache_write_tokens), _tokens(entry.reasoning_tokens),
        entry.retries, entry.bytes_in, entry.bytes_out, entry.replay, entry.replay_of,
        msgspec.UNSET if entry.findings is None else msgspec.Raw(entry.findings.encode()),
    ))  # fmt: skip


def message_json(message: Message) -> bytes:
    """One object, without the line's end."""
    return _encode(MessageLine(_time(message.at), message.level, _plain(message.logger), message.plain(), message.where))


def exchange_text(entry: Settled, colour: bool = False) -> bytes:
    """Time, id, outcome, what was asked of whom, figures, and the cause where it is not an ordinary end."""
    time, outcome = _time(entry.settled_at or entry.started_at), str(entry.outcome)
    if colour:
        time, outcome = f"\x1b[2m{time}\x1b[0m", f"\x1b[{_COLOURS.get(outcome, '31')}m{outcome}\x1b[0m"
    out = f"{time} {entry.id} {outcome} {entry.status or '-'} {_plain(entry.method) or '-'} {_plain(entry.path)}"
    if entry.provider:
        out += f" provider={entry.provider}"
    model = entry.model or entry.requested_model
    if model:
        model = _plain(model)
        out += f" model={model!r}" if " " in model else f" model={model}"  # no word of it passes for another field
    if entry.input_tokens is not None or entry.output_tokens is not None:
        out += f" tokens={_count(entry.input_tokens)}/{_count(entry.output_tokens)}"
        if entry.cache_read_tokens or entry.cache_write_tokens:
            out += f" cache={_count(entry.cache_read_tokens)}/{_count(entry.cache_write_tokens)}"
        if entry.reasoning_tokens:
            out += f" reasoning={entry.reasoning_tokens}"
    if entry.ttft_ms is not None:
        out += f" ttft={entry.ttft_ms:.0f}ms"
    if entry.largest_gap_ms is not None and entry.streamed:
        out += f" gap={entry.largest_gap_ms:.0f}ms"
    if entry.duration_ms is not None:
        out += f" took={entry.duration_ms:.0f}ms"
    if entry.bytes_in is not None or entry.bytes_out is not None:
        out += f" bytes={_count(entry.bytes_in)}/{_count(entry.bytes_out)}"
    if entry.retries:
        out += f" retries={entry.retries}"
    if entry.findings is not None:
        out += f" guards={','.join([f'{_plain(one.guard)}:{one.action}@{one.where}={one.hits}' for one in read_findings(entry.findings)])}"
    if entry.replay:
        out += f" replay={entry.replay} of={entry.replay_of}"
    if entry.cause and entry.outcome != Ending.COMPLETE:
        timer = f" timer={entry.timer}" if entry.timer else ""
        rule = f" rule={_plain(entry.rule)!r}" if entry.rule else ""
        out += f" by={entry.ended_by}{timer}{rule} cause={_plain(entry.cause, SENTENCE)!r}"
    return out.encode()


def message_text(message: Message, colour: bool = False) -> bytes:
    time, level = _time(message.at), message.level
    if colour:
        time, level = f"\x1b[2m{time}\x1b[0m", f"\x1b[{_LEVELS.get(level, '0')}m{level}\x1b[0m"
    where = f" ({message.where})" if message.where else ""
    return f"{time} {level} {_plain(message.logger)}: {message.plain()}{where}".encode()


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _time(at: float) -> str:
    return f"{_second(int(at))}.{int(at * 1000) % 1000:03d}Z"


def _count(n: int | None) -> str:
    return "?" if n is None else str(n)


def _tokens(count: int | None) -> int | None:
    """A count that no answer can have is unknown, as in the ledger."""
    return count if count is not None and 0 <= count <= TOKENS_LIMIT else None


def _word(text: str | None, limit: int = WORD) -> str | None:
    return None if text is None else _plain(text, limit)


def _plain(text: str | None, limit: int = WORD) -> str:
    if not text:
        return ""
    if len(text) <= limit and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text[:limit])
