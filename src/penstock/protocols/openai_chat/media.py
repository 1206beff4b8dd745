"""The other endpoints of the OpenAI family: audio, images, embeddings, moderations, files, and whatever lies below a provider's name.

Rules:

1. Their streams, where there are any, carry objects with a `type` (also given as the event's name): `transcript.text.delta`, `.segment`, `.done`;
   `speech.audio.delta`, `.done`; `image_generation.partial_image`, `.completed`; `image_edit.partial_image`, `.completed`.
2. The `.done` or `.completed` event is terminal and carries the usage. But with several images there are several of them, and other
   endpoints promise no terminal event at all; so a clean end of the body is a complete answer with or without one.
3. An `error` field, or the type `error`, is an error in band.

Shapes: platform.openai.com/docs/api-reference/audio and .../images-streaming. A frame may hold an image of 40 MB; of it only `type`, `usage` and
`error` are made into objects.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, Observer
from penstock.protocols.openai_chat.body import observe_body, observe_error
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, find_error, read_error, read_usage, word
from penstock.vocabulary.events import Ended, Failed, UsageSeen
from penstock.vocabulary.usage import EMPTY_USAGE, NO_KINDS, Usage

_PIECES = ("transcript.text.delta", "transcript.text.segment", "speech.audio.delta", "image_generation.partial_image", "image_edit.partial_image")
_LAST = ("transcript.text.done", "speech.audio.done", "image_generation.completed", "image_edit.completed")

_PICTURES = ("image_generation.completed", "image_edit.completed")
"""Their `output_tokens` are "the number of image tokens in the output image" (the images API's streaming reference), told without details."""


class _Event(Struct, gc=False):
    type: Any = None
    id: Any = None
    model: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class MediaObserver(Observer):
    """The observer of every operation of the family but chat and completions."""

    __slots__ = ()

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        stripped = data.strip() if len(data) < 32 else data
        if stripped == b"[DONE]":
            return self._end()
        if not stripped:
            return 0
        try:
            event = _decode(data)
        except UNREADABLE:
            if name == b"error":
                return self._fail(data.decode("utf-8", "replace"))
            self.malformed += 1
            return MALFORMED
        return self._read(event, name, data)

    def _read(self, event: _Event, name: bytes, data: bytes) -> int:
        kind = event.type if isinstance(event.type, str) else name.decode("utf-8", "replace")
        self.response_id = self.response_id or word(event.id)
        self.model = self.model or word(event.model)
        usage = read_usage(event.usage)
        if usage is not None and kind in _PICTURES:
            usage = _all_picture(usage)
        if usage is not None:
            self.usage = usage
            if self.sink is not None:
                self.sink.append(UsageSeen(usage))
        if event.error:
            return self._fail(event.error)
        if kind == "error" or name == b"error":
            return self._fail(find_error(_decode_or_none(data)))
        if kind in _PIECES:
            return CONTENT
        if kind in _LAST:
            return CONTENT | self._end()
        self.unknown += 1
        return 0

    def observe_body(self, body: bytes) -> None:
        observe_body(self, body)

    def observe_error(self, status: int, body: bytes) -> None:
        observe_error(self, status, body)

    def closable(self) -> bool:
        return True

    def _end(self) -> int:
        self.final_usage = self.usage != EMPTY_USAGE
        if not self.terminal:
            self.terminal = True
            if self.sink is not None:
                self.sink.append(Ended())
        return TERMINAL

    def _fail(self, value: Any) -> int:
        error = read_error(value)
        if self.error is None and not self.terminal:
            self.error = error
        if self.sink is not None and not self.terminal:
            self.sink.append(Failed(error))
        return ERROR


def _all_picture(usage: Usage) -> Usage:
    kinds = usage.kinds or NO_KINDS
    if kinds.image_output is not None or usage.output is None:
        return usage
    return replace(usage, kinds=replace(kinds, image_output=usage.output))


def _decode_or_none(data: bytes) -> Any:
    try:
        return decode_any(data)
    except UNREADABLE:
        return None
