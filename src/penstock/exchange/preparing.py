"""A request made ready for its provider: with another field or two, and noted where it is captured. Part of `intake`."""

from __future__ import annotations

from abc import abstractmethod

from penstock.capture import Recorder, ReplyTap, Subject
from penstock.exchange.compose_request import edit_body, upstream_request
from penstock.exchange.contract import ClientRequest
from penstock.exchange.entering import Entering
from penstock.exchange.guarding import judge_request
from penstock.exchange.machine import Phase
from penstock.exchange.plan import Plan, Way
from penstock.pipeline.guarded import fault_of_rejection
from penstock.policy.asking import BodyJudge
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings
from penstock.providers import Provider
from penstock.vocabulary.errors import Fault


class Preparing(Entering):
    __slots__ = ()

    @abstractmethod
    def _ask(self, plan: Plan, way: Way, body: bytes | None) -> None: ...

    def _judge(self, plan: Plan, guards: Guards, body: bytes | None) -> tuple[bool, bytes | None]:
        """The body as it may go on; False: it is refused."""
        exchange = self.exchange
        fault: Fault | None = None
        if body and guards.judges_requests:
            body, exchange.judged, fault = judge_request(guards, plan.endpoint, body)
        elif exchange.uploading and guards.no_uploads is not None:
            exchange.judged = findings = Findings()
            findings.rejection = guards.no_uploads
            findings.hits[guards.no_uploads.guard, "reject"] += 1
            fault = fault_of_rejection(guards.no_uploads)
        if fault is None:
            return True, body
        assert exchange.judged is not None
        rejection = exchange.judged.rejection
        assert rejection is not None
        exchange.refuse(fault, f"guard {rejection.guard!r} rejected the request: {rejection.why}")
        return False, None

    def _consult(self, plan: Plan, way: Way, guards: Guards, body: bytes) -> None:
        """Put the request before guards that are asked outside; it goes on when they have answered."""
        exchange, gateway, endpoint = self.exchange, self._gateway, plan.endpoint
        findings = exchange.judged = exchange.judged or Findings()
        judge = BodyJudge("request", endpoint.protocol, endpoint.operation, body, guards.ask_requests, guards.outsides, findings)

        def answered() -> None:
            if exchange.machine.phase is not Phase.OPENED:
                return
            try:
                rejection = findings.outside
                if rejection is not None:
                    findings.rejection = rejection
                    exchange.refuse(fault_of_rejection(rejection), f"guard {rejection.guard!r} rejected the request: {rejection.why}")
                elif gateway.admission is None:
                    self._ask(plan, way, judge.body)
                else:
                    told = judge.body
                    self._admit(gateway.admission, told, way.provider.name, exchange.peek.model, lambda: self._ask(plan, way, told))
            except Exception as error:  # as in every callback
                self._fail(error)

        exchange.consult().weigh(judge, answered)

    def _mark(self, plan: Plan, body: bytes) -> bytes:
        """`body` with a marker of the prompt cache, where it has none and is worth one."""
        marked = plan.spec.mark_cache(plan.endpoint.operation, body) if plan.spec.mark_cache is not None else None
        self.exchange.entry.marked = marked is not None
        return marked or body

    def _edit(self, plan: Plan, way: Way, provider: Provider, request: ClientRequest, body: bytes | None, *, ask_usage: bool) -> None:
        """The request, with what must be another one in it, or none at all."""
        exchange, gateway, endpoint, peek = self.exchange, self._gateway, plan.endpoint, self.exchange.peek
        whole = body or b""
        path, changed, exchange.take_usage = edit_body(plan.spec, endpoint, peek, way.renamed, endpoint.path, whole, ask_usage=ask_usage)
        exchange.sent = upstream_request(plan, provider, request, path, None if exchange.uploading else changed)
        if not exchange.take_usage:
            return

        def again() -> tuple[bytes, bytes, bytes]:
            path, plain, _ = edit_body(plan.spec, endpoint, peek, way.renamed, endpoint.path, whole, ask_usage=False)
            return upstream_request(plan, provider, request, path, plain)

        # Two bodies are held until the provider answers; where only one may be, there is no second try.
        if gateway.peeked.take(len(whole)):
            exchange.taken += len(whole)
            exchange.again = again

    def _capture(self, recorder: Recorder, request: ClientRequest, provider: str, model: str | None, body: bytes | None) -> None:
        exchange, entry = self.exchange, self.exchange.entry
        recording = recorder.begin(Subject(
            exchange.id, entry.started_at, exchange.started, provider, exchange.peek.model, model, entry.route, entry.key_fingerprint,
            entry.client_protocol, entry.operation,
        ))  # fmt: skip
        if recording is not None and exchange.reply is not None:
            exchange.recording = recording
            target = f"{request.path}?{request.query}" if request.query else request.path
            recording.inbound(request.method, target, request.headers, body, exchange.started)
            exchange.reply = ReplyTap(exchange.reply, recording, self._gateway.clock)
