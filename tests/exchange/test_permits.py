"""Permits: taken before a provider is asked, given back in every ending. And law 9 once more, with everything that time does to an exchange."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.exchange.permits import GATEWAY, Permits, permit_names
from penstock.pipeline.compose import Limits
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import Ending
from tests.laws.talk import DIALECTS, sse
from tests.support.exchanges import CHUNK, DONE, REQUESTS, SSE, STOP, Asker, FakeAsk, House, routes, told_whole
from tests.support.relays import zipped

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
NAMES = ["gateway", "provider a", "provider b", "route 1"]
JSON: Headers = [(b"content-type", b"application/json")]
HTML: Headers = [(b"content-type", b"text/html")]

# Counting. Pure.


def test_all_or_none() -> None:
    permits = Permits({"gateway": 2, "route 1": 1})
    assert permits.take(("gateway", "provider a", "route 1")) is None
    assert permits.take(("gateway", "provider a", "route 1")) == "route 1"
    assert permits.taken("gateway") == 1, "what is refused takes nothing"
    assert permits.take(("gateway", "provider b")) is None
    assert permits.take(("gateway",)) == "gateway"
    permits.give(("gateway", "provider a", "route 1"))
    assert (permits.taken("gateway"), permits.taken("route 1"), permits.taken("provider a")) == (1, 0, 0)
    assert bool(permits)
    assert not Permits({})


def test_names() -> None:
    assert permit_names("openai", None) == (GATEWAY, "provider openai")
    assert permit_names("openai", 0) == (GATEWAY, "provider openai", "route 1"), "as people count"


@given(
    limits=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3)),
    steps=st.lists(st.tuples(st.booleans(), st.lists(st.sampled_from(NAMES), unique=True).map(tuple))),
)
def test_what_is_out_is_what_was_taken(limits: dict[str, int], steps: list[tuple[bool, tuple[str, ...]]]) -> None:
    permits, out = Permits(limits), list[tuple[str, ...]]()
    for take, names in steps:
        if take:
            count = Counter(name for taken in out for name in taken)
            full = [name for name in names if name in limits and count[name] >= limits[name]]
            refused = permits.take(names)
            assert refused == (full[0] if full else None)
            if refused is None:
                out.append(names)
        elif out:
            permits.give(out.pop())
        count = Counter(name for taken in out for name in taken)
        assert all(permits.taken(name) == (count[name] if name in limits else 0) for name in NAMES)


# Of exchanges.


def nothing_out(house: House) -> None:
    assert [house.gateway.permits.taken(name) for name in LIMITS] == [0] * len(LIMITS)
    house.check_quiet()


@PROTOCOL
def test_one_too_many_is_refused_in_shape(protocol: ProtocolId) -> None:
    with House(limits={GATEWAY: 1}) as house:
        first, ask = house.stream(protocol)
        second, _ = house.stream(protocol)
        assert len(house.asks) == 1
        assert (second.reply.status, second.reply.header(b"retry-after")) == (503, b"1")
        assert "gateway" in told_whole(protocol, second.reply)["message"]
        row = house.book.settled[0]
        assert (row.outcome, row.ended_by, row.status) == ("REFUSED", "gateway", 503)
        assert "max_streams" in (row.cause or "")
        first.leave()
        third, _ = house.stream(protocol)
        assert third.reply.status is None
        third.leave()
        assert ask.cancelled
        nothing_out(house)


@pytest.mark.parametrize(("limits", "full"), [({"provider openai": 1}, "a b"), ({"route 1": 1}, "a"), ({"route 2": 1}, "b"), ({"route 2": 0}, "b b")])
def test_of_a_provider_and_of_a_route(limits: dict[str, int], full: str) -> None:
    with House(limits=limits, routes=routes(("a", "openai"), ("b", "openai"))) as house:
        refused = [model for model in "aabb" if house.chat(model=model).reply.status == 503]
        assert " ".join(refused) == {"a b": "a b b"}.get(full, full)
        for ask in [ask for ask in house.asks if ask.live]:
            ask.lose()
        nothing_out(house)


def test_it_is_held_until_the_last_byte() -> None:
    with House(limits={GATEWAY: 1}) as house:
        _, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(CHUNK + STOP + DONE)
        assert house.row().outcome == "COMPLETE"
        assert house.gateway.permits.taken(GATEWAY) == 1, "its connection is not over"
        ask.end()
        nothing_out(house)


def test_who_has_a_whole_body_of_a_stream_may_ask_again_at_once() -> None:
    """The provider's connection is not over, but its client knows nothing of that."""
    with House(limits={GATEWAY: 1}, conduct=Conduct(nonstream="force")) as house:
        for _ in range(2):
            asker, ask = house.whole(ProtocolId.OPENAI_CHAT)
            ask.answer().body(CHUNK + STOP + DONE)
            assert (asker.reply.status, asker.reply.over) == (200, "ended")
        for ask in house.asks:
            ask.end()
        nothing_out(house)


def test_it_is_held_through_every_try() -> None:
    with House(limits={GATEWAY: 1}, conduct=Conduct(retries=Retries(connect=2))) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.lose(LossKind.CONNECT)
        assert house.gateway.permits.taken(GATEWAY) == 1
        house.loop.wait(1.0)
        assert (len(house.asks), house.gateway.permits.taken(GATEWAY)) == (2, 1)
        asker.leave()
        nothing_out(house)


def test_who_reads_on_holds_it_too() -> None:
    with House(limits={GATEWAY: 1}, conduct=Conduct(on_disconnect="drain")) as house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(CHUNK)
        asker.leave()
        assert house.gateway.permits.taken(GATEWAY) == 1
        ask.body(STOP + DONE)
        nothing_out(house)


def test_a_full_ledger_and_a_mistake_give_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with House(limits={GATEWAY: 1}) as house:
        house.book.full = True
        assert house.chat().reply.status == 503
        house.book.full = False
        nothing_out(house)

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(house, "ask", broken)
        assert house.chat().reply.status == 500
        assert [house.gateway.permits.taken(GATEWAY), len(house.gateway.live)] == [0, 0]


def test_what_asks_nobody_takes_none() -> None:
    with House(limits={GATEWAY: 0}) as house:
        house.get("/v1/models")
        house.loop.settle()
        assert house.book.settled[0].outcome == "COMPLETE"
        assert house.get("/nowhere").reply.status == 404
        nothing_out(house)


# Everything that can happen, in any order.

LIMITS = {GATEWAY: 7, "provider openai": 5, "provider anthropic": 3, "route 1": 2, "route 5": 1}
_TIMERS = Timers(first_content=3.0, idle=2.0, content=3.0, tool_call=1.5, client_stall=2.0, drain=2.0, max_duration=12.0)
_BASE = Conduct(timers=_TIMERS, retries=Retries(2, 2, 2), keepalive=0.5, early_head=1.0)
CONDUCTS = [
    _BASE,
    replace(_BASE, on_disconnect="drain", drain_seconds=2.0),
    replace(_BASE, on_disconnect="drain", drain_seconds=None, drain_tokens=3, keepalive=None),
    replace(_BASE, on_disconnect="drain", transparent=True, keepalive=None, early_head=None),
    replace(_BASE, terminal="finish_reason", tail_content=True, retries=Retries(0, 0, 0)),
]
MODELS = "abcde"
ROUTES = routes(*((model, provider) for model in MODELS for provider in ("openai", "anthropic", "gemini")))
HEADS: list[tuple[int, Headers]] = [
    *[(200, SSE)] * 6, (200, [*SSE, (b"content-encoding", b"gzip")]), (200, [*SSE, (b"content-encoding", b"br")]), (200, JSON), (200, []),
    (200, HTML), (400, JSON), (422, HTML), (429, [*JSON, (b"retry-after", b"1")]), (500, [*JSON, (b"x-should-retry", b"false")]), (503, HTML),
    (200, [*JSON, (b"content-length", b"2")]),
]  # fmt: skip
ODD = [
    b": c\n\n", b"data: half", b"\n\n", b"{}", b"[", b"]", b",", b'{"error":{"message":"stream_options"}}', b"<h1>x</h1>", b"y" * 3000,
    zipped(CHUNK + STOP + DONE), STOP, DONE, sse({"error": {"message": "m", "code": 429}}), sse({"type": "error", "error": {}}, "error"),
]  # fmt: skip
SAID = {d.protocol: [d.head(), d.text(), d.open(0), d.arguments(0), d.close(0), *d.pings(), d.terminal() or b"\n"] for d in DIALECTS}
FINISH = {
    ProtocolId.OPENAI_CHAT: CHUNK + STOP + DONE, ProtocolId.OPENAI_RESPONSES: SAID[ProtocolId.OPENAI_RESPONSES][-1],
    ProtocolId.ANTHROPIC_MESSAGES: SAID[ProtocolId.ANTHROPIC_MESSAGES][-1], ProtocolId.GEMINI: sse({"candidates": [{"finishReason": "STOP"}]}),
}  # fmt: skip


def exchange_of(ask: FakeAsk) -> Any:
    """Whoever stands in between."""
    return getattr(ask.receiver, "exchange", ask.receiver)


class InTime(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.house = House(
            Settings(limits=Limits(frame=2000, body=2000)), held=2500, peeked=5000, limits=LIMITS, conduct=_BASE, routes=ROUTES,
            route_conduct=[conduct for conduct in CONDUCTS for _ in range(3)],
        )  # fmt: skip
        self.askers: list[Asker] = []
        self.coming: list[Asker] = []

    def asked(self) -> list[FakeAsk]:
        return [ask for ask in self.house.asks if ask.live]

    def owed(self) -> list[Asker]:
        return [a for a in self.askers if a.reply.over is None and not a.reply.gone]

    @rule(
        protocol=st.sampled_from(list(REGISTRY)), model=st.sampled_from(MODELS), stream=st.integers(0, 3), usage=st.booleans(), array=st.booleans()
    )
    def a_client_asks(self, protocol: ProtocolId, model: str, stream: int, usage: bool, array: bool) -> None:
        path, body = REQUESTS[protocol]
        body = {key: value for key, value in body.items() if usage or key != "stream_options"}
        if protocol is ProtocolId.GEMINI:
            path = path.replace("/m:", f"/{model}:")
            path = path.replace("?alt=sse", "") if array else path if stream else path.replace("streamGenerateContent?alt=sse", "generateContent")
        else:
            body |= {"stream": stream > 0, "model": model}
        self.askers.append(self.house.post(path, body))

    @rule(whole=st.booleans(), path=st.sampled_from(["/openai/v1/files", "/v1/chat/completions"]))
    def a_client_uploads(self, whole: bool, path: str) -> None:
        asker = self.house.open("POST", path, chunked=True)
        self.askers.append(asker)
        asker.body(b'{"model":"a"}')
        if whole:
            asker.end()
        else:
            self.coming.append(asker)

    @precondition(lambda self: self.coming)
    @rule(breaks=st.booleans())
    def the_rest_of_it_comes(self, breaks: bool) -> None:
        asker = self.coming.pop()
        if not asker.reply.gone:
            asker.stumble() if breaks else asker.end()

    @precondition(lambda self: self.owed())
    @rule(data=st.data(), what=st.sampled_from(["leave", "pause", "resume"]))
    def a_client_leaves_or_does_not_read(self, data: st.DataObject, what: str) -> None:
        asker = data.draw(st.sampled_from(self.owed()))
        if what == "leave":
            asker.leave()
        else:
            self.house.run(asker.handler.client_paused if what == "pause" else asker.handler.client_resumed)

    def provider(self, data: st.DataObject) -> None:
        ask = data.draw(st.sampled_from(self.asked()))
        what = data.draw(st.sampled_from(["said"] * 6 + ["finish"] * 3 + ["odd", "odd", "end", "lose", "lose"]))
        exchange = exchange_of(ask)
        if what == "lose":
            kind = data.draw(st.sampled_from([LossKind.CONNECT, LossKind.CONNECT_TIMEOUT, LossKind.STALE, LossKind.RESET, LossKind.GARBAGE]))
            ask.lose(kind if not ask.began and not (ask.fresh and kind is LossKind.STALE) else LossKind.RESET)
        elif not ask.began:
            ask.answer(*data.draw(st.sampled_from(HEADS if what == "odd" else [*HEADS[:6]] * 2 + HEADS)))
        elif what == "end":
            ask.end()
        elif what == "finish":
            ask.body(FINISH[exchange.spec.id])
            if ask.live and data.draw(st.booleans()):
                ask.end()
        else:
            pieces = SAID[exchange.spec.id] if what == "said" else ODD
            ask.body(*data.draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=3)))

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def a_provider_answers(self, data: st.DataObject) -> None:
        self.provider(data)

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def a_provider_goes_on(self, data: st.DataObject) -> None:
        self.provider(data)

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.3, 0.3, 0.6, 1.1, 1.1, 2.2]))
    def time_passes(self, seconds: float) -> None:
        self.house.loop.wait(seconds)

    @precondition(lambda self: len(self.askers) > 2)
    @rule(what=st.sampled_from(["drain", "drain", "shut down", *["nothing"] * 5]))
    def the_operator(self, what: str) -> None:
        """And thinks better of it, so that there is more to see."""
        gateway = self.house.gateway
        if what == "drain":
            self.house.run(gateway.drain)
            self.house.loop.wait(1.5)
            gateway.draining = False
        elif what == "shut down":
            self.house.run(gateway.shut_down)

    @invariant()
    def nothing_is_taken_that_nobody_holds(self) -> None:
        gateway = self.house.gateway
        held = Counter(name for exchange in gateway.live for name in getattr(exchange, "permits", ()))
        for name, limit in LIMITS.items():
            assert 0 <= gateway.permits.taken(name) == held[name] <= limit
        assert 0 <= gateway.held.used <= gateway.held.total
        assert 0 <= gateway.peeked.used <= gateway.peeked.total

    @invariant()
    def every_row_says_what_it_was(self) -> None:
        for row in self.house.book.settled:
            assert row.outcome in set(Ending)
            assert row.cause
            assert "mistake of the gateway" not in row.cause
            assert (row.timer is not None) <= (row.outcome in (Ending.TIMED_OUT, Ending.UPSTREAM_ERROR))
            if row.tries:
                assert len(json.loads(row.tries)) == row.retries

    @invariant()
    def who_is_asked_is_asked_for_somebody(self) -> None:
        for ask in self.asked():
            assert exchange_of(ask) in self.house.gateway.live

    def teardown(self) -> None:
        """All leave, or the gateway drains, or nothing happens any more: time alone must bring everything to its end."""
        house = self.house
        try:
            for asker in [*self.coming, *(self.askers if len(self.askers) % 3 == 0 else [])]:
                asker.leave()
            if len(self.askers) % 3 == 1:
                house.run(house.gateway.drain)
                house.loop.wait(2.2 + 2.1)
            else:
                house.loop.wait(12.2 + 2.1)
            assert not self.asked()
            for asker in self.askers:
                assert asker.reply.over is not None or asker.reply.gone
                assert asker.intake.exchange.entry.outcome is not None
            assert len(house.told) == len(house.book.settled) == len(house.book.opened) == len(self.askers)
            nothing_out(house)
        finally:
            house.close()


TestInTime = InTime.TestCase
TestInTime.settings = settings(max_examples=settings.default.max_examples if settings.default else 100, stateful_step_count=30)
