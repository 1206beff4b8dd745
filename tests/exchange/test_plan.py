"""What a request's head alone decides, once for all requests that have the same one."""

from __future__ import annotations

from typing import cast

import pytest

from penstock.exchange.contract import ClientRequest, HeadMemo
from penstock.exchange.plan import Plan
from penstock.protocols import REGISTRY
from penstock.routing import Endpoint, resolve
from tests.support.exchanges import FakeReply, House, providers

FACES = providers()


def plan(method: str, path: str, query: str = "") -> Plan:
    endpoint = resolve(method, path, False, FACES)
    assert isinstance(endpoint, Endpoint)
    return Plan(REGISTRY, endpoint, [(b"authorization", b"Bearer t"), (b"x-real-ip", b"10.0.0.1"), (b"X-Own", b"1")], query)


@pytest.mark.parametrize(
    ("method", "path", "whole"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/messages", True),
        ("POST", "/v1/responses", True),
        ("POST", "/v1beta/models/m:generateContent", True),
        ("POST", "/v1/responses/resp_1/cancel", True),
        ("POST", "/v1/files", False),
        ("POST", "/openai/v1/nothing", False),
    ],
)
def test_whether_the_body_is_read(method: str, path: str, whole: bool) -> None:
    assert plan(method, path).read_whole is whole


def test_names_for_the_row() -> None:
    found = plan("POST", "/v1/messages")
    assert (found.client_protocol, type(found.client_protocol), found.operation) == ("anthropic_messages", str, "messages")
    assert found.spec is REGISTRY[found.endpoint.protocol]


def test_what_goes_to_a_provider_is_made_once_for_each(house: House) -> None:
    found = plan("POST", "/v1/chat/completions", "a=1")
    openai, anthropic = house.providers["openai"], house.providers["anthropic"]
    sent = found.sent_to(openai)
    assert found.sent_to(openai) is sent
    assert found.sent_to(anthropic) is not sent
    assert (sent.target, sent.query) == (b"/v1/chat/completions?a=1", "a=1")
    assert sent.lines.startswith(b"Host: api.openai.com\r\n")
    assert b"house-openai" in sent.lines
    assert b"X-Own: 1\r\n" in sent.lines
    assert b"10.0.0.1" not in sent.lines, "who the client is stays in the house"
    assert sent.lines.endswith(b"\r\n")


def test_a_path_that_names_its_provider_is_sent_as_it_came(house: House) -> None:
    sent = plan("POST", "/openai/v1/nothing%2Fat/all", "b=2").sent_to(house.providers["openai"])
    assert sent.target == b"/v1/nothing%2Fat/all?b=2"


def test_requests_with_the_same_head_share_it_and_nothing_else(house: House) -> None:
    memo = HeadMemo()

    def ask(body: bytes) -> bytes:
        request = ClientRequest("POST", "/v1/chat/completions", "", [(b"host", b"127.0.0.1")], len(body), False, local=True, memo=memo)
        handler = house.inside(lambda: house.front.open(request, FakeReply()))
        house.run(handler.client_body, body)
        house.run(handler.client_end)
        return house.last.sent_body

    one = ask(b'{"model":"one"}')
    first = cast("Plan", memo.plan)
    assert ask(b'{"model":"another"}') != one
    assert memo.plan is first
    assert house.asks[0].target == house.asks[1].target
    assert b"15" in house.asks[0].rest.partition(b"\r\n\r\n")[0]
    assert house.asks[0].rest.partition(b"\r\n\r\n")[0] != house.asks[1].rest.partition(b"\r\n\r\n")[0], "the length is each request's own"
    for ask_made in house.asks:
        ask_made.lose()
    house.check_quiet()
