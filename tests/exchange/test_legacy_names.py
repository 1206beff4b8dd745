"""Names of models at legacy Argo: one that is unknown is looked up, in time and not too often, and goes as it is written where that does not help."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from penstock.exchange.names import Timing
from penstock.exchange.quirks import find_quirks
from penstock.providers import ArgoLegacyProvider
from penstock.providers.argo_names import read_directory
from penstock.routing import Glob, Route
from penstock.upstream.contract import LossKind
from tests.support.exchanges import Asker, FakeAsk, House

LIST = {"data": [{"id": "Claude Opus 9", "internal_id": "claudeopus9"}, {"id": "gpt4o", "model_name": "GPT-4o"}]}
NEW = "argo:claude-opus-9"


@pytest.fixture
def argo() -> Generator[House]:
    with House(routes=[Route(Glob("*"), "argo_legacy")], argo_legacy={"user": "ada"}) as house:
        house.gateway.quirks = find_quirks(house, {"argo_legacy": house.providers["argo_legacy"]}, house.loop.time)
        yield house


def ask(house: House, model: str, path: str = "/v1/chat/completions", **more: Any) -> Asker:
    client = house.post(path, {"model": model, "messages": [{"role": "user", "content": "hi"}], **more})
    house.loop.settle()
    return client


def lists(house: House) -> list[FakeAsk]:
    return [asked for asked in house.asks if asked.method == b"GET"]


def models(house: House) -> list[str]:
    """What the gateway was asked for."""
    return [json.loads(asked.sent_body)["model"] for asked in house.asks if asked.method == b"POST"]


def give(house: House, answer: Any = LIST, status: int = 200) -> None:
    lists(house)[-1].answer_json(answer, status)
    house.loop.settle()


@pytest.mark.parametrize(("path", "more"), [
    ("/v1/chat/completions", {}), ("/v1/chat/completions", {"stream": True}), ("/v1/completions", {"prompt": "hi"}),
    ("/v1/responses", {"input": "hi"}), ("/v1/chat", {}), ("/argo_legacy/v1/chat/completions", {}),
])
def test_a_name_that_is_unknown_is_looked_up_first(argo: House, path: str, more: dict[str, Any]) -> None:
    client = ask(argo, NEW, path, **more)
    assert (models(argo), [asked.target for asked in lists(argo)]) == ([], [b"/argoapi/api/v1/models/"])
    assert lists(argo)[0].header("authorization") is None
    give(argo)
    assert models(argo) == ["claudeopus9"]
    argo.last.answer_json({"response": "yes"})
    argo.loop.settle()
    assert (client.reply.status, argo.row().requested_model) == (200, NEW)
    ask(argo, "claude-opus-9", path, **more)
    assert (models(argo), len(lists(argo))) == (["claudeopus9"] * 2, 1)


def test_what_is_known_asks_for_nothing(argo: House) -> None:
    for name in ("gpt-4o", "argo:gpt-4o", "gpt4o", "argo/gpt-4o", "text-embedding-ada-002"):
        ask(argo, name)
    assert (models(argo), lists(argo)) == (["gpt4o"] * 4 + ["ada002"], [])


def test_what_is_learned_is_known_to_the_list_of_models_too(argo: House) -> None:
    ask(argo, NEW)
    give(argo)
    provider = argo.providers["argo_legacy"]
    assert isinstance(provider, ArgoLegacyProvider)
    assert NEW in provider.names.aliases


def test_many_who_wait_ask_once(argo: House) -> None:
    for _ in range(5):
        ask(argo, NEW)
    assert len(lists(argo)) == 1
    give(argo)
    assert models(argo) == ["claudeopus9"] * 5


def test_a_name_that_is_nobody_s_goes_as_it_is_written_and_costs_one_call_in_a_while(argo: House) -> None:
    for _ in range(3):
        ask(argo, "argo:nobody")
        if len(argo.asks) == 1:
            give(argo)
    assert (models(argo), len(lists(argo))) == (["nobody"] * 3, 1)
    argo.loop.wait(Timing().again + 1)
    ask(argo, "argo:nobody")
    assert len(lists(argo)) == 2
    give(argo, {"data": [{"id": "nobody5", "model_name": "Nobody"}]})
    assert models(argo)[-1] == "nobody5"


@pytest.mark.parametrize("fate", ["status", "lost", "silent", "page", "empty"])
def test_without_a_list_it_goes_as_it_is_written_and_the_last_good_one_stays(argo: House, fate: str) -> None:
    client = ask(argo, NEW)
    give(argo)
    for _ in range(2):
        argo.loop.wait(Timing().again + 1)
        client = ask(argo, "argo:newer")
        asked = lists(argo)[-1]
        match fate:
            case "status":
                asked.answer_json({"error": "no"}, 500)
            case "lost":
                asked.lose(LossKind.CONNECT, "the provider refused the connection")
            case "page":
                asked.answer(200, [(b"content-type", b"text/html")]).body(b"<html>").end()
            case "empty":
                asked.answer_json({"data": []})
            case _:
                argo.loop.wait(Timing().limit - 0.5)
                assert models(argo)[-1] != "newer", "it waits for the list"
                argo.loop.wait(1.0)
        argo.loop.settle()
        assert models(argo)[-1] == "newer"
        assert client.reply.status is None
        ask(argo, NEW)
        assert models(argo)[-1] == "claudeopus9"
        ask(argo, "argo:newer")
        assert models(argo)[-1] == "newer"
        argo.asks = [asked for asked in argo.asks if asked.method == b"GET"]
        ask(argo, NEW)
    assert len(lists(argo)) == 3


def test_a_failure_does_not_take_back_what_somebody_else_has_learned(argo: House) -> None:
    ask(argo, NEW)
    give(argo)
    provider = argo.providers["argo_legacy"]
    assert isinstance(provider, ArgoLegacyProvider)
    provider.names.learn(read_directory(json.dumps({"data": [{"id": "late1", "model_name": "Late"}]}).encode()))
    argo.loop.wait(Timing().again + 1)
    ask(argo, "argo:other")
    give(argo, {"error": "no"}, 500)
    ask(argo, "argo:late")
    assert models(argo)[-1] == "late1"


def test_a_client_that_leaves_meanwhile_is_gone(argo: House) -> None:
    client = ask(argo, NEW)
    client.leave()
    give(argo)
    assert (models(argo), argo.row().outcome) == ([], "CLIENT_GONE")
    argo.check_quiet()


def test_what_a_path_names_below_it_goes_as_it_came(argo: House) -> None:
    body = {"user": "eve", "model": NEW, "prompt": ["hi"]}
    argo.post("/argo_legacy/api/v1/resource/chat/", body)
    argo.loop.settle()
    assert (json.loads(argo.last.uploaded), lists(argo)) == (body, [])
