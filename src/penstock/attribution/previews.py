"""The beginning of the last user message, for people who look for one exchange among many. Off unless asked for, because prompts are private.

What clients put around the words is taken out (reminders, the editor's selection); what looks like a secret is masked.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from penstock.wire.secrets import mask_secrets

LARGEST = 4 << 20
"""Bytes of a body that is read for it; of a larger one there is no preview."""
_AROUND = re.compile(r"<(system-reminder|ide_selection|ide_opened_file|transcript|environment_context|user_instructions)>.*?(?:</\1>|\Z)", re.DOTALL)
_SPACE = re.compile(r"\s+")


class _Message(msgspec.Struct, gc=False):
    role: Any = None
    content: msgspec.Raw = msgspec.Raw()
    parts: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct, gc=False):
    messages: list[_Message] | None = None
    contents: list[_Message] | None = None
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Body).decode
_decode_messages = msgspec.json.Decoder(list[_Message]).decode


def preview_of(body: bytes, most: int) -> str | None:
    """At most `most` characters; `None` where no user's words are found."""
    if not body or len(body) > LARGEST or most < 1:
        return None
    try:
        told = _last(_decode(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    text = _SPACE.sub(" ", _AROUND.sub(" ", told[: 64 * most])).strip()
    # Masked before it is cut, so that no half of a secret is left.
    return mask_secrets(text[: 4 * most + 1024])[:most] or None


def _last(body: _Body) -> str:
    stated = bytes(body.input or body.prompt)
    messages = body.messages or body.contents
    if messages is None:
        if not stated.startswith(b"["):
            return _text(msgspec.json.decode(stated)) if stated else ""
        messages = _decode_messages(stated)
    for message in reversed(messages):
        if message.role in ("user", None):
            content = bytes(message.content or message.parts)
            told = _text(msgspec.json.decode(content)) if content else ""
            if told:
                return told
    return ""


def _text(content: object) -> str:
    """The texts of a message's content, in any dialect. Results of tools are no words of the user's."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = cast("list[object]", content)
    return " ".join(text for part in parts if isinstance(part, dict) and isinstance(text := cast("dict[str, Any]", part).get("text"), str))
