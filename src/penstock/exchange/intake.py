"""A request on its way in: who may enter, what the path is, the body where it is read, who takes it. Ends in `Exchange.ask`,
`refuse` or `answer`.

A refusal waits for a small body to be whole, so that the connection can go on to the next request.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from penstock.admission import host_allowed, origin_allowed
from penstock.exchange import faults, legacy
from penstock.exchange.asking import UNREAD
from penstock.exchange.bend import bend
from penstock.exchange.compose_request import whole_request
from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.drive import Exchange
from penstock.exchange.gateway import Demo, Gateway
from penstock.exchange.machine import Phase
from penstock.exchange.modes import ask_otherwise
from penstock.exchange.plan import Plan, Way
from penstock.exchange.preparing import Preparing
from penstock.exchange.scope import LISTS, model_named
from penstock.ledger.entry import Maker
from penstock.protocols.contract import BadRequest
from penstock.providers import ArgoLegacyProvider, Provider
from penstock.routing import Allowed, Choice, Hints, Mismatch, Refusal, resolve
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.secrets import mask_secrets

_SMALL = 64 * 1024
"""Bytes of a body that a refusal waits for."""
NO_HINTS = Hints()
_PROVIDER_HEADER = b"x-penstock-provider"


class Intake(Preparing):
    """Implements `contract.Handler`."""

    __slots__ = ("_body", "_late")

    def __init__(self, gateway: Gateway, request: ClientRequest, reply: Reply) -> None:
        super().__init__(gateway, Exchange(gateway, request, reply))
        self._body: bytes | bytearray | None = None  # what came of a body that is read whole
        self._late: tuple[Fault, str, Headers] | None = None  # a refusal that waits for the body

    # -- the head --------------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look at the head; called once, before anything else."""
        try:
            self._begin()
        except Exception as error:  # a mistake of ours ends this exchange, with a 500 and a row, and reaches nobody else
            self._fail(error)

    def _begin(self) -> None:
        gateway, exchange = self._gateway, self.exchange
        request = exchange.request
        assert request is not None
        plan: Plan | None = request.memo.plan
        admission = gateway.admission
        if plan is None or (admission is not None and not admission.holds(plan)):
            plan = self._plan(request)
            if plan is None:
                return
        entry = exchange.entry
        exchange.plan = plan
        exchange.spec = plan.spec
        entry.client_protocol = plan.client_protocol
        entry.operation = plan.operation
        if admission is not None and not self._enter(admission, plan):
            return
        if gateway.draining:
            self._refuse(faults.DRAINING, "the gateway is shutting down", faults.SOON)
        elif plan.read_whole and plan.coded:
            self._refuse(faults.CODED, "the request body is compressed", [(b"accept-encoding", b"identity")])
        elif plan.read_whole:
            limit = gateway.settings.body_bytes
            if request.content_length is not None and request.content_length > limit:
                exchange.refuse(faults.too_large(limit), "the request body is over the limit")  # before any of it is read
                return
            self._body = b""
        elif request.chunked or request.content_length:
            exchange.uploading = True
            self._route(plan, None)

    def _plan(self, request: ClientRequest) -> Plan | None:
        """What the head decides; `None`: it was answered, or is refused."""
        gateway, exchange = self._gateway, self.exchange
        settings = gateway.settings
        host, origin = ((request.header(name) or b"").decode("latin-1") for name in (b"host", b"origin"))
        strange = None if host_allowed(host, settings.listen_host, settings.hosts) else faults.OTHER_HOST
        if origin and strange is None and request.header(b"sec-fetch-site") == b"cross-site":
            strange = None if origin_allowed(origin, settings.listen_host, settings.hosts) else faults.OTHER_PAGE
        googles = request.header(b"x-goog-api-client") is not None or request.header(b"x-goog-api-key") is not None
        endpoint = resolve(request.method, request.path, request.header(b"anthropic-version") is not None, gateway.faces, googles)
        if strange is not None:
            exchange.entry.path = mask_secrets(request.path)  # it may hold anything, and its sender is not one of ours
            if not isinstance(endpoint, Allowed):
                exchange.spec, exchange.entry.client_protocol = gateway.specs[endpoint.protocol], endpoint.protocol.value
            self._refuse(*strange)
            return None
        if isinstance(endpoint, Refusal):
            exchange.spec = gateway.specs[endpoint.protocol]
            allow: Headers = [(b"allow", ", ".join(endpoint.allow).encode())] if endpoint.allow else []
            exchange.entry.client_protocol = endpoint.protocol.value
            self._refuse(endpoint.fault, mask_secrets(endpoint.fault.message), allow)
            return None
        if isinstance(endpoint, Allowed):
            exchange.answer(204, [(b"allow", ", ".join(endpoint.allow).encode())], b"", "OPTIONS")
            return None
        shown = self._shown(request, endpoint)
        if shown is None:
            return None
        headers, query, found = shown
        plan = Plan(gateway.specs, endpoint, headers, query, found)
        if found is None or found.until:
            request.memo.plan = plan
        return plan

    # -- the body --------------------------------------------------------------------------------------------------------------------

    def client_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange.uploading:
            exchange.entry.bytes_in = (exchange.entry.bytes_in or 0) + len(data)
            if self._kept is None:
                exchange.upload(data)
            else:
                self._kept.append(data)
            return
        body = self._body
        if body is None or exchange.machine.phase is not Phase.OPENED:
            return
        limit = self._gateway.settings.body_bytes
        if len(body) + len(data) > limit:
            exchange.refuse(faults.too_large(limit), "the request body is over the limit")
        elif not self._gateway.peeked.take(len(data)):
            exchange.refuse(faults.BODIES_FULL, "as many request bodies are held as may be", faults.SOON)
        else:
            exchange.taken += len(data)
            if not body:
                self._body = data
            elif isinstance(body, bytes):
                self._body = bytearray(body) + data
            else:
                body += data

    def client_end(self) -> None:
        exchange = self.exchange
        late, self._late = self._late, None
        if late is not None:
            exchange.refuse(*late)
            return
        if exchange.uploading:
            exchange.uploaded, exchange.moved_at = True, self._gateway.clock()
            if self._kept is None:
                exchange.upload_end()
            return
        if exchange.machine.phase is not Phase.OPENED or exchange.plan is None:
            return
        body, self._body = self._body, None
        if body is not None:
            exchange.entry.bytes_in = len(body)
            exchange.moved_at = exchange.waits_since = self._gateway.clock()  # what came bit by bit took its client's time
        try:
            self._route(exchange.plan, bytes(body) if isinstance(body, bytearray) else body)
        except Exception as error:  # as in `begin`
            self._fail(error)

    def client_whole(self, body: bytes) -> None:
        exchange, plan = self.exchange, self.exchange.plan
        size = len(body)
        settings, peeked = self._gateway.settings, self._gateway.peeked
        unsure = plan is not None and plan.found is not None and plan.found.unsure_of is not None
        if self._body is None or plan is None or unsure or not plan.direct or size > settings.body_bytes or not peeked.take(size):
            if body:
                self.client_body(body)
            self.client_end()
            return
        self._body = None
        exchange.taken = exchange.entry.bytes_in = size
        try:
            self._decide(plan, body)
        except Exception as error:  # as in `begin`
            self._fail(error)

    def client_gone(self) -> None:
        self._body = None
        if self._late is not None:  # nobody was refused
            self._blame(None, None)
        self.exchange.client_gone()

    def client_bad(self, status: int, why: str) -> tuple[Headers, bytes]:
        exchange = self.exchange
        exchange.entry.status = exchange.entry.status or status  # it may have the head of an answer already
        self._body = None
        exchange.client_gone(Outcome(Ending.REFUSED, why, EndedBy.GATEWAY))
        return faults.refusal(exchange.spec, status, why, exchange.id)

    def client_paused(self) -> None:
        self.exchange.client_paused()

    def client_resumed(self) -> None:
        self.exchange.client_resumed()

    # -- the decision ----------------------------------------------------------------------------------------------------------------

    def _route(self, plan: Plan, body: bytes | None) -> None:
        """`body`: whole, or `None` where there is none or it is sent as it comes."""
        exchange, gateway, endpoint = self.exchange, self._gateway, plan.endpoint
        request = exchange.request
        assert request is not None
        admission = gateway.admission
        if admission is not None:
            if plan.found is not None and plan.found.unsure_of is not None:
                self._keep_uploads()
                gateway.spawn(self._looking(self._make_sure(admission, plan, lambda: self._routed(plan, body))), "penstock-issuer")
                return
            if endpoint.operation is Operation.MODELS and not self._permit_models(admission, plan):
                return
        if endpoint.provider is None and endpoint.operation is Operation.MODELS and endpoint.path in LISTS:
            gateway.spawn(self._looking(self._list(plan)), "penstock-models")
            return
        if endpoint.provider is None and endpoint.operation is Operation.MODELS and request.method in ("GET", "HEAD"):
            own = gateway.catalog.house(endpoint.protocol, model_named(endpoint.path) or "")
            if own is not None:
                exchange.answer(200, [], own, "a model of the house")
                return
        if plan.direct and body is not None:
            self._decide(plan, body)
            return
        if body is not None and endpoint.operation is not Operation.RESPONSE_ITEM and not self._peek(plan, body):
            return
        if endpoint.response_id is not None and (endpoint.provider is None or self._gateway.admission is not None):
            self._seek(plan, endpoint.response_id, body)
            return
        self._choose(plan, body, None)

    def _routed(self, plan: Plan, body: bytes | None) -> None:
        self._route(plan, body)
        self._go_on_uploading()

    def _peek(self, plan: Plan, body: bytes) -> bool:
        """False: it is refused."""
        exchange, endpoint = self.exchange, plan.endpoint
        try:
            exchange.peek = peek = plan.peek(endpoint.operation, endpoint.path, plan.query, body)
            exchange.entry.said = peek.said
            if self._gateway.settings.previews:
                exchange.entry.prompt = body
        except BadRequest as error:
            if not endpoint.verbatim:
                self._turn_down(Fault(FaultKind.BAD_REQUEST, 400, str(error)), body)
                return False
            exchange.peek = UNREAD
        return True

    def _decide(self, plan: Plan, body: bytes) -> None:
        """Of a request with a model, which is all that decides."""
        if self._peek(plan, body):
            model, before = self.exchange.peek.model, self.exchange.peek.goes_on_from
            if before is not None and self._gateway.admission is not None:
                self._seek(plan, before, body)
                return
            way = plan.ways.get(model) if model is not None else None
            if way is not None:
                self._go(plan, way, body)
            else:
                self._choose(plan, body, None)

    async def _list(self, plan: Plan) -> None:
        admission = self._gateway.admission
        scope = self._scope(admission, plan) if admission is not None else None
        body = await self._gateway.catalog.listing(plan.endpoint.protocol, plan.headers, plan.query, scope)
        self.exchange.answer(200, [], body, "the merged list of models")

    async def _looking(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # as in `begin`
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._body = None
        self.exchange.fail(error)

    def _choose(self, plan: Plan, body: bytes | None, known: Maker | None) -> None:
        """The first time that this head asks for this model; from then on its way is known."""
        exchange, gateway, endpoint = self.exchange, self._gateway, plan.endpoint
        request = exchange.request
        assert request is not None
        peek = exchange.peek
        model = peek.model
        exchange.entry.requested_model = model
        self._maker = known
        if endpoint.provider is not None:
            way = self._way(plan, cast("Provider | Demo", gateway.faces[endpoint.provider]), None, None)
        else:
            if model is None and endpoint.operation is Operation.MODELS:
                model = endpoint.path.rpartition("/models/")[2] or None
            hints = NO_HINTS
            if model is None:
                named = request.header(_PROVIDER_HEADER)
                hints = Hints(known and known.provider, named.decode("latin-1") if named else None)
            chosen = gateway.router.choose(endpoint.protocol, endpoint.operation, model, hints)
            if not isinstance(chosen, Choice):
                kind, status = (FaultKind.BAD_REQUEST, 400) if isinstance(chosen, Mismatch) else (FaultKind.NOT_FOUND, 404)
                self._turn_down(Fault(kind, status, chosen.message), body)
                return
            renamed = chosen.model_upstream if chosen.model_upstream != peek.model and peek.model is not None else None
            way = self._way(plan, chosen.provider, chosen.index, chosen.route.model.text if chosen.route is not None else None, renamed)
        if peek.model is not None:
            plan.keep_way(peek.model, way)
        self._go(plan, way, body)

    def _go(self, plan: Plan, way: Way, body: bytes | None) -> None:
        if way.quirks is not None:
            bend(self.exchange, plan, way, way.quirks, body, self._go, self._looking)
            return
        exchange, gateway = self.exchange, self._gateway
        peek, entry, provider = exchange.peek, exchange.entry, way.provider
        if way.exact and body and not self._names_well(plan, way, body):
            return
        entry.requested_model = peek.model
        entry.provider = provider.name
        entry.route = way.route
        entry.upstream_protocol = entry.client_protocol
        exchange.provider = provider
        exchange.conduct = way.conduct
        guards = way.conduct.guards
        if guards is not None:
            fine, body = self._judge(plan, guards, body)
            if not fine:
                return
        admission = gateway.admission
        if admission is not None and plan.endpoint.operation is not Operation.MODELS and not self._permit_all(admission, plan, way, body):
            return
        if guards is not None and guards.ask_requests and body:
            self._consult(plan, way, guards, body)
        elif admission is not None:
            self._proceed(plan, way, body)
        elif not body or way.conduct.dedup is None or not self._repeat(plan, way, way.conduct.dedup, body):
            self._ask(plan, way, body)

    def _ask(self, plan: Plan, way: Way, body: bytes | None) -> None:
        """Everything is decided."""
        exchange, gateway = self.exchange, self._gateway
        request, peek, provider, sent = exchange.request, exchange.peek, way.provider, way.sent
        assert request is not None
        name = provider.name
        if self._asked is not None and not self._lead(way, self._asked):
            return
        if way.permits and not self._take_permits(way):
            return
        if gateway.recorder is not None and gateway.recorder.active:
            self._capture(gateway.recorder, request, name, way.renamed or peek.model, body)
        if way.conduct.cache_markers and body:
            body = self._mark(plan, body)
        if sent is None:
            exchange.take_usage = peek.stream and not peek.usage_asked
            if isinstance(provider, ArgoLegacyProvider) and not legacy.begin(exchange, gateway, plan, provider, way.renamed or peek.model, body):
                return
        elif way.otherwise and body is not None and ask_otherwise(exchange, plan, way, cast(Provider, provider), request, body):
            pass  # `sent` is set
        elif body is not None and way.renamed is None and (peek.usage_asked or not peek.stream):
            exchange.sent = whole_request(request, sent, body)  # as it came
        else:
            ask_usage = way.asks_usage and (name, peek.model) not in gateway.no_usage_field
            self._edit(plan, way, cast(Provider, provider), request, body, ask_usage=ask_usage)
        if not exchange.open_row():
            exchange.refuse(faults.FULL, "the ledger is full", faults.SOON)
            return
        if exchange.admitted is not None:
            exchange.admitted.asked = True
        exchange.ask(gateway.clock())

    # -- refusals --------------------------------------------------------------------------------------------------------------------

    def _refuse(self, fault: Fault, cause: str, headers: Headers | None = None) -> None:
        request = self.exchange.request
        assert request is not None
        if not request.chunked and (request.content_length or 0) <= _SMALL and request.header(b"expect") is None:
            self._late = (fault, cause, headers or [])
        else:
            self.exchange.refuse(fault, cause, headers)
