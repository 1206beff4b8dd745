"""Guards outside for tests: a server that speaks all formats, and judges by words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from penstock.lab.scripted import ScriptedServer, Visit, whole

MASK = "<masked>"
Judge = Callable[[str], str | None]
"""The text as it may go on; `None`: it may not."""


def by_words(masked: str = "apple", rejected: str = "poison") -> Judge:
    return lambda text: None if rejected in text else text.replace(masked, MASK)


class JudgeServer:
    """`log`: every question. `gate`: not set, answers wait for it. `answers`: raw answers in the place of the judge's, the first for the first."""

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge or by_words()
        self.log: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.hang: int | None = None
        """From this question on no answer comes."""
        self.answers: list[bytes | None] = []
        self.left = 0
        """Questions whose asker left before the answer."""
        self.server = ScriptedServer(self._answer)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        """Of our own format: all texts that were asked about."""
        return [one["text"] for question in self.log for one in question["texts"]]

    async def _answer(self, visit: Visit) -> None:
        question = json.loads(await visit.body())
        number = len(self.log)
        self.log.append(question)
        self.headers.append(dict(visit.asked.headers))
        await self.gate.wait()
        if self.hang is not None and number >= self.hang:
            try:
                await visit.left()
            finally:
                self.left += 1
        raw = self.answers[number] if number < len(self.answers) else None
        await visit.send(raw if raw is not None else whole(json.dumps(self._say(visit.asked.path, question)).encode()))

    def _say(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/moderations"):
            bad = [self.judge(text) is None for text in question["input"]]
            scores = [{"violence": 0.9 if hit else 0.1} for hit in bad]
            return {"results": [
                {"flagged": hit, "categories": {"violence": hit}, "category_scores": score} for hit, score in zip(bad, scores, strict=True)]}
        if "body" in question:
            request = path.endswith("/request")
            items = question["body"]["messages" if request else "choices"]
            told = [self.judge((item if request else item["message"])["content"]) for item in items]
            if None in told:
                return {"action": {"body": "No, says the guard.", "status_code": 403, "reason": "x"}}
            for item, text in zip(items, told, strict=True):
                (item if request else item["message"])["content"] = text
            return {"action": {"body": question["body"], "reason": "x"}}
        told = [self.judge(one["text"]) for one in question["texts"]]
        if None in told:
            return {"action": "reject", "message": "No, says the guard."}
        changed = any(a != one["text"] for a, one in zip(told, question["texts"], strict=True))
        return {"action": "mask", "texts": told} if changed else {"action": "pass"}


@asynccontextmanager
async def judging(judge: Judge | None = None) -> AsyncGenerator[JudgeServer]:
    server = JudgeServer(judge)
    server.port = await server.server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        server.server.close()
