"""Errors that came in nobody's shape: a load balancer's HTML page, a line of text, nothing at all. The status stays, the words are kept, the
shape becomes the client's.

JSON is a provider's own word, whatever its shape: it passes as it is.
"""

from __future__ import annotations

import codecs
import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.errors import UpstreamError
from penstock.wire.budget import Budget
from penstock.wire.secrets import CUT, mask_known, mask_secrets
from penstock.wire.sse import Scanner

READ = 64 * 1024
"""Bytes of such a body that are looked at."""
_SHOWN = 500
"""Characters of its text that are told."""
_LISTED = 8
"""Sentences of a list that are told."""
_SAID = ("error", "detail", "message", "msg")
_UTF8 = codecs.getincrementaldecoder("utf-8")
_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff\ufffd]+")
_SILENT = ("script", "style", "svg", "template")


def may_be_foreign(content_type: bytes) -> bool:
    """By its head alone: must the body of an answer of 400 or above be held until `wrap_foreign` has seen it? `content_type` in lower case."""
    return not content_type.partition(b";")[0].rstrip().endswith((b"/json", b"+json"))


def wrap_foreign(spec: ProtocolSpec, status: int, content_type: bytes, body: bytes, request_id: str, known: Sequence[str] = ()) -> bytes | None:
    """The JSON body for the client of an answer with `status` (400 or above) and `body` (coding taken off); `None` where the body is JSON and
    goes on as it is.

    The message is the text without its tags, without what looks like a secret and without the secrets that are `known`, in 500 characters, or
    the name of the status where there is no text. The type is the protocol's word for the status.
    """
    if is_json(body):
        return None
    return spec.error_of(UpstreamError(message=_words(content_type, body, known), status=status), request_id)[1]


def words_of(body: bytes) -> str | None:
    """What the body of an error says that no protocol describes: the sentence where servers of many kinds put it in JSON, or the text as
    `wrap_foreign` tells it. `None` where it says nothing, or is neither JSON nor text."""
    if is_json(body):
        return _sentence(json.loads(body))
    try:
        _UTF8().decode(body[:READ])
    except UnicodeDecodeError:
        return None
    return _words(b"", body)


def _sentence(told: Any, deep: int = 3) -> str | None:
    """`{"error": {"message": ...}}`, `{"detail": ...}` and their like; what is checked field by field has a list of them (FastAPI's)."""
    if isinstance(told, str):
        return told if told.strip() else None
    if not deep:
        return None
    if isinstance(told, list):
        return "; ".join(filter(None, [_sentence(each, deep - 1) for each in cast("list[Any]", told)[:_LISTED]])) or None
    fields = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    return next((said for name in _SAID if (said := _sentence(fields.get(name), deep - 1))), None)


def _words(content_type: bytes, body: bytes, known: Sequence[str] = ()) -> str | None:
    text = body[:READ].decode("utf-8", "replace")
    if text.startswith('"'):
        with suppress(ValueError):
            text = str(json.loads(text))  # a bare string of JSON
    if b"html" in content_type or b"xml" in content_type or text.lstrip("\ufeff \t\r\n").startswith("<"):
        text = html.unescape(_without_tags(text))
    text = mask_secrets(mask_known(_INVISIBLE.sub(" ", text).strip()[: 8 * _SHOWN], known))
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1].rstrip() + CUT
    return text or None


def unframed(content_type: bytes, coding: bytes, pieces: list[bytes]) -> list[bytes]:
    """The body of an error: where it came as an event of a stream, that event's JSON alone. Some answer every request for a stream in that form."""
    if coding not in (b"", b"identity") or content_type.partition(b";")[0].rstrip() != b"text/event-stream":
        return pieces
    scanner = Scanner(READ, Budget(READ))
    told = [data for piece in (*pieces, b"\n\n") for _, data, _ in scanner.feed(piece) if data is not None and is_json(data)]
    scanner.close()
    return told[:1] or pieces


def is_json(body: bytes) -> bool:
    """Is it an object or a list?"""
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return False
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _without_tags(text: str) -> str:
    """What a reader of the page would see, more or less. One pass over its tags: these pages are strangers'."""
    first, *pieces = text.split("<")
    seen = [first]
    inside = ""  # of what is not shown: the end that it waits for
    for piece in pieces:
        if inside == "-->":
            _, found, rest = piece.partition("-->")
            if found:
                inside = ""
                seen.append(rest)
            continue
        if not inside and piece.startswith("!--"):
            _, found, rest = piece.partition("-->")
            if found:
                seen.append(rest)
            else:
                inside = "-->"
            continue
        tag, found, rest = piece.partition(">")
        name = tag[:16].split(maxsplit=1)[0].lower() if tag[:16].split() else ""
        if inside:
            if name != inside:
                continue
            inside = ""
        elif name in _SILENT and not tag.endswith("/"):
            inside = "/" + name
            continue
        seen.append(rest if found else "")
    return " ".join(seen)
