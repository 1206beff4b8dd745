"""What the fields of a body say of whose it is.

Claude Code puts user and session into Anthropic's `metadata.user_id`: since 2.1.78 as an object in a string, `{"device_id", "account_uuid",
"session_id"}`, before that as `user_<hash>_account_<uuid>_session_<uuid>` with the account left out where there was none. Anybody else's `user_id`
is a user. OpenAI has `safety_identifier` (before: `user`) and `metadata`, whose keys are the client's own: those that say `user`, `session` or
`project` are taken. With Codex `prompt_cache_key` is the id of its session; with others it is a key of a cache and says nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple, cast

from penstock.attribution.efforts import effort_of, read
from penstock.attribution.heads import MOST
from penstock.vocabulary.said import Said
from penstock.wire.secrets import mask_secrets

BYTES = 96
"""Of UTF-8, of one word in a row: these words are parts of a key in the ledger, whose size databases bound. UUIDs, addresses of mail and OpenAI's
64 characters fit."""
_CLAUDE_CODE = re.compile(r"user_([0-9a-f]{16,64})_account_([0-9a-f-]{0,36})_session_([0-9a-f-]{8,36})\Z")
_USERS = ("user_id", "user", "userId", "end_user")
_SESSIONS = ("session_id", "session", "sessionId", "conversation_id", "thread_id")
_PROJECTS = ("project", "project_id", "projectId")


class Ascribed(NamedTuple):
    user: str | None = None
    project: str | None = None
    session: str | None = None
    effort: str | None = None


def ascribe(said: Said | None, client: str | None) -> Ascribed:
    """`client`: the client application, as `client_of` names it."""
    if said is None:
        return Ascribed()
    user = project = session = None
    metadata = read(said.metadata)
    if isinstance(metadata, dict):
        fields = cast("dict[str, Any]", metadata)
        user, project, session = _first(fields, _USERS), _first(fields, _PROJECTS), _first(fields, _SESSIONS)
        if user is not None:
            user, inner = _taken_apart(user)
            session = session or inner
    user = text(read(said.user)) or user
    if session is None and client == "codex":
        session = text(read(said.cache_key))
    effort = effort_of(said) if said.effort or said.thinking else None
    return Ascribed(clear(user), clear(project), clear(session), effort)


def text(value: object) -> str | None:
    """A word of the client's, bounded; numbers count as words."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value.strip() or None if isinstance(value, str) else None


@lru_cache(maxsize=2048)
def clear(word: str | None) -> str | None:
    """`word` as it may stand in a row. Remembered, because masking costs more than all else here, and sessions are long."""
    if word is None:
        return None
    masked = mask_secrets(word[: 4 * MOST].encode("utf-8", "replace").decode())
    return masked.replace("\0", "").encode()[:BYTES].decode("utf-8", "ignore").strip() or None


def _taken_apart(user: str) -> tuple[str | None, str | None]:
    """User and session of Anthropic's `user_id`."""
    found = _CLAUDE_CODE.match(user)
    if found is not None:
        return found[2] or found[1], found[3]
    if user.startswith("{"):
        inner = read(user.encode("utf-8", "replace"))
        if isinstance(inner, dict):
            fields = cast("dict[str, Any]", inner)
            return _first(fields, ("account_uuid", "user_id", "device_id")), _first(fields, _SESSIONS)
    return user, None


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((found for name in names if (found := text(fields.get(name))) is not None), None)
