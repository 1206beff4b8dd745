"""The SDKs of OpenAI, Anthropic and Google in JavaScript, and Vercel's AI SDK, which most assistants in editors are made of.

They take whole answers, keep-alives and heads of our own as they are, and tell whoever uses them of every broken answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.http1 import Asked, LabServer, Link
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Visit, chunk
from penstock.vocabulary.ids import ProtocolId
from tests.agents.test_retries import BIN, CODEX, WHOLE
from tests.support.answers import ANSWERS, TEXT
from tests.support.gateway import providers_at, run
from tests.support.process import serving

SCRIPT = Path(__file__).with_name("sdks.mjs")
PLAYS = 10
QUIET = 1.5
"""Seconds of silence, of the head and in the middle."""


class Provider(LabServer):
    """Answers in the protocol of the path; breaks off in the middle, or is silent there."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    async def answer(self, link: Link, asked: Asked) -> None:
        await asked.arrived.wait()
        visit, frames = Visit(asked, link), _frames(asked.target)
        if self._how == "quiet":
            await asyncio.sleep(QUIET)
        await visit.send(SSE_HEAD)
        for number, frame in enumerate(frames):
            if number == len(frames) // 2:
                if self._how == "cut":
                    break
                if self._how == "reset":
                    await asyncio.sleep(0.1)
                    await visit.reset()
                    return
                if self._how == "quiet":
                    await asyncio.sleep(QUIET)
            await visit.send(chunk(frame))
        await visit.send(LAST_CHUNK)


def _frames(target: str) -> Sequence[bytes]:
    if "responses" in target:
        return WHOLE[CODEX]
    protocol = ProtocolId.OPENAI_CHAT if "chat" in target else ProtocolId.ANTHROPIC_MESSAGES if "messages" in target else ProtocolId.GEMINI
    return ANSWERS[protocol].frames


async def heard(home: Path, how: str, more: dict[str, Any]) -> list[dict[str, Any]]:
    provider = Provider(how)
    port = await provider.start()
    try:
        async with serving(home, providers_at(port), more) as gateway:
            # Node looks for packages beside the script.
            script = shutil.copy(SCRIPT, BIN.parent.parent / SCRIPT.name)
            environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
            url = f"http://127.0.0.1:{gateway.port}"
            process = await asyncio.create_subprocess_exec("node", script, url, stdout=asyncio.subprocess.PIPE, env=environ)
            out, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        provider.close()
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize(("how", "more"), [("whole", {}), ("quiet", {"keepalive": "0.3s", "early_head": "0.6s"})], ids=["whole", "quiet"])
def test_whole_answers_are_whole(how: str, more: dict[str, Any], tmp_path: Path) -> None:
    plays = run(heard(tmp_path, how, more))
    assert len(plays) == PLAYS
    assert {(play["name"], play["text"], play["error"]) for play in plays} == {(play["name"], TEXT, None) for play in plays}


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_broken_answers_are_told(how: str, tmp_path: Path) -> None:
    words = {"cut": "is not complete", "reset": "was lost"}[how]
    plays = run(heard(tmp_path, how, {}))
    assert len(plays) == PLAYS
    assert [play for play in plays if words not in (play["error"] or "")] == []
