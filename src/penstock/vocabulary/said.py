"""What a request's body says of whose it is, as it stood there."""

from __future__ import annotations

import msgspec

MOST = 4096
"""Bytes of one value that are kept; of a longer object its short members are, and anything else that is longer is left out."""
SHORT = 512
"""Bytes of a member of a long object: beside the word that is looked for stand schemas (`output_config.format`, `responseSchema`), or sixteen
values of OpenAI's `metadata`."""
LARGEST = 1 << 16
"""Bytes of an object that is looked into for them, on the event loop."""


class Said(msgspec.Struct, frozen=True, gc=False):
    """JSON texts, copied out of the body and not read yet: that is done away from the event loop (`attribution`). Empty: not there."""

    user: bytes = b""
    """OpenAI's `safety_identifier` or `user`."""
    metadata: bytes = b""
    """`metadata`: OpenAI's of any keys, Anthropic's with `user_id`."""
    cache_key: bytes = b""
    """OpenAI's `prompt_cache_key`: with Codex the id of its session."""
    effort: bytes = b""
    """OpenAI's `reasoning` or `reasoning_effort`, Anthropic's `output_config`, Gemini's `generationConfig`."""
    thinking: bytes = b""
    """Anthropic's `thinking`."""


_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
NOTHING = msgspec.Raw()
"""What a decoder leaves where the field is not there."""


def keep(user: msgspec.Raw, metadata: msgspec.Raw, cache_key: msgspec.Raw, effort: msgspec.Raw, thinking: msgspec.Raw = NOTHING) -> Said | None:
    """Copies of what is there and short enough to be kept: a view would keep the whole body. `None`: nothing is there (most requests of scripts)."""
    if user is NOTHING and metadata is NOTHING and effort is NOTHING and cache_key is NOTHING and thinking is NOTHING:
        return None
    return Said(*(bytes(value) if len(value) <= MOST else _short_of(value) for value in (user, metadata, cache_key, effort, thinking)))


def _short_of(value: msgspec.Raw) -> bytes:
    """The object's short members, as many as may be kept, in their order; empty where it is none."""
    if len(value) > LARGEST:
        return b""
    try:
        members = _decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return b""
    kept: dict[str, msgspec.Raw] = {}
    left = MOST
    for name, member in members.items():
        size = len(name) + len(member)
        if size <= SHORT and size <= left:
            kept[name] = member
            left -= size
    return msgspec.json.encode(kept)
