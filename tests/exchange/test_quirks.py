"""What single providers want besides: the user in the body, and their own names of models. (Notices: `test_notice`.)"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from penstock.exchange.contract import Headers
from penstock.exchange.names import Timing
from penstock.exchange.quirks import find_quirks
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import Asker, FakeAsk, House, routes, told_whole

LIST = {"data": [{"id": "gpt4o", "model_name": "GPT-4o"}, {"id": "claudesonnet45", "model_name": "Claude Sonnet 4.5"}]}
CHAT: dict[str, Any] = {"model": "argo:gpt-4o", "messages": []}
MESSAGES: dict[str, Any] = {"model": "claude-sonnet-4-5-20250929", "max_tokens": 9, "messages": []}
BOB: Headers = [(b"authorization", b"Bearer bob")]
USER: dict[str, Any] = {"api_key": None, "user": "alice"}
FROM_KEY: dict[str, Any] = {"api_key": None, "user_from_key": True}
NAMES: dict[str, Any] = {"api_key": None, "user": "alice", "argo_names": True}


def a_house(settings: dict[str, Any], **more: Any) -> House:
    made = House(openai=settings, anthropic=settings, **more)
    made.gateway.quirks = find_quirks(made, {name: made.providers[name] for name in ("openai", "anthropic")}, made.loop.time)
    return made


@pytest.fixture
def named() -> Generator[House]:
    with a_house(NAMES) as house:
        yield house


def asked_for_list(house: House) -> FakeAsk:
    """The request for the list of models, which is the last one."""
    house.loop.settle()
    assert house.last.method == b"GET"
    return house.last


def listed(house: House, answer: Any = LIST, status: int = 200) -> None:
    asked_for_list(house).answer_json(answer, status)
    house.loop.settle()


def sent_model(house: House) -> str:
    return json.loads(house.last.sent_body)["model"]


# The user.


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/chat/completions", CHAT), ("/v1/completions", CHAT), ("/v1/responses", {"model": "m"}), ("/v1/embeddings", {"model": "m", "input": "x"}),
    ("/openai/v1/chat/completions", CHAT),
])
def test_the_configured_user_is_in_body_and_header(path: str, body: dict[str, Any]) -> None:
    with a_house(USER) as house:
        house.post(path, {**body, "user": "mallory"}, BOB)
        assert json.loads(house.last.sent_body) == {**body, "user": "alice"}
        assert house.last.header("authorization") == "Bearer alice"
        assert b"bob" not in house.last.rest


def test_at_messages_it_is_the_metadatas_user_id() -> None:
    with a_house(USER) as house:
        house.post("/v1/messages", {**MESSAGES, "metadata": {"user_id": "mallory", "x": 1}}, [(b"x-api-key", b"bob")])
        assert json.loads(house.last.sent_body) == {**MESSAGES, "metadata": {"user_id": "alice", "x": 1}}
        assert house.last.header("x-api-key") == "alice"
        assert b"bob" not in house.last.rest


def test_no_byte_besides_changes() -> None:
    with a_house(USER) as house:
        body = b'{ "messages" :[{"content":"\\u00e9", "role":"user"}],"model":"m",  "n":1.0e0 }'
        house.post("/v1/chat/completions", body)
        assert house.last.sent_body == body.replace(b"{ ", b'{"user":"alice", ', 1)


@pytest.mark.parametrize(("path", "body", "headers", "credential"), [
    ("/v1/chat/completions", CHAT, [(b"authorization", b"Bearer bob")], ("authorization", "Bearer bob")),
    ("/v1/chat/completions", CHAT, [(b"api-key", b"bob")], ("authorization", "Bearer bob")),
    ("/v1/messages", MESSAGES, [(b"authorization", b"Bearer bob")], ("x-api-key", "bob")),
    ("/v1/messages", MESSAGES, [(b"x-api-key", b"bob"), (b"authorization", b"Bearer carol")], ("x-api-key", "bob")),
])
def test_the_clients_key_is_the_user(path: str, body: dict[str, Any], headers: Headers, credential: tuple[str, str]) -> None:
    with a_house(FROM_KEY) as house:
        house.post(path, body, headers)
        found = json.loads(house.last.sent_body)
        assert (found["metadata"]["user_id"] if path == "/v1/messages" else found["user"]) == "bob"
        assert house.last.header(credential[0]) == credential[1]
        assert b"carol" not in house.last.rest


def test_two_clients_in_turn_are_two_users() -> None:
    """What is remembered of one head is nobody else's."""
    with a_house(FROM_KEY) as house:
        for user in ("bob", "carol", "bob"):
            house.post("/v1/chat/completions", CHAT, [(b"authorization", b"Bearer " + user.encode())])
            assert json.loads(house.last.sent_body)["user"] == user
            assert house.last.header("authorization") == f"Bearer {user}"


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"Bearer sk-ant-oat01-abc")], [(b"authorization", b"Bearer two words")]])
@pytest.mark.parametrize(("path", "protocol"), [("/v1/chat/completions", ProtocolId.OPENAI_CHAT), ("/v1/messages", ProtocolId.ANTHROPIC_MESSAGES)])
def test_whoever_names_nobody_is_told_so(path: str, protocol: ProtocolId, headers: Headers) -> None:
    with a_house(FROM_KEY) as house:
        client = house.post(path, MESSAGES, headers)
        assert client.reply.status == 401
        assert "user name as the API key" in told_whole(protocol, client.reply)["message"]
        assert house.asks == []
        assert house.row().outcome == "REFUSED"
        house.check_quiet()


def test_a_body_without_a_place_for_the_user_is_refused() -> None:
    with a_house(USER) as house:
        assert house.post("/v1/messages", {**MESSAGES, "metadata": "x"}).reply.status == 400
        assert house.post("/openai/v1/chat/completions", b"no json").reply.status == 400
        assert house.asks == []
        house.check_quiet()


def test_other_providers_are_left_alone() -> None:
    with a_house(USER) as house:
        house.post("/v1beta/models/m:generateContent", {"contents": []})
        assert json.loads(house.last.sent_body) == {"contents": []}


# Names of models.


def test_a_name_is_looked_up_and_the_list_is_asked_for_once(named: House) -> None:
    client = named.post("/v1/chat/completions", CHAT)
    asked = asked_for_list(named)
    assert (asked.target, asked.header("authorization")) == (b"/v1/models", "Bearer alice")
    assert client.reply.status is None
    listed(named)
    assert sent_model(named) == "gpt4o"
    for name in ("gpt-4o", "GPT-4O", "argo/gpt-4o", "gpt4o"):
        named.post("/v1/chat/completions", {**CHAT, "model": name})
        assert sent_model(named) == "gpt4o"
    assert sum(ask.method == b"GET" for ask in named.asks) == 1
    named.last.answer_json({"choices": []})
    assert named.told[-1].requested_model == "gpt4o"


def test_many_who_wait_for_the_list_ask_for_it_once(named: House) -> None:
    for _ in range(5):
        named.post("/v1/chat/completions", CHAT)
    named.loop.settle()
    assert len(named.asks) == 1
    listed(named)
    assert [json.loads(ask.sent_body)["model"] for ask in named.asks[1:]] == ["gpt4o"] * 5


def test_a_provider_of_each_protocol_has_its_own_list(named: House) -> None:
    named.post("/v1/messages", MESSAGES)
    assert asked_for_list(named).header("x-api-key") == "alice"
    listed(named)
    assert sent_model(named) == "claudesonnet45"


@pytest.mark.parametrize(("path", "protocol"), [("/v1/chat/completions", ProtocolId.OPENAI_CHAT), ("/v1/messages", ProtocolId.ANTHROPIC_MESSAGES)])
def test_an_unknown_model_is_a_404_that_names_it(named: House, path: str, protocol: ProtocolId) -> None:
    client = named.post(path, {**MESSAGES, "model": "argo:gpt-4x"})
    listed(named)
    assert client.reply.status == 404
    message = told_whole(protocol, client.reply)["message"]
    assert "'argo:gpt-4x'" in message
    assert "did you mean 'argo:gpt-4o'?" in message
    assert (named.row().outcome, named.row().cause) == ("REFUSED", "the provider has no such model")
    assert len(named.asks) == 1, "no other model is asked in its place"
    named.check_quiet()


def test_an_unknown_name_is_reason_to_ask_again_but_not_at_once(named: House) -> None:
    named.post("/v1/chat/completions", {**CHAT, "model": "new"})
    listed(named)
    client = named.post("/v1/chat/completions", {**CHAT, "model": "new"})
    named.loop.settle()
    assert client.reply.status == 404
    assert len(named.asks) == 1
    named.loop.wait(Timing().again + 1)
    named.post("/v1/chat/completions", {**CHAT, "model": "new"})
    listed(named, {"data": [{"id": "new"}]})
    assert sent_model(named) == "new"


def test_an_old_list_is_asked_for_again_and_is_better_than_none(named: House) -> None:
    named.post("/v1/chat/completions", CHAT)
    listed(named)
    named.loop.now += Timing().fresh + 1
    named.post("/v1/chat/completions", CHAT)
    listed(named, {"error": "down"}, 503)
    assert sent_model(named) == "gpt4o"


@pytest.mark.parametrize("body", [{"error": "down"}, {"response": "AUTHENTICATION NOTICE FROM ARGO"}, {"data": None}, {"data": []}, []], ids=repr)
def test_what_lists_nothing_takes_no_list_away(named: House, body: Any) -> None:
    named.post("/v1/chat/completions", CHAT)
    listed(named)
    named.loop.now += Timing().fresh + 1
    named.post("/v1/chat/completions", CHAT)
    listed(named, body)
    assert sent_model(named) == "gpt4o"


@pytest.mark.parametrize("fate", ["status", "lost", "silent", "page"])
def test_without_a_list_what_must_be_looked_up_is_refused_and_the_rest_goes_as_written(named: House, fate: str) -> None:
    def fail() -> None:
        asked = asked_for_list(named)
        match fate:
            case "status":
                asked.answer_json({"error": "no"}, 500)
            case "lost":
                asked.lose(LossKind.CONNECT, "the provider refused the connection")
            case "page":
                asked.answer(200, [(b"content-type", b"text/html")]).body(b"<html>").end()
            case _:
                named.loop.wait(Timing().limit + 0.1)
        named.loop.settle()

    client = named.post("/v1/chat/completions", CHAT)
    fail()
    assert client.reply.status == 502
    assert "'argo:gpt-4o'" in client.reply.json()["error"]["message"]
    named.post("/v1/chat/completions", {**CHAT, "model": "gpt4o"})
    named.loop.settle()
    assert sent_model(named) == "gpt4o"


def test_a_client_that_leaves_while_the_list_is_asked_for(named: House) -> None:
    client = named.post("/v1/chat/completions", CHAT)
    client.leave()
    listed(named)
    assert len(named.asks) == 1
    assert named.row().outcome == "CLIENT_GONE"
    named.check_quiet()


def test_the_routes_name_is_the_one_that_is_looked_up() -> None:
    with a_house(NAMES, routes=routes(("fast", "openai", "argo:gpt-4o"))) as house:
        house.post("/v1/chat/completions", {**CHAT, "model": "fast"})
        listed(house)
        assert sent_model(house) == "gpt4o"


def test_each_user_has_a_list_of_their_own() -> None:
    with a_house({**FROM_KEY, "argo_names": True}) as house:
        def ask(user: bytes) -> Asker:
            return house.post("/v1/chat/completions", CHAT, [(b"x-api-key", user)])

        ask(b"bob")
        assert asked_for_list(house).header("authorization") == "Bearer bob"
        listed(house)
        assert sent_model(house) == "gpt4o"
        client = ask(b"carol")
        assert asked_for_list(house).header("authorization") == "Bearer carol"
        listed(house, {"data": [{"id": "other"}]})
        assert client.reply.status == 404


def test_closing_ends_what_is_under_way(named: House) -> None:
    named.post("/v1/chat/completions", CHAT)
    asked = asked_for_list(named)
    for quirks in named.gateway.quirks.values():
        named.loop.run_until_complete(quirks.close())
    assert asked.cancelled
