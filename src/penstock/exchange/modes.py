"""Asking a provider in another form than the client asked: for a stream where the client wants a body (`nonstream_mode`), for a body where it
wants a stream (`pseudo_stream`). What becomes of the answer: `gathering`.

Not below a provider's own name (`/{provider}/...`), where everything goes there as it came, nor under `transparent`.
"""

from __future__ import annotations

from penstock.exchange.asking import Asking, Sent
from penstock.exchange.compose_request import edit_body, upstream_request
from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import ClientRequest
from penstock.exchange.plan import Plan, Way
from penstock.pipeline.compose import PROMISED
from penstock.protocols.contract import AskOtherwise
from penstock.providers import Provider
from penstock.routing import Endpoint


def may_ask_otherwise(conduct: Conduct, endpoint: Endpoint) -> bool:
    """Can it come to that at all? Decided once for many requests."""
    if conduct.transparent or endpoint.verbatim or endpoint.operation not in PROMISED:
        return False
    return conduct.nonstream != "passthrough" or conduct.pace is not None


def ask_otherwise(exchange: Asking, plan: Plan, way: Way, provider: Provider, request: ClientRequest, body: bytes) -> bool:
    """True: `sent` is set, and asks otherwise. False: ask as it came; `as_stream` is set where it may come to a stream all the same."""
    conduct, peek, spec, endpoint = way.conduct, exchange.peek, plan.spec, plan.endpoint
    ask_usage = way.asks_usage and (provider.name, peek.model) not in exchange.gateway.no_usage_field
    if request.method != "POST":
        return False

    def asked(otherwise: AskOtherwise, *, usage: bool) -> Sent | None:
        path, renamed, _ = edit_body(spec, endpoint, peek, way.renamed, endpoint.path, body, ask_usage=False)
        found = otherwise(endpoint.operation, path, plan.sent_to(provider).query, renamed, usage=usage)
        if found is None:
            return None
        path, query, changed = found
        return upstream_request(plan, provider, request, path, changed, query)

    def as_stream(usage: bool) -> Sent | None:
        return asked(spec.ask_stream, usage=usage and ask_usage)

    if peek.stream:
        if conduct.pace is None:
            return False
        exchange.sent = asked(spec.ask_whole, usage=True)
        exchange.pace = conduct.pace if exchange.sent is not None else None
        return exchange.sent is not None
    exchange.lean = spec.ask_usage is not None and not ask_usage
    if conduct.nonstream == "force":
        exchange.sent = as_stream(True)
        exchange.folded = exchange.sent is not None
        if exchange.folded and spec.ask_usage is not None and ask_usage and _hold_twice(exchange, body):
            exchange.again = lambda: as_stream(False) or _impossible()
        return exchange.folded
    if conduct.nonstream == "retry" and spec.bounced is not None and _hold_twice(exchange, body):
        exchange.as_stream = as_stream
    return False


def _hold_twice(exchange: Asking, body: bytes) -> bool:
    """Two bodies are held until the provider answers; where only one may be, there is no second try."""
    held = exchange.gateway.peeked.take(len(body))
    if held:
        exchange.taken += len(body)
    return held


def _impossible() -> Sent:
    raise AssertionError("what could be asked as a stream with its usage can be asked without")
