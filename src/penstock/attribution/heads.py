"""What the head of a request says of whose it is.

`x-penstock-project`, `x-penstock-session` and `x-penstock-user` are ours, for whoever can set a header; they stay in the house. Claude Code sends
`X-Claude-Code-Session-Id` since 2.1.86. Codex sends its session as `session_id` (later `session-id`), and before that `conversation_id`
(openai/codex, `codex-rs/core`). `OpenAI-Project` is the official clients' own header.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_SESSIONS = (b"x-penstock-session", b"x-claude-code-session-id", b"session_id", b"session-id", b"conversation_id", b"x-opencode-session")
_PROJECTS = (b"x-penstock-project", b"openai-project")
MOST = 256
"""Characters that are kept of a word of the client's."""


class Claimed(NamedTuple):
    user: str | None
    project: str | None
    session: str | None


def read_head(header: Callable[[bytes], bytes | None]) -> Claimed:
    """`header`: the value of a header by its name in lower case."""
    return Claimed(_first(header, (b"x-penstock-user",)), _first(header, _PROJECTS), _first(header, _SESSIONS))


def _first(header: Callable[[bytes], bytes | None], names: tuple[bytes, ...]) -> str | None:
    for name in names:
        value = header(name)
        if value:
            return value.decode("utf-8", "replace").strip()[:MOST] or None
    return None
