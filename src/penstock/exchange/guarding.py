"""Guards at work in one exchange: on its request before it is sent, and on answers that are judged whole. Part of `drive`.

A request that a guard rejects is refused before anything is asked of a provider. A body is gathered until its end; nothing goes to its client
before, so a rejection has its true status.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from penstock.exchange import faults
from penstock.exchange.compose_answer import headers_beside
from penstock.exchange.hearing import Consulting, Hearing
from penstock.exchange.holding import Holding
from penstock.exchange.machine import Input, Phase
from penstock.exchange.settle import read_findings
from penstock.exchange.stage import FLOWING, GATHERED
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.guarded import fault_of_rejection
from penstock.pipeline.guarded_body import Weighed
from penstock.policy.bodies import guard_request
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings
from penstock.routing import Endpoint
from penstock.stores.guard_formats import About
from penstock.upstream.contract import Receiver
from penstock.vocabulary.errors import Fault


def judge_request(guards: Guards, endpoint: Endpoint, body: bytes) -> tuple[bytes, Findings, Fault | None]:
    """The body as it may go out, what was found, and the refusal where it may not."""
    findings = Findings()
    told = guard_request(endpoint.protocol, endpoint.operation, body, guards.requests, findings)
    rejection = findings.rejection
    return told, findings, fault_of_rejection(rejection) if rejection is not None else None


class Guarding(Holding):
    consulting: Consulting | None = None
    """Guards that are asked outside; `None`: there are none."""
    hearing: Hearing | None = None
    full = False
    """As much of the answer waits for guards as may: its provider is not read."""

    @abstractmethod
    def read_or_not(self) -> None: ...

    def asked_no_more(self) -> None:
        """All of the answer has come."""
        self._ask = None

    @property
    def streams(self) -> bool:
        """Is the answer under way to its client?"""
        return self.machine.phase is Phase.STREAMING

    def over(self, receiver: Receiver) -> Receiver:
        """Who hears the answer in the place of `receiver`, where guards are asked outside about it."""
        if self.conduct.guards is None or not self.conduct.guards.ask_answers:
            return receiver
        self.consult()
        self.hearing = Hearing(self, receiver)
        return self.hearing

    def consult(self) -> Consulting:
        if self.consulting is None:
            headers = tuple(self.request.headers) if self.request is not None else ()
            self.consulting = Consulting(self.gateway.judges, About(self.id, self.peek.model, headers))
        return self.consulting

    def heard(self, data: bytes, now: float) -> None:
        """What a verdict set free."""
        pipeline = self.pipeline
        self.say(data, now)
        if pipeline is not None and pipeline.state is not State.RUNNING and self.streams:
            self._stopped(pipeline, now)

    def _release(self, now: float) -> None:
        if self._stage is not GATHERED:  # what is told by time has a clock of its own
            super()._release(now)
        if self.hearing is not None:
            self.hearing.look(now)

    def left(self, now: float) -> None:
        super().left(now)
        if self.hearing is not None:
            self.hearing.leave()

    def end_guards(self) -> None:
        """The exchange is over: what guards found is noted, and nothing more is asked."""
        if self.consulting is not None:
            self.consulting.end()
        read_findings(self.entry, self.judged, self.pipeline, self.failing)

    def _ask_outside(self, pipeline: Pipeline, clean: bool, cause: str, then: Callable[[float], None]) -> bool:
        """All of what is judged as a whole has come. True: it goes on with `then`, when its guards have answered."""
        if pipeline.waiting:
            return True
        judging = pipeline.weigh(clean, cause) if isinstance(pipeline, Weighed) else None
        if judging is None or not isinstance(pipeline, Weighed):
            return False

        def answered() -> None:
            try:
                pipeline.weighed()
                then(self.gateway.clock())
            except Exception as error:  # as in every callback
                self.fail(error)

        self.consult().weigh(judging, answered)
        return True

    def _weigh_on(self, pipeline: Pipeline, data: bytes, now: float) -> None:
        out = pipeline.feed(data, now)
        if pipeline.state is State.BROKEN:
            self._give_weighed(now, over=False)
        elif out:  # it is larger than what is judged, and every guard is open
            self._held = [out]
            self._open_up(now)

    def _give_weighed(self, now: float, *, over: bool = True) -> None:
        """All of the body has come that will."""
        pipeline, head = self.pipeline, self.head
        assert pipeline is not None
        assert head is not None
        if over and self._ask_outside(pipeline, True, "", lambda later: self._give_weighed(later)):
            return
        self.outcome = outcome = pipeline.conclude(True, "")
        failure = pipeline.failure(self.quoted)
        headers = headers_beside(head, self.gateway.settings.drop_response_headers)
        if failure is not None:
            status, body = failure
            self._last_words = status, headers, body
            self._do(self.machine.handle(Input.LOST if over else Input.FAILED), now, faults.truncated(outcome.cause, self.provider_name))
            pipeline.close()
            return
        self._do(self.machine.handle(Input.COMMIT), now)
        self._stage = FLOWING
        self.head = None
        self.let_go()
        self.say_whole(head.status, headers, pipeline.end(None, self.id))
        self._do(self.machine.handle(Input.TERMINAL), now)
