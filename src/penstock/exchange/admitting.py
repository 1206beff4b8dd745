"""Admission of one exchange: who it is for, what it was granted, and what it is charged. Everything here costs only those that admission is on for.

`Admission` is what all exchanges share, `Pass` what one of them holds. A pass is settled when the exchange's row is closed, which happens once
whatever the ending: so nothing that was granted can leak. What was refused before a provider was asked is taken back and counts nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import time

import msgspec

from penstock.admission.budget.account import Answer, Charge, Keeper, Share, Shares, Spent, Unknown, Wish
from penstock.admission.budget.charge import Made, Pricing, Tokens, tokens_of
from penstock.admission.budget.spec import Action, Budget, spell_amount, window_of
from penstock.admission.door import Door, Refused
from penstock.admission.facts import SETTLED, Facts, Unreadable
from penstock.admission.issuers import Issuer
from penstock.admission.limits.estimate import Averages, goes_on, input_of, stated_output
from penstock.admission.limits.headers import limit_headers, retry_after, without_theirs
from penstock.admission.limits.spec import Limit, Measure
from penstock.admission.limits.store import Ask, Full, Grant, LimitStore, State, Used
from penstock.admission.rules import Condition
from penstock.admission.subject import By, Subject
from penstock.exchange.contract import Headers
from penstock.exchange.plan import Plan
from penstock.ledger.entry import Entry
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import GENERATING, Operation, ProtocolId
from penstock.vocabulary.usage import Provenance, Usage

log = logging.getLogger("penstock.budgets")
_NO_OUTPUT = frozenset({Operation.EMBEDDINGS, Operation.MODERATIONS})
"""Operations whose answers have no tokens of output."""
_WARNED = 4096
"""Budgets of which it is remembered that they were warned of."""
_KINDS = {
    400: FaultKind.BAD_REQUEST, 401: FaultKind.UNAUTHENTICATED, 403: FaultKind.FORBIDDEN, 404: FaultKind.NOT_FOUND, 429: FaultKind.RATE_LIMITED,
}  # fmt: skip
Refresh = Callable[[Issuer], Awaitable[bool]]
NO_RETRY = (b"x-should-retry", b"false")
"""The official clients of OpenAI and Anthropic try a 429 again at once unless they are told not to."""


@dataclass(slots=True)
class Admission:
    """`wall`: seconds since the epoch."""

    door: Door
    limits: LimitStore
    refresh: Refresh
    """Fetch an issuer's keys, because a token names one that is not known. False: nothing new came."""
    keeper: Keeper | None = None
    pricing: Pricing | None = None
    wall: Callable[[], float] = time
    averages: Averages = field(default_factory=Averages)
    warned: dict[tuple[str, str, str], None] = field(default_factory=dict[tuple[str, str, str], None])

    def holds(self, plan: Plan) -> bool:
        """Is what was found out from this head still so?"""
        found = plan.found
        return found is not None and found.version == self.door.version and self.wall() < found.until


class Pass:
    """One exchange's."""

    __slots__ = (
        "_admission", "_asked_for", "_full", "_goes_on", "_grant", "_id", "_shares", "_states", "_tokens", "_wishes", "asked", "closed", "facts",
        "subject",
    )  # fmt: skip

    def __init__(self, admission: Admission, subject: Subject, entry: Entry) -> None:
        self._admission = admission
        self._id = entry.id
        self._asked_for: str | None = None
        """The model, as its provider is to be told."""
        self.subject = subject
        self.facts: Facts | None = None
        self.asked = False
        """A provider was asked, so it counts."""
        self.closed = False
        self._grant: Grant | None = None
        self._full: Full | None = None
        self._shares: list[Share] = []
        self._wishes: Sequence[Wish] = ()
        self._states: Sequence[State] = ()
        self._tokens = (0, 0)
        self._goes_on = False
        """Its answer is told by another path, and only there what it came to."""
        # What somebody has shown counts before what is only said.
        entry.user_id, entry.project = subject.user or entry.user_id, subject.project or entry.project
        if subject.key is not None:
            entry.key_id, entry.key_fingerprint = subject.key.id, subject.fingerprint

    # -- may it? -----------------------------------------------------------------------------------------------------------------------

    def allow(self, facts: Facts, *, listing: bool = False, unsettled: frozenset[str] = SETTLED) -> Refused | None:
        self.facts = facts
        return self._admission.door.allow(facts, listing=listing, unsettled=unsettled)

    def reserve(self, body: bytes | None, size: int, now: float) -> Refused | None:
        """A share of every limit that there is for it. `size`: bytes of the request's body."""
        admission, facts, key = self._admission, self.facts, self.subject.key
        assert facts is not None
        settings = admission.door.settings
        limits: Sequence[Limit] = settings.limits if key is None or not key.limits else (*settings.limits, *key.limits)
        self._tokens = self._estimate(facts, body, size) if facts.operation in GENERATING else (0, 0)
        self._goes_on = facts.operation == Operation.RESPONSES and goes_on(body)
        if not limits:
            return None
        asks = [Ask(one, facts.kept_by(one.by), self._share_of(one.measure)) for one in limits if one.when is None or _applies(one.when, facts)]
        found = admission.limits.reserve(asks, now)
        if isinstance(found, Grant):
            self._grant = found
            self._states = admission.limits.states(found, now)
            return None
        self._full = found
        self._states = found.states
        limit = found.limit
        told = f"the rate limit on {limit.measure.value.replace('_', ' ')} is reached"
        return Refused(429, told, f"limit {limit.name!r} is reached", by=By.LIMIT, rule=limit.name)

    def wishes(self, provider: str, model: str | None) -> list[Wish]:
        """What is to be set aside of budgets; empty: nothing is asked of anybody. `model`: as the provider is to be told."""
        self._asked_for = model
        admission, facts, key = self._admission, self.facts, self.subject.key
        assert facts is not None
        settings = admission.door.settings
        budgets: Sequence[Budget] = settings.budgets if key is None or not key.budgets else (*settings.budgets, *key.budgets)
        if not budgets or admission.keeper is None or facts.operation not in GENERATING:
            return []
        wanted = [budget for budget in budgets if budget.when is None or _applies(budget.when, facts)]
        now = admission.wall()
        tokens_in, tokens_out = self._tokens
        micros = self._cost(provider, None, facts.protocol, Usage(input=tokens_in, output=tokens_out)) if any(b.money for b in wanted) else None
        charge = Charge(tokens_in, tokens_out, micros)
        out: list[Wish] = []
        for budget in wanted:
            window, ends = window_of(budget.per, now)
            subject = msgspec.json.encode(facts.kept_by(budget.by)).decode()
            amount = (micros or 0) if budget.money else tokens_in + tokens_out
            out.append(Wish(budget, subject, window, ends, amount, self._id, charge))
        self._wishes = out
        return out

    def take(self, answer: Answer) -> Refused | None:
        """What the keeper of budgets said."""
        match answer:
            case Shares():
                self._shares = answer.shares
                for share in answer.shares:
                    self._warn(share)
                return None
            case Spent():
                budget = answer.wish.budget
                why = f"budget {budget.name!r} is spent"
                return Refused(429, "the budget is spent", why, self._budget_headers(answer.wish), By.BUDGET, budget.name)
            case Unknown():
                binding = [wish.budget.name for wish in self._wishes if wish.budget.binds]
                if not binding:
                    # Nothing depends on the answer; what is used is booked all the same.
                    self._shares = [Share(wish, 0, 0) for wish in self._wishes]
                    return None
                return Refused(503, "the budgets cannot be read now; try again", answer.why, [retry_after(1.0)], By.BUDGET, binding[0])

    def _estimate(self, facts: Facts, body: bytes | None, size: int) -> tuple[int, int]:
        if facts.operation in _NO_OUTPUT:
            return input_of(size), 0
        stated = stated_output(body, facts.protocol)
        return input_of(size), stated if stated is not None else self._admission.averages.output_of(self._group)

    @property
    def _group(self) -> str:
        """Whose average it goes into."""
        subject = self.subject
        return subject.key.id if subject.key is not None else subject.limits_key or subject.user or subject.kind.value

    def _share_of(self, measure: Measure) -> int:
        tokens_in, tokens_out = self._tokens
        match measure:
            case Measure.REQUESTS | Measure.STREAMS:
                return 1
            case Measure.INPUT:
                return tokens_in
            case Measure.OUTPUT:
                return tokens_out
            case Measure.TOKENS:
                return tokens_in + tokens_out

    def _cost(self, provider: str, model: str | None, protocol: str, usage: Usage, tier: str | None = None) -> int | None:
        pricing = self._admission.pricing
        return None if pricing is None else pricing(provider, model, protocol, usage, self._asked_for, tier)

    # -- while it runs -----------------------------------------------------------------------------------------------------------------

    @property
    def cuts(self) -> bool:
        """May a running answer be ended for a budget?"""
        return any(share.wish.budget.action is Action.CUT for share in self._shares)

    @property
    def cuts_money(self) -> bool:
        return any(share.wish.budget.action is Action.CUT and share.wish.budget.money for share in self._shares)

    def over(self, provider: str, model: str | None, made: Made, tier: str | None = None) -> list[tuple[Share, int]]:
        """Every share of a budget that cuts, and what it lacks, in its own unit (below 0: that much is left)."""
        tokens = tokens_of(made)
        found: list[tuple[Share, int]] = []
        for share in self._shares:
            budget = share.wish.budget
            if budget.action is Action.CUT:
                used = (self._cost(provider, model, made.protocol, tokens.usage, tier) or 0) if budget.money else tokens.input + tokens.output
                found.append((share, used - share.amount))
        return found

    def extend(self, share: Share, more: int, answer: Callable[[int], None]) -> None:
        keeper = self._admission.keeper
        assert keeper is not None
        keeper.extend(share, more, answer)

    # -- the end -----------------------------------------------------------------------------------------------------------------------

    def settle(self, entry: Entry, now: float) -> None:
        """The row is about to be closed. The first call counts."""
        if self.closed:
            return
        self.closed = True
        admission, grant, shares = self._admission, self._grant, self._shares
        if not self.asked:
            if grant is not None:
                admission.limits.cancel(grant, now)
            if shares and admission.keeper is not None:
                admission.keeper.settle([(share, 0) for share in shares])
            return
        tokens = charged(entry)
        if self._goes_on and (entry.upstream_status or 599) < 400 and entry.usage_source != Provenance.REPORTED.value:
            tokens = at_least(tokens, *self._tokens)
        entry.charged_input, entry.charged_output = tokens.input, tokens.output
        self._asked_for = self._asked_for or entry.requested_model
        micros = self._cost(entry.provider or "", entry.model, entry.upstream_protocol or "", tokens.usage, entry.service_tier)
        entry.charged_micros = micros
        if grant is not None:
            admission.limits.settle(grant, Used(tokens.input, tokens.output), now)
        if tokens.output and not self._goes_on:
            admission.averages.learn(self._group, tokens.output)
        if shares and admission.keeper is not None:
            used = tokens.input + tokens.output
            booked = [(share, (micros or 0) if share.wish.budget.money else used) for share in shares]
            admission.keeper.settle(booked, Charge(tokens.input, tokens.output, micros))

    def give_back(self, answer: Answer) -> None:
        """What was granted came too late: the exchange is over."""
        if isinstance(answer, Shares) and self._admission.keeper is not None:
            self._admission.keeper.settle([(share, 0) for share in answer.shares])

    def withdraw(self, now: float) -> None:
        """It is answered without a provider having been asked: what it was granted of limits goes back before it is told how they stand."""
        grant = self._grant
        if grant is not None and not self.asked:
            self._grant = None
            self._states = self._admission.limits.cancel(grant, now)

    # -- what the client is told -------------------------------------------------------------------------------------------------------

    def headers_on(self, headers: Headers) -> Headers:
        """`headers` of an answer, with ours about limits and budgets."""
        protocol = self.facts.protocol if self.facts is not None else ""
        if self._states:
            headers = without_theirs(headers)
            headers += limit_headers(self._states, self._admission.wall(), anthropic=protocol == ProtocolId.ANTHROPIC_MESSAGES)
            if self._full is not None:
                headers.append(retry_after(self._full.retry_after))
        if self._shares:
            headers = [*headers, *[_budget_header(share.wish.budget, share.spent) for share in self._shares]]
        return headers

    def _budget_headers(self, wish: Wish) -> Headers:
        wait = 1.0 if wish.ends is None else wish.ends - self._admission.wall()
        told: Headers = [NO_RETRY]
        return told if wish.ends is None else [retry_after(wait), *told]

    def _warn(self, share: Share) -> None:
        wish, warned = share.wish, self._admission.warned
        if wish.budget.action is Action.WARN and share.crossed and wish.place not in warned:
            warned[wish.place] = None
            if len(warned) > _WARNED:
                del warned[next(iter(warned))]
            log.warning("budget %r is spent (%s, %s)", wish.budget.name, wish.window, self.subject.shown)


def charged(entry: Entry) -> Tokens:
    """What the exchange of this row is charged; the row has everything but its outcome."""
    protocol = entry.upstream_protocol or ""
    if entry.operation not in GENERATING:
        return Tokens(0, 0, Usage())
    usage = Usage(
        entry.input_tokens, entry.output_tokens, entry.cache_read_tokens, entry.cache_write_tokens, entry.cache_write_5m_tokens,
        entry.cache_write_1h_tokens, entry.reasoning_tokens, entry.audio_input_tokens, entry.audio_output_tokens, entry.tool_use_tokens,
        entry.tool_requests, entry.web_searches, entry.kinds,
    )  # fmt: skip
    # A stream whose events were not understood is taken for a body: its bytes tell how much it was. One that was put together for its client tells
    # by its events what was made, whether or not anything of it went out.
    told = bool(entry.events)
    nothing_came = not entry.bytes_out if not told else entry.ttft_ms is None
    nothing_came = nothing_came and entry.refused_by != "guard"  # what a guard ends at its first word, or as a whole, was made all the same
    failed = entry.upstream_status is None or entry.upstream_status >= 400 or nothing_came
    # Figures that are estimated are those of all that was made, too: what it took to tell it says less.
    final = entry.usage_source in (Provenance.REPORTED.value, Provenance.ESTIMATED.value)
    return tokens_of(Made(protocol, usage, final, entry.events or 0, entry.bytes_in or 0, entry.bytes_out or 0, told, failed))


def at_least(tokens: Tokens, read: int, made: int) -> Tokens:
    """What is charged of an answer that goes on to be made: what was set aside for it, as of one that nobody saw the end of."""
    usage = msgspec.structs.replace(tokens.usage, input=max(tokens.usage.input or 0, read), output=max(tokens.usage.output or 0, made))
    return Tokens(max(tokens.input, read), max(tokens.output, made), usage)


def fault_of(refused: Refused) -> Fault:
    kind = _KINDS.get(refused.status, FaultKind.OVERLOADED)
    return Fault(kind, refused.status, refused.message, code=refused.code, param=refused.param)


def _applies(when: Condition, facts: Facts) -> bool:
    try:
        return when.holds(facts)
    except Unreadable:
        return True


def _budget_header(budget: Budget, spent: int) -> tuple[bytes, bytes]:
    left = max(0, budget.amount - spent)
    text = f"{_token(budget.name)}; spent={spell_amount(budget, spent)}; left={spell_amount(budget, left)}; action={budget.action.value}"
    return b"x-penstock-budget", text.encode("latin-1", "replace")


@lru_cache(maxsize=_WARNED)
def _token(text: str) -> str:
    return '"' + "".join(char for char in text if " " <= char <= "~" and char not in '"\\') + '"'

