"""One exchange's row, as the hot path fills it. Pure: no clock, no lock, no database.

An entry belongs to one thread, the event loop's, from `Entry()` to `settle`. Everything else is set before `settle` is called; the
ledger's thread may read it at any time and copes with what it finds, because a row is overwritten whole until it is settled.
Attributes are plain values; members of the shared `StrEnum`s are welcome where a `str` is asked for.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import astuple

from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.outcome import Ending, Outcome
from penstock.vocabulary.said import Said
from penstock.vocabulary.usage import NO_KINDS, Kinds, Provenance, Usage
from penstock.wire.secrets import mask_known, mask_name, mask_secrets

KINDS: tuple[str, ...] = tuple(f"{name}_tokens" for name in Kinds.__struct_fields__)
"""The columns of `Kinds`, in its order."""

COLUMNS: tuple[str, ...] = (
    "id", "instance", "started_at", "settled_at", "outcome", "cause", "ended_by", "status", "upstream_status", "provider",
    "client_protocol", "upstream_protocol", "operation", "method", "path", "streamed", "response_id", "requested_model", "model",
    "stop_reason", "usage_source", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "tool_use_tokens", "tool_requests",
    "ttft_ms", "duration_ms", "largest_gap_ms", "events", "bytes_in", "bytes_out", "retries", "upstream_request_id", "user_agent",
    "key_fingerprint", "error_type", "error_code", "error_message", "malformed", "late_settles", "timer", "route", "dial_ms",
    "head_ms", "tries", "tail", "tail_bytes", "cost_nanousd", "saved_nanousd", "price_version", "service_tier", "web_searches",
    "user_id", "project", "session_id", "client", "effort", "preview", "origin",
    "key_id", "charged_input", "charged_output", "charged_micros", "rule", "findings", "held_chars", "held_ms", "replay", "replay_of",
    "avoided_nanousd", *KINDS,
)  # fmt: skip
"""Every column, in the order of the table and of every row tuple. What each means: `docs/ledger.md`."""

_SELDOM = frozenset({
    "tool_use_tokens", "tool_requests", "web_searches", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "error_type", "error_code", "error_message", "timer", "tries",
    "tail", "tail_bytes", "saved_nanousd", "preview", "origin", "findings",
    "held_chars", "held_ms", "replay", "replay_of", "avoided_nanousd", *KINDS,
})

WORD = 256
"""Characters that an outsider's word (a model's name, an id) may take in a row."""
LINE = 1024
"""Characters of a path or a user agent."""
SENTENCE = 500
"""Characters of an error message or a cause."""
KIND = 64
"""Characters of an event's type in a tail."""
EVENTS = 64
"""Events that a tail holds."""
TAIL_BYTES = 16 * 1024
"""Bytes of a stream that are kept with `tail: content`."""
TRIES = 16
"""Tries that a row tells of; `retries` counts them all."""
FINDINGS = 64
"""Findings of guards that a row tells of."""
TOKENS_LIMIT = 10**12
"""A count beyond it (or below 0) is no count and is stored as unknown; so sums over nine million rows cannot overflow 64 bits."""
_NOTHING = Usage(input=0, output=0)
_TOLD = Ending.UPSTREAM_ERROR
_text = str.__str__
"""Of a member of a `StrEnum`, in one C call; `.value` is a Python call."""
_READ = 4096
"""How much of an error message is read at all."""


class Book(Protocol):
    """Whom a settled entry tells. Called on the entry's own thread; must not block and must not raise."""

    def note_settled(self, entry: Entry) -> None: ...
    def note_late(self, entry: Entry) -> None: ...


class Maker(NamedTuple):
    """Where a response (file, batch) was made, and for whom; `None`: not known. A user may be one that somebody only said to be."""

    provider: str
    key_id: str | None = None
    user_id: str | None = None


class Try(msgspec.Struct, frozen=True, gc=False):
    """A try at a provider that was not the last one."""

    after_ms: float
    """From the request to this try's end."""
    status: int | None
    """The provider's, where it came to one."""
    cause: str


class Spared(msgspec.Struct, gc=False):
    """What an answer that was told again would have used, by the names of a row's columns."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    reasoning_tokens: int | None
    audio_input_tokens: int | None
    audio_output_tokens: int | None
    tool_use_tokens: int | None
    web_searches: int | None
    kinds: Kinds | None


class Found(msgspec.Struct, frozen=True, gc=False):
    """How often one guard did one thing in a request or an answer."""

    guard: str
    action: str
    """`mask`, `reject`, `audit`; `let_go`: texts that passed unjudged; `error`: questions to an external guard without a usable answer."""
    where: str
    """`request` or `response`."""
    hits: int


class Entry:
    """A row in the making. `None` is unknown: counts that were never taken (`events`, `bytes_out`) stay `None`, not 0.

    `id` is the exchange's id. `started_at` is in seconds since the epoch (UTC). `timer`, `route`, `dial_ms` and `head_ms` are set like any
    other; `tries`, `findings`, `tail` and `tail_bytes` by the methods that bound them. What it cost and whose it was are filled in by the
    ledger's thread (`ascribe`), from `said` (fields of the request's body), `prompt` (the whole of it, only where previews are on) and
    `marked` (we put in what makes a provider cache the prompt). `refused_by` is the kind of what `rule` names, for whoever counts.
    `known` are secrets that a provider's words may quote: set before any of these is kept, masked in all of them, and gone with `settle`.
    `kinds` is what stands in `KINDS`, in one piece.

    Plain slots, measured: a msgspec.Struct is made 0.2 us sooner and takes 0.6 us longer to be given the 40 values of an exchange. What few
    exchanges have is no slot: it is the class's until it is set, and takes neither time nor room before.
    """

    tool_use_tokens: int | None = None
    tool_requests: int | None = None
    web_searches: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    timer: str | None = None
    tries: str | None = None
    tail: str | None = None
    tail_bytes: str | None = None
    saved_nanousd: int | None = None
    preview: str | None = None
    origin: str | None = None
    findings: str | None = None
    held_chars: int | None = None
    held_ms: float | None = None
    replay: str | None = None
    replay_of: str | None = None
    avoided_nanousd: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    video_input_tokens: int | None = None
    video_output_tokens: int | None = None
    cache_read_audio_tokens: int | None = None
    cache_read_image_tokens: int | None = None
    cache_read_video_tokens: int | None = None
    kinds: Kinds | None = None
    refused_by: str | None = None
    spared: Spared | None = None
    prompt: bytes | None = None
    marked: bool = False
    known: Sequence[str] = ()

    __slots__ = (*(name for name in COLUMNS if name not in _SELDOM), "__dict__", "ascribed", "book", "priced", "queued", "said")

    def __init__(self, id: str, started_at: float) -> None:
        self.id: str = id
        self.instance: str | None = None
        self.started_at: float = started_at
        self.settled_at: float | None = None
        self.outcome: str | None = None
        self.cause: str | None = None
        self.ended_by: str | None = None
        self.status: int | None = None
        self.upstream_status: int | None = None
        self.provider: str | None = None
        self.client_protocol: str | None = None
        self.upstream_protocol: str | None = None
        self.operation: str | None = None
        self.method: str | None = None
        self.path: str | None = None
        self.streamed: bool | None = None
        self.response_id: str | None = None
        self.requested_model: str | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        self.usage_source: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cache_read_tokens: int | None = None
        self.cache_write_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.audio_input_tokens: int | None = None
        self.audio_output_tokens: int | None = None
        self.ttft_ms: float | None = None
        self.duration_ms: float | None = None
        self.largest_gap_ms: float | None = None
        self.events: int | None = None
        self.bytes_in: int | None = None
        self.bytes_out: int | None = None
        self.retries: int | None = None
        self.upstream_request_id: str | None = None
        self.user_agent: str | None = None
        self.key_fingerprint: str | None = None
        self.malformed: int | None = None
        self.late_settles: int = 0
        self.route: str | None = None
        self.dial_ms: float | None = None
        self.head_ms: float | None = None
        self.cost_nanousd: int | None = None
        self.price_version: str | None = None
        self.service_tier: str | None = None
        self.user_id: str | None = None
        self.project: str | None = None
        self.session_id: str | None = None
        self.client: str | None = None
        self.effort: str | None = None
        self.said: Said | None = None
        self.ascribed: bool = False
        self.priced: bool = False
        self.key_id: str | None = None
        self.charged_input: int | None = None
        self.charged_output: int | None = None
        self.charged_micros: int | None = None
        self.rule: str | None = None
        self.book: Book | None = None
        self.queued: bool = False

    def settle(self, outcome: Outcome, settled_at: float) -> bool:
        """End the exchange. The first call wins and returns True; each later one is counted and changes nothing else.

        `settled_at` is in seconds since the epoch. Never blocks, never raises. Also works on an entry that was never opened with a
        ledger (it is settled, and nothing is written).
        """
        book = self.book
        if self.outcome is not None:
            self.late_settles += 1
            if book is not None:
                book.note_late(self)
            return False
        if self.known or outcome.ending is _TOLD or self.error_message is not None or len(outcome.cause) > SENTENCE:
            self._clip_rare(outcome)
        else:
            self.cause = outcome.cause
        self._clip_answer()
        self.settled_at = settled_at
        self.ended_by = _text(outcome.ended_by)
        # Last: a row is read as settled from the moment its outcome is there.
        self.outcome = _text(outcome.ending)
        if book is not None:
            book.note_settled(self)
        return True

    def account(self, usage: Usage, provenance: Provenance) -> None:
        """Take over what the answer used, and where the figures come from. Called once."""
        self.usage_source = _text(provenance)
        self.input_tokens = usage.input
        self.output_tokens = usage.output
        self.cache_read_tokens = usage.cache_read
        self.cache_write_tokens = usage.cache_write
        self.reasoning_tokens = usage.reasoning
        self.audio_input_tokens = usage.audio_input
        self.audio_output_tokens = usage.audio_output
        if usage.cache_write_5m is not None:
            self.cache_write_5m_tokens = usage.cache_write_5m
        if usage.cache_write_1h is not None:
            self.cache_write_1h_tokens = usage.cache_write_1h
        if usage.tool_use is not None:
            self.tool_use_tokens = usage.tool_use
        if usage.tool_requests is not None:
            self.tool_requests = usage.tool_requests
        if usage.web_searches is not None:
            self.web_searches = usage.web_searches
        if usage.kinds is not None:
            self._tell_apart(usage.kinds)

    def _tell_apart(self, kinds: Kinds | None) -> None:
        # Bounded here, where few come by, and not by the table as the other counts are: a check there would be made for every row.
        counts = [value if value is not None and 0 <= value <= TOKENS_LIMIT else None for value in astuple(kinds or NO_KINDS)]
        self.kinds = found = Kinds(*counts)
        if found == NO_KINDS:
            self.kinds = None
        for name, value in zip(KINDS, counts, strict=True):
            setattr(self, name, value)

    def spare(self) -> None:
        """The answer was another exchange's: nothing was used for it. What it would have been is kept for its price."""
        self.spared = Spared(
            self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens, self.cache_write_5m_tokens,
            self.cache_write_1h_tokens, self.reasoning_tokens, self.audio_input_tokens, self.audio_output_tokens, self.tool_use_tokens,
            self.web_searches, self.kinds,
        )  # fmt: skip
        self.account(_NOTHING, Provenance.NONE)
        if self.kinds is not None:
            self._tell_apart(None)
        self.cache_write_5m_tokens = self.cache_write_1h_tokens = None
        self.tool_use_tokens = self.tool_requests = self.web_searches = None

    def blame(self, error: UpstreamError) -> None:
        """Keep the provider's error: type, code, and a short message, secrets masked in all three."""
        known = self.known
        self.error_type = None if error.type is None else _shorten(error.type, WORD, known)
        self.error_code = None if error.code is None else _shorten(error.code, WORD, known)
        self.error_message = None if error.message is None else _shorten(error.message, SENTENCE, known)

    def keep_tries(self, tries: Iterable[Try]) -> None:
        """Keep how each try before the last one ended; the causes masked and short, the first `TRIES` of them."""
        rows = [
            {"after_ms": round(t.after_ms, 1), "status": t.status, "cause": _storable(t.cause, WORD, self.known)} for t in islice(tries, TRIES)
        ]
        self.tries = _spell(rows)

    def keep_findings(self, found: Iterable[Found]) -> None:
        """Keep what guards found, the first `FINDINGS` of it."""
        self.findings = msgspec.json.encode(list(islice(found, FINDINGS))).decode()

    def keep_tail(self, events: Sequence[tuple[float, str, int]]) -> None:
        """Keep the last events of a stream that ended badly: `(milliseconds from the request, type, bytes)`, the last `EVENTS` of them."""
        last = events[-EVENTS:]
        named = {kind: _storable(kind, KIND, self.known) for kind in {kind for _, kind, _ in last}}  # few: each is masked once
        rows = [(round(at, 1), named[kind], size) for at, kind, size in last]
        self.tail = _spell(rows)

    def keep_bytes(self, data: bytes) -> None:
        """Keep the last `TAIL_BYTES` of the stream's bytes, what looks like a secret masked; only where its route says `tail: content`."""
        if data:
            # Every byte is a letter in latin-1, and comes back as it was.
            text = mask_secrets(mask_known(data[-TAIL_BYTES:].decode("latin-1"), self.known))
            self.tail_bytes = b64encode(text.encode("latin-1")).decode()

    def clip_request(self) -> None:
        """Bound what the client's request wrote into the row (law 4), and mask a key in the place of a model's name. Called once, when the entry is
        opened."""
        if self.path is not None and len(self.path) > LINE:
            self.path = self.path[:LINE]
        if self.user_agent is not None and len(self.user_agent) > LINE:
            self.user_agent = self.user_agent[:LINE]
        if self.requested_model is not None:
            self.requested_model = _name(self.requested_model[:_READ])

    def _clip_answer(self) -> None:
        # Written out, not looped: this runs once per exchange on the event loop.
        if self.response_id is not None and len(self.response_id) > WORD:
            self.response_id = self.response_id[:WORD]
        if self.model is not None:
            self.model = _name(self.model[:_READ])
        if self.stop_reason is not None and len(self.stop_reason) > WORD:
            self.stop_reason = self.stop_reason[:WORD]
        if self.upstream_request_id is not None and len(self.upstream_request_id) > WORD:
            self.upstream_request_id = self.upstream_request_id[:WORD]

    def _clip_rare(self, outcome: Outcome) -> None:
        told = outcome.ending is _TOLD  # its cause may hold words of the provider's
        self.cause = _shorten(outcome.cause, SENTENCE, self.known) if told else outcome.cause[:SENTENCE]
        if self.error_message is not None:
            # Once more, for those who set the attribute themselves; masking what is masked changes nothing.
            self.error_message = _shorten(self.error_message, SENTENCE, self.known)
        if self.known:
            del self.known


row_of = attrgetter(*COLUMNS)
"""The row tuple of an entry, in the order of `COLUMNS`. One C call: no settle can come in between."""


def _shorten(text: str, limit: int, known: Sequence[str]) -> str:
    # Masked before it is cut, so that no half of a secret is left at the cut.
    return mask_secrets(mask_known(text[:_READ], known))[:limit]


@lru_cache(maxsize=256)
def _name(text: str) -> str:
    # Remembered: masking takes as long as all else of a row, and most of them name the same few models.
    return mask_name(text)[:WORD]


def _spell(rows: Sequence[object]) -> str | None:
    return msgspec.json.encode(rows).decode() if rows else None


def _storable(text: str, limit: int, known: Sequence[str]) -> str:
    """As `_shorten`, without halves of surrogate pairs, which no JSON can hold."""
    return _shorten(text, limit, known).encode("utf-8", "replace").decode()
