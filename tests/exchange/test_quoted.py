"""The id that an error names: at Anthropic's protocol the provider's own, which its head has told the client already; else the exchange's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers
from penstock.policy.rules import Action, Terms, built_in
from penstock.protocols import REGISTRY
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_holding import ERRORS
from tests.support.answers import ANSWERS, CHAT, GEMINI, MESSAGES
from tests.support.exchanges import SSE, Asker, House
from tests.support.guards import rule_guards

ID: Headers = [(b"request-id", b"req_theirs")]
BOTH: Headers = [(b"X-Request-Id", b"of-a-balancer"), *ID]


def named(asker: Asker) -> str:
    """In the error that the client got, as a whole answer or as the last event."""
    body = asker.reply.body
    if asker.reply.status == 200:
        body = body.replace(b"\r\n", b"\n").rstrip(b"\n").rpartition(b"data: ")[2]
    told: dict[str, Any] = json.loads(body)
    assert told["type"] == "error"
    return told["request_id"]


def header(asker: Asker) -> str:
    return (asker.reply.header(b"request-id") or b"").decode()


@pytest.mark.parametrize("headers", [ID, BOTH])
@pytest.mark.parametrize("how", ["the end", "a reset", "silence", "shutdown"])
def test_in_band_it_is_the_one_of_the_head(house: House, headers: Headers, how: str) -> None:
    house.gateway.conduct = Conduct(timers=Timers(idle=3.0))
    asker, ask = house.stream(MESSAGES)
    ask.answer(200, [*SSE, *headers]).body(*ANSWERS[MESSAGES].frames[:4])
    match how:
        case "the end":
            ask.end()
        case "a reset":
            ask.lose()
        case "silence":
            house.loop.wait(3.3)
        case _:
            house.run(house.gateway.shut_down)
    assert (asker.reply.status, named(asker), header(asker)) == (200, "req_theirs", "req_theirs")
    row = house.row()
    assert asker.reply.header(b"x-penstock-id") == row.id.encode()
    assert row.upstream_request_id == "req_theirs"


@pytest.mark.parametrize("conduct", [Conduct(), Conduct(nonstream="force"), Conduct(pace=Pace())], ids=["as it came", "force", "pseudo"])
@pytest.mark.parametrize("how", ["an error", "the end", "a reset", "silence", "half", "a page"])
def test_before_the_first_byte_header_and_body_agree(conduct: Conduct, how: str) -> None:
    with House(conduct=replace(conduct, timers=Timers(first_content=3.0, idle=3.0))) as house:
        asker, ask = house.whole(MESSAGES) if conduct.nonstream == "force" else house.stream(MESSAGES)
        ask.answer(200, [(b"content-type", b"text/html" if how == "a page" else b"text/event-stream" if conduct.pace is None else b""), *ID])
        match how:
            case "an error":
                ask.body(ERRORS[MESSAGES][0])
            case "half":
                ask.body(b"data: {").end()
            case "a page":
                ask.body(b"<html>").end()
            case "the end":
                ask.end()
            case "a reset":
                ask.lose()
            case _:
                house.loop.wait(3.3)
        if ask.live and not ask.cancelled:
            ask.end()
        assert asker.reply.status in (502, 504, 529)
        assert (named(asker), header(asker)) == ("req_theirs", "req_theirs")
        assert asker.reply.header(b"x-penstock-id") == house.row().id.encode()


def test_a_page_of_an_error_too(house: House) -> None:
    asker, ask = house.stream(MESSAGES)
    ask.answer(503, [(b"content-type", b"text/html"), *ID]).body(b"<h1>busy</h1>").end()
    assert (asker.reply.status, named(asker), header(asker)) == (503, "req_theirs", "req_theirs")


def test_where_nobody_told_one_it_is_the_exchange_s(house: House) -> None:
    asker, ask = house.stream(MESSAGES)
    ask.answer().body(*ANSWERS[MESSAGES].frames[:4]).end()
    assert named(asker) == house.row().id
    asker, ask = house.stream(MESSAGES)
    ask.lose(LossKind.RESET)
    assert named(asker) == header(asker) == house.book.settled[-1].id


def test_behind_a_head_of_ours_it_is_the_provider_s() -> None:
    with House(conduct=Conduct(early_head=1.0)) as house:
        asker, ask = house.stream(MESSAGES)
        house.loop.wait(1.2)
        ask.answer(429, [(b"content-type", b"application/json"), *ID]).body(b'{"type":"error","error":{"type":"x","message":"slow"}}').end()
        assert (asker.reply.status, named(asker)) == (200, "req_theirs")


def test_it_is_the_one_of_the_last_try() -> None:
    with House(conduct=Conduct(retries=Retries(first_frame=1))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, [*SSE, (b"request-id", b"req_first")]).end()
        house.loop.wait(1.0)
        house.last.answer(200, [*SSE, *ID]).end()
        assert (named(asker), header(asker)) == ("req_theirs", "req_theirs")

        asker, ask = house.stream(MESSAGES)
        ask.answer(200, [*SSE, (b"request-id", b"req_first")]).end()
        house.loop.wait(1.0)
        house.last.lose()
        assert named(asker) == header(asker) == house.book.settled[-1].id


def test_an_id_that_stays_in_the_house_is_not_told() -> None:
    with House(Settings(drop_response_headers=frozenset({b"request-id"}))) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, [*SSE, *ID]).body(*ANSWERS[MESSAGES].frames[:4]).end()
        assert (named(asker), header(asker)) == (house.row().id, "")


def test_a_guard_s_last_word_names_it_too() -> None:
    frame = ANSWERS[MESSAGES].frames[3].replace(b"Hello, ", b"4111 1111 1111 1111, my ")
    assert b"4111" in frame
    guards = rule_guards(built_in("card", Terms("house", Action.REJECT, closed=True, in_stream="error")))
    with House(conduct=Conduct(guards=guards)) as house:
        asker, ask = house.stream(MESSAGES)
        ask.answer(200, [*SSE, *ID]).body(*ANSWERS[MESSAGES].frames[:3], frame, *ANSWERS[MESSAGES].frames[4:])
        assert house.row().outcome == "CUT"
        assert (asker.reply.status, named(asker)) == (200, "req_theirs")


@pytest.mark.parametrize("protocol", [protocol for protocol in REGISTRY if protocol is not MESSAGES], ids=lambda p: p.value)
def test_in_the_other_protocols_it_is_the_exchange_s(house: House, protocol: ProtocolId) -> None:
    asker, ask = house.stream(protocol)
    ask.answer(200, [*SSE, *BOTH]).body(*ANSWERS[protocol].frames[:1]).end()
    assert house.row().id in asker.reply.body.decode()
    assert "req_theirs" not in asker.reply.body.decode()
    assert {CHAT, GEMINI} <= set(REGISTRY)
