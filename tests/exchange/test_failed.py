"""Errors that quote what a model made (Groq's `failed_generation`): guards over answers hold for that as for any other word of a model's."""

from __future__ import annotations

import gzip
import json
from typing import Any, cast

import pytest

from penstock.exchange.conduct import Conduct
from penstock.policy.failures import without_made
from penstock.policy.guards import Guard, Guards
from penstock.policy.outside import PASSED, Outside, Said, Verdict
from penstock.policy.rules import Action, Scope
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_hearing import Bench
from tests.laws.talk import DIALECTS
from tests.support.exchanges import CHUNK, SSE, House
from tests.support.guards import MASKING, REJECTING, all_rules

CARD = "4111 1111 1111 1111"
GROQ: dict[str, Any] = {
    "message": "Failed to call a function.", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400,
    "failed_generation": f'<function=pay {{"card": "{CARD}"}}</function>',
}  # fmt: skip
RAW = json.dumps({"error": GROQ})
ROUTED: dict[str, Any] = {
    "message": "Provider returned error", "code": 400, "metadata": {"raw": RAW, "provider_name": "Groq"},
}  # fmt: skip
SPELLED: dict[str, Any] = {**ROUTED, "metadata": {"raw": RAW.replace("4111 ", "\\u0034111\\u0020"), "provider_name": "Groq"}}
MADE: dict[str, Any] = {**GROQ, "failed_generation": json.dumps({"card": CARD}).replace("4111 ", "\\u0034111\\u0020")}
NESTED: dict[str, Any] = {**ROUTED, "metadata": {"raw": json.dumps({"error": MADE}), "provider_name": "Groq"}}
ERRORS = pytest.mark.parametrize("error", [GROQ, ROUTED, SPELLED, MADE, NESTED], ids=["groq", "routed", "spelled", "made", "nested"])
ANSWERS: frozenset[Any] = frozenset({"answer"})
OUTSIDE = Guards([Guard("judge", outside=Outside("judge", "service"), on=ANSWERS)])
OPEN_OUTSIDE = Guards([Guard("judge", outside=Outside("judge", "service", closed=False), on=ANSWERS)])
COUNTING = Guards([Guard("judge", outside=Outside("judge", "service", Action.AUDIT), on=ANSWERS)])
OPEN = Guards([Guard("house", all_rules(closed=False))])
BOTH = Guards([Guard("house", all_rules()), Guard("judge", outside=Outside("judge", "service"), on=ANSWERS)])
NEITHER = Guards([Guard("house", all_rules(), on=frozenset({"request"}))])
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)


def frame(error: dict[str, Any]) -> bytes:
    return b"event: error\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"


def unfolded(value: Any) -> str:
    """All that stands in it, decoded as often as it can be."""
    if isinstance(value, str):
        try:
            return unfolded(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, dict):
        value = list(cast("dict[str, Any]", value).values())
    return " ".join([unfolded(item) for item in cast("list[Any]", value)]) if isinstance(value, list) else str(value)


@ERRORS
@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("guards", [MASKING, OUTSIDE, OPEN_OUTSIDE, BOTH], ids=["mask", "outside", "open", "both"])
def test_an_error_with_its_status_tells_nothing_of_it(error: dict[str, Any], status: int, stream: bool, guards: Guards) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat(stream=stream)
        house.last.answer_json({"error": error}, status)
        told = json.loads(client.reply.body)["error"]
        assert (client.reply.status, told["message"], told.get("type")) == (status, error["message"], error.get("type"))
        assert CARD not in unfolded(told)
        assert ("[CARD]" in unfolded(told)) is (guards is MASKING)
        assert ("failed_generation" in json.dumps(told)) is (guards is MASKING)
        if "metadata" in error:
            raw = json.loads(told["metadata"]["raw"])["error"]
            assert (raw["code"], raw["message"], told["metadata"]["provider_name"]) == ("tool_use_failed", GROQ["message"], "Groq")
        assert house.row().outcome == "UPSTREAM_ERROR"
        house.check_quiet()


@ERRORS
def test_a_guard_that_rejects_finds_it_however_it_is_spelled(error: dict[str, Any]) -> None:
    with House(conduct=Conduct(guards=REJECTING)) as house:
        client = house.chat(stream=False)
        house.last.answer_json({"error": error}, 400)
        assert (client.reply.status, b"blocked by a policy" in client.reply.body, b"Groq" in client.reply.body) == (400, True, False)
        assert (house.row().outcome, house.row().rule) == ("UPSTREAM_ERROR", "house")


@pytest.mark.parametrize("guards", [COUNTING, NEITHER, None], ids=["counting", "requests", "none"])
def test_where_no_guard_holds_it_passes_as_it_came(guards: Guards | None) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat()
        house.last.answer_json({"error": GROQ}, 400)
        assert json.loads(client.reply.body) == {"error": GROQ}


# -- what is not looked at ----------------------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("guards", [MASKING, OUTSIDE, REJECTING], ids=["mask", "outside", "reject"])
@pytest.mark.parametrize("how", ["whole", "in pieces", "gzip", "br", "no gzip"])
@pytest.mark.parametrize("status", [400, 503])
def test_an_error_that_is_longer_than_is_looked_at_is_told_by_its_status_alone(dialect: Any, guards: Guards, how: str, status: int) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        asker, ask = house.stream(dialect.protocol)
        body = json.dumps({"error": {"message": f"{'x' * 70_000} {CARD}", "failed_generation": CARD}}).encode()
        coding = {"gzip": b"gzip", "br": b"br", "no gzip": b"gzip"}.get(how)
        sent = gzip.compress(body) if how == "gzip" else b"\x0b\x02\x80" + body[:99] if how in ("br", "no gzip") else body
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"7"), (b"content-length", b"%d" % len(sent))]
        ask.answer(status, [*headers, (b"content-encoding", coding)] if coding else headers)
        for at in range(0, len(sent), 5_000) if how == "in pieces" else [0]:
            if ask.live:
                ask.body(sent[at : at + 5_000] if how == "in pieces" else sent)
        if ask.live:
            ask.end()
        reply, row = asker.reply, house.row()
        assert (reply.status, reply.header(b"retry-after"), row.outcome) == (status, b"7", "UPSTREAM_ERROR")
        assert row.refused_by == ("guard" if how != "no gzip" else None)
        assert reply.header(b"content-encoding") is None
        assert reply.json()["error"]["message"]
        assert CARD.encode() not in reply.body
        assert len(reply.body) < 1_000
        house.check_quiet()


@EACH
@pytest.mark.parametrize("long", [True, False])
def test_where_all_guards_are_open_it_passes_and_is_counted(dialect: Any, long: bool) -> None:
    with House(conduct=Conduct(guards=OPEN)) as house:
        asker, ask = house.stream(dialect.protocol)
        body = json.dumps({"error": {"message": f"{'x' * 70_000 * long} {CARD}"}}).encode()
        ask.answer(400, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]).body(body)
        if ask.live:
            ask.end()
        assert (asker.reply.status, asker.reply.body == body) == (400, long)
        found = json.loads(house.row().findings or "[]")
        assert [one["action"] for one in found] == ["let_go" if long else "mask"]
        house.check_quiet()


# -- in band ------------------------------------------------------------------------------------------------------------------------------


@ERRORS
@pytest.mark.parametrize("guards", [MASKING, REJECTING])
def test_the_first_event_is_an_error_with_its_status_or_rejected(error: dict[str, Any], guards: Guards) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat()
        ask = house.last.answer().body(frame(error))
        if ask.live:
            ask.end()
        assert b"4111" not in client.reply.body
        row = house.row()
        if guards is MASKING:
            told = json.loads(client.reply.body)["error"]
            assert (client.reply.status, row.outcome, told["message"]) == (400, "UPSTREAM_ERROR", error["message"])
            assert "[CARD]" in unfolded(told)
        else:
            assert (client.reply.status, row.outcome, row.rule) == (200, "CUT", "house")
        house.check_quiet()


@ERRORS
@pytest.mark.parametrize("guards", [MASKING, REJECTING])
@pytest.mark.parametrize("where", ["top", "choice", "x_groq"])
def test_inside_of_a_stream_it_is_judged_and_what_is_rejected_ends_as_an_error(error: dict[str, Any], guards: Guards, where: str) -> None:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    chunks = {"top": {"error": error, "choices": [choice]}, "choice": {"choices": [{**choice, "error": error}]}, "x_groq": {
        "choices": [choice], "x_groq": {"error": error}}}  # fmt: skip
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat()
        ask = house.last.answer().body(CHUNK, b"data: " + json.dumps({"id": "c1", "model": "m", **chunks[where]}).encode() + b"\n\n")
        if ask.live:
            ask.end()
        body, row = client.reply.body, house.row()
        assert b"4111" not in body
        assert b"content_filter" not in body
        assert (b"[CARD]" in body, b"blocked by a policy" in body) == (guards is MASKING, guards is REJECTING)
        assert (row.outcome == "CUT") is (guards is REJECTING)
        house.check_quiet()


@pytest.mark.parametrize("verdict", [PASSED, Verdict(Said.REJECT)], ids=["passed", "rejected"])
@pytest.mark.parametrize("protocol", [ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES])
def test_guards_outside_are_asked_about_an_error_inside_of_a_stream(verdict: Verdict, protocol: ProtocolId) -> None:
    with House(conduct=Conduct(guards=OUTSIDE)) as house:
        house.gateway.judges = bench = Bench()
        asker, ask = house.stream(protocol)
        words = frame(GROQ) if protocol is ProtocolId.OPENAI_CHAT else b'event: error\ndata: {"type":"error","message":"' + CARD.encode() + b'"}\n\n'
        begun = CHUNK if protocol is ProtocolId.OPENAI_CHAT else (
            b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress"}}\n\n')
        ask.answer(200, SSE).body(begun, words)
        asked: list[str] = []
        while bench.open:
            question = bench.answer(house, PASSED if CARD not in next(iter(bench.open.values()))[0].texts[0].text else verdict)
            asked += [one.text for one in question.texts if one.scope is Scope.ASSISTANT]
        if ask.live:
            ask.end()
        assert any(CARD in text for text in asked)
        body = asker.reply.body
        assert (CARD.encode() in body, b"blocked by a policy" in body) == (verdict is PASSED, verdict is not PASSED)
        assert b"content_filter" not in body
        house.check_quiet()


@ERRORS
@pytest.mark.parametrize("guards", [MASKING, REJECTING])
def test_a_body_with_a_good_status_that_is_an_error(error: dict[str, Any], guards: Guards) -> None:
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat(stream=False)
        house.last.answer_json({"error": error}, 200)
        assert CARD not in unfolded(json.loads(client.reply.body))
        assert (b"CARD" in client.reply.body, b"blocked by a policy" in client.reply.body) == (guards is MASKING, guards is REJECTING)
        house.check_quiet()


@ERRORS
def test_guards_outside_put_something_in_its_place_in_a_body(error: dict[str, Any]) -> None:
    with House(conduct=Conduct(guards=Guards([Guard("judge", outside=Outside("judge", "service", Action.MASK), on=ANSWERS)]))) as house:
        house.gateway.judges = bench = Bench()
        client = house.chat(stream=False)
        house.last.answer_json({"error": error}, 200)
        while bench.open:
            question = next(iter(bench.open.values()))[0]
            bench.answer(house, Verdict(Said.MASK, [one.text.replace(CARD, "(a card)") for one in question.texts]))
        told = json.loads(client.reply.body)["error"]
        assert (CARD in unfolded(told), "(a card)" in unfolded(told), told["message"]) == (False, True, error["message"])
        assert "metadata" not in told or (isinstance(told["metadata"]["raw"], str) and told["metadata"]["provider_name"] == "Groq")
        house.check_quiet()


@ERRORS
def test_guards_outside_and_the_first_event(error: dict[str, Any]) -> None:
    with House(conduct=Conduct(guards=OUTSIDE)) as house:
        house.gateway.judges = bench = Bench()
        client = house.chat()
        house.last.answer().body(frame(error))
        while bench.open:
            bench.answer(house)
        assert (client.reply.status, house.row().outcome) == (400, "UPSTREAM_ERROR")
        assert client.reply.json()["error"]["message"] == error["message"]
        assert CARD not in unfolded(client.reply.json())
        house.check_quiet()


# -- what is left out ---------------------------------------------------------------------------------------------------------------------


def test_what_is_left_out() -> None:
    plain: dict[str, Any] = {"a": 1, "b": ['{"c": "\\u0041"}', "{", None]}
    assert without_made(plain) is plain
    assert without_made(GROQ) == {name: value for name, value in GROQ.items() if name != "failed_generation"}
    assert without_made({"details": [GROQ, "x"]}) == {"details": [without_made(GROQ), "x"]}
    assert without_made("{" + RAW) == "[MASKED]", "no JSON, but it quotes it"
    assert json.loads(without_made(RAW)) == {"error": without_made(GROQ)}
    assert without_made({"a": '{"c": "\\u0041"}', "failed_generation": "x"}) == {"a": '{"c": "\\u0041"}'}, "the rest is spelled as it was"
    deep: Any = GROQ
    for _ in range(5):
        deep = {"error": json.dumps(deep)}
    assert CARD not in unfolded(without_made(deep))
    nested: Any = {}
    for _ in range(500):
        nested = [nested]
    assert without_made({"a": nested, **GROQ}) != {"a": nested, **GROQ}
