"""What a request says of whose it is comes into its row, and markers of the prompt cache into its body where they are asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import Settings
from tests.support.exchanges import House

LONG: dict[str, Any] = {"model": "claude", "max_tokens": 5, "system": "x" * 1500, "messages": [{"role": "user", "content": "hi"}]}


def asked(house: House) -> bytes:
    """The body that the provider got."""
    return house.last.rest.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_body_and_a_head_say(house: House, times: int) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [], "user": "u1", "metadata": {"session_id": "s1"}}
    for _ in range(times):  # the second time the way of the model is known
        house.post("/v1/chat/completions", body, [(b"x-penstock-project", b"shop")])
    entry = house.book.opened[-1]
    assert entry.said is not None
    assert (entry.said.user, entry.said.metadata, entry.project, entry.prompt) == (b'"u1"', b'{"session_id": "s1"}', "shop", None)
    assert b"x-penstock-project" not in house.last.rest.lower()


def test_a_prompt_is_kept_only_where_previews_are_on() -> None:
    house = House(Settings(previews=True))
    house.post("/v1/chat/completions", {"model": "m", "messages": []})
    assert house.book.opened[-1].prompt == json.dumps({"model": "m", "messages": []}).encode()
    house.close()


def test_a_marker_is_put_in_where_it_is_asked_for() -> None:
    house = House(conduct=Conduct(cache_markers=True))
    for _ in range(2):
        house.post("/v1/messages", LONG)
        assert json.loads(asked(house)) == {"cache_control": {"type": "ephemeral"}, **LONG}
        assert house.book.opened[-1].marked
        assert b"Content-Length: %d\r\n" % len(asked(house)) in house.last.rest
    for path, body in (("/v1/messages", {**LONG, "cache_control": None}), ("/v1/messages", {**LONG, "system": "short"}),
                       ("/v1/messages/count_tokens", LONG), ("/v1/chat/completions", LONG)):  # fmt: skip
        house.post(path, body)
        assert json.loads(asked(house)) == body
        assert not house.book.opened[-1].marked
    house.close()


def test_none_is_put_in_unless_it_is(house: House) -> None:
    house.post("/v1/messages", LONG)
    assert json.loads(asked(house)) == LONG
    assert not house.book.opened[-1].marked
