"""A legacy Argo gateway that follows a script: what it answers stands in the request's last text, and what it was asked is kept.

The endpoints, the shapes and the framing are the real one's; nothing here is shared with what the product makes of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from penstock.lab.scripted import LAST_CHUNK, ScriptedServer, Visit, chunk, head, whole

BASE = "/argoapi"
CHAT, STREAM, EMBED = (f"{BASE}/api/v1/resource/{name}/" for name in ("chat", "streamchat", "embed"))
MODELS = f"{BASE}/api/v1/models/"
TEXT = "Argo says: héllo wörld, 世界 and 🚢 — done."
RAW_HEAD = head(200, "content-type: text/plain; charset=utf-8", "transfer-encoding: chunked")
OPEN_HEAD = head(200, "content-type: text/plain; charset=utf-8", "connection: close")
"""The body ends with the connection."""
CALLS: dict[str, Any] = {
    "gpt": [
        {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ],
    "claude": [
        {"id": "toolu_a", "input": {"city": "Paris"}, "name": "weather", "type": "tool_use"},
        {"id": "toolu_b", "input": {}, "name": "weather", "type": "tool_use"},
    ],
    "gemini": [{"id": None, "args": {"city": "Paris"}, "name": "weather"}, {"id": None, "args": {}, "name": "weather"}],
}
"""The same two calls, in the form of each family."""
IN_WORDS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
    '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def argo(port: int, **more: Any) -> dict[str, Any]:
    """The providers of a file: this gateway alone."""
    return {"argo": {"protocol": "argo_legacy", "base_url": f"http://127.0.0.1:{port}{BASE}", "user": "ada", **more}}


def pieces(text: str, size: int) -> list[bytes]:
    data = text.encode()
    return [data[at : at + size] for at in range(0, len(data), size)]


def answer_to(body: dict[str, Any]) -> Any:
    """What `/chat/` says."""
    model = str(body["model"])
    if body.get("tools"):
        family = next(name for name in CALLS if name in model)
        return {"response": {"content": "Let me see." if family != "gpt" else None, "tool_calls": CALLS[family]}}
    messages: list[dict[str, Any]] = body.get("messages") or [{}]
    if any("<tool_call>" in str(message.get("content")) for message in messages):
        return {"response": IN_WORDS}
    return {"response": TEXT}


class Legacy(ScriptedServer):
    """`size`: bytes of one piece of raw text. `before`: what is waited for before each piece."""

    def __init__(self, size: int = 5, before: Callable[[int], Any] | None = None) -> None:
        super().__init__(self._answer)
        self._size = size
        self._before = before

    async def _answer(self, visit: Visit) -> None:
        body = await visit.body()
        match visit.asked.method, visit.asked.path:
            case "POST", path if path == CHAT:
                await visit.send(whole(json.dumps(answer_to(json.loads(body))).encode()))
            case "POST", path if path == STREAM:
                await visit.send(RAW_HEAD)
                for number, piece in enumerate(pieces(TEXT, self._size)):
                    if self._before is not None:
                        await self._before(number)
                    await visit.send(chunk(piece))
                await visit.send(LAST_CHUNK)
            case "POST", path if path == EMBED:
                texts = json.loads(body)["prompt"]
                await visit.send(whole(json.dumps({"embedding": [[0.5, -0.25, float(len(text))] for text in texts]}).encode()))
            case "GET", path if path == MODELS:
                listed = [{"id": "gpt4o", "model_name": "GPT-4o"}, {"id": "Claude Opus 4.1", "internal_id": "claudeopus41"}]
                await visit.send(whole(json.dumps({"data": listed}).encode()))
            case _:
                await visit.send(whole(b'{"detail":"Not Found"}', 404))

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for asked in self.log if asked.method == "POST"]

    def paths(self) -> list[str]:
        return [asked.path for asked in self.log if asked.method == "POST"]


def steps(*parts: bytes | Callable[[Visit], Any], delay: float = 0.0) -> ScriptedServer:
    """A gateway that answers every request with these."""

    async def play(visit: Visit) -> None:
        await visit.body()
        for part in parts:
            if isinstance(part, bytes):
                await visit.send(part)
                await asyncio.sleep(delay)
            else:
                await part(visit)

    return ScriptedServer(play)
