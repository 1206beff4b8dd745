"""Guards at work in one exchange: on its request before it is sent, and on answers that are judged whole. Part of `drive`.

A request that a guard rejects is refused before anything is asked of a provider. A body is gathered until its end; nothing goes to its client
before, so a rejection has its true status.
"""

from __future__ import annotations

from penstock.exchange import faults
from penstock.exchange.compose_answer import headers_beside
from penstock.exchange.holding import FLOWING, Holding
from penstock.exchange.machine import Input
from penstock.pipeline.contract import Pipeline, State
from penstock.pipeline.guarded import fault_of_rejection
from penstock.policy.bodies import guard_request
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings
from penstock.routing import Endpoint
from penstock.vocabulary.errors import Fault


def judge_request(guards: Guards, endpoint: Endpoint, body: bytes) -> tuple[bytes, Findings, Fault | None]:
    """The body as it may go out, what was found, and the refusal where it may not."""
    findings = Findings()
    told = guard_request(endpoint.protocol, endpoint.operation, body, guards.requests, findings)
    rejection = findings.rejection
    return told, findings, fault_of_rejection(rejection) if rejection is not None else None


class Guarding(Holding):
    def _weigh_on(self, pipeline: Pipeline, data: bytes, now: float) -> None:
        pipeline.feed(data, now)
        if pipeline.state is State.BROKEN:
            self._give_weighed(now, over=False)

    def _give_weighed(self, now: float, *, over: bool = True) -> None:
        """All of the body has come that will."""
        pipeline, head = self.pipeline, self.head
        assert pipeline is not None
        assert head is not None
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
