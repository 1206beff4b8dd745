"""Tools in words: what the model is told, how its calls are read, how earlier ones are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BadRequest
from penstock.translate.argo_legacy.prompted import CLOSES, OPENS, read_calls
from penstock.translate.argo_legacy.request import Asked, ask
from penstock.vocabulary.ids import Operation

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object"}}}


def asked(body: dict[str, Any], model: str = "llama3") -> Asked:
    return ask(Operation.CHAT, json.dumps(body).encode(), user="ada", model=model, stream=True, real_stream=True)


def messages_of(found: Asked) -> list[dict[str, Any]]:
    return json.loads(found.body)["messages"]


def test_the_prompt_stands_before_everything_or_behind_the_system_message() -> None:
    found = asked({"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]})
    told = json.loads(found.body)
    assert found.prompted
    assert found.resource == "chat"
    assert not told.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    first = told["messages"][0]
    assert first["role"] == "system"
    assert '"name":"weather"' in first["content"]
    assert OPENS in first["content"]
    again = messages_of(asked({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}], "tools": [TOOL]}))
    assert [message["role"] for message in again] == ["system", "user"]
    assert again[0]["content"] == f"Be brief.\n\n{first['content']}"


@pytest.mark.parametrize(
    ("choice", "said"),
    [(None, "otherwise answer in plain words"), ("auto", "otherwise answer in plain words"), ("required", "must call at least one"),
     ({"type": "function", "function": {"name": "weather"}}, 'must call the tool "weather"')],
)  # fmt: skip
def test_the_choice_is_auto_unless_another_is_made(choice: Any, said: str) -> None:
    more = {} if choice is None else {"tool_choice": choice}
    assert said in messages_of(asked({"messages": [], "tools": [TOOL], **more}))[0]["content"]


def test_none_means_none_and_one_that_is_not_there_is_an_error() -> None:
    found = asked({"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL], "tool_choice": "none"})
    assert messages_of(found) == [{"role": "user", "content": "hi"}]
    with pytest.raises(BadRequest, match="tool_choice"):
        asked({"messages": [], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "else"}}})


def test_one_call_only_where_parallel_calls_are_not_wanted() -> None:
    assert "one call only" in messages_of(asked({"messages": [], "tools": [TOOL], "parallel_tool_calls": False}))[0]["content"]


def test_earlier_calls_and_results_are_shown_as_they_were_written() -> None:
    calls = [
        {"id": "a", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}, {"id": "b", "function": {"name": "time", "arguments": ""}},
    ]  # fmt: skip
    shown = messages_of(asked({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "See.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "warm"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "late"}]},
    ]}))  # fmt: skip
    assert [message["role"] for message in shown] == ["user", "assistant", "user"]
    assert read_calls(shown[1]["content"]) == ("See.", [("weather", '{"city":"Paris"}'), ("time", "{}")])
    assert shown[2]["content"] == (
        '<tool_result>\n{"name":"weather","content":"warm"}\n</tool_result>\n<tool_result>\n{"name":"time","content":"late"}\n</tool_result>'
    )


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("no call", "no call", []),
        (" \n plain", "plain", []),
        (f'a{OPENS}{{"name":"f","arguments":{{"x":1}}}}{CLOSES}b', "ab", [("f", '{"x":1}')]),
        (f'{OPENS}{{"name":"f"}}{CLOSES}', "", [("f", "{}")]),
        (f'{OPENS}{{"name":"f","arguments":"{{\\"x\\":1}}"}}{CLOSES}', "", [("f", '{"x":1}')]),
        (f"{OPENS}not json{CLOSES}", "<invalid>not json</invalid>", []),
        (f'{OPENS}{{"name":5}}{CLOSES}', '<invalid>{"name":5}</invalid>', []),
        (f'{OPENS}{{"name":"f","arguments":[1]}}{CLOSES}', '<invalid>{"name":"f","arguments":[1]}</invalid>', []),
        (f'{OPENS}{{"name":"f"}}', f'{OPENS}{{"name":"f"}}', []),
    ],
)
def test_calls_are_read(text: str, said: str, calls: list[tuple[str, str]]) -> None:
    assert read_calls(text) == (said, calls)


@given(st.lists(st.sampled_from([OPENS, CLOSES, '{"name":"f"}', "x", "\n"]), max_size=12))
def test_nothing_is_lost_between_the_tags(pieces: list[str]) -> None:
    said, calls = read_calls("".join(pieces))
    assert said.count("x") == pieces.count("x") or calls
    assert len(calls) <= pieces.count(CLOSES)


def test_many_openings_without_an_end_are_one_pass() -> None:
    text = OPENS * 200_000
    assert read_calls(text) == (text, [])
