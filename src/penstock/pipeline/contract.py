"""The one interface of every mode. `feed` is the hot path of the product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto

from penstock.policy.outside import Question, Verdict
from penstock.protocols.contract import Observer, ProtocolSpec
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.secrets import mask_secrets


class State(Enum):
    RUNNING = auto()
    ENDED = auto()
    """The terminal event was given out; whatever follows changes nothing."""
    CUT = auto()
    """A policy ended the answer; the upstream is to be cancelled."""
    LOOK = auto()
    """Whoever watches is to look behind what was given out just now; it runs on, unless that one says otherwise."""
    BROKEN = auto()
    """The bytes are not in the coding that they were said to be; the upstream is to be cancelled."""


_RUNNING = State.RUNNING


class Pipeline(ABC):
    """One answer on its way. Never raises for any bytes."""

    __slots__ = ("bytes_out", "events", "failures", "first_content_at", "largest_gap", "last_at", "last_content_at", "observer", "state")

    def __init__(self, observer: Observer, now: float) -> None:
        self.observer = observer
        self.state = _RUNNING
        self.events: int = 0
        """Upstream frames with data so far."""
        self.failures: int = 0
        """Times that the observer raised: our bug, and never the client's loss."""
        self.bytes_out: int = 0
        """Body bytes given out, keep-alives among them."""
        self.first_content_at: float | None = None
        self.last_content_at: float | None = None
        """When the content of a stream last went on; `None` where content is not told from other bytes."""
        self.last_at = now
        """When the last bytes came from the provider; at first, when its head came."""
        self.largest_gap = 0.0
        """Seconds: the longest silence between two upstream chunks since the head."""

    @abstractmethod
    def feed(self, data: bytes, now: float) -> bytes:
        """The bytes that may leave now; `data` itself where it ends on a frame boundary and nothing was held or rewritten."""

    @abstractmethod
    def conclude(self, clean: bool, cause: str) -> Outcome:
        """What the end of the upstream's answer means. `clean`: its framing says that it was whole; `cause` says how it was lost otherwise."""

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        """The last bytes for the client: what is still held, or the protocol's own words for `fault`. To be called once."""
        del fault, request_id
        return b""

    @property
    def gathers(self) -> bool:
        """Does nothing go out before `conclude`? Then no head may either: `failure` has the status, if there is one to tell."""
        return False

    def whole(self) -> bytes | None:
        """The body for a client that gets all of it or nothing, once `conclude` has found it whole; `end` gives it out."""
        return None

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        """Behind `conclude`, where the pipeline gathers: status and JSON body of the error that is all that the client can get; `None` where
        there is an answer for it."""
        del request_id
        return None

    @property
    def begun(self) -> bool:
        """Something that means something has come: a frame with data, or bytes of a body. Comments before it could still be taken back."""
        return self.bytes_out > 0

    @property
    def tells_content(self) -> bool:
        """Is progress of content told from other events? Not in bodies, nor where the bytes are not understood."""
        return False

    @property
    def all_told(self) -> bool:
        """Has all come that this provider ever sends (`terminal: finish_reason`)? Only the end of the body is waited for, and not for long."""
        return False

    def keepalive(self) -> bytes:
        """What may be given out now so that the client sees that the stream is alive; empty where nothing may. It counts as given out, and as
        nothing else."""
        return b""

    def follow(self, before: Pipeline) -> None:
        """Go on where `before`, which has spoken to the client in this one's place, leaves off. To be called before the first feed."""
        self.bytes_out += before.bytes_out

    def tail_rows(self, since: float) -> list[tuple[int, str, int]]:
        """The last events of a stream, oldest first: milliseconds after `since`, type, size of the frame in bytes."""
        del since
        return []

    def tail_bytes(self) -> bytes:
        """The last bytes of a stream as they came, coding taken off; empty unless they were to be kept."""
        return b""

    def may_speak(self) -> bool:
        """May an error of ours still be told in band? Not behind a terminal event, nor where the bytes were not understood."""
        return False

    @property
    def has_error(self) -> bool:
        """Has the client the provider's own error, in a stream and behind whole frames? Then it has its end, however the provider goes on: nothing is
        put behind it, and the answer may end properly."""
        return False

    @property
    def mute(self) -> bool:
        """A policy ended it and had no words for the client: it must not end as if it were whole."""
        return False

    def deadline(self) -> float | None:
        """When `tick` wants to be called; `None`: never."""
        return None

    def tick(self, now: float) -> bytes:
        """The bytes that the time itself sets free."""
        del now
        return b""

    @property
    def waiting(self) -> bool:
        """Is an answer from outside waited for? Then the provider is not."""
        return False

    def wants(self) -> list[Question]:
        """Questions to be answered outside, each given once."""
        return []

    def verdict(self, question_id: int, verdict: Verdict, now: float) -> bytes:
        """The answer to a question; returns the bytes that it sets free."""
        del question_id, verdict, now
        return b""

    def close(self) -> None:
        """Give back whatever was held. May be called more than once."""
        return


def upstream_error(observer: Observer, where: str) -> Outcome:
    """The outcome of an answer in which the provider told an error."""
    return error_outcome(observer.error, where)


def error_outcome(error: UpstreamError | None, where: str) -> Outcome:
    """The same for an error that was kept."""
    kind = error.type or error.code or (str(error.status) if error.status else "") if error else ""
    said = f" ({mask_secrets(kind[:400])[:80]})" if kind else ""
    return Outcome(Ending.UPSTREAM_ERROR, f"the provider told an error {where}{said}", EndedBy.UPSTREAM)


def failure_of(spec: ProtocolSpec, error: UpstreamError | None, outcome: Outcome, request_id: str) -> tuple[int, bytes]:
    """Status and body for an answer of which nothing can be given: the provider's own error, or 502 with the cause."""
    if error is not None:
        return spec.error_of(error, request_id)
    fault = Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The provider's answer could not be used: {mask_secrets(outcome.cause)}.")
    return fault.status, spec.error_body(fault, request_id)
