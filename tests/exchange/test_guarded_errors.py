"""Errors in the place of an answer are judged by guards: some quote what the model wrote. Their status stays."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.policy.guards import Guard, Guards
from penstock.policy.rules import Action
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS
from tests.support.exchanges import SSE, House
from tests.support.guards import MASKING, REJECTING, all_rules

CARD = "4111 1111 1111 1111"
WORDS = f"Failed to call a function: {CARD}"
GROQ = {"error": {"message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed",
                  "failed_generation": f'<function=send>{{"n": "{CARD}"}}'}}
BODIES: dict[ProtocolId, Any] = {
    ProtocolId.OPENAI_CHAT: GROQ, ProtocolId.OPENAI_RESPONSES: {"error": {"message": WORDS, "type": "server_error", "code": None, "param": None}},
    ProtocolId.ANTHROPIC_MESSAGES: {"type": "error", "error": {"type": "invalid_request_error", "message": WORDS}, "request_id": "req_1"},
    ProtocolId.GEMINI: {"error": {"code": 400, "message": WORDS, "status": "INVALID_ARGUMENT", "details": [{"reason": CARD}]}},
}
AUDIT = Guards([Guard("house", all_rules(Action.AUDIT))])
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)


@EACH
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("how", ["mask", "reject", "audit"])
def test_an_error_with_its_status(dialect: Any, how: str, zipped: bool) -> None:
    with House(conduct=Conduct(guards={"mask": MASKING, "reject": REJECTING, "audit": AUDIT}[how])) as house:
        asker, ask = house.stream(dialect.protocol)
        body = json.dumps(BODIES[dialect.protocol]).encode()
        sent = gzip.compress(body) if zipped else body
        ask.answer(400, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(sent)), *(
            [(b"content-encoding", b"gzip")] if zipped else [])]).body(sent).end()
        reply, row = asker.reply, house.row()
        assert (reply.status, row.outcome, row.upstream_status) == (400, "UPSTREAM_ERROR", 400)
        if how == "audit":
            assert (reply.body if not zipped or reply.header(b"content-encoding") is None else gzip.decompress(reply.body)) == body
        elif how == "mask":
            assert reply.json() == json.loads(body.replace(CARD.encode(), b"[CARD]"))
        else:
            assert b"blocked by a policy" in reply.body
            assert (row.refused_by, row.rule) == ("guard", "house")
        assert (CARD.encode() in reply.body) is (how == "audit" and not zipped) or zipped
        found = json.loads(row.findings or "[]")
        assert {(one["guard"], one["action"], one["where"]) for one in found} == {("house", how, "response")}
        house.check_quiet()


@EACH
@pytest.mark.parametrize("guards", [MASKING, REJECTING])
def test_an_error_that_comes_before_anything_else_of_a_stream(dialect: Any, guards: Guards) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        asker, ask = house.stream(dialect.protocol)
        error = BODIES[dialect.protocol]
        name = b"" if dialect.protocol in (ProtocolId.OPENAI_CHAT, ProtocolId.GEMINI) else b"event: error\n"
        ask.answer(200, SSE).body(name + b"data: " + json.dumps({"type": "error", **error} if name else error).encode() + b"\n\n")
        assert CARD.encode() not in asker.reply.body
        assert (b"[CARD]" if guards is MASKING else b"blocked by a policy") in asker.reply.body
        assert house.row().outcome in ("UPSTREAM_ERROR", "CUT")
        house.check_quiet()


@EACH
def test_an_error_without_a_match_is_told_as_it_came(dialect: Any) -> None:
    with House(conduct=Conduct(guards=MASKING)) as house:
        asker, ask = house.stream(dialect.protocol)
        body = json.dumps(BODIES[dialect.protocol], indent=1).replace(CARD, "nothing").encode()
        ask.answer(429, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"retry-after", b"7")]).body(body).end()
        assert (asker.reply.status, asker.reply.body, asker.reply.header(b"retry-after")) == (429, body, b"7")
        assert house.row().findings is None


@EACH
@pytest.mark.parametrize("body", [f"<html>No: {CARD}</html>".encode(), f"data: {{\ndata: {CARD}\n\n".encode(), f"upstream said {CARD}".encode()])
@pytest.mark.parametrize("guards", [MASKING, REJECTING])
@pytest.mark.parametrize("end", ["end", "lose"])
def test_an_error_that_is_told_in_words_of_ours(dialect: Any, guards: Guards, body: bytes, end: str) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        asker, ask = house.stream(dialect.protocol)
        ask.answer(502, [(b"content-type", b"text/event-stream" if body.startswith(b"data") else b"text/html")]).body(body)
        getattr(ask, end)()
        assert asker.reply.status == 502
        assert CARD.encode() not in asker.reply.body
        assert (b"[CARD]" if guards is MASKING else b"blocked by a policy") in asker.reply.body
        house.check_quiet()
