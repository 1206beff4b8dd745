"""Ends that meet text which a guard still holds."""

from __future__ import annotations

import json

import pytest

from penstock.exchange.conduct import Conduct
from penstock.pipeline.timers import Timers
from penstock.policy.guards import Guard, Guards
from penstock.policy.matcher import Hold
from penstock.policy.rules import Terms, built_in
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import CHUNK, REQUESTS, House
from tests.support.guards import REJECTING, all_rules


def saying(text: str) -> bytes:
    return b"data: " + json.dumps({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


@pytest.mark.parametrize("end", ["shutdown", "timer"])
def test_what_is_rejected_at_the_end_is_the_end_and_the_row_says_so(end: str) -> None:
    with House(conduct=Conduct(guards=REJECTING, timers=Timers(max_duration=5.0))) as house:
        client = house.chat()
        ask = house.last.answer()
        ask.body(CHUNK, saying("it is 4111 1111 1111 1111"))  # a longer number, and it would be none
        assert b"4111" not in client.reply.body
        if end == "shutdown":
            house.run(house.gateway.shut_down)
        else:
            house.loop.wait(6.0)
        row = house.row()
        assert (row.outcome, row.rule, ask.cancelled, client.reply.over) == ("CUT", "house", True, "ended")
        assert b"4111" not in client.reply.body
        assert (b"content_filter" in client.reply.body, b'"error"' in client.reply.body) == (True, False)
        house.check_quiet()


@pytest.mark.parametrize("closed", [True, False])
def test_text_that_is_held_when_its_client_has_left_does_not_keep_the_provider_from_being_timed(closed: bool) -> None:
    guards = Guards([Guard("house", all_rules(closed=closed))], Hold(seconds=3.0))
    conduct = Conduct(guards=guards, on_disconnect="drain", drain_seconds=None, timers=Timers(idle=5.0, content=None))
    with House(conduct=conduct) as house:
        client = house.chat()
        ask = house.last.answer().body(CHUNK)
        client.leave()
        ask.body(saying("it is jane@exa"))
        house.loop.wait(2.0)
        assert ask.live
        house.loop.wait(2.0)
        assert ask.live is not closed  # what is held cannot be judged, and that rejects it
        house.loop.wait(2.0)
        assert not ask.live
        assert house.row().outcome == "CLIENT_GONE"
        house.check_quiet()


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("slow", [0.0, 0.5, 5.0])
def test_text_is_held_no_longer_than_it_may_however_late_its_provider_began(slow: float, closed: bool) -> None:
    """The first look at an exchange is often before its provider has answered: what will be held then is looked for all the same."""
    guards = Guards([Guard("house", all_rules(closed=closed))], Hold(seconds=1.0))
    with House(conduct=Conduct(guards=guards)) as house:
        client = house.chat()
        house.loop.wait(slow)
        ask = house.last.answer()
        ask.body(CHUNK, saying("it is jane@exa"))
        house.loop.wait(0.8)
        assert (b"jane" in client.reply.body, ask.live) == (False, True)
        house.loop.wait(1.3)
        if closed:
            assert (house.row().outcome, house.row().rule, b"jane" in client.reply.body) == ("CUT", "house", False)
        else:
            assert b"jane@exa" in client.reply.body
            client.leave()
        house.check_quiet()


def test_a_full_stop_behind_a_masked_key_does_not_keep_the_provider_from_being_timed() -> None:
    guards = Guards([Guard("house", (built_in("cloud_key", Terms("house")),))], Hold(seconds=3.0))
    with House(conduct=Conduct(guards=guards, timers=Timers(idle=5.0, content=None))) as house:
        client = house.chat()
        house.last.answer().body(CHUNK, saying("It is AKIAIOSFODNN7EXAMPLE."))
        house.loop.wait(4.0)
        assert b'"."' in client.reply.body
        house.loop.wait(2.0)
        assert (house.row().outcome, house.row().timer) == ("TIMED_OUT", "idle")
        assert b"AKIA" not in client.reply.body
        house.check_quiet()


def test_a_client_that_leaves_then_is_one_that_left() -> None:
    with House(conduct=Conduct(guards=REJECTING)) as house:
        client = house.chat()
        house.last.answer().body(CHUNK, saying("it is 4111 1111 1111 1111"))
        client.leave()
        assert house.row().outcome == "CLIENT_GONE"
        house.check_quiet()


FOUND = "it is PRJ-20417 then"
CHAT_USAGE = b'"usage": {"prompt_tokens": 30, "completion_tokens": 9}, "choices"'


def candidate(**part: object) -> bytes:
    found = {"index": 0, "content": {"role": "model", "parts": [part]}}
    return b"data: " + json.dumps({"candidates": [found], "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 9}}).encode() + b"\n\n"


STATED: dict[str, tuple[ProtocolId, list[bytes]]] = {
    "chat": (ProtocolId.OPENAI_CHAT, [CHUNK, saying(FOUND).replace(b'"choices"', CHAT_USAGE)]),
    "gemini": (ProtocolId.GEMINI, [candidate(text=FOUND)]),
    "gemini, a call": (ProtocolId.GEMINI, [candidate(functionCall={"name": "f", "args": {"to": FOUND}})]),
}


@pytest.mark.parametrize("what", STATED)
def test_what_a_frame_states_that_is_rejected_is_paid_for(what: str) -> None:
    protocol, frames = STATED[what]
    with House(conduct=Conduct(guards=REJECTING)) as house:
        path, body = REQUESTS[protocol]
        client = house.post(path, body)
        house.last.answer().body(*frames)
        row = house.row()
        assert (row.outcome, row.input_tokens, row.output_tokens, row.usage_source) == ("CUT", 30, 9, "partial")
        assert b"PRJ" not in client.reply.body
        house.check_quiet()
