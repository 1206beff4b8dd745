"""Who may go on: the steps of a request's way in that only those gateways take which admit by key, token, rule, limit or budget. Part of `intake`.

By the credential at the head, so that a stranger's body is not even read; by key scope, rules, limits and budgets once the model and its route
are known. All of it comes before a provider is asked. Some answers are waited for (an issuer's keys, budgets); what is uploaded meanwhile is kept,
which is one read at most, because reading is paused.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace

from penstock.admission import check
from penstock.admission.budget.account import Answer
from penstock.admission.door import NOT_ALLOWED, Found, Refused
from penstock.admission.facts import SETTLED, Facts
from penstock.admission.subject import By
from penstock.attribution.bodies import clear
from penstock.dedup import Record
from penstock.exchange.admitting import Admission, Pass, fault_of
from penstock.exchange.asking import UNREAD
from penstock.exchange.contract import ClientRequest, Headers
from penstock.exchange.drive import Exchange
from penstock.exchange.gateway import Gateway
from penstock.exchange.machine import Phase
from penstock.exchange.plan import Plan, Way, str_of
from penstock.exchange.scope import Scope, decided_later, model_named
from penstock.ledger.entry import WORD, Maker
from penstock.routing import Endpoint
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation
from penstock.wire.secrets import mask_name

Then = Callable[[], None]
_UNREAD = frozenset({Operation.AUDIO, Operation.IMAGES, Operation.BATCHES})
"""Operations whose model stands in what is uploaded, where that is not read."""
_WHAT = {Operation.FILES: "File", Operation.BATCHES: "Batch", Operation.OTHER: "Object"}
_SHOWN = 120
_NO_SUCH = "previous_response_not_found"
"""What OpenAI says with 400; clients that see it send the whole conversation."""


class Entering:
    """What `Intake` is besides. `exchange.admitted` is set once somebody is known to be let in."""

    __slots__ = ("_asked", "_gateway", "_kept", "_maker", "exchange")

    def __init__(self, gateway: Gateway, exchange: Exchange) -> None:
        self._gateway = gateway
        self.exchange = exchange
        self._asked: Record | None = None
        self._kept: list[bytes] | None = None
        """What is uploaded while an answer is waited for."""
        self._maker: Maker | None = None
        """Of what is asked for by its id, or gone on from."""

    @abstractmethod
    def _refuse(self, fault: Fault, cause: str, headers: Headers | None = None) -> None: ...

    def _blame(self, by: str | None, rule: str | None) -> None:
        """By whose word it is refused, for the row."""
        self.exchange.entry.refused_by, self.exchange.entry.rule = by, rule and rule[:WORD]

    @abstractmethod
    def _fail(self, error: Exception) -> None: ...

    @abstractmethod
    async def _looking(self, work: Awaitable[None]) -> None: ...

    @abstractmethod
    def _choose(self, plan: Plan, body: bytes | None, known: Maker | None) -> None: ...

    def _shown(self, request: ClientRequest, endpoint: Endpoint) -> tuple[Headers, str, Found | None] | None:
        """Headers and query without the gateway's own credentials, and what those say; `None`: it is refused."""
        exchange, gateway, admission = self.exchange, self._gateway, self._gateway.admission
        headers, query, trusted = request.headers, request.query, False
        if gateway.settings.token is not None:
            verdict = check(headers, query, gateway.settings.token)
            trusted = verdict.allowed
            if not trusted and (admission is None or admission.door.mode is None):
                exchange.spec = gateway.specs[endpoint.protocol]
                exchange.entry.client_protocol, exchange.entry.operation = str_of(endpoint.protocol), str_of(endpoint.operation)
                self._blame(By.TOKEN, By.TOKEN)
                self._refuse(Fault(FaultKind.UNAUTHENTICATED, 401, verdict.message), "no token, or a wrong one", [(b"www-authenticate", b"Bearer")])
                return None
            headers, query = verdict.headers, verdict.query
        if admission is None:
            return headers, query, None
        found = admission.door.look(headers, query, admission.wall(), trusted=trusted)
        return found.headers, found.query, found

    def _enter(self, admission: Admission, plan: Plan, *, late: bool = False) -> bool:
        """At the head. False: it is refused. Where it cannot be told yet, nobody is admitted yet. `late`: the body may have come."""
        found = plan.found
        assert found is not None
        door = admission.door
        if found.unsure_of is not None:
            return True
        entered = door.enter(found, door.mode)
        if isinstance(entered, Refused):
            if door.per_route:
                return True
            self._blame(entered.by.value, entered.rule)
            (self.exchange.refuse if late else self._refuse)(fault_of(entered), entered.cause, entered.headers)
            return False
        self.exchange.admitted = Pass(admission, entered, self.exchange.entry)
        return True

    def _seek(self, plan: Plan, response_id: str, body: bytes | None) -> None:
        """Who made that response (file, batch)? It may tell where it is, and for whom."""
        known = self._gateway.ledger.find_response(response_id)
        if known is None:
            self._keep_uploads()
            self._gateway.spawn(self._looking(self._look_up(plan, response_id, body)), "penstock-response-id")
        else:
            self._choose(plan, body, known)

    async def _look_up(self, plan: Plan, response_id: str, body: bytes | None) -> None:
        known = await self._gateway.ledger.maker_of(response_id)
        if self.exchange.machine.phase is Phase.OPENED:
            self._choose(plan, body, known)
            self._go_on_uploading()

    async def _make_sure(self, admission: Admission, plan: Plan, then: Then) -> None:
        """The token names a key that is not known: ask its issuer, and look at it once more."""
        found, request = plan.found, self.exchange.request
        assert found is not None
        assert found.unsure_of is not None
        await admission.refresh(found.unsure_of)
        if request is None or self.exchange.machine.phase is not Phase.OPENED:
            return
        again = admission.door.look(request.headers, request.query, admission.wall())
        plan.found = again if again.unsure_of is None else _given_up(again)
        if self._enter(admission, plan, late=True):
            then()

    def _permit(self, admission: Admission, plan: Plan, model: str | None, way: Way | None) -> bool:
        """By mode, scope and rules, now that route and model are known. False: it is refused. `way`: `None` where none is needed."""
        exchange = self.exchange
        door, held = admission.door, exchange.admitted
        route = way.index if way is not None else None
        if held is None or (route is not None and door.per_route):
            found = plan.found
            assert found is not None
            entered = door.enter(found, door.mode_of(route))
            if isinstance(entered, Refused):
                return self._turn_away(entered)
            if held is None:
                held = exchange.admitted = Pass(admission, entered, exchange.entry)
        request, reply = exchange.request, exchange.reply
        assert request is not None
        headers = request.headers
        endpoint = plan.endpoint
        text, provider = (way.route, way.provider.name) if way is not None else (None, endpoint.provider)
        unread = exchange.peek is UNREAD or (endpoint.body == "stream" and endpoint.operation in _UNREAD and endpoint.response_id is None)
        facts = Facts(
            held.subject, plan.client_protocol, plan.operation, model, text, provider, headers,
            lambda: door.address(reply.peer() if reply is not None else None, headers), unread=unread,
        )  # fmt: skip
        # No model is used for a list of names, and for an answer that was made before and is asked for by its id.
        unused = endpoint.operation is Operation.MODELS or (endpoint.operation is Operation.RESPONSE_ITEM and endpoint.response_id is not None)
        refused = held.allow(facts, listing=unused, unsettled=SETTLED if endpoint.operation is not Operation.MODELS else decided_later(endpoint))
        if refused is None and self._maker is not None:
            user = self._maker.user_id
            if clear(user) == clear(held.subject.user):  # once there is a row, no more is known of whom it was made for
                user = held.subject.user
            before = exchange.peek.goes_on_from
            what = _WHAT.get(endpoint.operation, "Response")
            refused = door.refuse_others(held.subject, endpoint.response_id or before or "", self._maker.key_id, user, what)
            if refused is not None and before is not None:
                refused = replace(refused, status=400, message=f"Previous r{refused.message[1:]}", code=_NO_SUCH, param="previous_response_id")
        return True if refused is None else self._turn_away(refused)

    def _permit_models(self, admission: Admission, plan: Plan) -> bool:
        """For a list of models, or one of them. False: it is refused. What somebody may not use is not there for them; a provider's own list,
        which passes as it is, is refused to a key that names models or routes."""
        if not self._permit(admission, plan, None, None):
            return False
        scope, endpoint = self._scope(admission, plan), plan.endpoint
        if scope is None:
            return True
        name = model_named(endpoint.path)
        if name is None:
            key = scope.subject.key
            if endpoint.provider is None or key is None or not (key.models or key.routes):
                return True
            return self._turn_away(Refused(403, NOT_ALLOWED, f"key {key.id} does not allow a provider's own list of models", by=By.KEY, rule=key.id))
        refused = scope.refuses(name, endpoint.provider)
        if refused is None:
            return True
        message = f"There is no model {mask_name(name)[:_SHOWN]!r} for you here."
        return self._turn_away(Refused(404, message, refused.cause, by=refused.by, rule=refused.rule))

    def _scope(self, admission: Admission, plan: Plan) -> Scope | None:
        """Which models whoever asks may use; `None`: whichever they like."""
        held, found, request, reply = self.exchange.admitted, plan.found, self.exchange.request, self.exchange.reply
        if held is None or found is None or request is None or admission.door.lists_all(held.subject):
            return None
        peer = reply.peer() if reply is not None else None
        return Scope(self._gateway, admission.door, found, held.subject, plan.endpoint.protocol, request.headers, peer)

    def _admit(self, admission: Admission, body: bytes | None, provider: str, model: str | None, then: Then) -> None:
        """Limits, then budgets; `then`, if it may go on: now, or when the budgets have answered."""
        exchange = self.exchange
        held, request = exchange.admitted, exchange.request
        assert held is not None
        assert request is not None
        size = len(body) if body is not None else request.content_length or 0
        refused = held.reserve(body, size, self._gateway.clock())
        if refused is not None:
            self._turn_away(refused)
            return
        wishes = held.wishes(provider, model)
        keeper = admission.keeper
        if not wishes or keeper is None:
            then()
            return
        # Not where the row may be on file already (it had followed another): what is set aside must be there first.
        ahead = keeper.take_ahead(wishes) if exchange.entry.book is None else None
        if ahead is not None:
            held.take(ahead)
            then()
            return
        self._keep_uploads()

        def answered(answer: Answer) -> None:
            try:
                if held.closed or exchange.machine.phase is not Phase.OPENED:
                    held.give_back(answer)
                    return
                refused = held.take(answer)
                if refused is not None:
                    self._turn_away(refused)
                    return
                then()
                self._go_on_uploading()
            except Exception as error:  # as in every callback
                self._fail(error)

        keeper.reserve(wishes, answered)

    def _keep_uploads(self) -> None:
        """Somebody is waited for: what is uploaded meanwhile is kept."""
        exchange = self.exchange
        if exchange.uploading and self._kept is None:
            self._kept = []
            if exchange.reply is not None:
                exchange.reply.pause_upload()

    def _go_on_uploading(self) -> None:
        exchange = self.exchange
        if self._kept is None or exchange.machine.phase is Phase.OPENED:
            return  # nothing was kept, or somebody else is waited for
        kept, self._kept = self._kept, None
        for piece in kept:
            exchange.upload(piece)
        if exchange.uploaded:
            exchange.upload_end()
        if exchange.reply is not None:
            exchange.reply.resume_upload()

    def _turn_away(self, refused: Refused) -> bool:
        self._kept = None
        if self.exchange.machine.phase is Phase.OPENED:
            self._blame(refused.by.value, refused.rule)
        self.exchange.refuse(fault_of(refused), refused.cause, list(refused.headers))
        return False


def _given_up(found: Found) -> Found:
    """Its key is not known to its issuer either."""
    return replace(found, unsure_of=None)
