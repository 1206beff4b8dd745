"""Laws 8, 9 and 10 where answers are joined and told again: each client gets what the provider said, as if it had asked by itself, whoever leads.

A state machine asks for one answer again and again, in both forms, equal and different, with evidence of a retry and without; clients leave, pause
and read on; the provider's bytes come in any pieces and end in every way. What each client has is held against the provider's bytes after every step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.admission.budget.spec import make_budget
from penstock.admission.limits.estimate import input_of
from penstock.admission.settings import AdmissionSettings
from penstock.dedup import Mode, Rules
from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.exchange.permits import GATEWAY
from penstock.ledger.entry import Entry
from penstock.pipeline.timers import Timers
from penstock.policy.rules import Action, Terms, of_words
from penstock.upstream.contract import LossKind, Receiver, ResponseHead
from penstock.vocabulary.ids import ProtocolId
from tests.support.admitted import Admitted
from tests.support.answers import ANSWERS
from tests.support.exchanges import REQUESTS, SSE, Asker, FakeAsk, House
from tests.support.fuzz import THOROUGH
from tests.support.guards import rule_guards
from tests.support.kept import STORES, Make, desk_of

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
GOOD_ENDS: dict[ProtocolId, bytes] = {
    CHAT: b"data:[DONE]", RESPONSES: b'"type":"response.completed"', MESSAGES: b'"type":"message_stop"', GEMINI: b'"finishReason"',
}  # fmt: skip
"""What a stream says that has come to a good end, without white space."""
ERRORS: dict[ProtocolId, bytes] = {
    CHAT: b'data: {"error":{"message":"m","type":"t"}}\n\n',
    RESPONSES: b'event: error\ndata: {"type":"error","code":"c","message":"m"}\n\n',
    MESSAGES: b'event: error\ndata: {"type":"error","error":{"type":"t","message":"m"}}\n\n',
    GEMINI: b'data: {"error":{"code":500,"message":"m","status":"INTERNAL"}}\n\n',
}
PATHS = {b"/chat/completions": CHAT, b"/responses": RESPONSES, b"/messages": MESSAGES, b"enerateContent": GEMINI}
EVIDENCE: list[Headers] = [[], [], [(b"x-stainless-retry-count", b"1")], [(b"idempotency-key", b"k")]]


@dataclass
class Said:
    """What a provider has said in one try."""

    whole: bytes
    """All that it would say."""
    stream: bool
    status: int = 200
    data: bytes = b""


@dataclass
class Client:
    asker: Asker
    protocol: ProtocolId
    stream: bool
    steady: bool = True
    """It has never paused."""
    told: int = 0
    """Bytes that it had when it was looked at last."""

    @property
    def entry(self) -> Entry:
        return self.asker.intake.exchange.entry

    @property
    def body(self) -> bytes:
        return self.asker.reply.body


class Provider(House):
    """Knows which exchange asked it what."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.owners: dict[str, list[FakeAsk]] = {}
        super().__init__(*args, **more)

    def ask(self, *args: Any, **more: Any) -> FakeAsk:
        receiver: Any = args[2]
        asked = super().ask(*args, **more)
        self.owners.setdefault(getattr(receiver, "exchange", receiver).id, []).append(asked)
        return asked


class Replays(RuleBasedStateMachine):
    mode: Mode = "retries"
    guarded = False
    budget = False
    more: dict[str, Any] = {}

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.said: dict[int, Said] = {}

    @initialize(protocol=st.sampled_from(list(ProtocolId)), notes=st.sampled_from([1 << 20, 1 << 20, 3000]), entries=st.sampled_from([1, 4]),
                make=st.sampled_from(list(STORES.values())), purse=st.integers(0, 2))  # fmt: skip
    def furnish(self, protocol: ProtocolId, notes: int, entries: int, make: Make, purse: int) -> None:
        self.protocol = protocol
        guards = None
        if self.guarded:
            guards = rule_guards(of_words(("my friend",), Terms("house", Action.REJECT)))
        timers = Timers(first_content=6.0, idle=3.0, client_stall=4.0)
        conduct = Conduct(dedup=Rules(self.mode, 2.0, 4.0), timers=timers, early_head=None, keepalive=None, guards=guards, **self.more)
        self.desk = desk_of(entries, 1 << 20, 4.0, make)
        self.house = Provider(Settings(noted_bytes=notes), conduct=conduct, desk=self.desk, limits={GATEWAY: 6}, peeked=1 << 16)
        self.admitted = self.spend(purse) if self.budget else None

    def spend(self, more: int) -> Admitted:
        """A purse that holds the prompt and a few tokens `more`: it is empty before the provider's answer is whole, and cuts it."""
        _, body = REQUESTS[self.protocol]
        size = len(json.dumps(body if self.protocol is GEMINI else {**body, "stream": True}))
        stated = self.protocol is MESSAGES  # its stream begins with what the prompt came to
        amount = (ANSWERS[MESSAGES].usage[0] if stated else input_of(size)) + max(1, more)
        return Admitted(AdmissionSettings(budgets=(make_budget("tokens", str(amount), "day", "cut", (), "purse"),)), house=self.house)

    @precondition(lambda self: self.budget and self.asked())
    @rule(frames=st.integers(1, 4))
    def provider_trickles(self, frames: int) -> None:
        """Frame by frame, to everybody who reads: what is used is looked at after each read."""
        for ask in self.asked():
            for _ in range(frames):
                said = self.said.get(id(ask))
                if said is None:
                    self._begin(ask, "go on")
                elif said.stream and ask.live and not ask.paused and said.whole.startswith(said.data):
                    left = said.whole[len(said.data) :]
                    self._say(ask, said, left[: left.find(b"\n\n") + 2])
                self.house.loop.settle()

    @precondition(lambda self: self.budget)
    @rule()
    def the_purse_is_filled(self) -> None:
        """A day begins."""
        if self.admitted is not None:
            self.admitted.keeper.spent.clear()

    # -- clients

    @rule(
        stream=st.sampled_from([True, True, True, False]),
        other=st.sampled_from([False] * 6 + [True]),
        evidence=st.sampled_from(EVIDENCE),
    )
    def ask(self, stream: bool, other: bool, evidence: Headers) -> None:
        path, body = REQUESTS[self.protocol]
        body = {**body, "user": "somebody else"} if other else dict(body)
        if not stream:
            body.pop("stream_options", None)
            path = path.replace("streamGenerateContent?alt=sse", "generateContent")
        elif self.protocol is not GEMINI:
            body["stream"] = True
        asker = self.house.post(path, body, evidence)
        self.house.loop.settle()
        self.clients.append(Client(asker, self.protocol, stream))

    def owed(self) -> list[Client]:
        return [client for client in self.clients if client.asker.reply.over is None and not client.asker.reply.gone]

    @precondition(lambda self: self.owed())
    @rule(data=st.data(), what=st.sampled_from(["leave", "leave", "pause", "resume", "resume"]))
    def client_moves(self, data: st.DataObject, what: str) -> None:
        owed = self.owed()
        client = owed[data.draw(st.integers(0, len(owed) - 1))]
        if what == "leave":
            client.asker.leave()
        elif what == "pause":
            client.steady = False
            client.asker.pause()
        else:
            client.asker.resume()
        self.house.loop.settle()

    # -- the provider. Rules that do the same, because it is what happens most.

    def asked(self) -> list[FakeAsk]:
        return [ask for ask in self.house.asks if ask.live and not ask.paused]

    @precondition(lambda self: self.asked())
    @rule(data=st.data(), what=st.sampled_from(["go on"] * 8 + ["eof", "reset", "error", "status", "whole", "behind"]))
    def provider_says(self, data: st.DataObject, what: str) -> None:
        self.hear(data, what)

    def hear(self, data: st.DataObject, what: str) -> None:
        asks = self.asked()
        ask = asks[data.draw(st.integers(0, len(asks) - 1))]
        said = self.said.get(id(ask))
        if said is None:
            self._begin(ask, what)
        elif what == "reset":
            ask.lose()
        elif what == "eof":
            ask.end()
        elif what == "error" and said.stream and (not said.data or said.data.endswith(b"\n\n")):
            self._say(ask, said, ERRORS[self.protocol])
        else:
            left = said.whole[len(said.data) :] if said.whole.startswith(said.data) else b""
            if left:
                self._say(ask, said, left[: data.draw(st.integers(1, len(left)))] if what != "whole" else left)
            elif what == "behind" and said.stream and self.protocol is not GEMINI:
                self._say(ask, said, b": behind\n\n")
            else:
                ask.end()
        self.house.loop.settle()

    @precondition(lambda self: self.asked())
    @rule(data=st.data())
    def provider_goes_on(self, data: st.DataObject) -> None:
        self.hear(data, "go on")

    def _begin(self, ask: FakeAsk, what: str) -> None:
        if what == "reset":
            ask.lose(LossKind.CONNECT)
            return
        protocol = next(protocol for part, protocol in PATHS.items() if part in ask.target)
        stream = b"stream" in ask.target or b'"stream":true' in ask.sent_body.replace(b" ", b"")
        answer = ANSWERS[protocol]
        json_head: Headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        if what in ("status", "error"):
            self.said[id(ask)] = Said(ERRORS[protocol][6:].strip(), False, 503)
            ask.answer(503, json_head)
        elif what == "whole" and not stream:
            self.said[id(ask)] = Said(answer.json, False, 200, answer.json)
            receiver: Receiver = ask.to
            ask.receiver = None
            head = ResponseHead(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer.json))])
            self.house.run(receiver.answer_whole, head, answer.json, self.house.loop.now)
        else:
            self.said[id(ask)] = Said(answer.stream if stream else answer.json, stream)
            ask.answer(200, SSE if stream else json_head)

    def _say(self, ask: FakeAsk, said: Said, data: bytes) -> None:
        if ask.live and data:
            said.data += data
            ask.body(data)

    @rule(seconds=st.sampled_from([0.1, 0.1, 0.7, 2.2, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.house.loop.wait(seconds)

    @rule(really=st.sampled_from([False] * 7 + [True]))
    def the_house_shuts(self, really: bool) -> None:
        if really:
            self.house.run(self.house.gateway.shut_down)
            self.house.loop.settle()

    # -- what holds

    def source(self, client: Client) -> Said | None:
        """The try whose answer it is told; `None`: nobody was asked, or nothing was said."""
        asks = self.house.owners.get(client.entry.replay_of or client.entry.id, [])
        return self.said.get(id(asks[-1])) if asks else None

    @invariant()
    def each_client_has_what_the_provider_said(self) -> None:
        for client in self.clients:
            self.check(client)

    def check(self, client: Client) -> None:
        body, said, reply = client.body, self.source(client), client.asker.reply
        assert len(body) >= client.told
        client.told = len(body)
        mark = GOOD_ENDS[client.protocol]
        whole = said is not None and said.status == 200 and said.data.startswith(said.whole)
        cut = self.budget and client.entry.outcome == "CUT"
        if cut:
            entry = client.entry
            assert (entry.ended_by, entry.refused_by, entry.replay) == ("gateway", "budget", None), "its own budget's: never who follows"
            assert not whole
        if client.stream and not self.guarded and not cut:  # (a guard and a budget stop in the protocol's own words)
            told = said is not None and (whole or (said.stream and mark in said.data.replace(b" ", b"")))
            assert body.replace(b" ", b"").count(mark) <= int(told), "no good end that the provider did not tell"
        if client.entry.outcome == "COMPLETE" and client.entry.status == 200:
            assert whole, "never COMPLETE for one that was cut"
        if self.guarded or said is None or reply.status != 200:
            return
        if cut:
            assert reply.over == "ended", "and never in silence"
            if client.stream and said.stream:
                assert body.startswith(said.data[: said.data.rfind(b"\n\n") + 2]), "words of ours stand behind whole frames"
            return
        if client.stream and said.stream:
            same = _common(body, said.data)
            if same < len(body):
                words = body[body.rfind(b"\n\n", 0, same) + 2 if b"\n\n" in body[:same] else 0 :].replace(b"\r\n", b"\n")
                assert (reply.over, words.count(b"\n\n")) == ("ended", 1), "one frame of ours, behind whole ones"
                assert b'"message"' in words
            if client.entry.outcome == "COMPLETE":
                assert body.startswith(said.whole)
                assert same == len(body)
        elif client.stream:
            assert not body or whole
        elif said.stream:
            assert not body or json.loads(body) == ANSWERS[client.protocol].body
        else:
            assert said.data.startswith(body)

    @invariant()
    def who_reads_is_told_at_once(self) -> None:
        if self.guarded:
            return
        for client in self.owed():
            leader = next((other for other in self.clients if other.entry.id == client.entry.replay_of), None)
            if leader is None or not (client.steady and leader.steady and client.stream and leader.stream):
                continue
            if leader.entry.outcome is None and not leader.asker.reply.gone:  # (what comes behind a good end is no part of the answer)
                assert client.body == leader.body

    @invariant()
    def counts_are_kept(self) -> None:
        if not self.clients:
            return
        gateway = self.house.gateway
        for budget in (gateway.held, gateway.peeked, self.desk.budget):
            assert 0 <= budget.used <= budget.total
        for row in self.house.book.settled:
            assert row.outcome
            mistake = "mistake" in (row.cause or "")
            assert not mistake, row.cause
            if row.replay is not None:
                assert (row.input_tokens, row.output_tokens, row.usage_source) == (0, 0, "none")

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        house = self.house
        try:
            for client in self.clients:
                client.asker.leave()
            for ask in [ask for ask in house.asks if ask.live]:
                ask.lose()
            house.loop.wait(8.0)
            rows = {row.id: row for row in house.book.settled}
            assert len(rows) == len(house.book.settled) == len(house.book.opened)
            for client in self.clients:
                self.check(client)
                row = rows.get(client.entry.id, client.entry)
                if row.outcome == "COMPLETE" and row.status == 200:
                    leader = rows[row.replay_of or row.id]
                    assert (leader.input_tokens, leader.output_tokens) == ANSWERS[client.protocol].usage
                if self.budget and row.outcome == "CUT":
                    assert not [other for other in rows.values() if other.replay_of == row.id and other.outcome == "COMPLETE"]
                if row.replay is not None:
                    assert row.replay_of in rows
                    assert rows[row.replay_of].replay is None
            house.check_quiet()
            if self.admitted is not None:
                assert self.admitted.limits.held() == self.admitted.keeper.set_aside == 0, "what was set aside is given back, once"
                assert all(row.charged_input is None for row in rows.values() if row.replay is not None)
            assert self.desk.budget.used == 0
            assert self.desk.owed == 0
            assert house.gateway.permits.taken(GATEWAY) == 0
        finally:
            house.close()


def _common(one: bytes, other: bytes) -> int:
    size = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        size += 1
    return size


class OnEvidence(Replays):
    more = {"retries": Retries(connect=1, status=1, first_frame=1)}


class Always(Replays):
    mode = "always"


class Drained(Replays):
    mode = "always"
    more = {"on_disconnect": "drain", "drain_seconds": 3.0, "nonstream": "force"}


class Guarded(Replays):
    mode = "always"
    guarded = True


class Budgeted(Replays):
    """Running streams are cut for the budget of who leads."""

    mode = "always"
    budget = True


_EXAMPLES = settings(max_examples=settings.default.max_examples * (2 if THOROUGH else 1) if settings.default else 40, stateful_step_count=30)
TestOnEvidence, TestAlways, TestDrained, TestGuarded = OnEvidence.TestCase, Always.TestCase, Drained.TestCase, Guarded.TestCase
TestBudgeted = Budgeted.TestCase
TestOnEvidence.settings = TestAlways.settings = TestDrained.settings = TestGuarded.settings = TestBudgeted.settings = _EXAMPLES
