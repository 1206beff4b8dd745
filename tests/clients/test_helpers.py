"""The stream helpers of the official clients: their events, and the answer that they put together, as without the gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import run
from tests.support.sdk import Mode, anthropic_sdk, case, check_row, each_mode, openai_sdk, recorded, site

CHAT = ["openai_chat/test_dbos_agent_run_stream_0", "openai_chat/test_complex_agent_run_in_workflow_1", "openai_chat/test_complex_agent_run_0"]
RESPONSES = [
    "openai_responses/test_openai_include_raw_annotations_streaming_2", "openai_responses/test_openai_responses_phase_streamed_on_part_start_0",
    "openai_responses/test_openai_native_tool_search_streaming_1", "openai_responses/test_openai_responses_thinking_part_iter_0",
]  # fmt: skip
MESSAGES = [
    "anthropic_messages/test_anthropic_model_thinking_part_stream_0", "anthropic_messages/test_anthropic_native_tool_search_streaming_0",
    "anthropic_messages/test_anthropic_web_fetch_tool_stream_0",
]  # fmt: skip


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}


@each_mode
@pytest.mark.parametrize("name", CHAT)
def test_chat(tmp_path: Path, name: str, mode: Mode) -> None:
    wanted = case(name)
    tools = [tool(t) for t in ("get_country", "get_weather", "get_product_name")]
    asked: dict[str, Any] = {"model": f"replay/{wanted.name}", "messages": [], "tools": tools, "stream_options": {"include_usage": True}}

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            events, final = await here.both(
                openai_sdk, mode, lambda sdk: sdk.helped(lambda c: c.chat.completions.stream(**asked), lambda s: s.get_final_completion()))
            assert {"chunk"} < {event.type for event in events}
            assert final.id == wanted.expected["response_id"]
            assert final.usage.prompt_tokens == wanted.expected["usage"]["input"]
            calls = final.choices[0].message.tool_calls or []
            assert len(calls) == wanted.expected["tools"]
            assert all(isinstance(json.loads(call.function.arguments), dict) for call in calls)
            assert json.loads(here.last_asked().body)["tools"] == tools
            check_row(await here.last_row(), wanted, "chat", streamed=True)

    run(main())


@each_mode
@pytest.mark.parametrize("name", RESPONSES)
def test_responses(tmp_path: Path, name: str, mode: Mode) -> None:
    wanted = case(name)

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            asked = f"replay/{wanted.name}"
            events, final = await here.both(
                openai_sdk, mode, lambda sdk: sdk.helped(lambda c: c.responses.stream(model=asked, input="x"), lambda s: s.get_final_response()))
            assert events[0].type == "response.created"
            assert events[-1].type == "response.completed"
            assert final.id == wanted.expected["response_id"]
            assert final.usage.output_tokens == wanted.expected["usage"]["output"]
            check_row(await here.last_row(), wanted, "responses", streamed=True)

    run(main())


@each_mode
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("name", MESSAGES)
def test_messages(tmp_path: Path, name: str, beta: bool, mode: Mode) -> None:
    wanted = case(name)

    def opened(client: Any) -> Any:
        asked: dict[str, Any] = {"model": f"replay/{wanted.name}", "max_tokens": 9, "messages": []}
        return client.beta.messages.stream(**asked, betas=["tools-of-tomorrow"]) if beta else client.messages.stream(**asked)

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            events, final = await here.both(anthropic_sdk, mode, lambda sdk: sdk.helped(opened, lambda s: s.get_final_message()))
            assert events[0].type == "message_start"
            assert events[-1].type == "message_stop"
            assert final.id == wanted.expected["response_id"]
            assert final.stop_reason == wanted.expected["stop_reason"]
            assert final.usage.output_tokens == wanted.expected["usage"]["output"]
            straight, relayed = here.upstream.log
            assert relayed.target == straight.target
            assert relayed.header("anthropic-beta") == straight.header("anthropic-beta") == ("tools-of-tomorrow" if beta else None)
            assert relayed.body == straight.body
            check_row(await here.last_row(), wanted, "messages", streamed=True)

    run(main())
