"""An answer that came whole, in one read: told, noted and settled in one step. Part of `drive`.

What comes of it is what `answer_began`, `answer_body` and `answer_ended` would make of it, one after the other, for a fraction of their cost: most
requests that are not streamed are small. Whatever is not plain goes that way.
"""

from __future__ import annotations

from abc import abstractmethod

from penstock.exchange.compose_answer import names_of
from penstock.exchange.guarding import Guarding
from penstock.exchange.machine import Phase
from penstock.exchange.settle import close_entry
from penstock.upstream.contract import ResponseHead
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

_DIALING, _SETTLED = Phase.DIALING, Phase.SETTLED
_WHOLE = Outcome(Ending.COMPLETE, "the whole body", EndedBy.UPSTREAM)


class AtOnce(Guarding):
    @abstractmethod
    def answer_body(self, data: bytes, now: float) -> None: ...

    @abstractmethod
    def answer_began(self, head: ResponseHead, now: float) -> None: ...

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        try:
            if self.tell_at_once(head, body, now):
                return
        except Exception as error:
            self.fail(error)
            return
        ask = self._ask
        self.answer_began(head, now)
        if self._ask is ask:  # else this try is over
            self.answer_body(body, now)
            if self._ask is ask:
                self.answer_ended(now)

    def tell_at_once(self, head: ResponseHead, body: bytes, now: float) -> bool:
        """False: it is not plain, and nothing was done."""
        plan, reply, peek, gateway = self.plan, self.reply, self.peek, self.gateway
        if (
            head.status != 200
            or peek.stream
            or self.folded
            or self.machine.phase is not _DIALING
            or head.content_encoding
            or plan is None
            or reply is None
            or self.recording is not None
            or self.conduct.guards is not None
            or plan.endpoint.content
            or not head.content_type.startswith(b"application/json")
            or len(body) > gateway.settings.limits.body
        ):
            return False
        observer = plan.spec.observer(plan.endpoint.operation)
        try:
            observer.observe_body(body)
        except Exception:  # Law 5: told the long way
            return False
        if observer.malformed or observer.error is not None:
            return False
        entry, started, ask = self.entry, self.started, self._ask
        names = names_of(head, gateway.settings.drop_response_headers)
        headers = names.headers(head.headers)
        admitted = self.admitted
        if admitted is not None:
            headers = admitted.headers_on(headers)
        headers.append((b"x-penstock-id", self.id.encode()))
        if self.source is not None:
            headers.append((b"x-penstock-replay", self.source.kind.encode()))
        # Head, commit and end, in the machine's words.
        self.machine.phase = _SETTLED
        self.reply = self._ask = None
        gateway.live.discard(self)
        if self.permits or self._gate is not None:
            self.leave()
        reply.whole(200, headers, body)
        if ask is not None and ask.dialed_at is not None:
            entry.dial_ms = (ask.dialed_at - started) * 1e3
        entry.upstream_status = entry.status = 200
        entry.upstream_request_id = names.request_id(head.headers)
        entry.streamed = False
        entry.response_id = observer.response_id
        entry.model = observer.model
        entry.stop_reason = observer.stop_reason
        entry.service_tier = observer.service_tier
        entry.account(observer.usage, observer.provenance())
        entry.head_ms = entry.ttft_ms = (now - started) * 1e3
        entry.largest_gap_ms = 0.0
        entry.events = entry.malformed = 0
        entry.bytes_out = len(body)
        if admitted is not None:
            admitted.settle(entry, now)
        record, desk = self.record, gateway.desk
        if record is not None and desk is not None:
            self.record = None
            if len(body) <= gateway.settings.noted_bytes:
                desk.keep(record, 200, head.headers, body, now)
            else:
                desk.drop(record)
            if self.flight is not None:
                record.status, record.headers, record.answer = 200, head.headers, body
                self.flight.land()
        self.let_go()
        if close_entry(entry, _WHOLE, started, now) and gateway.on_settled is not None:
            gateway.on_settled(entry)
        return True
