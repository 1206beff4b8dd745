"""Histories as other programs write them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SESSION = "57a121ec-f78c-48c3-a745-e3036a3ecc33"


def claude_line(
    id: str, at: str, model: str = "claude-sonnet-4-5-20250929", session: str = SESSION, cwd: str = "/home/me/work/shop", **usage: Any
) -> dict[str, Any]:
    """One line of the type `assistant`."""
    content = [{"type": "text", "text": "private words"}]
    message = {"id": id, "type": "message", "role": "assistant", "model": model, "stop_reason": None, "content": content, "usage": usage}
    return {"parentUuid": None, "isSidechain": False, "cwd": cwd, "sessionId": session, "version": "2.1.90", "type": "assistant", "message": message,
            "requestId": f"req_{id}", "uuid": f"u-{id}", "timestamp": at}  # fmt: skip


def codex_lines(
    session: str = SESSION, model: str = "gpt-5", cwd: str = "/home/me/work/shop", at: str = "2025-11-18T21:55:00.000Z", forked: str | None = None
) -> list[dict[str, Any]]:
    """The beginning of a rollout."""
    return [codex_session(session, at, forked, cwd), codex_turn(None, at, model)]


def codex_session(session: str, at: str, forked: str | None = None, cwd: str = "/home/me/work/shop") -> dict[str, Any]:
    told = {} if forked is None else {"forked_from_id": forked}
    payload = {"id": session, **told, "cwd": cwd, "originator": "codex_cli_rs", "cli_version": "0.58.0", "model_provider": "openai"}
    return {"timestamp": at, "type": "session_meta", "payload": payload}


def codex_turn(turn: str | None, at: str, model: str = "gpt-5") -> dict[str, Any]:
    named = {} if turn is None else {"turn_id": turn}
    return {"timestamp": at, "type": "turn_context", "payload": {**named, "cwd": "/home/me/work/shop", "model": model, "effort": "high"}}


def codex_record(response: str, at: str, thread: str, turn: str, used: tuple[int, int, int, int], written: int = 0) -> dict[str, Any]:
    """An answer with its name. `used`: input, cached, output, reasoning."""
    payload = {"thread_id": thread, "session_id": thread, "turn_id": turn, "root_turn_id": turn, "response_id": response,
               "usage": {**_tokens(used), "cache_write_input_tokens": written}}  # fmt: skip
    return {"timestamp": at, "type": "token_usage_record", "payload": payload}


def uuid7(at: float, number: int = 0) -> str:
    """A UUID of version 7 that was made at a time, in seconds since the epoch."""
    made = f"{int(at * 1000):012x}"
    return f"{made[:8]}-{made[8:]}-7000-8000-{number:012x}"


def token_count(at: str, total: tuple[int, int, int, int], last: tuple[int, int, int, int] | None = None) -> dict[str, Any]:
    """Each: input, cached, output, reasoning."""
    info: dict[str, Any] = {"total_token_usage": _tokens(total), "model_context_window": 272000}
    if last is not None:
        info["last_token_usage"] = _tokens(last)
    return {"timestamp": at, "type": "event_msg", "payload": {"type": "token_count", "info": info, "rate_limits": {}}}


def _tokens(counts: tuple[int, int, int, int]) -> dict[str, int]:
    return {"input_tokens": counts[0], "cached_input_tokens": counts[1], "output_tokens": counts[2], "reasoning_output_tokens": counts[3],
            "total_tokens": counts[0] + counts[2]}  # fmt: skip


def write_lines(path: Path, lines: Iterable[dict[str, Any]], torn: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn, encoding="utf-8")
    return path


def write_tracker(path: Path, rows: Iterable[dict[str, Any]], columns: str | None = None) -> Path:
    """TokenCost's `tracker.db`."""
    stated = columns or (
        "id INTEGER PRIMARY KEY, ts TEXT, source TEXT, model TEXT, input_tokens INTEGER, output_tokens INTEGER, cache_read_tokens INTEGER, "
        "cache_creation_tokens INTEGER, cost_usd REAL, duration_ms INTEGER, status INTEGER, user_agent TEXT, stop_reason TEXT, effort TEXT, "
        "prompt_preview TEXT, msg_uuid TEXT, cache_creation_1h_tokens INTEGER")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"CREATE TABLE requests ({stated})")
        for row in rows:
            connection.execute(f"INSERT INTO requests ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    connection.close()
    return path
