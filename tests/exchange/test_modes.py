"""How a provider is asked where its client asked in another form: which bytes go there, and when they are the client's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, NonstreamMode
from penstock.pipeline.pseudo import Pace
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.support.answers import ANSWERS, CHAT, GEMINI, MESSAGES, RESPONSES
from tests.support.exchanges import REQUESTS, SSE, House, routes

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
FORCE = Conduct(nonstream="force")
PSEUDO = Conduct(pace=Pace())
STREAMED: dict[ProtocolId, tuple[bytes, dict[str, Any]]] = {
    CHAT: (b"/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
    RESPONSES: (b"/v1/responses", {"stream": True}),
    MESSAGES: (b"/v1/messages", {"stream": True}),
    GEMINI: (b"/v1beta/models/m:streamGenerateContent?alt=sse", {}),
}


@PROTOCOL
def test_force_asks_for_a_stream_and_changes_no_other_byte(protocol: ProtocolId) -> None:
    with House(conduct=FORCE) as house:
        _, ask = house.whole(protocol)
        target, added = STREAMED[protocol]
        plain = {key: value for key, value in REQUESTS[protocol][1].items() if key != "stream_options"}
        assert ask.target == target
        assert json.loads(ask.sent_body) == {**plain, **added}
        assert ask.header("content-length") == str(len(ask.sent_body))
        if protocol is GEMINI:
            assert ask.sent_body == json.dumps(plain).encode()
        else:
            assert ask.sent_body.endswith(json.dumps(plain).encode()[1:]), "ours, and then the client's own bytes"


@PROTOCOL
def test_pseudo_asks_for_the_body(protocol: ProtocolId) -> None:
    with House(conduct=PSEUDO) as house:
        _, ask = house.stream(protocol)
        assert ask.target == (b"/v1beta/models/m:generateContent" if protocol is GEMINI else STREAMED[protocol][0])
        plain = {key: value for key, value in REQUESTS[protocol][1].items() if key != "stream_options"}
        assert json.loads(ask.sent_body) == (plain if protocol is GEMINI else {**plain, "stream": False})


@PROTOCOL
@pytest.mark.parametrize("conduct", [
    Conduct(), Conduct(nonstream="force", transparent=True), Conduct(nonstream="retry"), Conduct(nonstream="retry", transparent=True), PSEUDO,
], ids=["passthrough", "transparent", "retry", "retry-transparent", "pseudo"])  # fmt: skip
def test_otherwise_a_body_is_asked_for_as_it_came(protocol: ProtocolId, conduct: Conduct) -> None:
    with House(conduct=conduct) as house:
        asker, ask = house.whole(protocol)
        plain = {key: value for key, value in REQUESTS[protocol][1].items() if key != "stream_options"}
        assert ask.sent_body == json.dumps(plain).encode()
        ask.answer_json(ANSWERS[protocol].body)
        assert asker.reply.body == ANSWERS[protocol].json
        house.check_quiet()


@PROTOCOL
@pytest.mark.parametrize("conduct", [
    FORCE, Conduct(nonstream="retry"), Conduct(pace=Pace(), transparent=True),
], ids=["force", "retry", "transparent"])  # fmt: skip
def test_otherwise_a_stream_is_asked_for_as_it_came(protocol: ProtocolId, conduct: Conduct) -> None:
    with House(conduct=conduct) as house:
        asker, ask = house.stream(protocol)
        assert json.loads(ask.sent_body) == {**REQUESTS[protocol][1], **({} if protocol is GEMINI else {"stream": True})}
        ask.answer().body(ANSWERS[protocol].stream).end()
        assert asker.reply.body == ANSWERS[protocol].stream
        house.check_quiet()


@pytest.mark.parametrize("mode", ["force", "retry"])
def test_below_a_provider_s_own_name_everything_goes_as_it_came(mode: NonstreamMode) -> None:
    with House(conduct=Conduct(nonstream=mode, pace=Pace())) as house:
        for stream in (False, True):
            body: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [], "stream": stream}
            house.post("/anthropic/v1/messages", body)
            assert json.loads(house.last.sent_body) == body
            if stream:
                house.last.answer().body(ANSWERS[MESSAGES].stream).end()
            else:
                house.last.answer_json({"error": "Streaming is required for operations that may take longer than 10 minutes"}, 500)
        assert [row.status for row in house.book.settled] == [500, 200]
        assert len(house.asks) == 2


def test_the_query_and_the_model_s_name_are_right(house: House) -> None:
    with House(conduct=FORCE, routes=routes(("fast", "anthropic", "claude-x"), ("g", "gemini", "gemini-x"))) as house:
        house.post("/v1/messages?beta=true", {"model": "fast", "max_tokens": 9, "messages": []})
        assert house.last.target == b"/v1/messages?beta=true"
        assert json.loads(house.last.sent_body) == {"model": "claude-x", "max_tokens": 9, "messages": [], "stream": True}
        house.post("/v1beta/models/g:generateContent?key=mine&$alt=json", {"contents": []})
        assert house.last.target == b"/v1beta/models/gemini-x:streamGenerateContent?$alt=sse"


def test_what_is_no_answer_of_a_model_is_never_asked_otherwise() -> None:
    with House(conduct=Conduct(nonstream="force", pace=Pace())) as house:
        others: dict[str, dict[str, Any]] = {
            "/v1/messages/count_tokens": {"model": "m", "messages": []}, "/v1/embeddings": {"model": "m", "input": "x"},
            "/v1/messages/batches": {"requests": []},
        }  # fmt: skip
        for path, body in others.items():
            house.post(path, body, [(b"anthropic-version", b"2023-06-01")])
            assert house.last.sent_body + house.last.uploaded == json.dumps(body).encode()
        house.get("/v1/responses/resp_1?stream=true")
        assert house.last.target == b"/v1/responses/resp_1?stream=true"


@pytest.mark.parametrize("body", [{"best_of": 2, "prompt": "x"}, {"background": True, "input": "x"}, {"stream": "true", "messages": []}])
def test_what_cannot_be_streamed_is_asked_for_as_it_came(body: dict[str, Any]) -> None:
    path = "/v1/completions" if "prompt" in body else "/v1/responses" if "input" in body else "/v1/messages"
    with House(conduct=FORCE) as house:
        house.post(path, {"model": "m", **body})
        assert json.loads(house.last.sent_body) == {"model": "m", **body}


def test_a_provider_that_refuses_to_be_asked_for_usage_is_asked_without() -> None:
    with House(conduct=FORCE) as house:
        asker, ask = house.whole(CHAT)
        ask.answer_json({"error": {"message": "unknown field stream_options"}}, 400)
        assert json.loads(house.last.sent_body) == {"model": "m", "messages": [], "stream": True}
        house.last.answer(200, SSE).body(ANSWERS[CHAT].stream).end()
        assert asker.reply.json()["choices"][0]["message"]["content"] == "Hello, my friend"
        assert house.gateway.no_usage_field == {("openai", "m")}
        row = house.row()
        assert (row.outcome, row.retries) == ("COMPLETE", 1)
        house.whole(CHAT)
        assert "stream_options" not in json.loads(house.last.sent_body), "it is remembered"
        house.last.answer(200, SSE).body(ANSWERS[CHAT].stream).end()
        house.check_quiet()


def test_providers_that_are_not_to_be_asked_for_usage_are_not() -> None:
    with House(conduct=FORCE, openai={"ask_usage": False}) as house:
        house.whole(CHAT)
        assert json.loads(house.last.sent_body) == {"model": "m", "messages": [], "stream": True}


def test_the_demo_answers_as_it_is_asked() -> None:
    with House(conduct=Conduct(nonstream="force", pace=Pace())) as house:
        for stream in (True, False):
            asker = house.post("/v1/messages", {"model": "demo", "max_tokens": 9, "messages": [], "stream": stream})
            if stream:
                house.last.answer().body(ANSWERS[MESSAGES].stream).end()
                assert asker.reply.body == ANSWERS[MESSAGES].stream
            else:
                house.last.answer_json(ANSWERS[MESSAGES].body)
                assert asker.reply.body == ANSWERS[MESSAGES].json
