"""A provider tells an error in its stream, and then its connection breaks: the client has its end already."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import Headers
from penstock.upstream.contract import LossKind
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_holding import EACH, ERRORS, WORDS
from tests.laws.talk import Dialect, sse
from tests.support.exchanges import House
from tests.support.guards import MASKING
from tests.support.relays import zipped

CHUNKED = (b"transfer-encoding", b"chunked")
JSON: Headers = [(b"content-type", b"application/json"), CHUNKED]
GUARDS = pytest.mark.parametrize("conduct", [Conduct(), Conduct(guards=MASKING)], ids=["plain", "guarded"])
FAILED = sse({"type": "response.failed", "sequence_number": 9, "response": {"id": "r", "status": "failed", "error": {"code": "x", "message": WORDS}}},
             "response.failed")  # fmt: skip


def element(text: str) -> bytes:
    return json.dumps({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]}).encode()


ERROR = json.dumps({"error": {"code": 503, "message": WORDS, "status": "UNAVAILABLE"}}).encode()


def is_over(house: House, reply: Any, body: bytes, last: bytes) -> None:
    """Properly, with `last`; `body` is all, where no guard has written it again."""
    assert (reply.status, reply.over) == (200, "ended")
    assert reply.body == body if house.gateway.conduct.guards is None else reply.body.endswith(last)
    row = house.row()
    assert (row.outcome, row.ended_by, row.error_message, row.bytes_out) == ("UPSTREAM_ERROR", "upstream", WORDS, len(reply.body))
    house.check_quiet()


@EACH
@GUARDS
@pytest.mark.parametrize("kind", [LossKind.RESET, LossKind.EOF, LossKind.GARBAGE])
@pytest.mark.parametrize("behind", [b"", b": ping\n\n", b"data: {half"], ids=["nothing", "a comment", "half a frame"])
def test_its_answer_ends_properly_with_that_error(dialect: Dialect, conduct: Conduct, kind: LossKind, behind: bytes) -> None:
    with House(conduct=conduct) as house:
        asker, ask = house.stream(dialect.protocol)
        error = ERRORS[dialect.protocol][0]
        told = dialect.head() + dialect.text() + error
        ask.answer().body(told, *([behind] if behind else []))
        ask.lose(kind)
        passed = b"" if b"half" in behind else behind
        is_over(house, asker.reply, told + passed, error + passed)


def test_behind_response_failed_too(house: House) -> None:
    asker, ask = house.stream(ProtocolId.OPENAI_RESPONSES)
    ask.answer().body(sse({"type": "response.created", "sequence_number": 0, "response": {"id": "r"}}, "response.created"), FAILED)
    ask.lose()
    assert asker.reply.over == "ended"
    assert asker.reply.body.endswith(FAILED)
    assert house.row().outcome == "UPSTREAM_ERROR"
    house.check_quiet()


@GUARDS
@pytest.mark.parametrize("behind", [b"", b"\n,", b',\n{"candidates": [{"half'], ids=["nothing", "a comma", "half an element"])
@pytest.mark.parametrize("how", ["end", "lose"])
def test_an_array_is_closed_behind_it(conduct: Conduct, behind: bytes, how: str) -> None:
    with House(conduct=conduct) as house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {})
        told = b"[" + element("a") + b",\n" + ERROR
        house.last.answer(200, JSON).body(b"[" + element("a"), b",\n" + ERROR + behind)
        getattr(house.last, how)()
        is_over(house, asker.reply, told + b"]", b",\n" + ERROR + b"]")
        assert asker.reply.json()[-1]["error"]["message"] == WORDS


@GUARDS
@pytest.mark.parametrize("how", ["end", "lose"])
def test_an_array_that_is_closed_is_not_closed_again(conduct: Conduct, how: str) -> None:
    with House(conduct=conduct) as house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {})
        told = b"[" + element("a") + b",\n" + ERROR + b"\n]\n"
        house.last.answer(200, JSON).body(told)
        getattr(house.last, how)()
        is_over(house, asker.reply, told, b",\n" + ERROR + b"\n]\n")


@EACH
def test_in_gzip_that_breaks_too(house: House, dialect: Dialect) -> None:
    asker, ask = house.stream(dialect.protocol)
    error = ERRORS[dialect.protocol][0]
    told = dialect.head() + dialect.text() + error
    ask.answer(200, [(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip"), CHUNKED]).body(zipped(told)[:-8])
    ask.lose()
    is_over(house, asker.reply, told, error)
