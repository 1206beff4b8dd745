"""One exchange's bytes, kept in memory until it is over. Bounded, and never in anybody's way: no call raises, none waits.

Times are seconds on the exchange's monotonic clock. After `end` every call is without effect. An exchange that asks its provider again
calls `provider` again: from there on `provider_request` and `upstream_response` are parts of a further try.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.capture.redact import Headers, is_secret_header, spellings
from penstock.capture.settings import Phase
from penstock.providers import credential
from penstock.providers.credentials import bare

SLACK = 4096
"""Bytes kept beyond a part's limit until it was redacted, so that a secret at the limit is found whole."""
MARKS = 65_536
"""Chunks of a part that have times of their own; later ones count with the last of them."""
TRIES = 16
HEAD = 64 * 1024
"""Bytes of headers of one head."""

LITERALS = 32
"""Spellings of secrets of one exchange that are looked for, besides those of the house."""

_NAMES = frozenset({b"x-penstock-provider", b"x-penstock-project", b"x-penstock-session", b"x-penstock-user"})
"""Headers of ours whose values are words: they are masked where they stand, and stay where the same words stand elsewhere."""

_TRIED = (Phase.PROVIDER_REQUEST, Phase.UPSTREAM_RESPONSE)


class Room:
    """Bytes that all recordings together may hold. Taken on the loop, given back by any thread."""

    __slots__ = ("_back", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._back: deque[int] = deque()

    def take(self, n: int) -> bool:
        if self._back or self.used + n > self.total:
            while self._back:
                self.used -= self._back.popleft()
            if self.used + n > self.total:
                return False
        self.used += n
        return True

    def give(self, n: int) -> None:
        self._back.append(n)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of an exchange when it is routed."""

    exchange: str
    """Its id."""
    began: float
    """Seconds since the epoch."""
    started: float
    """The same moment on the monotonic clock that all later times are on."""
    provider: str | None = None
    """`None`: nobody is asked; the request is refused."""
    model: str | None = None
    """As the client calls it."""
    sent_model: str | None = None
    """As the provider calls it."""
    route: str | None = None
    """The text of the matching route's pattern; `None`: no route matched."""
    fingerprint: str | None = None
    """Of the client's key."""
    protocol: str | None = None
    operation: str | None = None


@dataclass(slots=True, eq=False)
class Part:
    """One phase of one try."""

    phase: Phase
    number: int
    """1 for the first try."""
    limit: int
    """Bytes of body."""
    start: bytes = b""
    """The request line or the status."""
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    """At most `limit + SLACK` bytes."""
    ends: array[int] = field(default_factory=lambda: array("Q"))
    """Where each chunk ends in `body`."""
    times: array[float] = field(default_factory=lambda: array("d"))
    """When each chunk came, in seconds since the exchange began."""
    at: float | None = None
    """When the head came."""
    seen: int = 0
    """Bytes of body that passed."""
    crowded: bool = False
    """There was no room in memory for some of it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A recording that is over, on its way to the disk."""

    subject: Subject
    parts: tuple[Part, ...]
    outcome: str | None
    cause: str | None
    took: float
    """Seconds."""
    held: int
    """Bytes of the shared budget."""
    literals: tuple[bytes, ...]
    """Secrets that are known by their letters."""


class Recording:
    """Made by `Recorder.begin`. `phases`: those that are kept; calls for others cost a look into a dictionary."""

    __slots__ = ("_held", "_literals", "_most_literals", "_on_end", "_parts", "_room", "_share", "_started", "_subject", "_tries", "parts", "phases")

    def __init__(
        self, subject: Subject, phases: Sequence[Phase], max_bytes: int, room: Room, literals: Sequence[bytes],
        on_end: Callable[[Finished | None], None],
    ) -> None:  # fmt: skip
        """`on_end` gets what is over; `None`: a mistake of ours has spoilt it."""
        self._subject = subject
        self._started = subject.started
        self._room = room
        self._literals = list(literals)
        self._most_literals = len(literals) + LITERALS
        self._on_end: Callable[[Finished | None], None] | None = on_end
        self._share = max(1, max_bytes // len(phases))
        self._held = 0
        self._tries = 0
        self._parts: dict[Phase, Part] = {phase: Part(phase, 1, self._share) for phase in phases}
        self.phases: frozenset[Phase] = frozenset(phases)
        self.parts: list[Part] = list(self._parts.values())

    def inbound(self, method: str, target: str, headers: Headers, body: bytes | None, now: float) -> None:
        """The client's request. `body`: as far as it was read; the rest, or all of it, comes in chunks."""
        try:
            self._learn(headers, target.partition("?")[2])
            self.head(Phase.INBOUND_REQUEST, f"{method} {target}".encode("utf-8", "surrogateescape"), headers, now)
            if body:
                self.chunk(Phase.INBOUND_REQUEST, body, now)
        except Exception:  # diagnostics never end an exchange
            self._spoil()

    def provider(self, sent: tuple[bytes, bytes, bytes], now: float) -> None:
        """A request that is sent to the provider: method, target, and the rest from the first header line on. A body that is sent as it
        comes follows in chunks."""
        try:
            self._tries += 1
            if self._tries > 1:
                self._try_again()
            method, target, rest = sent
            end = rest.find(b"\r\n\r\n")
            lines = rest[: max(0, end)].split(b"\r\n")
            pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines if line)]
            self._learn(pairs, target.partition(b"?")[2].decode("latin-1"))
            self.head(Phase.PROVIDER_REQUEST, method + b" " + target, pairs, now)
            at = end + 4
            if end >= 0 and at < len(rest):
                self.chunk(Phase.PROVIDER_REQUEST, rest[at : at + self._share + SLACK], now, len(rest) - at)
        except Exception:  # as in `inbound`
            self._spoil()

    def upload(self, data: bytes, now: float) -> None:
        """A piece of a request's body that goes on to the provider as it comes; without chunked coding."""
        self.chunk(Phase.INBOUND_REQUEST, data, now)
        self.chunk(Phase.PROVIDER_REQUEST, data, now)

    def answer(self, phase: Phase, status: int, headers: Headers, now: float) -> None:
        """The head of the provider's answer, or of ours."""
        self.head(phase, b"%d" % status, headers, now)

    def head(self, phase: Phase, start: bytes, headers: Headers, now: float) -> None:
        try:
            part = self._parts.get(phase)
            if part is None or self._on_end is None:
                return
            kept: list[tuple[bytes, bytes]] = []
            room = HEAD
            for pair in headers:
                room -= len(pair[0]) + len(pair[1])
                if room < 0:
                    break
                kept.append(pair)
            part.start, part.headers, part.at = start[:HEAD], kept, now - self._started
        except Exception:  # as in `inbound`
            self._spoil()

    def chunk(self, phase: Phase, data: bytes, now: float, seen: int | None = None) -> None:
        """Bytes of a body as they passed. `seen`: how many there were, where `data` is only the beginning of them."""
        try:
            part = self._parts.get(phase)
            if part is None or self._on_end is None:
                return
            part.seen += len(data) if seen is None else seen
            room = part.limit + SLACK - len(part.body)
            if room <= 0 or part.crowded or not data:
                return
            if len(data) > room:
                data = data[:room]
            if not self._room.take(len(data)):
                part.crowded = True
                return
            self._held += len(data)
            part.body += data
            if len(part.ends) < MARKS:
                part.ends.append(len(part.body))
                part.times.append(now - self._started)
            else:
                part.ends[-1] = len(part.body)
        except Exception:  # as in `inbound`
            self._spoil()

    def end(self, outcome: str | None, cause: str | None, now: float) -> None:
        """The exchange is over. The first call counts."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        try:
            took = now - self._started
            on_end(Finished(self._subject, tuple(self.parts), outcome, cause, took, self._held, tuple(self._literals)))
        except Exception:  # as in `inbound`
            self._on_end = on_end
            self._spoil()

    def _learn(self, headers: Headers, query: str) -> None:
        """Credentials of a head: they are looked for in everything else, whatever they look like, since errors quote them."""
        found = [bare(value) for name, value in headers if is_secret_header(name) and name.lower() not in _NAMES]
        asked = credential((), query) if query else None
        for secret in (*found, *((asked,) if asked else ())):
            for form in spellings(secret):
                if len(self._literals) < self._most_literals and form not in self._literals:
                    self._literals.append(form)

    def _try_again(self) -> None:
        for phase in _TRIED:
            part = self._parts.get(phase)
            if part is None:
                continue
            if self._tries > TRIES:
                del self._parts[phase]
                continue
            # What earlier tries took of the phase's share is gone: the first is kept, and so is the bound.
            again = Part(phase, self._tries, max(0, part.limit - len(part.body)))
            self._parts[phase] = again
            self.parts.append(again)

    def _spoil(self) -> None:
        on_end, self._on_end = self._on_end, None
        self._room.give(self._held)
        self._parts.clear()
        self.parts.clear()
        if on_end is not None:
            on_end(None)
