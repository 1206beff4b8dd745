"""One answer for several clients: whose exchange asked the provider leads, others follow it while it is made (`following`).

Every exchange whose request may be repeated has a record on the desk (`penstock.dedup`) and notes the provider's bytes as they come to it. A `Flight`
is what it has besides, once somebody follows or its client has left: most never have one. Part of `drive`.

Rules
-----
- Followers hear nothing while the leader may still try again; from the commit on they are told all that came, at once, and then the rest as it comes.
- Nobody who follows slows or ends the leader. A follower that does not read falls behind within the notes; behind their end it is held for `BEHIND`
  bytes more and then let go. For a leader that does not read while somebody follows as many bytes are held, and only then the provider waits, as it
  does when nobody reads.
- A leader whose client leaves reads on while somebody follows, and without anybody for `GRACE` seconds: so long a retry may come. Between two
  tries it makes the one that it waits for if somebody follows, and no further one.
- What the provider sends behind a good end is no part of the answer, and is not kept.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from penstock.dedup import Form, Notes, Record
from penstock.exchange.following import BEHIND, Seat
from penstock.exchange.leaving import Leaving
from penstock.exchange.machine import Input
from penstock.upstream.contract import Loss, LossKind
from penstock.vocabulary.outcome import EndedBy, Outcome

GRACE: Final = 2.0
"""Seconds."""


class Flight:
    """Who follows one exchange, and since when nobody does."""

    __slots__ = ("held", "leader", "over", "quiet_since", "seats", "stopped")

    def __init__(self, leader: Joining) -> None:
        self.leader = leader
        self.seats: list[Seat] = []
        self.over: Loss | bool = False
        """True: the provider ended its answer; or how it was lost."""
        self.quiet_since = 0.0
        """When the last client left."""
        self.held = 0
        """Bytes that the leader's client was given while it did not read."""
        self.stopped = leader.paused_at is not None
        """The provider's answer is not read."""

    @property
    def published(self) -> bool:
        """There will be no other try: what comes now is the answer."""
        return not self.leader.can_try

    def form(self) -> tuple[Form, bool]:
        return self.leader.form()

    def begin(self) -> None:
        """The provider has been asked, perhaps once more: those who follow may read where the leader does not, and the other way round."""
        self.stopped = False
        self.weigh()

    def begin_again(self) -> None:
        """Another try follows."""
        self.over = False
        for seat in self.seats:
            seat.forget()

    def land(self) -> None:
        """All of the answer came at once."""
        self.over = True
        self.wake()

    def wake(self) -> None:
        for seat in self.seats:
            seat.wake()

    def end(self, over: Loss | bool, now: float) -> None:
        if not self.over:
            self.over = over
        self.weigh()
        for seat in list(self.seats):
            seat.advance(now)

    def sit(self, seat: Seat) -> None:
        self.seats.append(seat)
        self.weigh()

    def stand_up(self, seat: Seat) -> None:
        if seat in self.seats:
            self.seats.remove(seat)
            self.weigh()

    def weigh(self) -> None:
        """Who reads decides whether the provider is read; the time in which it is not is nobody's fault who reads."""
        leader, ask, seats = self.leader, self.leader.asked, self.seats
        leader.tell_of_notes(some=bool(seats))
        asleep = all(seat.paused for seat in seats)
        if leader.reply is None:
            stop = bool(seats) and asleep
        else:
            paused = leader.paused_at is not None or leader.full
            self.held = self.held if paused else 0
            stop = (paused and asleep) or self.held > BEHIND
        if ask is None:
            stop = False  # there is nothing to be read
        elif stop is not self.stopped:
            self.stopped = stop
            if stop:
                ask.pause()
            else:
                ask.resume()
        if leader.reply is None:
            leader.hold_its_time(stop=stop)
        for seat in seats:
            seat.hold(stop=stop)


class Joining(Leaving):
    @abstractmethod
    def answer_body(self, data: bytes, now: float) -> None: ...

    # -- what is noted ---------------------------------------------------------------------------------------------------------------

    def start_notes(self, record: Record) -> None:
        """An answer has begun."""
        desk = self.gateway.desk
        if desk is not None:
            record.answer = notes = desk.notes(self.gateway.settings.noted_bytes)
            self.noted = notes.last
            self.tell_of_notes(some=self.followed)

    def tell_of_notes(self, *, some: bool) -> None:
        """`some`: somebody follows, and waits for what is noted. Nobody: it goes straight to the log."""
        notes = self.record.answer if self.record is not None else None
        if isinstance(notes, Notes):
            self._know(notes)
            if some or (notes.counted and not notes.torn):
                self.noted = 0
            elif self.noted == 0 or notes.torn:
                self.noted = None if notes.torn else notes.last

    def _know(self, notes: Notes) -> None:
        if self.noted:
            notes.last = self.noted

    def note_slowly(self, data: bytes) -> int | None:
        """Somebody follows, or the log had no room for it: where it lies (see `noted`)."""
        record, flight, desk = self.record, self.flight, self.gateway.desk
        notes = record.answer if record is not None else None
        if record is None or desk is None or not isinstance(notes, Notes):
            return None
        self._know(notes)
        rest = notes.add_slowly(data) if self.noted else notes.add(data)
        if rest:
            desk.drop(record)
        if flight is None or not flight.seats:
            return None if rest else 0 if notes.counted else notes.last
        if self.paused_at is not None:
            flight.held += len(data)
            flight.weigh()
        now = self.gateway.clock()
        for seat in list(flight.seats):
            seat.take([rest] if rest else [], now)
        return self.noted  # they may have left just now

    def hold_its_time(self, *, stop: bool) -> None:
        """Of a leader whose client has left: those who follow do not read. Of a follower: the leader's client does not."""
        now = self.gateway.clock()
        if not stop:
            self.excuse(now)
        elif self.paused_at is None:
            self.paused_at, self.held_back = now, True
            self.due = 0.0

    def pass_on(self, data: bytes, now: float) -> None:
        noted, self.noted = self.noted, None  # it is noted
        self.answer_body(data, now)
        if self.record is not None:
            self.noted = noted
            self.tell_of_notes(some=self.followed)

    def begin_notes(self) -> None:
        """Another try follows: what this one brought is void."""
        record = self.record
        if record is not None:
            if isinstance(record.answer, Notes):
                record.answer.close()
            record.status, record.answer = 0, None
            self.noted = None  # until the next answer begins
            if self.flight is not None:
                self.flight.begin_again()
            elif record.leader is None:
                self.record = None  # it was dropped, and nobody follows

    def end_notes(self, over: Loss | bool, now: float) -> None:
        """The provider has ended this try's answer, or it is lost."""
        if self.flight is not None:
            self.flight.end(over, now)

    def settle_notes(self, record: Record, outcome: Outcome, now: float, *, whole: bool) -> None:
        """Its row is closed. `whole`: the answer is complete, and good."""
        desk = self.gateway.desk
        assert desk is not None
        flight, answer = self.flight, record.answer
        if isinstance(answer, Notes):
            self._know(answer)
            answer = None if answer.torn else answer.reel()
        self.record = self.noted = None
        if whole and 200 <= record.status < 300 and answer is not None:
            desk.keep(record, record.status, record.headers or [], answer, now, *self.form())
        elif outcome.ended_by is EndedBy.CLIENT:
            desk.drop(record)
        else:
            desk.fail(record, now)
        if flight is not None:
            if self._ask is None and not flight.over:
                flight.over = Loss(LossKind.LEFT, f"the answer that it follows was ended: {outcome.cause}")
            flight.weigh()
            flight.wake()

    def by_itself(self) -> None:
        """What it was to be told is none for it: as though nothing had been found. The time that it waited is not the provider's."""
        self.machine.handle(Input.ALONE)
        self.source = self._ask = None
        self.folded, self.pace, self.take_usage = False, None, False  # what it was ready for
        self.entry.replay = self.entry.replay_of = None
        self.moved_at = now = self.gateway.clock()
        if self.held_back:
            self.excuse(now)

    # -- who follows -----------------------------------------------------------------------------------------------------------------

    def lead_on(self, now: float) -> None:
        self.take_off().quiet_since = now
        if self.record is not None and self.gateway.desk is not None:
            self.gateway.desk.left(self.record)

    @property
    def followed(self) -> bool:
        return self.flight is not None and bool(self.flight.seats)

    def lose_followers(self, cause: str, now: float) -> None:
        record, desk = self.record, self.gateway.desk
        if record is None or desk is None:
            return
        desk.drop(record)
        self.record = self.noted = record.answer = None
        record.status = 0
        if self.flight is not None:
            self.flight.end(Loss(LossKind.LEFT, cause), now)

    def read_or_not(self) -> None:
        """By who reads, and by how much waits for guards, the provider is read, or not."""
        ask = self._ask
        if self.flight is not None:
            self.flight.weigh()
        elif ask is None:
            pass
        elif self.full or (self.paused_at is not None and not self.held_back):
            ask.pause()
        else:
            ask.resume()

    def wake_followers(self) -> None:
        if self.flight is not None:
            self.flight.wake()

    def let_go(self) -> None:
        super().let_go()
        if self.record is not None:
            self._leave_body(self.record)
        if self.flight is not None:
            self.flight.wake()

    def _leave_body(self, record: Record) -> None:
        """The request's, to the desk, so that others can still be compared with it."""
        desk = self.gateway.desk
        if desk is not None and not record.weight:
            desk.hold(record)
            if record.leader is None and not self.followed:
                self.record = self.noted = None  # there is no room for it

    def take_off(self) -> Flight:
        """It is followed, or may soon be."""
        if self.flight is None:
            self.flight = Flight(self)
        return self.flight

    def waits(self, now: float) -> bool:
        """Is the answer read on although its client has left?"""
        flight, record = self.flight, self.record
        if flight is None:
            return False
        return bool(flight.seats) or (record is not None and record.leader is not None and now - flight.quiet_since < GRACE)
