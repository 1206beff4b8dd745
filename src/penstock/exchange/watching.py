"""The time of one exchange: its timers, keep-alives, the early head, and how long an answer is read on without its client. Part of `drive`.

Nothing is armed per exchange or per chunk: the gateway looks at all that are due (`Gateway.watch`), and what is due is worked out from
what the pipeline keeps anyway.
"""

from __future__ import annotations

from abc import abstractmethod
from math import inf

from penstock.exchange.asking import Asking
from penstock.exchange.machine import Phase
from penstock.pipeline.compose import PROMISED
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.watch import excuse, expired, next_look
from penstock.vocabulary.outcome import EndedBy

_TAKING, _LOOKS = 1.0, 20
"""Whether a client takes something is looked for so often (seconds), and so many times in the time for which it may take nothing."""
NEWS = 1.0
"""Seconds after which an exchange is looked at again whose request is still being read."""


class Watching(Asking):
    due = 0.0
    """When to look again; at once, until that was worked out."""
    uploaded = False
    """What is uploaded has been, wholly: from now on it is the provider who is waited for."""
    waits_since = 0.0
    """When the last of a request came that is read whole, if not with its head; its client has waited since then."""
    held_back = False
    """While `paused_at` is set: its own client reads, but another's does not, and for that one's sake the provider is not read."""
    _held_up = False  # by the provider, who takes no more of it
    lingers_until: float | None = None
    """Until then the provider may end its answer behind the terminal event."""
    _untaken: tuple[float, int, float] | None = None
    """Which pause it was, what the client had not taken, and since when it was so much."""
    _whole = False  # the answer was, when its client had left
    _left_at: float | None = None
    _left_tokens = 0

    @abstractmethod
    def expire(self, timer: str, cause: str, now: float, ended_by: EndedBy = EndedBy.GATEWAY) -> None: ...

    @abstractmethod
    def lingered(self, now: float) -> None: ...

    @abstractmethod
    def open_early(self, now: float) -> None: ...

    @abstractmethod
    def shut_down(self) -> None: ...

    @abstractmethod
    def _stopped(self, pipeline: Pipeline, now: float) -> None: ...

    @abstractmethod
    def fail(self, error: Exception) -> None: ...

    def leave(self) -> None:
        """The last byte is out, or nobody waits for it: what was held of the gateway is free."""
        self.gateway.live.discard(self)
        self.give_permits()
        if self._gate is not None:
            self._gate = None  # it holds this exchange

    def give_permits(self) -> None:
        """Its client has the last byte, or nobody waits for it."""
        if self.permits:
            self.gateway.permits.give(self.permits)
            self.permits = ()

    def tick(self, now: float) -> None:
        """Do what the time brings, and say when to look again."""
        try:
            self._tick(now)
        except Exception as error:  # as in every callback: a mistake of ours ends this exchange and no other
            self.fail(error)

    def _tick(self, now: float) -> None:
        phase = self.machine.phase
        if phase is Phase.SETTLED:
            if self.lingers_until is not None and now >= self.lingers_until:
                self.lingers_until = None
                self.lingered(now)
            self.due = inf if self.lingers_until is None else self.lingers_until
            return
        drain = self.conduct.timers.drain
        drained = self.gateway.drained_since + drain if self.gateway.draining and drain is not None else inf
        if now >= drained:
            self.shut_down()
            return
        if phase is Phase.OPENED:
            self.due = min(now + NEWS, drained)
            return
        if self._ran_out(now):
            return
        if self.conduct.guards is not None:
            self._release(now)
        if self.reply is not None and (self.paused_at is None or self.held_back):
            self._keep_alive(now)
        if self.machine.phase is not Phase.SETTLED:
            self.due = self._next(now)

    def _release(self, now: float) -> None:
        """What a guard has held for as long as it may."""
        pipeline = self.pipeline
        # (Also where its client has left: as long as text may be held, the provider is not timed.)
        due = pipeline.deadline() if pipeline is not None and self.machine.phase in (Phase.STREAMING, Phase.DRAINING) else None
        if pipeline is not None and due is not None and now >= due:
            self.say(pipeline.tick(now), now)
            if pipeline.state is not State.RUNNING:
                self._stopped(pipeline, now)

    def _ran_out(self, now: float) -> bool:
        timers = self.conduct.timers
        if self._left_at is not None and self._enough(now, self._left_at):
            self.expire("on_disconnect", "", now)
            return True
        if timers.max_duration is not None and now >= self.started + timers.max_duration:  # whoever is waited for
            self.expire("max_duration", f"max_duration: the exchange took longer than {timers.max_duration:g} s", now)
            return True
        if self.paused_at is not None:
            # We do not read either: only the client's own timer runs.
            if not self.held_back and timers.client_stall is not None and now >= self._idle_since(self.paused_at, now) + timers.client_stall:
                self.expire("client_stall", f"client_stall: the client took nothing for {timers.client_stall:g} s", now, EndedBy.CLIENT)
                return True
            return False
        if self.uploading and not self.uploaded and not self._held_up and self.machine.phase is not Phase.STREAMING:
            return False  # it is the client who is waited for, and the listener watches it
        moved = self.moved_at or self.started
        ran_out = expired(timers, moved, self.pipeline, now)
        if ran_out is None or now < moved + ran_out.seconds:  # no time of an upload that goes on is the provider's
            return False
        self.expire(ran_out.timer, ran_out.cause, now)
        return True

    def _keep_alive(self, now: float) -> None:
        conduct, phase = self.conduct, self.machine.phase
        if conduct.early_head is not None and self._opens_early and now >= (self.waits_since or self.started) + conduct.early_head:
            self.open_early(now)
        elif phase in (Phase.EARLY, Phase.STREAMING) and conduct.keepalive is not None and now >= self._quiet_since + conduct.keepalive:
            assert self.pipeline is not None
            self.say(self.pipeline.keepalive(), now)

    @property
    def _quiet_since(self) -> float:
        """Since when the client has been sent nothing."""
        return self.last_out or self.started

    @property
    def _opens_early(self) -> bool:
        """The client waits for the head of a stream."""
        if self.plan is None or self.machine.phase not in (Phase.DIALING, Phase.HEAD_HELD):
            return False
        return self.peek.stream and self.plan.endpoint.operation in PROMISED

    def _next(self, now: float) -> float:
        conduct = self.conduct
        timers = conduct.timers
        due = inf
        if self.paused_at is not None and not self.held_back:
            if timers.client_stall is not None:
                due = self._idle_since(self.paused_at, now) + timers.client_stall
                if self._untaken is not None and self._untaken[1]:
                    due = min(due, now + min(_TAKING, timers.client_stall / _LOOKS))
            if timers.max_duration is not None:
                due = min(due, self.started + timers.max_duration)
        else:
            look = next_look(timers, self.moved_at or self.started, self.pipeline, now) if not self.held_back else None
            due = look if look is not None else inf
            if (self.moved_at or self.held_back) and timers.max_duration is not None:
                due = min(due, self.started + timers.max_duration)
            if self.reply is not None and conduct.early_head is not None and self._opens_early:
                due = min(due, (self.waits_since or self.started) + conduct.early_head)
            if self.reply is not None and conduct.keepalive is not None:
                quiet = self._quiet_since + conduct.keepalive
                due = min(due, quiet if quiet > now else now + conduct.keepalive)  # where nothing may be said now, not before long
        if conduct.guards is not None:
            # What they will hold may begin right now, also where the provider has not answered yet, or beside what is held already.
            held = self.pipeline.deadline() if self.pipeline is not None else None
            due = min(due, now + conduct.guards.patience, inf if held is None else held)
        if self._left_at is not None:
            due = now  # at every look: what it has made is to be counted
        if self.gateway.draining and timers.drain is not None:
            due = min(due, self.gateway.drained_since + timers.drain)
        return due

    # -- an upload ----------------------------------------------------------------------------------------------------------------------

    def upload_paused(self) -> None:
        self._held_up = True
        if self.reply is not None:
            self.reply.pause_upload()

    def upload_resumed(self) -> None:
        self._held_up, self.moved_at = False, self.gateway.clock()
        if self.reply is not None:
            self.reply.resume_upload()

    # -- a client that does not read, or has left ---------------------------------------------------------------------------------------

    def _idle_since(self, paused: float, now: float) -> float:
        """Since when the client has taken nothing. It may take a large frame for as long as it likes, bit by bit."""
        left = self.reply.unsent() if self.reply is not None else 0
        seen = self._untaken
        if seen is None or seen[0] != paused or seen[1] != left:
            self._untaken = seen = (paused, left, paused if seen is None or seen[0] != paused else now)
        return seen[2]

    def stall(self, now: float) -> None:
        """Its client reads no more."""
        if self.held_back:
            self.excuse(now)
        if self.paused_at is None:
            self.paused_at = now

    def excuse(self, now: float) -> None:
        """The client reads again: the time in which we did not is not the provider's."""
        if self.paused_at is not None:
            if self.pipeline is not None:
                excuse(self.pipeline, now - self.paused_at)
            self.paused_at = None
            self.due = 0.0
            if self.held_back:
                self.held_back = False

    def left(self, now: float) -> None:
        """The client has left, and the answer is read on."""
        self._left_at = now
        self._left_tokens = self._tokens()
        self.due = 0.0

    @property
    def reads_on(self) -> bool:
        """Is its answer read on when the client leaves?"""
        if self.source is not None:
            return False  # it costs nothing, and another has its account
        return self.conduct.on_disconnect == "drain" or self.waits(self.gateway.clock())

    @abstractmethod
    def waits(self, now: float) -> bool:
        """Is the answer read on, although its client has left, for who may follow?"""

    def _enough(self, now: float, since: float) -> bool:
        conduct = self.conduct
        if self.waits(now):
            return False
        if conduct.on_disconnect == "cancel":
            return True
        if conduct.drain_seconds is not None and now - since >= conduct.drain_seconds:
            return True
        return conduct.drain_tokens is not None and self._tokens() - self._left_tokens >= conduct.drain_tokens

    def _tokens(self) -> int:
        """Made so far: by the provider's count, or by its events, which carry a token or some each; of raw text by our estimate."""
        pipeline = self.pipeline
        if self.legacy is not None:
            return self.legacy.made
        if pipeline is None:
            return 0
        return max(pipeline.observer.usage.output or 0, pipeline.events)
