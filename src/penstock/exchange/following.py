"""A follower's side of an answer that another exchange asked for (`joining`), or that is kept.

A `Seat` is to its exchange no more than another way to be asked (`upstream.contract.Ask`). The exchange sees the bytes of the provider, so it
reads, judges, times and accounts for them like any; it costs the provider nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from penstock.dedup import Desk, Form, Kept, Notes, Record
from penstock.upstream.contract import Loss, LossKind, Receiver, ResponseHead
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.encoding import READABLE, coding_of

if TYPE_CHECKING:
    from penstock.exchange.joining import Flight

BEHIND: Final = 1024 * 1024
"""Bytes that are held for one who does not read them."""
PORTION: Final = 256 * 1024
"""Bytes of notes that are told in one piece."""
STEPS: Final = 2000
"""Of looking for where notes lie, before the loop has its turn again."""
Fit = Callable[[Form, bool, bool], bool]
"""Be ready for an answer in this form, with or without the usage that Chat tells on demand, and that is read here or is not; False: it is of no
use."""
Alone = Callable[[], bool]
"""The answer is of no use: ask the provider by itself, as though it had not been found. False: it cannot any more."""


class Hold(Protocol):
    def __call__(self, *, stop: bool) -> None:
        """The answer is not read, for another's sake: the time is not the provider's. May be said again."""
        ...


_OTHER_FORM = Loss(LossKind.LEFT, "the answer that it follows came in another form")
_GONE = Loss(LossKind.LEFT, "what was noted of the answer cannot be read")
_TOO_SLOW = Loss(LossKind.LEFT, "it fell too far behind the answer that it follows")


class Source:
    """What a follower is told: of a flight, or, without one, of an answer that is kept."""

    __slots__ = ("_alone", "_back", "_desk", "_kept", "flight", "told")

    def __init__(self, desk: Desk, told: Record | Kept, flight: Flight | None, alone: Alone, *, back: bool = False) -> None:
        """`flight`: of a `Record`. `back`: see `dedup.Match`."""
        self._desk = desk
        self._back = back
        self._alone: Alone | None = alone
        self._kept = desk.opened(told) if isinstance(told, Kept) else None
        self.told = told
        self.flight = flight

    @property
    def kind(self) -> str:
        """For the client and the row."""
        return "hit" if self.flight is None else "join"

    def sit(self, fit: Fit, receiver: Receiver, hold: Hold, clock: Callable[[], float]) -> Seat:
        """`receiver`: the follower, or who stands before it. Once."""
        alone, self._alone = self._alone, None  # it holds the request
        seat = Seat(self.told, self._kept, self.flight, fit, receiver, hold, clock, alone)
        if self.flight is not None:
            self.flight.sit(seat)
        seat.wake()
        return seat

    def left(self, now: float) -> None:
        """The follower's client left before the end."""
        if self.flight is not None:
            self.flight.quiet_since = now
        self._desk.left(self.told)

    def over(self, outcome: Outcome, now: float) -> None:
        """The follower's row is closed. Where it is the client that left the first request, what it knows of a failure is not known of that one."""
        bad = outcome.ending is not Ending.COMPLETE and outcome.ended_by is not EndedBy.CLIENT
        if bad and self._back and self.flight is not None and self.told.key is None:
            self._desk.explain(self.told.place, now)

    def form(self) -> tuple[Form, bool]:
        return _form_of(self.told, self.flight)


class Seat:
    """Implements `upstream.contract.Ask`."""

    __slots__ = ("_alone", "_at", "_backlog", "_begun", "_clock", "_done", "_fit", "_flight", "_held", "_hold", "_kept", "_receiver", "_telling",
                 "_told", "paused")

    dialed_at: float | None = None

    def __init__(
        self, told: Record | Kept, kept: Notes | bytes | None, flight: Flight | None, fit: Fit, receiver: Receiver, hold: Hold,
        clock: Callable[[], float], alone: Alone | None,
    ) -> None:  # fmt: skip
        self._told = told
        self._kept = kept
        """The answer of a `Kept`."""
        self._flight = flight
        self._fit = fit
        self._receiver = receiver
        self._hold = hold
        self._clock = clock
        self._alone = alone  # until it has begun, or is over
        self._begun = self._done = self._telling = False
        self._at = 0  # bytes of the notes that it was told
        self._backlog: list[bytes] = []  # what came behind the notes' end, and is not told yet
        self._held = 0
        self.paused = False

    # -- Ask -------------------------------------------------------------------------------------------------------------------------

    def hand_over(self, receiver: Receiver) -> bool:
        del receiver
        return False

    def pause(self) -> None:
        self.paused = True
        if self._flight is not None:
            self._flight.weigh()

    def resume(self) -> None:
        self.paused = False
        if self._flight is not None:
            self._flight.weigh()
        self.wake()

    def cancel(self) -> None:
        self._done = True
        self._alone = self._kept = None
        self._backlog.clear()
        if self._flight is not None:
            self._flight.stand_up(self)

    def upload(self, data: bytes) -> None:
        raise AssertionError("what follows has been sent whole")

    def upload_end(self) -> None: ...

    # -- what there is ---------------------------------------------------------------------------------------------------------------

    def hold(self, *, stop: bool) -> None:
        """Whether the provider is read or not. (Who does not read itself has stopped its time by that.)"""
        if not self.paused:
            self._hold(stop=stop)

    def wake(self) -> None:
        """Tell what there is, soon."""
        asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self.advance(self._clock())

    def take(self, late: list[bytes], now: float) -> None:
        """More has come: in the notes, or, where they are torn, these."""
        if self._done:
            return
        self._backlog += late
        self._held += sum(map(len, late))
        self.advance(now)
        if self._held > BEHIND and not self._done:
            self._lose(_TOO_SLOW, now)

    def forget(self) -> None:
        """Another try follows: what came of the last one is void, and nothing of it was told."""
        self._backlog.clear()
        self._held = 0

    def advance(self, now: float) -> None:
        """Tell all that there is, as long as it is read."""
        flight = self._flight
        if self._done or self._telling or self.paused or (flight is not None and not flight.published):
            return
        notes = self._told.answer if isinstance(self._told, Record) else self._kept
        if isinstance(notes, Notes) and not _ready(notes):
            self.wake()
            return
        self._telling = True
        try:
            self._tell(now, True if flight is None else flight.over)
        finally:
            self._telling = False

    def _tell(self, now: float, over: Loss | bool) -> None:
        told, receiver = self._told, self._receiver
        answer = told.answer if isinstance(told, Record) else self._kept
        if not self._begun:
            if not told.status:
                if isinstance(over, Loss):
                    self._lose(over, now)
                return
            if isinstance(answer, bytes) and not answer and over is False:
                return
            self._begun = True
            alone, self._alone = self._alone, None
            # (An error that is not read here is told as it comes.)
            told_here = told.status >= 400 or coding_of(told.headers or []) in READABLE
            gone = isinstance(answer, Notes) and not answer.sound
            if gone or not self._fit(*_form_of(told, self._flight), told_here):
                self._leave()
                if alone is None or not alone():
                    receiver.answer_lost(_GONE if gone else _OTHER_FORM, now)
                return
            head = ResponseHead(told.status, told.headers or [])
            if isinstance(answer, bytes):
                self._leave()
                receiver.answer_whole(head, answer, now)
                return
            receiver.answer_began(head, now)
        while isinstance(answer, Notes) and not self.paused and not self._done:
            try:
                data, self._at = answer.read(self._at, PORTION)
            except Exception as error:  # (the leader is at it: a mistake of ours must not reach it)
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                self._lose(Loss(LossKind.LEFT, f"what was noted of the answer cannot be read: {why}"), now)
                return
            if not data:
                break
            receiver.answer_body(data, now)
        while self._backlog and not self.paused and not self._done:
            data = self._backlog.pop(0)
            self._held -= len(data)
            receiver.answer_body(data, now)
        if over and not self.paused and not self._done:
            if isinstance(over, Loss):
                self._lose(over, now)
            else:
                self._leave()
                receiver.answer_ended(now)

    def _leave(self) -> None:
        self._done = True
        self._alone = self._kept = None
        if self._flight is not None:
            self._flight.stand_up(self)

    def _lose(self, loss: Loss, now: float) -> None:
        self._leave()
        self._receiver.answer_lost(loss, now)


def _ready(notes: Notes) -> bool:
    try:
        return notes.ready(STEPS)
    except Exception:  # whoever reads them is told
        return True


def _form_of(told: Record | Kept, flight: Flight | None) -> tuple[Form, bool]:
    if isinstance(told, Kept):
        return told.form, told.has_usage
    assert flight is not None
    return flight.form()
