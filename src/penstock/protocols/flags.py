"""The fields by which a request asks for a stream or for a whole body, where the protocol has them in its JSON: `stream`, `stream_options`."""

from __future__ import annotations

from penstock.wire.json import find_fields, remove_field, set_field

_PLAIN = frozenset({b"true", b"false", b"null"})


def set_stream(body: bytes, on: bool) -> bytes | None:
    """`body` with `stream` true or false and no other byte changed; `None` where it states something there that is neither (`"true"`, 1): the
    provider judges that. Raises `ValueError` where `body` is no object."""
    if any(body[field.start : field.end] not in _PLAIN for field in find_fields(body, ("stream",))):
        return None
    return set_field(body, "stream", b"true" if on else b"false")


def ask_plainly(body: bytes) -> bytes | None:
    """`body` for a whole answer: `stream` false, and without `stream_options`, which OpenAI refuses beside it ("only allowed when 'stream' is
    enabled"). `None` as above."""
    asking = set_stream(body, on=False)
    return None if asking is None else remove_field(asking, "stream_options")


def states(body: bytes, name: str, *values: bytes) -> bool:
    """Does `body` have the top-level member `name` with one of these values, spelled so?"""
    return any(body[field.start : field.end] in values for field in find_fields(body, (name,)))
