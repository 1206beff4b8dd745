"""Claude Code, Codex and the Gemini CLI, unchanged, with a provider behind the gateway that fails the first time.

Each agent judges for itself whether an answer was whole: it must take a whole one as it is (one call of the provider), must see every broken one as
broken, soon, and ask again by itself (two calls); and the rows must tell the same story.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.http1 import Asked, Link
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, ScriptedServer, Sleep, Step, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import sse
from tests.support.answers import ANSWERS, TEXT
from tests.support.gateway import providers_at, run
from tests.support.process import Process, Row, all_settled, rows_until, serving

BIN = Path(os.environ.get("PENSTOCK_AGENTS", ""))
TIMERS = {"idle": "3s", "content": "3s", "tool_call": "2s"}
"""Such as the agents' own patience does not come first."""
LONGEST = 120.0
"""Seconds that one run of an agent may take."""
CLAUDE, CODEX, GEMINI = "claude", "codex", "gemini"
_TEXT: dict[str, Any] = {"type": "output_text", "text": TEXT, "annotations": []}
_HELLO: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [_TEXT]}
_BEGUN: dict[str, Any] = {**_HELLO, "status": "in_progress", "content": []}


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


def _responses(*events: tuple[str, dict[str, Any]]) -> list[bytes]:
    return [_event(kind, sequence_number=number, **fields) for number, (kind, fields) in enumerate(events)]


_RESPONSE: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 7, "status": "in_progress", "model": "m", "output": []}
_DONE: dict[str, Any] = {"status": "completed", "output": [_HELLO], "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
_AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_CALL = {"id": "fc_1", "type": "function_call", "status": "in_progress", "call_id": "call_1", "name": "shell", "arguments": ""}
WHOLE: dict[str, list[bytes]] = {
    CLAUDE: list(ANSWERS[ProtocolId.ANTHROPIC_MESSAGES].frames),
    CODEX: _responses(
        ("response.created", {"response": _RESPONSE}), ("response.output_item.added", {"output_index": 0, "item": _BEGUN}),
        ("response.content_part.added", {**_AT, "part": {**_TEXT, "text": ""}}),
        ("response.output_text.delta", {**_AT, "delta": TEXT[:5]}), ("response.output_text.delta", {**_AT, "delta": TEXT[5:]}),
        ("response.output_text.done", {**_AT, "text": TEXT}), ("response.output_item.done", {"output_index": 0, "item": _HELLO}),
        ("response.completed", {"response": {**_RESPONSE, **_DONE}}),
    ),
    GEMINI: list(ANSWERS[ProtocolId.GEMINI].frames),
}  # fmt: skip
HALF_CALL: dict[str, list[bytes]] = {
    CLAUDE: [
        WHOLE[CLAUDE][0], _event("content_block_start", index=0, content_block={"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}),
        _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"command": "ec'}),
    ],
    CODEX: _responses(
        ("response.created", {"response": _RESPONSE}), ("response.output_item.added", {"output_index": 0, "item": _CALL}),
        ("response.function_call_arguments.delta", {"item_id": "fc_1", "output_index": 0, "delta": '{"command": ["ec'}),
    ),
}  # fmt: skip
_PING = {CLAUDE: _event("ping"), CODEX: b": ping\n\n", GEMINI: b": ping\n\n"}


@dataclass(frozen=True)
class Fault:
    name: str
    outcome: str
    """Of the row."""
    agents: tuple[str, ...] = (CLAUDE, CODEX, GEMINI)

    def steps(self, agent: str) -> list[Step]:
        """What the provider does."""
        frames = HALF_CALL[agent] if "call" in self.name else WHOLE[agent][: len(WHOLE[agent]) // 2]
        told: list[Step] = [Do.READ, SSE_HEAD, *(chunk(frame) for frame in frames)]
        match self.name.split("-")[0]:
            case "cut":
                return [*told, LAST_CHUNK]
            case "lost":
                return [*told, Do.CLOSE]
            case "reset":
                return [*told, Sleep(0.1), Do.RESET]
            case _:
                pings: list[Step] = []
                for _ in range(20):
                    pings += [Sleep(0.5), chunk(_PING[agent])]
                return [*told, *pings, Do.WAIT_FOR_CLIENT]


FAULTS = (
    Fault("cut", "TRUNCATED"), Fault("lost", "UPSTREAM_LOST"), Fault("reset", "UPSTREAM_LOST"), Fault("stalled", "TIMED_OUT"),
    Fault("cut-call", "TRUNCATED", (CLAUDE, CODEX)), Fault("stalled-call", "TIMED_OUT", (CLAUDE, CODEX)),
)  # fmt: skip


class Provider(ScriptedServer):
    """Scripts are for answers; what agents ask besides is answered shortly."""

    answers = 0

    async def answer(self, link: Link, asked: Asked) -> None:
        if asked.method != "POST":
            await link.write(whole(b"{}", 404))
        elif "count" in asked.target:
            await asked.arrived.wait()
            await link.write(whole(b'{"input_tokens":3,"totalTokens":3}'))
        else:
            self.answers += 1
            await super().answer(link, asked)


def as_it_should(agent: str) -> list[Step]:
    return [Do.READ, SSE_HEAD, *(chunk(frame) for frame in WHOLE[agent]), LAST_CHUNK]


@asynccontextmanager
async def between(home: Path, scripts: Sequence[list[Step]]) -> AsyncGenerator[tuple[Process, Provider]]:
    provider = Provider(*scripts)
    port = await provider.start()
    try:
        async with serving(home, providers_at(port), {"timers": TIMERS}) as gateway:
            yield gateway, provider
    finally:
        provider.close()


async def say_hello(agent: str, home: Path, port: int) -> str:
    """Run the agent with one prompt, as a person would who set it up by the README; what it prints."""
    url = f"http://127.0.0.1:{port}"
    work = home / "work"
    work.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"}
    if agent == CLAUDE:
        command = ["claude", "--model", "claude-sonnet-4-5", "--allowedTools", "Bash", "-p", "hi"]
        environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-x", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    elif agent == CODEX:
        (home / ".codex").mkdir()
        (home / ".codex/config.toml").write_text(
            f'model = "gpt-5"\nmodel_provider = "penstock"\n[model_providers.penstock]\nname = "Penstock"\nbase_url = "{url}/v1"\n'
            'env_key = "OPENAI_API_KEY"\nwire_api = "responses"\n'
        )
        command = ["codex", "exec", "--skip-git-repo-check", "hi"]
        environ |= {"OPENAI_API_KEY": "sk-x"}
    else:
        (home / ".gemini").mkdir()
        (home / ".gemini/settings.json").write_text(json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))
        command = ["gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p", "hi"]
        environ |= {"GEMINI_API_KEY": "x", "GOOGLE_GEMINI_BASE_URL": url}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(BIN / command[0]), *command[1:], stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environ, cwd=work
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LONGEST)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, (out.decode(), err.decode())
    return out.decode()


async def rows_of(gateway: Process, answers: int) -> list[Row]:
    """In order."""

    def of_answers(rows: list[Row]) -> list[Row]:
        return sorted((row for row in rows if row["operation"] in ("messages", "responses", "generate")), key=lambda row: row["started_at"])

    return of_answers(await rows_until(gateway.data_dir, lambda rows: len(of_answers(rows)) >= answers and all_settled(rows)))


CLIENTS = {CLAUDE: "claude-code", CODEX: "codex", GEMINI: "gemini-cli"}


@pytest.mark.parametrize("agent", CLIENTS)
def test_a_whole_answer_is_taken_as_it_is(agent: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with between(tmp_path, [as_it_should(agent)]) as (gateway, provider):
            assert TEXT in await say_hello(agent, tmp_path, gateway.port)
            [row] = await rows_of(gateway, 1)
            assert provider.answers == 1
            assert (row["outcome"], row["client"], row["input_tokens"], row["output_tokens"]) == ("COMPLETE", CLIENTS[agent], 3, 4)
            assert row["session_id"] or agent == GEMINI, "the Gemini CLI names none"

    run(main())


@pytest.mark.parametrize(("fault", "agent"), [pytest.param(fault, agent, id=f"{fault.name}-{agent}") for fault in FAULTS for agent in fault.agents])
def test_a_broken_answer_is_seen_as_broken_and_asked_for_again(fault: Fault, agent: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with between(tmp_path, [fault.steps(agent), as_it_should(agent)]) as (gateway, provider):
            assert TEXT in await say_hello(agent, tmp_path, gateway.port)
            rows = await rows_of(gateway, 2)
            assert [row["outcome"] for row in rows] == [fault.outcome, "COMPLETE"], [row["cause"] for row in rows]
            assert provider.answers == 2
            assert {row["client"] for row in rows} == {CLIENTS[agent]}
            assert len({row["session_id"] for row in rows}) == 1, "one session"

    run(main())
