"""Another try after one that failed before the commit: whether there is one, when, and what of the last one is forgotten. Part of `drive`."""

from __future__ import annotations

from abc import abstractmethod
from time import time

from penstock.exchange.judge import Judge
from penstock.exchange.machine import Command, Input
from penstock.exchange.stage import FLOWING, Stage
from penstock.exchange.watching import Watching
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.unbegun import Unbegun
from penstock.upstream.contract import ResponseHead
from penstock.vocabulary.outcome import Outcome


class Trying(Watching):
    head: ResponseHead | None = None
    """Of the provider's answer, until it is given out."""
    outcome: Outcome | None = None
    _stage: Stage  # (without a value here: one of a class that can change keeps the interpreter from reading it the quick way)
    _early: Unbegun | None = None  # in the place of the answer's pipeline, until that has its first frame: the client has a head of ours
    _foreign = False  # an error in nobody's shape, or a page
    _judge: Judge | None = None
    _aside: Pipeline | None = None  # of an answer that is looked at as a whole
    _held: list[bytes] | None = None  # of a stream, before its first frame with data

    @abstractmethod
    def send_again(self) -> None: ...

    @abstractmethod
    def begin_notes(self) -> None: ...

    def _again_after_status(self, head: ResponseHead) -> bool:
        if not self.conduct.retries.status or not self.can_try:
            return False
        pause = self.tries.after_status(head.status, head.headers, time(), self.gateway.dice())
        return self._once_more(pause, head.status, f"the provider answered {head.status}")

    def _once_more_after_frame(self, cause: str) -> bool:
        if not self.conduct.retries.first_frame or not self.can_try or self.head is None:
            return False
        return self._once_more(self.tries.after_first_frame(self.gateway.dice()), self.head.status, cause)

    def _once_more(self, pause: float | None, status: int | None, cause: str) -> bool:
        """After `pause` another try, if there is one."""
        if pause is None:
            return False
        self.note_try(status, cause)
        self.outcome = None
        self._forget_answer()
        for command in self.machine.handle(Input.RETRY):
            if command is Command.CANCEL:
                self.cancel()
            elif command is Command.WAIT:
                self.wait(pause, self.send_again)
        return True

    def _forget_answer(self) -> None:
        if self.record is not None:
            self.begin_notes()
        pipeline, early = self.pipeline, self._early
        if pipeline is not None and pipeline is not early:
            pipeline.close()
            if early is not None:  # what the client was sent meanwhile, to keep its stream open
                early.bytes_out = pipeline.bytes_out - sum(map(len, self._held or ()))
        self.pipeline = early
        self.head = self._judge = self._held = self._aside = None
        entry = self.entry
        # Of the try that is over; `tries` has its status and its cause.
        entry.upstream_status = entry.upstream_request_id = entry.head_ms = entry.timer = None
        self._foreign = False
        self._stage = FLOWING
