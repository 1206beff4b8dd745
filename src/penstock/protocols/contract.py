"""What every protocol offers: the same five files, gathered in one `ProtocolSpec`.

The conformance suite (`tests/conformance`) holds every registered protocol to what is written here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.events import Event, StopReason
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.said import Said
from penstock.vocabulary.usage import EMPTY_USAGE, Provenance, Usage

# What one frame was, as bits of the integer that `Observer.observe` returns. Plain integers: they are tested per frame on the hot path.
CONTENT = 1
"""Content progress: text, reasoning, refusal, tool arguments, media."""
TERMINAL = 2
"""The protocol's terminal event, of success or of failure; `Observer.error` tells which. Nothing belongs behind it."""
ERROR = 4
"""An error event in band."""
USAGE_ONLY = 8
"""Nothing but usage, sent because usage was asked for (Chat: `choices` empty and `usage` not null, and nothing else of substance)."""
TOOL = 16
"""A tool call began, went on or ended; `Observer.tools` has changed."""
MALFORMED = 32
"""The data did not have the shape that the protocol promises; the frame was not understood (it is forwarded all the same)."""
STATED = 64
"""Content with a word on usage besides. Only observers with `tells_usage` return it."""


# By names of their own: an attribute of an Enum class costs six times a global, and this runs per answer.
_NONE, _REPORTED, _PARTIAL = Provenance.NONE, Provenance.REPORTED, Provenance.PARTIAL


class BadRequest(ValueError):
    """A request body that is not what the protocol needs for routing. Its text is a sentence for the client."""


class BodyError(ValueError):
    """A body or stream from which the other form cannot be made. Its text says why, for the ledger; it is no bug of ours."""


class Peek(msgspec.Struct, frozen=True, gc=False):
    """What routing and observing must know of a request; everything else stays unread."""

    model: str | None
    """`None` where the operation has none."""
    stream: bool
    """True only where the client asked in a way that the protocol defines (JSON `true`; Gemini: the method's name)."""
    usage_asked: bool = True
    """False where the answer will carry no usage unless `ProtocolSpec.ask_usage` is applied (Chat and Completions streams)."""
    said: Said | None = None
    """What it says of whose it is, unread; `None`: nothing."""
    goes_on_from: str | None = None
    """The id of an earlier answer that it continues, kept by the provider."""


class ToolCall:
    """One tool call that is open: it was announced or its arguments began, and they have not ended."""

    __slots__ = ("arguments_at", "kind", "name")

    def __init__(self, name: str | None, kind: str, now: float) -> None:
        self.name = name
        self.kind = kind
        """`function`, `custom`, `mcp`, `shell`, `code_interpreter`, `server` (run by the provider)."""
        self.arguments_at = now
        """Seconds on the caller's monotonic clock: when it was opened, or its arguments last went on. Pings, empty deltas and other calls
        do not move it."""


class Observer(ABC):
    """Reads a stream's events (or one whole body) and knows at each moment what was said so far.

    Promises: `observe` and `observe_body` never raise for any bytes (law 5), do not keep the bytes they were given, and use memory
    that does not grow with the length of the stream. Unknown events and unknown fields are ignored and never fatal.
    """

    __slots__ = (
        "calls", "choices", "error", "final_usage", "malformed", "model", "response_id", "service_tier", "sink", "stop_reason", "terminal", "tools",
        "unknown", "usage",
    )  # fmt: skip
    tells_usage = False
    """Nothing that returns CONTENT and no other bit has changed `usage`."""

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.model: str | None = None
        self.stop_reason: str | None = None
        """The provider's own word, e.g. `end_turn`; of the first choice."""
        self.service_tier: str | None = None
        """The provider's word for how the answer was processed, where its price depends on it: `default`, `priority`, `flex`, `batch`, `fast`."""
        self.usage: Usage = EMPTY_USAGE
        self.final_usage = False
        """The provider has given the figures that count (its last word on usage came, or the terminal event passed after some)."""
        self.error: UpstreamError | None = None
        """The error that the provider told in band (or as the error body of a status)."""
        self.terminal = False
        """The terminal event was seen (TERMINAL was returned)."""
        self.tools: dict[str | int, ToolCall] = {}
        """Open calls by the protocol's own key (item id, block index, or choice and index)."""
        self.calls = 0
        """Tool calls begun so far."""
        self.choices = 0
        """Alternative answers begun so far, where the protocol tells them apart."""
        self.malformed: int = 0
        self.unknown: int = 0
        """Events whose type we do not know."""
        self.sink: list[Event] | None = None
        """Where neutral events go, in order; `None` (the default): none are built. Behind `Failed` no `Ended` comes."""

    @abstractmethod
    def observe(self, name: bytes, data: bytes, now: float) -> int:
        """Read one frame: its event name (empty where it has none) and its data. Returns the bits above.

        `now` is in seconds on the caller's monotonic clock.
        """

    @abstractmethod
    def observe_body(self, body: bytes) -> None:
        """Read one whole JSON body of an answer below 400: ids, model, stop reason, usage. A body that is not understood sets nothing
        but `malformed`."""

    def assume(self, model: str | None, at: int) -> None:
        """What an error of ours may name where the provider has named none: the model that was asked for, and when (seconds since the epoch). No
        dialect but Responses names either in an error."""
        del model, at

    def observe_error(self, status: int, body: bytes) -> None:
        """Read the body of an answer with a status of 400 or above into `error`; a body that is not understood gives its status alone."""
        self.error = UpstreamError(status=status)

    def closable(self) -> bool:
        """Would a clean end of the body now be a complete answer? Where there is a terminal event: only after it."""
        return self.terminal

    def finished(self) -> bool:
        """Does only the frame lack that ends every stream of this protocol (`ProtocolSpec.closing`), because every choice that began has its
        finish reason? False where the protocol has no such frame."""
        return False

    def provenance(self) -> Provenance:
        if self.usage == EMPTY_USAGE:
            return _NONE
        return _REPORTED if self.final_usage else _PARTIAL


class Followed(Observer):
    """An observer that tells somebody of every frame but those with nothing but content of what has begun: of these it sees that they are no more."""

    __slots__ = ("follower",)

    def __init__(self) -> None:
        super().__init__()
        self.follower: Callable[[bytes, bytes], None] | None = None
        """Called with event name and data."""


Observe = Callable[[bytes, bytes, float], int]
"""`Observer.observe` of one observer, or something in its place."""


class Assembler(ABC):
    """Folds a stream into the body that the same request would have had without streaming."""

    held: int = 0
    """Bytes that it holds of the stream so far: an estimate, never much below what it is, and what a caller bounds it by."""

    @abstractmethod
    def feed(self, name: bytes, data: bytes) -> None:
        """Add one frame. Raises `BodyError` where the frame contradicts those before it."""

    @abstractmethod
    def body(self) -> bytes:
        """The whole body, as UTF-8 JSON. Raises `BodyError` where the stream was not complete. Unknown fields and blocks are kept."""


class Renderer(ABC):
    """Turns neutral events into one protocol's stream. Stateful: one per answer. Chunk for chunk, in order, nothing left out."""

    @abstractmethod
    def render(self, event: Event) -> bytes:
        """The frames that `event` becomes, empty where this dialect has no word for it. After `Ended` nothing may follow. Raises
        `BodyError` where the events cannot be said in it (tool arguments that are no JSON object, in Gemini)."""


class Closer(ABC):
    """Follows a stream that may have to be ended by a policy, so that it can be ended in the protocol's own words: as an answer that was stopped,
    with everything closed that the provider had opened. One per answer. Its memory is bounded; `see` and `close` never raise."""

    __slots__ = ()

    content_goes_on: ClassVar = False
    """It need not see frames with nothing but content of what has begun."""

    @abstractmethod
    def see(self, name: bytes, data: bytes) -> None:
        """One frame of the provider's."""

    def beside(self, observer: Observer, observe: Observe) -> Observe:
        """`observe`, which tells `observer` of a frame, and this closer besides, as far as it needs it. An observer that has a `follower` tells it
        itself of what is more than content that goes on."""
        if self.content_goes_on and isinstance(observer, Followed):
            observer.follower = self.see
            return observe
        see = self.see

        def both(name: bytes, data: bytes, now: float) -> int:
            see(name, data)
            return observe(name, data, now)

        return both

    @abstractmethod
    def close(self, reason: StopReason, usage: Usage) -> list[tuple[bytes, bytes]] | None:
        """The frames (event name, data) that end it for this reason (`LENGTH`, `CONTENT_FILTER`); `usage`: as far as it is known. `None`: it cannot
        be said, and an error is right: nothing has begun, a tool call is open, or what came was not understood."""


class Unfold(Protocol):
    """`unfold(operation, body)`: the frames of a stream that `assembler` folds back into `body`. Raises `BodyError`, before the first frame."""

    def __call__(self, operation: Operation, body: bytes, size: int | None = None, *, usage: bool = True) -> Iterable[bytes]:
        """`size`: characters of one piece of text (at least 1); `None`: by words. `usage`: False leaves out the frame that a client of this
        protocol gets only where it asks for it (Chat, Completions); protocols without such a frame tell usage always."""
        ...


class AskOtherwise(Protocol):
    """Path, query (without its question mark) and body of the same request asked the other way, with no other byte changed; `None` where it cannot
    be, or would not mean the same, and is to be sent as it is. To be called only with requests that `peek` has read."""

    def __call__(self, operation: Operation, path: str, query: str, body: bytes, *, usage: bool = True) -> tuple[str, str, bytes] | None:
        """`usage`: a stream that tells its usage; False for providers that refuse to be asked for it. Without meaning for a whole body."""
        ...


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """One protocol, as the registry lists it. All functions are pure and never block."""

    id: ProtocolId
    peek: Callable[[Operation, str, str, bytes], Peek]
    """`peek(operation, path, query, body)`: raises `BadRequest` (not JSON, no object, no model where one is needed)."""
    rename: Callable[[Operation, str, bytes, str], tuple[str, bytes]]
    """`rename(operation, path, body, model)`: path and body with the model's name changed and no other byte."""
    ask_usage: Callable[[bytes], bytes] | None
    """A body that asks for usage in the stream, no other byte changed; `None` where the protocol always tells it."""
    observer: Callable[[Operation], Observer]
    assembler: Callable[[Operation], Assembler]
    unfold: Unfold
    ask_stream: AskOtherwise
    """A request for a whole body, asked as a stream (of server-sent events) that `assembler` can fold."""
    ask_whole: AskOtherwise
    """A request for a stream, asked as a whole body that `unfold` can tell."""
    renderer: Callable[[Operation], Renderer]
    error_body: Callable[[Fault, str], bytes]
    """`error_body(fault, request_id)`: the JSON body of an error before the first byte."""
    error_frame: Callable[[Fault, str, Observer], bytes]
    """`error_frame(fault, request_id, observer)`: the frames that end a stream badly after its first byte, in SSE form, with what
    must precede them (Responses: `response.created` where none was seen)."""
    error_of: Callable[[UpstreamError, str], tuple[int, bytes]]
    """`error_of(error, request_id)`: status and JSON body of an error that a provider told, in band before anything else or in a body
    that is not this protocol's. Its own words, where it said any; `statuses.status_of` says how its words become a status."""
    keepalive: bytes
    """What keeps a stream of server-sent events open and means nothing, whole: behind any whole frame (or before the first) it changes
    no event that a client reads."""
    closing: bytes = b""
    """The frame that completes a stream with a finish reason, for providers that never send one; empty where there is none."""
    array_asked: Callable[[str], bool] | None = None
    """`array_asked(query)`: would a stream come as a JSON array instead of server-sent events? `None`: this protocol has no such form."""
    error_element: Callable[[Fault, str], bytes] | None = None
    """`error_element(fault, request_id)`: an error as an element of that array."""
    closer: Callable[[Operation], Closer] | None = None
    """Ends a stream of this operation in the protocol's own words; `None`: only an error can end it."""
    bounced: Callable[[int, bytes], bool] | None = None
    """`bounced(status, body)`: is this error a refusal to answer without streaming, which the same request asked as a stream would not get?
    `None`: this protocol's providers give none."""
    mark_cache: Callable[[Operation, bytes], bytes | None] | None = None
    """`mark_cache(operation, body)`: a body that asks its provider to cache the prompt, no other byte changed; `None` where that is asked already
    or not worth it. The field is `None` where the protocol's providers cache by themselves, or not at all."""
