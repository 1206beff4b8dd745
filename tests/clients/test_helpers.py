"""The stream helpers of the official clients: their events, and the answer that they put together, as without the gateway."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import run
from tests.support.sdk import Mode, Sdk, anthropic_sdk, case, check_row, each_mode, openai_sdk, recorded, site

CHAT = ["openai_chat/test_dbos_agent_run_stream_0", "openai_chat/test_complex_agent_run_in_workflow_1", "openai_chat/test_complex_agent_run_0"]
RESPONSES = [
    "openai_responses/test_openai_include_raw_annotations_streaming_2", "openai_responses/test_openai_responses_phase_streamed_on_part_start_0",
    "openai_responses/test_openai_native_tool_search_streaming_1", "openai_responses/test_openai_responses_thinking_part_iter_0",
]  # fmt: skip
MESSAGES = [
    "anthropic_messages/test_anthropic_model_thinking_part_stream_0", "anthropic_messages/test_anthropic_native_tool_search_streaming_0",
    "anthropic_messages/test_anthropic_web_fetch_tool_stream_0",
]  # fmt: skip


def through(opened: Callable[[Any, str], Any], name: str, finish: Callable[[Any], Any]) -> Callable[[Sdk], Awaitable[tuple[list[Any], Any]]]:
    """All events of a helper for that recording, and the answer that it put together."""
    return lambda sdk: sdk.helped(lambda client: opened(client, f"replay/{name}"), finish)


def tool(name: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "strict": True, "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
    }


@each_mode
def test_chat(tmp_path: Path, mode: Mode) -> None:
    tools = [tool(t) for t in ("get_country", "get_weather", "get_product_name")]
    asked: dict[str, Any] = {"messages": [], "tools": tools, "stream_options": {"include_usage": True}}

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            for name in CHAT:
                look = through(lambda c, model: c.chat.completions.stream(model=model, **asked), name, lambda s: s.get_final_completion())
                events, final = await here.both(openai_sdk, mode, look)
                wanted = case(name)
                assert {"chunk"} < {event.type for event in events}
                assert final.id == wanted.expected["response_id"]
                assert final.usage.prompt_tokens == wanted.expected["usage"]["input"]
                calls: list[Any] = final.choices[0].message.tool_calls or []
                assert len(calls) == wanted.expected["tools"]
                assert all(isinstance(json.loads(call.function.arguments), dict) for call in calls)
                assert json.loads(here.last_asked().body)["tools"] == tools
                check_row(await here.last_row(), wanted, "chat", streamed=True)

    run(main())


@each_mode
def test_responses(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            for name in RESPONSES:
                wanted = case(name)
                look = through(lambda c, model: c.responses.stream(model=model, input="x"), name, lambda s: s.get_final_response())
                events, final = await here.both(openai_sdk, mode, look)
                assert events[0].type == "response.created"
                assert events[-1].type == "response.completed"
                assert final.id == wanted.expected["response_id"]
                assert final.usage.output_tokens == wanted.expected["usage"]["output"]
                check_row(await here.last_row(), wanted, "responses", streamed=True)

    run(main())


@each_mode
@pytest.mark.parametrize("beta", [False, True])
def test_messages(tmp_path: Path, beta: bool, mode: Mode) -> None:
    def opened(client: Any, model: str) -> Any:
        asked: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": []}
        return client.beta.messages.stream(**asked, betas=["tools-of-tomorrow"]) if beta else client.messages.stream(**asked)

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            for name in MESSAGES:
                events, final = await here.both(anthropic_sdk, mode, through(opened, name, lambda s: s.get_final_message()))
                wanted = case(name)
                assert events[0].type == "message_start"
                assert events[-1].type == "message_stop"
                assert final.id == wanted.expected["response_id"]
                assert final.stop_reason == wanted.expected["stop_reason"]
                assert final.usage.output_tokens == wanted.expected["usage"]["output"]
                straight, relayed = here.upstream.log[-2:]
                assert relayed.target == straight.target
                assert relayed.header("anthropic-beta") == straight.header("anthropic-beta") == ("tools-of-tomorrow" if beta else None)
                assert relayed.body == straight.body
                check_row(await here.last_row(), wanted, "messages", streamed=True)

    run(main())
