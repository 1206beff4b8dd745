"""Law 9: opened = settled, once each, under any interleaving of what clients, providers, the clock and the operator do.

A Hypothesis state machine drives several exchanges of one gateway without sockets; the fakes hold every call to its contract, and at the end
nothing may be owed: no row, no reply, no byte of a budget, no connection, no exchange that is still counted.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import Settings
from penstock.exchange.intake import Intake
from penstock.pipeline.compose import Limits
from penstock.upstream.contract import LossKind
from penstock.vocabulary.outcome import Ending
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, USAGE, Asker, FakeAsk, House
from tests.support.fuzz import THOROUGH
from tests.support.relays import zipped

CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": []}
ASKED = {**CHAT, "stream_options": {"include_usage": True}}
JSON_HEAD = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
GZIP = [*SSE, (b"content-encoding", b"gzip")]

# Method, path, body (`None`: none), further headers.
REQUESTS: list[tuple[str, str, Any, list[tuple[bytes, bytes]]]] = [
    *[("POST", "/v1/chat/completions", ASKED, [])] * 6,
    *[("POST", "/v1/chat/completions", CHAT, [])] * 6,
    ("POST", "/v1/chat/completions", {"model": "m"}, []),
    ("POST", "/v1/chat/completions", {"model": "demo", "stream": True}, []),
    ("POST", "/v1/chat/completions", "not json", []),
    ("POST", "/v1/chat/completions", {"model": "x" * 4000}, []),
    ("POST", "/v1/responses", {"model": "m", "stream": True}, []),
    ("POST", "/v1/messages", {"model": "m", "stream": True}, []),
    *[("POST", "/v1/messages", {"model": "m"}, [])] * 4,
    *[("POST", "/v1/chat/completions", {"model": "m", "messages": []}, [])] * 2,
    ("POST", "/v1beta/models/m:streamGenerateContent", {}, []),
    ("POST", "/v1beta/models/m:streamGenerateContent?alt=sse", {}, []),
    ("POST", "/v1/files", "any bytes", []),
    ("POST", "/openai/v1/chat/completions", ASKED, []),
    ("POST", "/anthropic/v1/nothing", "bytes", []),
    ("POST", "/demo/v1/chat/completions", CHAT, []),
    ("GET", "/v1/models", None, []),
    ("GET", "/v1/models/m", None, []),
    ("GET", "/v1/responses/resp_known", None, []),
    ("GET", "/v1/responses/resp_stored", None, []),
    ("POST", "/v1/responses/resp_new/cancel", {}, []),
    ("GET", "/v1/files", None, [(b"x-penstock-provider", b"nobody")]),
    ("GET", "/nowhere", None, []),
    ("PUT", "/v1/chat/completions", "x", []),
    ("OPTIONS", "/v1/chat/completions", None, []),
    ("POST", "/v1/messages", {"model": "m"}, [(b"host", b"evil.example")]),
    ("GET", "/health", None, []),
]  # fmt: skip
HEADS: list[tuple[int, list[tuple[bytes, bytes]]]] = [
    (200, SSE),
    (200, SSE),
    (200, SSE),
    (200, GZIP),
    (200, JSON_HEAD),
    (200, []),
    (200, [*SSE, (b"content-encoding", b"br")]),
    (400, JSON_HEAD),
    (422, JSON_HEAD),
    (500, JSON_HEAD),
    (200, [(b"content-type", b"application/json"), (b"content-length", b"2")]),
]
PIECES = [
    CHUNK, STOP, USAGE, DONE, CHUNK + STOP + DONE, DONE + b"data: behind", b"data: half", b'{"a":', b"}", b"{}", b"[",
    b'{"candidates":[{"finishReason":"STOP"}]}', b",", b"]", b"\n\n", b"y" * 3000,
    b'{"error":{"message":"stream_options is unknown"}}', b'event: error\ndata: {"error":{"message":"m"}}\n\n',
    b"event: message_stop\ndata: {}\n\n", b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_9"}}\n\n',
    zipped(CHUNK + STOP + DONE), zipped(CHUNK)[:20],
]  # fmt: skip


# Answers that make sense, for what most of the time happens: the head, and the body in pieces.
Script = tuple[tuple[int, list[tuple[bytes, bytes]]], list[bytes]]
SCRIPTS: list[Script] = [
    ((200, SSE), [CHUNK, STOP + DONE]),
    ((200, SSE), [CHUNK + STOP, USAGE + DONE, b"data: behind"]),
    ((200, SSE), [CHUNK, b"data: half"]),
    ((200, GZIP), [zipped(CHUNK + STOP + DONE)]),
    ((422, JSON_HEAD), [b'{"error":{"message":', b'"stream_options is unknown"}}']),
    ((400, JSON_HEAD), [b'{"error":{"message":"include_usage"}}']),
    ((422, JSON_HEAD), [b'{"error":{"message":"bad"}}']),
    ((200, JSON_HEAD), [b'[{"candidates":[{"finishReason":"STOP"}]}', b"]"]),
    ((200, JSON_HEAD), [b'{"id":"x"}']),
]


class Exchanges(RuleBasedStateMachine):
    conduct: Conduct | None = None

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(frame=2000, body=2000, assembly=2000)
        self.house = House(Settings(limits=limits, body_bytes=3000), held=2500, peeked=5000, conduct=self.conduct)
        self.house.book.known["resp_known"] = "openai"
        self.house.book.stored["resp_stored"] = "openai"
        self.askers: list[Asker] = []
        self.unread: dict[int, list[bytes]] = {}
        self.scripts: dict[int, list[bytes]] = {}
        self.refused = 0

    # -- clients

    @rule(
        request=st.sampled_from(REQUESTS),
        chunked=st.booleans(),
        pieces=st.integers(1, 3),
        whole=st.sampled_from([True, True, True, False]),
        trouble=st.sampled_from([None] * 8 + ["full", "draining", "failing"]),
    )
    def open(self, request: tuple[str, str, Any, list[tuple[bytes, bytes]]], chunked: bool, pieces: int, whole: bool, trouble: str | None) -> None:
        method, path, body, headers = request
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        size = -(-len(data) // pieces) if data else 1
        house = self.house
        house.book.full, house.gateway.draining, house.catalog.fails = trouble == "full", trouble == "draining", trouble == "failing"
        asker = house.open(method, path, headers, length=None if chunked or body is None else len(data), chunked=chunked and body is not None)
        self.askers.append(asker)
        self.unread[id(asker)] = [data[i : i + size] for i in range(0, len(data), size)]
        if whole:
            self.send(asker, 99)
        house.book.full = house.gateway.draining = house.catalog.fails = False

    def send(self, asker: Asker, steps: int) -> None:
        left = self.unread[id(asker)]
        for _ in range(steps):
            if asker.reply.over is not None or asker.reply.gone:
                return
            if left:
                asker.body(left.pop(0))
            else:
                asker.end()
                del self.unread[id(asker)]
                return

    def waiting(self) -> list[Asker]:
        return [a for a in self.askers if id(a) in self.unread and a.reply.over is None and not a.reply.gone]

    def owed(self) -> list[Asker]:
        return [a for a in self.askers if a.reply.over is None and not a.reply.gone]

    def asked(self) -> list[FakeAsk]:
        return [ask for ask in self.house.asks if ask.live]

    @precondition(lambda self: self.waiting())
    @rule(
        data=st.data(),
        steps=st.sampled_from([1, 1, 2, 99]),
        full=st.sampled_from([False, False, False, True]),
        breaks=st.sampled_from([False] * 5 + [True]),
    )
    def client_sends(self, data: st.DataObject, steps: int, full: bool, breaks: bool) -> None:
        asker = data.draw(st.sampled_from(self.waiting()))
        self.house.book.full = full
        if breaks:
            asker.stumble()
        else:
            self.send(asker, steps)
        self.house.book.full = False

    @precondition(lambda self: self.owed())
    @rule(data=st.data(), what=st.sampled_from(["leave", "pause", "resume", "leave"]))
    def client_leaves_or_reads_slowly(self, data: st.DataObject, what: str) -> None:
        asker = data.draw(st.sampled_from(self.owed()))
        if what == "leave":
            asker.leave()
        else:
            self.house.run(asker.handler.client_paused if what == "pause" else asker.handler.client_resumed)

    @rule(
        path=st.sampled_from(["", "/v1/messages", "/nowhere", "*", "/v1/messages?key=x"]),
        status=st.sampled_from([400, 431]),
        really=st.integers(0, 3),
    )
    def a_head_is_refused(self, path: str, status: int, really: int) -> None:
        if not really:
            self.house.front.refuse(path, status, "not HTTP")
            self.refused += 1

    # -- providers. Two rules that do the same, because there is more that they may do.

    def scripts_for(self, ask: FakeAsk) -> list[Script]:
        return SCRIPTS

    def answer(self, data: st.DataObject) -> None:
        ask = data.draw(st.sampled_from(self.asked()))
        what = data.draw(st.sampled_from(["go on"] * 6 + ["odd", "end", "lose"]))
        script = self.scripts.get(id(ask))
        if script is None and what != "lose":
            head, pieces = data.draw(st.sampled_from(self.scripts_for(ask))) if what == "go on" else (data.draw(st.sampled_from(HEADS)), [])
            self.scripts[id(ask)] = [*pieces, b""]
            ask.answer(*head)
        elif what == "lose" or script is None:
            kind = data.draw(st.sampled_from([LossKind.STALE, *LossKind]))
            if kind is LossKind.STALE and (ask.began or ask.fresh):
                kind = LossKind.EOF  # only a kept connection is stale, and only before a byte came
            ask.lose(kind)
        elif what == "odd":
            ask.body(*data.draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3)))
        elif what == "end" or not script[0]:
            ask.end()
        else:
            ask.body(script.pop(0))

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def provider_answers(self, data: st.DataObject) -> None:
        self.answer(data)

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def provider_goes_on(self, data: st.DataObject) -> None:
        self.answer(data)

    # -- the house

    @rule(what=st.sampled_from(["wait", "wait", "linger", "shut down"]))
    def time_passes_or_is_up(self, what: str) -> None:
        if what == "shut down":
            self.house.run(self.house.gateway.shut_down)
        else:
            self.house.loop.wait(0.5 if what == "wait" else 2.5)

    # -- what holds

    @invariant()
    def budgets_are_never_negative(self) -> None:
        assert 0 <= self.house.gateway.held.used <= self.house.gateway.held.total
        assert 0 <= self.house.gateway.peeked.used <= self.house.gateway.peeked.total

    @invariant()
    def nobody_is_served_without_a_row(self) -> None:
        rows = self.house.book.opened
        for ask in self.asked():
            exchange: Any = ask.receiver
            assert any(exchange.entry is row for row in rows)

    @invariant()
    def what_is_settled_is_named(self) -> None:
        for entry in self.house.book.settled:
            assert entry.outcome in set(Ending)
            assert entry.outcome != Ending.CRASHED
            assert entry.cause
            assert "mistake of the gateway" not in entry.cause or entry.operation == "models"  # whose list is made to fail
            assert entry.usage_source is not None

    def teardown(self) -> None:
        house = self.house
        try:
            for asker in list(self.askers):
                asker.leave()
            for ask in self.asked():
                ask.lose()
            house.loop.wait(10.0)
            served = [a for a in self.askers if isinstance(a.handler, Intake)]
            for asker in served:
                entry = asker.intake.exchange.entry
                assert asker.reply.over is not None or asker.reply.gone
                assert entry.outcome is not None
                assert sum(entry is row for row in house.book.opened) == sum(entry is row for row in house.book.settled)
                if not any(entry is row for row in house.book.opened):
                    assert any(entry is row for row in house.book.refused), f"{entry.method} {entry.path} ended as {entry.outcome} without a row"
            assert len(house.told) == len(served) + self.refused
            house.check_quiet()
        finally:
            house.close()


TestExchanges = Exchanges.TestCase
_TIMES = 5 if THOROUGH else 1
TestExchanges.settings = settings(max_examples=settings.default.max_examples * _TIMES if settings.default else 100, stateful_step_count=25)
