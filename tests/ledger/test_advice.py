"""The table of advice: each way of ending has its line, and each line names keys that exist."""

from __future__ import annotations

import re
from typing import Any

import pytest

from penstock.config.schema import schema
from penstock.exchange.faults import PAGE
from penstock.ledger.advice import ADVICE, SILENT_MS, case_of
from penstock.vocabulary.outcome import Ending

LATE = {"upstream_status": 200, "events": 5}
"""Of an answer that had begun."""
FULL_OF_ONE = "This client has as many connections to this gateway as it may have; try again."
"""`server.crowd`'s words."""

ROWS: list[tuple[str, dict[str, Any], float | None]] = [
    ("open", {"outcome": None}, None),
    ("complete", {"outcome": "COMPLETE", "cause": "terminal event"}, None),
    ("truncated.frame", {"outcome": "TRUNCATED", "cause": "the body ended inside a frame (41 bytes of it had come)", **LATE}, 1.0),
    ("truncated.nothing", {"outcome": "TRUNCATED", "cause": "the body ended before its first event", "upstream_status": 200}, 1.0),
    ("truncated.nothing", {"outcome": "TRUNCATED", "cause": "x", "upstream_status": 200, "events": 0}, 1.0),
    ("truncated.finished", {"outcome": "TRUNCATED", "cause": "x", "upstream_protocol": "openai_chat", "stop_reason": "stop", **LATE}, 1.0),
    ("truncated.finished", {"outcome": "TRUNCATED", "cause": "x", "client_protocol": "openai_chat", "stop_reason": "stop", **LATE}, 1.0),
    ("truncated", {"outcome": "TRUNCATED", "cause": "x", "upstream_protocol": "openai_chat", "stop_reason": "incomplete", **LATE}, 1.0),
    ("truncated", {"outcome": "TRUNCATED", "cause": "x", "upstream_protocol": "anthropic_messages", "stop_reason": "end_turn", **LATE}, 1.0),
    ("truncated.body", {"outcome": "TRUNCATED", "cause": "the connection ended inside the body", "upstream_status": 200}, 1.0),
    ("truncated.kind", {"outcome": "TRUNCATED", "cause": "the answer was not the stream that was asked for (the whole body)", **LATE}, 1.0),
    ("truncated.kind", {"outcome": "TRUNCATED", "cause": PAGE.cause, "upstream_status": 200, "events": 0}, 1.0),
    ("truncated", {"outcome": "TRUNCATED", "cause": "the body ended without the terminal event", **LATE}, 1.0),
    ("upstream_error.bounced", {"outcome": "UPSTREAM_ERROR", "upstream_status": 500, "error_message": "Streaming is required for operations"}, None),
    ("upstream_error.bounced", {"outcome": "UPSTREAM_ERROR", "upstream_status": 400, "error_message": "Stream must be set to true"}, None),
    ("upstream_error.remade", {"outcome": "UPSTREAM_ERROR", "cause": "the stream could not be put together: x", "upstream_status": 200}, None),
    ("upstream_error.remade", {"outcome": "UPSTREAM_ERROR", "cause": "the body could not be told as a stream: x", "upstream_status": 200}, None),
    ("cut.large", {"outcome": "CUT", "cause": "the stream could not be put together: it is larger than the 9 bytes", "upstream_status": 200}, None),
    ("upstream_error.400", {"outcome": "UPSTREAM_ERROR", "upstream_status": 400}, None),
    ("upstream_error.400", {"outcome": "UPSTREAM_ERROR", "upstream_status": 422}, None),
    ("upstream_error.401", {"outcome": "UPSTREAM_ERROR", "upstream_status": 401}, None),
    ("upstream_error.403", {"outcome": "UPSTREAM_ERROR", "upstream_status": 403}, None),
    ("upstream_error.404", {"outcome": "UPSTREAM_ERROR", "upstream_status": 404}, None),
    ("upstream_error.413", {"outcome": "UPSTREAM_ERROR", "upstream_status": 413}, None),
    ("upstream_error.429", {"outcome": "UPSTREAM_ERROR", "upstream_status": 429}, None),
    ("upstream_error.5xx", {"outcome": "UPSTREAM_ERROR", "upstream_status": 529}, None),
    ("upstream_error.5xx", {"outcome": "UPSTREAM_ERROR", "upstream_status": 408}, None),
    ("upstream_error.status", {"outcome": "UPSTREAM_ERROR", "upstream_status": 418}, None),
    ("upstream_error.in_band", {"outcome": "UPSTREAM_ERROR", "upstream_status": 200}, None),
    ("upstream_error.in_band", {"outcome": "UPSTREAM_ERROR", "upstream_status": 200, "status": 200}, None),
    ("upstream_error.untold", {"outcome": "UPSTREAM_ERROR", "upstream_status": 200, "status": 529}, None),
    ("upstream_error.notice", {"outcome": "UPSTREAM_ERROR", "cause": "the provider sent a notice instead of an answer", **LATE}, None),
    ("refused.401.user", {"outcome": "REFUSED", "cause": "no user is named in the place of a key", "status": 401}, None),
    ("refused.404.model", {"outcome": "REFUSED", "cause": "the provider has no such model", "status": 404}, None),
    ("refused.502", {"outcome": "REFUSED", "cause": "the list of models could not be had: no list within 5 s", "status": 502}, None),
    ("upstream_lost.tls", {"outcome": "UPSTREAM_LOST", "cause": "the provider's certificate is not trusted (expired)"}, None),
    ("upstream_lost.tls", {"outcome": "UPSTREAM_LOST", "cause": "TLS failed inside the answer (x)", **LATE}, None),
    ("upstream_lost.connect", {"outcome": "UPSTREAM_LOST", "cause": "the provider refused the connection"}, None),
    ("upstream_lost.connect", {"outcome": "UPSTREAM_LOST", "cause": "the provider's host name was not found"}, None),
    ("upstream_lost.connect", {"outcome": "UPSTREAM_LOST", "cause": "no connection to the provider (network is unreachable)"}, None),
    ("upstream_lost.proxy", {"outcome": "UPSTREAM_LOST", "cause": "the environment names a proxy that is no HTTP proxy"}, None),
    ("upstream_lost.proxy", {"outcome": "UPSTREAM_LOST", "cause": "the proxy answered 407 to CONNECT"}, None),
    ("upstream_lost.proxy", {"outcome": "UPSTREAM_LOST", "cause": "the proxy refused the connection"}, None),
    ("upstream_lost.tls", {"outcome": "UPSTREAM_LOST", "cause": "the proxy's certificate is not trusted (expired)"}, None),
    ("upstream_lost.head", {"outcome": "UPSTREAM_LOST", "cause": "the provider reset the connection before its answer"}, None),
    ("upstream_lost.garbage", {"outcome": "UPSTREAM_LOST", "cause": "the head of the provider's answer is too large"}, None),
    ("upstream_lost.garbage", {"outcome": "UPSTREAM_LOST", "cause": "the provider's answer is not the gzip that it says it is", **LATE}, None),
    ("upstream_lost", {"outcome": "UPSTREAM_LOST", "cause": "the provider reset the connection inside its answer", **LATE}, None),
    *((f"timed_out.{timer}", {"outcome": "TIMED_OUT", "timer": timer, "cause": "x"}, None) for timer in (
        "connect", "first_content", "idle", "content", "tool_call", "client_stall", "drain", "max_duration", "on_disconnect")),
    ("timed_out.tool_call", {"outcome": "TIMED_OUT", "cause": "tool_call: 240 s without progress"}, None),
    ("timed_out", {"outcome": "TIMED_OUT", "timer": "of another version"}, None),
    ("cut.budget", {"outcome": "CUT", "cause": "budget 'x' is spent"}, None),
    ("cut", {"outcome": "CUT"}, None),
    ("cut.guard", {"outcome": "CUT", "cause": "the answer could not be judged: it came in a coding that cannot be read here"}, None),
    ("cut.guard", {"outcome": "CUT", "cause": "guard 'cards' rejected the answer: its pattern matched", "ended_by": "gateway"}, None),
    ("refused.403.guard", {"outcome": "REFUSED", "status": 403, "cause": "guard 'key rule' rejected the request: its pattern matched"}, None),
    ("client_gone.silent", {"outcome": "CLIENT_GONE", "ended_by": "client", **LATE}, 60_000.0),
    ("client_gone.silent", {"outcome": "CLIENT_GONE", "ended_by": "client"}, SILENT_MS),
    ("client_gone.waiting", {"outcome": "CLIENT_GONE", "ended_by": "client"}, SILENT_MS - 1),
    ("client_gone", {"outcome": "CLIENT_GONE", "ended_by": "client", **LATE}, 3.0),
    ("client_gone", {"outcome": "CLIENT_GONE", "ended_by": "client", **LATE}, None),
    *((f"refused.{status}", {"outcome": "REFUSED", "status": status, "cause": "x"}, None) for status in (
        400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 503)),
    ("refused.401.key", {"outcome": "REFUSED", "status": 401, "ended_by": "gateway", "cause": "no key and no token was shown"}, None),
    ("refused.401.key", {"outcome": "REFUSED", "status": 401, "ended_by": "gateway", "cause": "a token of https://id: it has expired"}, None),
    ("refused.403.rule", {"outcome": "REFUSED", "status": 403, "ended_by": "gateway", "cause": "rule 'x' denies it"}, None),
    ("refused.403.rule", {"outcome": "REFUSED", "status": 403, "ended_by": "gateway", "cause": "key key_1 does not allow this model"}, None),
    ("refused.429.limit", {"outcome": "REFUSED", "status": 429, "ended_by": "gateway", "cause": "limit 'x' is reached"}, None),
    ("refused.429.budget", {"outcome": "REFUSED", "status": 429, "ended_by": "gateway", "cause": "budget 'x' is spent"}, None),
    ("refused.503.stopping", {"outcome": "REFUSED", "status": 503, "cause": "the gateway is shutting down"}, None),
    ("refused.503.ledger", {"outcome": "REFUSED", "status": 503, "cause": "the ledger is full"}, None),
    ("refused.503.bodies", {"outcome": "REFUSED", "status": 503, "cause": "as many request bodies are held as may be"}, None),
    ("refused.503.connections", {"outcome": "REFUSED", "status": 503, "cause": FULL_OF_ONE}, None),
    ("refused.503.budgets", {"outcome": "REFUSED", "status": 503, "cause": "the budgets could not be read in time", "rule": "small"}, None),
    ("refused.503", {"outcome": "REFUSED", "status": 503, "cause": "max_streams of provider a: as many are under way as may be"}, None),
    ("refused", {"outcome": "REFUSED", "status": 418}, None),
    ("unverified.gateway", {"outcome": "REFUSED", "status": 500, "ended_by": "gateway"}, None),
    ("shutdown", {"outcome": "SHUTDOWN"}, None),
    ("crashed", {"outcome": "CRASHED"}, None),
    ("unverified.frame", {"outcome": "UNVERIFIED", "cause": "a frame was larger than what may be held", "ended_by": "upstream"}, None),
    ("unverified.gateway", {"outcome": "UNVERIFIED", "cause": "x", "ended_by": "gateway"}, None),
    ("unverified", {"outcome": "UNVERIFIED", "cause": "the answer came in the coding b'br'", "ended_by": "upstream"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("case", "row", "silence"), ROWS, ids=[f"{case}-{at}" for at, (case, _, _) in enumerate(ROWS)])
def test_a_row_has_its_line(case: str, row: dict[str, Any], silence: float | None) -> None:
    assert case_of(row, silence) == case
    assert case in ADVICE


UNREACHED = {"upstream_error"}
"""There for an outcome without any column that tells more."""


def test_every_line_is_reached_by_some_row() -> None:
    assert {case for case, _, _ in ROWS} | UNREACHED == set(ADVICE)


@pytest.mark.parametrize("ending", list(Ending))
def test_every_ending_has_a_line_whatever_else_is_known(ending: Ending) -> None:
    assert case_of({"outcome": ending.value}, None) in ADVICE
    assert case_of({"outcome": ending.value, "cause": None, "timer": 5, "status": "x", "upstream_status": "y", "events": "z"}, None) in ADVICE


def test_every_line_says_something_in_whole_sentences() -> None:
    for case, advice in ADVICE.items():
        for sentence in (advice.means, *advice.change):
            assert sentence[0].isupper() or sentence[0] == "`", case
            assert sentence.rstrip()[-1] in ".):", (case, sentence)
            assert set(re.findall(r"\{(\w+)\}", sentence)) <= {"where", "provider", "silence", "status"}, case


@pytest.mark.parametrize("case", [case for case, advice in ADVICE.items() if advice.keys])
def test_the_keys_that_are_named_exist(case: str) -> None:
    def names(node: Any) -> set[str]:
        if isinstance(node, list):
            return set[str]().union(*(names(child) for child in node))  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(node, dict):
            return set()
        return set(node.get("properties", {})).union(*(names(child) for child in node.values()))  # pyright: ignore

    known = names(schema())
    for key in ADVICE[case].keys:
        assert set(key.split(".")) <= known, key
        assert any(key.rpartition(".")[2] in line or key in line for line in ADVICE[case].change), f"{key} is not in its own advice"
