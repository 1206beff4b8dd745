"""What becomes of an answer whose client leaves: it ends there, or is read on for its account and for who may come for it. Part of `drive`."""

from __future__ import annotations

from abc import abstractmethod

from penstock.exchange.gathering import Gathering
from penstock.exchange.holding import OURS
from penstock.exchange.machine import Input, Phase
from penstock.exchange.stage import GATHERED, UNSEEN
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

GONE = Outcome(Ending.CLIENT_GONE, "the client closed its connection", EndedBy.CLIENT)
_SAID = frozenset({Ending.COMPLETE, Ending.UPSTREAM_ERROR})
_UNDER_WAY = frozenset({Phase.DIALING, Phase.HEAD_HELD, Phase.EARLY, Phase.STREAMING})


class Leaving(Gathering):
    @abstractmethod
    def client_resumed(self) -> None: ...

    @abstractmethod
    def lead_on(self, now: float) -> None:
        """Its client has left; others may come for its answer."""

    @property
    @abstractmethod
    def followed(self) -> bool:
        """Does anybody wait for its answer besides its client?"""

    @abstractmethod
    def wake_followers(self) -> None:
        """There is no other try any more: they may hear of this one."""

    def _said(self) -> Outcome | None:
        """How the stream ended by what its client already has of the provider's: an error in band, or all of an array. Who closes first after
        that, or how late, is no news (official clients leave as soon as they have read an error)."""
        pipeline = self.pipeline
        if pipeline is None or self.machine.phase is not Phase.STREAMING or not self.entry.streamed or self._stage is GATHERED:
            return None
        found = pipeline.conclude(False, "")
        # A guard may find at the end of what it held that none of it may be said: that is then the end, and its words the last.
        cut = found.ending is Ending.CUT and self.reply is not None
        return found if cut or found.ending in _SAID else None

    def _ended_for_it(self, now: float, *, stalled: bool = False) -> bool:
        """Where nothing lacks but the end of the body, and it does not come: as though it had. (What waits for a guard lacks its word, and a client
        that takes nothing more: `stalled`.) Where the end was told already: by that."""
        pipeline = self.pipeline
        if pipeline is not None and not stalled and not pipeline.waiting and pipeline.all_told:
            self.cancel()
            self.answer_ended(now)
            return True
        said = self._said()
        if said is not None:
            self._end_as_said(said, now)
        return said is not None

    def _end_as_said(self, said: Outcome, now: float) -> None:
        """Nothing more is waited for, and nothing is added."""
        self.outcome = said
        self.cancel()
        mute = self.pipeline is not None and self.pipeline.mute
        self._do(self.machine.handle(Input.FAILED if mute else Input.ENDED), now)

    def _note_left(self) -> None:
        """Before the end of its answer, for all that is known here: it may come again for it."""
        if self.machine.phase in _UNDER_WAY and self._said() is None:
            now = self.gateway.clock()
            if self.source is not None:
                self.source.left(now)
            elif self.record is not None:
                self.lead_on(now)

    def _reads_on(self, outcome: Outcome) -> bool:
        """Is the answer read on for its account, now that the client has left?"""
        if outcome.ended_by is not EndedBy.CLIENT or self.machine.phase not in _UNDER_WAY or not self.reads_on:
            return False
        if self._said() is not None:
            return False
        if self.uploading and not self.uploaded:
            return False  # half a request
        tries_on = self._pausing is not None and self.can_try and self.followed  # the next try is for those who follow
        self.reply = None
        self._do(self.machine.handle(Input.CLIENT_LEFT), self.gateway.clock())
        self.outcome = outcome
        if self._ask is None and not tries_on:  # nobody waits for another try, or all of it has come: there is nothing to read on
            self._do(self.machine.handle(Input.CLIENT_GONE), self.gateway.clock())
            return True
        now = self.gateway.clock()
        judge, aside = self._judge, self._aside
        if judge is not None and aside is not None:
            if self.head is not None and self._may_be_ours(self.head):
                self.lose_followers(OURS, now)
            self.pipeline = aside
            for piece in judge.pieces:
                aside.feed(piece, now)
        self._stage = UNSEEN
        self._held = self._judge = None
        self.left(now)
        self.client_resumed()
        self.wake_followers()
        return True
