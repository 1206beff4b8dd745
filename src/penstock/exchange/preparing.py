"""A request made ready for its provider: with another field or two, and noted where it is captured. Part of `intake`."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from dataclasses import replace
from typing import cast

from penstock.capture import Recorder, ReplyTap, Subject
from penstock.dedup import Conflict, Desk, Match, Record, Rules, with_address
from penstock.exchange import faults, legacy, naming
from penstock.exchange.admitting import Admission
from penstock.exchange.asking import UNREAD
from penstock.exchange.compose_request import edit_body, upstream_request
from penstock.exchange.contract import ClientRequest
from penstock.exchange.drive import Exchange
from penstock.exchange.entering import Entering
from penstock.exchange.following import Source
from penstock.exchange.gateway import Demo
from penstock.exchange.guarding import judge_request
from penstock.exchange.machine import Phase
from penstock.exchange.modes import may_ask_otherwise
from penstock.exchange.permits import permit_names
from penstock.exchange.plan import Plan, Print, Way
from penstock.pipeline.guarded import fault_of_rejection
from penstock.policy.asking import BodyJudge
from penstock.policy.guards import Guards, holding, unreadable
from penstock.policy.matcher import Findings, Rejection
from penstock.providers import ArgoLegacyProvider, Provider
from penstock.routing import Choice, speaks_unread
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation

_OWN_WORDS = "its answer would be in Argo's own words, which nobody here reads"
_UNREAD = "a model would speak in its answer in a form that nobody here reads"
_UNJUDGED = "What models answer on this path cannot be judged by this gateway, and a policy of it wants that it is."
_USED = Fault(FaultKind.BAD_REQUEST, 422, "This Idempotency-Key was used for another request body a moment ago.")


class Preparing(Entering):
    __slots__ = ()

    @abstractmethod
    def _ask(self, plan: Plan, way: Way, body: bytes | None) -> None: ...

    def _proceed(self, plan: Plan, way: Way, body: bytes | None) -> None:
        """Who asks may, and what is asked may be said."""
        rules = way.conduct.dedup
        if body and rules is not None and self._repeat(plan, way, rules, body):
            return  # what was paid for is free: neither limits nor budgets are asked
        self._admit_and_ask(plan, way, body)

    def _admit_and_ask(self, plan: Plan, way: Way, body: bytes | None) -> None:
        admission = self._gateway.admission
        if admission is None:
            self._ask(plan, way, body)
        else:
            model = way.renamed or self.exchange.peek.model
            self._admit(admission, body, way.provider.name, model, lambda: self._ask(plan, way, body))

    def _way(self, plan: Plan, provider: Provider | Demo, index: int | None, route: str | None, renamed: str | None = None) -> Way:
        gateway = self._gateway
        own = isinstance(provider, Demo) or (isinstance(provider, ArgoLegacyProvider) and legacy.serves(provider, plan))
        sent = None if isinstance(provider, Demo) or own else plan.sent_to(provider)
        asks_usage = not isinstance(provider, Demo) and provider.settings.ask_usage
        permits = permit_names(provider.name, index) if gateway.permits else ()
        conduct = gateway.conduct_of(provider.name, index)
        other = may_ask_otherwise(conduct, plan.endpoint)
        routed = renamed is not None or (plan.endpoint.provider is None and gateway.router.by_model)
        exact = naming.in_body(plan) and (routed or naming.decides(gateway.admission, plan))
        quirks = gateway.quirks.get(provider.name)
        return Way(
            provider, conduct, route, renamed, permits, sent, asks_usage=asks_usage, otherwise=other, quirks=quirks, index=index, exact=exact,
        )  # fmt: skip

    def _names_well(self, plan: Plan, way: Way, body: bytes) -> bool:
        """False: its provider might read another model in it than was let in, and it is refused."""
        peek = self.exchange.peek
        why = naming.misnamed(body, renamed=way.renamed is not None) if peek is not UNREAD else None
        why = why or naming.differs_from_path(plan.endpoint.path, peek.model) or self._lists_others(plan, way, body)
        if why is not None:
            self._turn_down(Fault(FaultKind.BAD_REQUEST, 400, why), body)
        return why is None

    def _lists_others(self, plan: Plan, way: Way, body: bytes) -> str | None:
        """As `naming.misnamed`, of further models in it, for which something else is decided than for its own."""
        gateway, endpoint, own = self._gateway, plan.endpoint, self.exchange.peek.model
        models = naming.listed(plan, body)
        if models is None:
            return naming.UNREADABLE
        further = [model for model in models if model != own]
        if further and naming.counted(gateway.admission, plan):
            return naming.COUNTED
        for model in further if endpoint.provider is None else []:
            chosen = gateway.router.choose(endpoint.protocol, endpoint.operation, model)
            if not isinstance(chosen, Choice) or chosen.model_upstream != model or not self._goes_along(way, chosen):
                return naming.ELSEWHERE
        return None

    def _goes_along(self, way: Way, chosen: Choice[Provider | Demo]) -> bool:
        """By the same route; where nobody is admitted by it, one to the same provider under the same guards is as good."""
        if chosen.provider is not way.provider or chosen.index == way.index:
            return chosen.provider is way.provider
        guards, others = way.conduct.guards, self._gateway.conduct_of(way.provider.name, chosen.index).guards
        return self._gateway.admission is None and (guards and guards.names) == (others and others.names)

    def _permit_all(self, admission: Admission, plan: Plan, way: Way, body: bytes | None) -> bool:
        """As `_permit`, for each model that the body names."""
        if not self._permit(admission, plan, self.exchange.peek.model, way):
            return False
        held = self.exchange.admitted
        if way.exact and body and held is not None and held.facts is not None:
            for model in naming.listed(plan, body) or ():  # (what cannot be read was refused by `_names_well`)
                facts = copy(held.facts)
                facts.model = model
                refused = admission.door.allow(facts)
                if refused is not None:
                    return self._turn_away(refused)
        return True

    # -- an answer that another has, or had ------------------------------------------------------------------------------------------

    def _repeat(self, plan: Plan, way: Way, rules: Rules, body: bytes) -> bool:
        """True: it is told an earlier request's answer, or is refused. Otherwise others may follow it from now on, or (where budgets are asked first)
        once `_lead` says so."""
        exchange, desk = self.exchange, self._gateway.desk
        if desk is None:
            return False
        if way.simple is not None:
            exchange.record = record = desk.open_simple(exchange.id, way.simple, body, exchange)
            if record is not None:
                return False
        if not plan.repeats:
            return False
        shown = plan.print
        if shown is None:
            assert exchange.request is not None
            plan.print = shown = Print(exchange.request)
        place = way.place
        if place is None:
            digest = shown.digest
            if shown.anonymous:
                digest = with_address(digest, exchange.reply.peer() if exchange.reply is not None else None)
            place = (digest, way.provider.name, way.renamed or exchange.peek.model)
            if not shown.anonymous:
                way.place = place
        asked = Record(exchange.id, place, body, shown.key)
        looks = shown.told or rules.mode == "always"
        if (looks or desk.owed) and self._follow(desk, way, rules, asked, again=shown.again):
            return True
        if self._open_or_wait(desk, asked) and not looks:
            way.simple = way.place
        return False

    def _open_or_wait(self, desk: Desk, asked: Record) -> bool:
        """Others may follow it from now on; False: once the budgets have answered."""
        if self._gateway.admission is not None and self._gateway.admission.keeper is not None:
            self._asked = asked
            return False
        desk.open(asked, self.exchange)
        self.exchange.record = asked
        return True

    def _lead(self, way: Way, asked: Record) -> bool:
        """The budgets have answered. False: somebody else has begun meanwhile, and it follows."""
        exchange, desk, rules = self.exchange, self._gateway.desk, way.conduct.dedup
        if desk is None or rules is None:
            return True
        if self._follow(desk, way, rules, asked, again=False):  # what its head says of other tries has been weighed
            return False
        desk.open(asked, exchange)
        exchange.record = asked
        return True

    def _follow(self, desk: Desk, way: Way, rules: Rules, asked: Record, *, again: bool) -> bool:
        exchange, gateway, request = self.exchange, self._gateway, self.exchange.request
        found = desk.find(asked, rules, gateway.clock(), again=again, fits=exchange.fits())
        if found is None or request is None:
            return False
        if isinstance(found, Conflict):
            exchange.refuse(_USED, "the idempotency key was used for another body")
            return True
        told = found.told
        flight = cast("Exchange", told.leader).take_off() if isinstance(told, Record) else None
        source = Source(desk, told, flight, lambda: self._ask_alone(desk, way, asked, found), back=found.back)
        exchange.fit(*source.form(), True)  # (only such as fit are found)
        entry = exchange.entry
        entry.replay, entry.replay_of = source.kind, told.id  # (before the row is there for the ledger's thread)
        if not exchange.open_row():
            entry.replay = entry.replay_of = None
            desk.give_back(found)
            exchange.refuse(faults.FULL, "the ledger is full", faults.SOON)
            return True
        exchange.source = source
        if gateway.recorder is not None and gateway.recorder.active:
            self._capture(gateway.recorder, request, way.provider.name, way.renamed or exchange.peek.model, asked.body)
        exchange.ask(gateway.clock())
        return True

    def _ask_alone(self, desk: Desk, way: Way, asked: Record, found: Match) -> bool:
        """What it follows came in a form or a coding that cannot be told to its client. False: that has the head of a stream already."""
        exchange, plan = self.exchange, self.exchange.plan
        if exchange.machine.phase is not Phase.DIALING or plan is None:
            return False
        try:
            exchange.by_itself()
            desk.give_back(found)
            if self._asked is not None:  # the budgets have answered
                self._ask(plan, way, asked.body)
            else:
                self._open_or_wait(desk, asked)
                self._admit_and_ask(plan, way, asked.body)
        except Exception as error:  # as in every callback
            self._fail(error)
        return True

    # -- the request -----------------------------------------------------------------------------------------------------------------

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
        foreign = self._foreign(plan, guards) if fault is None else None
        if foreign is not None:
            exchange.judged = findings = exchange.judged or Findings()
            findings.rejection = foreign
            findings.hits[foreign.guard, "reject"] += 1
            fault = fault_of_rejection(foreign)
        if fault is None:
            return True, body
        assert exchange.judged is not None
        rejection = exchange.judged.rejection
        assert rejection is not None
        exchange.refuse(fault, f"guard {rejection.guard!r} rejected the request: {rejection.why}")
        return False, None

    def _foreign(self, plan: Plan, guards: Guards) -> Rejection | None:
        """With which what would be answered unjudged is refused; where all guards are open it passes, and is noted."""
        request, endpoint = self.exchange.request, plan.endpoint
        if endpoint.operation is not Operation.OTHER:
            return None
        own = legacy.in_own_words(self.exchange.provider, plan, request)
        if not own and (request is None or not speaks_unread(request.method, endpoint)):
            return None
        found = unreadable(guards, _OWN_WORDS if own else _UNREAD)
        if found is not None:
            return found if own else replace(found, message=found.message or _UNJUDGED)
        if open_ones := holding(guards.answers, guards.ask_answers):
            self.exchange.judged = findings = self.exchange.judged or Findings()
            findings.unread = open_ones
        return None

    def _consult(self, plan: Plan, way: Way, guards: Guards, body: bytes) -> None:
        """Put the request before guards that are asked outside; it goes on when they have answered."""
        exchange, endpoint = self.exchange, plan.endpoint
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
                else:
                    exchange.moved_at = self._gateway.clock()  # the guards took that time, and not the provider
                    self._proceed(plan, way, judge.body)
            except Exception as error:  # as in every callback
                self._fail(error)

        exchange.consult().weigh(judge, answered)

    def _mark(self, plan: Plan, body: bytes) -> bytes:
        """`body` with a marker of the prompt cache, where it has none and is worth one."""
        marked = plan.spec.mark_cache(plan.endpoint.operation, body) if plan.spec.mark_cache is not None else None
        if (marked is not None) is not self.exchange.entry.marked:
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

    def _take_permits(self, way: Way) -> bool:
        """Of how many may be under way at the same time. False: it is refused."""
        exchange = self.exchange
        full = self._gateway.permits.take(way.permits)
        if full is not None:
            exchange.refuse(faults.full(full), f"max_streams of {full}: as many are under way as may be", faults.SOON)
            return False
        exchange.permits = way.permits
        return True

    def _turn_down(self, fault: Fault, body: bytes | None) -> None:
        """Refuse what nobody can be asked. Who looks for the reason wants to see the request: it is captured as if it had been routed."""
        exchange, recorder = self.exchange, self._gateway.recorder
        if recorder is not None and recorder.active and exchange.request is not None and exchange.machine.phase is Phase.OPENED:
            self._capture(recorder, exchange.request, None, exchange.peek.model, body)
        exchange.refuse(fault, fault.message)

    def _capture(self, recorder: Recorder, request: ClientRequest, provider: str | None, model: str | None, body: bytes | None) -> None:
        exchange, entry = self.exchange, self.exchange.entry
        if exchange.recording is not None:
            return  # from when it was to be told another's answer
        recording = recorder.begin(Subject(
            exchange.id, entry.started_at, exchange.started, provider, exchange.peek.model, model, entry.route, entry.key_fingerprint,
            entry.client_protocol, entry.operation,
        ))  # fmt: skip
        if recording is not None and exchange.reply is not None:
            exchange.recording = recording
            target = f"{request.path}?{request.query}" if request.query else request.path
            recording.inbound(request.method, target, request.headers, body, exchange.started)
            exchange.reply = ReplyTap(exchange.reply, recording, self._gateway.clock)
