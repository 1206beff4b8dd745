"""How a provider is asked: the tries of one exchange, and what each came to. Part of `drive`."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from penstock.capture import AnswerTap, Recording
from penstock.dedup import Form, Record
from penstock.exchange.admitting import Pass
from penstock.exchange.compose_request import credentials_of, without
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import ClientRequest, Reply
from penstock.exchange.following import Source
from penstock.exchange.gateway import Demo, Gateway
from penstock.exchange.legacy import LegacyTurn
from penstock.exchange.machine import Machine, Phase
from penstock.exchange.notice import Gate
from penstock.exchange.quirks import Quirks
from penstock.exchange.retry import Tries
from penstock.exchange.settle import open_entry
from penstock.exchange.telling import Telling
from penstock.ledger.entry import Try
from penstock.pipeline.guarded import REFUSAL
from penstock.pipeline.guarding import JUDGED
from penstock.pipeline.pseudo import Pace
from penstock.policy.failures import guard_error, guard_failure, in_words_of, unread_failure
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings
from penstock.protocols.contract import Peek
from penstock.providers import Provider
from penstock.upstream.contract import Ask, Receiver
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.ids import ProtocolId

if TYPE_CHECKING:
    from penstock.exchange.joining import Flight

_FIRST = ProtocolId.OPENAI_CHAT
NOTHING_KNOWN = Peek(None, stream=False)
UNREAD = Peek(None, stream=False)
"""Of a body that should say something, and cannot be read."""
Sent = tuple[bytes, bytes, bytes]
"""An upstream request: method, target, and the rest from the first header line on."""


class Asking(Telling):
    """The provider's side of one exchange, until an answer is given out."""

    peek = NOTHING_KNOWN
    provider: Provider | Demo | None = None
    sent: Sent | None = None
    """The upstream request, kept until the answer is given out."""
    again: Callable[[], Sent] | None = None
    """The same request without the field that we added."""
    as_stream: Callable[[bool], Sent | None] | None = None
    """The same request asked as a stream, where it may come to that; with its usage or without. `None` comes back where it cannot be."""
    folded = False
    """The provider was asked for a stream, the client wants a body."""
    lean = False
    """Where it is `folded`: without the usage that is told on demand, which this provider is not asked for."""
    pace: Pace | None = None
    """The provider was asked for a body, the client wants a stream."""
    streams_anyway = False
    """Where it has a `pace`: what came is a stream (raw text of legacy Argo, too)."""
    taken = 0
    """Bytes of the shared budget of request bodies that this exchange holds."""
    permits: tuple[str, ...] = ()
    """What it holds of `Gateway.permits`."""
    take_usage = False
    uploading = False
    moved_at = 0.0
    """When something last came of what is uploaded, or of a request that is read whole."""
    chunked = False
    """The request's body comes in chunks."""
    paused_at: float | None = None
    """Since when the client has taken nothing."""
    judged: Findings | None = None
    """What guards found in the request."""
    failing: Findings | None = None
    """What they found in an error in the place of an answer."""
    recording: Recording | None = None
    """Where the exchange is captured."""
    quirks: Quirks | None = None
    """What the provider wants besides."""
    record: Record | None = None
    """What others may have of its answer."""
    flight: Flight | None = None
    """Who follows."""
    source: Source | None = None
    """Where it is told another's answer."""
    noted: int | None = None
    """Where the last read of the answer lies in the log of notes (`joining`); 0: the notes know; `None`: nothing is noted."""
    _gate: Gate | None = None
    legacy: LegacyTurn | None = None
    """Where legacy Argo is asked in its own words."""
    _ask: Ask | None = None
    _tries: Tries | None = None
    _tried: list[Try] | None = None
    _pausing: asyncio.TimerHandle | None = None

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        self.gateway = gateway
        self.reply = reply
        self.id = entry_id = gateway.next_id()
        self.entry = open_entry(entry_id, gateway.instance, request)
        self.spec = gateway.specs[_FIRST]
        self.started = gateway.clock()
        self.request: ClientRequest | None = request
        self.machine = Machine()
        if request.chunked:
            self.chunked = True
        self.conduct: Conduct = gateway.conduct

    @abstractmethod
    def noticed(self, text: str, now: float) -> None: ...

    @property
    def provider_name(self) -> str:
        return self.provider.name if self.provider is not None else "?"

    @property
    def tries(self) -> Tries:
        if self._tries is None:
            self._tries = Tries(self.conduct.retries)
        return self._tries

    @property
    def can_try(self) -> bool:
        """Could another try be made? Not once the client has left, nor where what was sent is no longer here."""
        return self.sent is not None and self.reply is not None and self.machine.phase in (Phase.DIALING, Phase.HEAD_HELD, Phase.EARLY)

    def known(self) -> Sequence[str]:
        """Secrets that the provider's words may quote. From now on the row masks them, too: for answers that are no good ones, before any of their
        words is kept or told."""
        entry, plan, provider = self.entry, self.plan, self.provider
        if not entry.known and entry.outcome is None and plan is not None and provider is not None and not isinstance(provider, Demo):
            found = credentials_of(plan, provider)
            if found:
                entry.known = found
        return entry.known

    def shown(self, error: UpstreamError) -> UpstreamError:
        """The provider's `error` as the client may be told it in words of ours."""
        error, guards = without(error, self.known()), self._over_failures()
        if guards is None:
            return error
        findings = self.failing = Findings()
        told = guard_error(error, guards, findings)
        return told if findings.rejection is None else in_words_of(findings.rejection, error, REFUSAL)

    def failed_words(self, body: bytes | None, status: int) -> bytes | None:
        """The body of an error with that status, as guards let it be told; `None`: as it came. `body`: `None` where it could not be looked at."""
        guards, plan = self._over_failures(), self.plan
        if guards is None or plan is None:
            return None
        findings = self.failing = Findings()
        if body is None:
            unread_failure(guards, findings)
            return None if findings.rejection is None else self.spec.error_of(UpstreamError(status=status), self.quoted)[1]
        told = guard_failure(self.spec.id, plan.endpoint.operation, body, guards, findings)
        if findings.rejection is None:
            return told
        return self.spec.error_of(in_words_of(findings.rejection, UpstreamError(status=status), REFUSAL), self.quoted)[1]

    def _over_failures(self) -> Guards | None:
        """Guards that judge what is said in the place of an answer in which a model would speak."""
        guards = self.conduct.guards
        if guards is None or not guards.judges_answers or self.plan is None:
            return None
        return guards if self.plan.endpoint.operation in JUDGED else None

    def note_try(self, status: int | None, cause: str) -> None:
        """One try is over, and another follows."""
        if self._tried is None:
            self._tried = []
        self.known()
        after = (self.gateway.clock() - self.started) * 1e3
        self._tried.append(Try(after, status, cause))
        self.entry.retries = (self.entry.retries or 0) + 1
        self.entry.keep_tries(self._tried)

    def send(self, receiver: Receiver, *, fresh: bool) -> None:
        """Ask the provider. Nothing comes back before this has returned."""
        provider, sent, plan = self.provider, self.sent, self.plan
        assert plan is not None
        if self.conduct.guards is not None:
            receiver = self.over(receiver)
        if self.source is not None:
            self._follow(self.source, receiver)
            return
        if self.entry.retries is None:
            self.entry.retries = 0  # known from the first try on
        if self.quirks is not None:
            self._gate = gate = self.quirks.guard(receiver, self.spec, plan.endpoint.operation, self.noticed)
            receiver = gate or receiver
        legacy = self.legacy.answer(receiver) if self.legacy is not None else None
        receiver = receiver if legacy is None else legacy
        if self.recording is not None:
            receiver = AnswerTap(receiver, self.recording)
            if sent is not None:
                self.recording.provider(sent, self.gateway.clock())
        if self.admitted is not None and self.admitted.cuts:
            receiver = self.metered(receiver, self.admitted)
        if isinstance(provider, Demo):
            self._ask = ask = self.gateway.ask_demo(self.spec, plan.endpoint.operation, self.peek, not self.array_asked(), receiver)
        else:
            assert provider is not None
            assert sent is not None
            if self.uploading:
                self.sent = None  # what was sent as it came cannot be sent again
            self._ask = ask = self.gateway.client.ask(
                provider.origin, sent, receiver, head_only=sent[0] == b"HEAD", uploading=self.uploading, fresh=fresh,
                connect=self.conduct.timers.connect,
            )  # fmt: skip
            if legacy is not None:
                self._ask = ask = legacy.over(ask)
        if self.flight is not None:
            self.flight.begin()
        elif self.paused_at is not None:
            ask.pause()

    def _follow(self, source: Source, receiver: Receiver) -> None:
        if self.recording is not None:
            receiver = AnswerTap(receiver, self.recording)
        paused = self.paused_at is not None  # by its own client; what `hold_its_time` says from here on is another's
        self._ask = ask = source.sit(self.fit, receiver, self.hold_its_time, self.gateway.clock)
        if paused:
            ask.pause()

    @property
    def asked(self) -> Ask | None:
        """The try that runs."""
        return self._ask

    @abstractmethod
    def fit(self, form: Form, has_usage: bool, is_read: bool) -> bool:
        """See `following.Fit`."""

    @abstractmethod
    def hold_its_time(self, *, stop: bool) -> None:
        """See `following.Hold`."""

    @abstractmethod
    def metered(self, receiver: Receiver, held: Pass) -> Receiver:
        """Who ends the answer when its budget is spent, in the place of `receiver`."""

    @abstractmethod
    def over(self, receiver: Receiver) -> Receiver:
        """Who hears an answer that guards are asked about, in the place of `receiver`."""

    def array_asked(self) -> bool:
        asked = self.spec.array_asked
        return self.peek.stream and asked is not None and self.plan is not None and asked(self.plan.query)

    def wait(self, pause: float, then: Callable[[], None]) -> None:
        """Until the next try."""
        self._pausing = asyncio.get_running_loop().call_later(pause, then)

    def stop_waiting(self) -> None:
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None

    def cancel(self) -> None:
        """Close the upstream connection, and forget every wait."""
        self.stop_waiting()
        if self._gate is not None:
            self._gate.close()
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.cancel()

    def let_go(self) -> None:
        """The request is no longer needed."""
        self.request = self.sent = None
        if self.again is not None or self.as_stream is not None:
            self.again = self.as_stream = None
        if self.taken:
            self.gateway.peeked.give(self.taken)
            self.taken = 0

    # -- the client's body, where it is sent as it comes -------------------------------------------------------------------------------

    def upload(self, data: bytes) -> None:
        self.moved_at = now = self.gateway.clock()
        if self.recording is not None:
            self.recording.upload(data, now)
        if self._ask is not None:
            self._ask.upload(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def upload_end(self) -> None:
        if self._ask is not None:
            if self.chunked:
                self._ask.upload(b"0\r\n\r\n")
            self._ask.upload_end()
