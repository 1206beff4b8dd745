"""One answer of the gateway in its client's protocol, told by that protocol's own renderer.

Raw text becomes one event for each piece that came, at once; what is held is an incomplete character, at most three bytes. A body, folded by the
protocol's own assembler, becomes the client's.
"""

from __future__ import annotations

import codecs
from array import array
from base64 import b64encode
from collections.abc import Iterator
from sys import byteorder
from typing import Any, cast

from penstock.protocols.contract import BodyError, ProtocolSpec
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.translate.argo_legacy.answer import AnswerError, events_of, instead, read_answer, tokens_of
from penstock.translate.argo_legacy.messages import Fields
from penstock.translate.argo_legacy.request import Asked
from penstock.translate.argo_legacy.tokens import Tally
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.events import Ended, Event, Started, Stopped, StopReason, TextDelta, UsageSeen
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Usage
from penstock.wire.sse import parse

_PREFIX = {Operation.CHAT: "chatcmpl-", Operation.COMPLETIONS: "cmpl-", Operation.RESPONSES: "resp_"}
_FRAME_END = b"\n\n"
_MESSAGE = 2000
"""Characters of an error message that are told."""
_UTF8 = codecs.getincrementaldecoder("utf-8")


class Told:
    """See above. One per answer: `text` and then `end`, or one of the others."""

    __slots__ = (
        "_asked", "_created", "_decoder", "_id", "_model", "_operation", "_own", "_renderer", "_spec", "_tally", "begun", "output_tokens",
    )  # fmt: skip

    def __init__(
        self, spec: ProtocolSpec, operation: Operation, asked: Asked, *, answer_id: str, model: str, created: int
    ) -> None:
        """`answer_id`: of the exchange. `model`: what the client calls it. `created`: seconds since the epoch."""
        self._spec = spec
        self._operation = operation
        self._asked = asked
        self._own = answer_id
        self._id = _PREFIX.get(operation, "") + answer_id
        self._model = model
        self._created = created
        self._decoder = _UTF8("replace")
        self._renderer = spec.renderer(operation) if operation in _PREFIX else None
        self._tally = Tally()
        self.begun = False
        """Frames of raw text were given out."""
        self.output_tokens: int | None = None
        """An estimate, of what has come so far."""

    # -- raw text ---------------------------------------------------------------------------------------------------------------------

    def text(self, data: bytes) -> bytes:
        """The frames of this piece of text, the first time with those that open the stream; empty while all that came is the beginning of a
        character: until there is something to tell, whatever fails has a true status."""
        text = self._decoder.decode(data)
        if not text:
            return b""
        self._tally.add(text)
        self.output_tokens = self._tally.tokens
        return self._begin() + self._tell(TextDelta(text))

    def _begin(self) -> bytes:
        if self.begun:
            return b""
        self.begun = True
        return self._tell(Started(self._id, self._model, self._created))

    def end(self) -> bytes:
        """What closes the stream, where its text has come to a clean end. Raises `AnswerError` where that was inside of a character."""
        if self._decoder.getstate()[0]:
            raise AnswerError("the text ended inside of a character")
        self.output_tokens = self._tally.tokens
        return self._begin() + b"".join(self._tell(event) for event in (Stopped(StopReason.STOP), *self._closing()))

    # -- bodies -----------------------------------------------------------------------------------------------------------------------

    def body(self, body: bytes) -> bytes:
        """The client's body. Raises `AnswerError`."""
        if self._operation is Operation.EMBEDDINGS:
            return self._embeddings(body)
        assembler = self._spec.assembler(self._operation)
        try:
            for event in self._events(body):
                for frame in self._tell(event).split(_FRAME_END)[:-1]:
                    name, data = parse(frame + _FRAME_END)
                    assembler.feed(name, data or b"")
            return assembler.body()
        except BodyError as error:
            raise AnswerError(str(error)) from None

    def _events(self, body: bytes) -> Iterator[Event]:
        answer = read_answer(body, self._own, in_words=self._asked.prompted)
        self.output_tokens = tokens_of(answer)
        yield Started(self._id, self._model, self._created)
        yield from events_of(answer, silent=self._asked.silent)
        yield from self._closing()

    def _closing(self) -> tuple[Event, ...]:
        return UsageSeen(Usage(input=self._asked.input_tokens, output=self.output_tokens)), Ended()

    def _tell(self, event: Event) -> bytes:
        assert self._renderer is not None
        return self._renderer.render(event)

    def _embeddings(self, body: bytes) -> bytes:
        try:
            value: Any = decode_any(body)
        except UNREADABLE:
            raise AnswerError("it is not JSON") from None
        fields = cast("Fields", value) if isinstance(value, dict) else {}
        vectors: Any = fields.get("embedding")
        if not isinstance(vectors, list):
            raise AnswerError(instead(fields, "embedding"))
        found = cast("list[Any]", vectors)
        if len(found) != self._asked.texts:
            raise AnswerError(f"it holds {len(found)} embeddings of {self._asked.texts} texts")
        data = [{"object": "embedding", "index": index, "embedding": self._vector(vector)} for index, vector in enumerate(found)]
        tokens = self._asked.input_tokens or 0
        return encode_any({"object": "list", "data": data, "model": self._model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})

    def _vector(self, vector: Any) -> Any:
        if not isinstance(vector, list) or not all(isinstance(number, (int, float)) for number in cast("list[Any]", vector)):
            raise AnswerError("an embedding in it is no list of numbers")
        try:
            return _packed(cast("list[float]", vector)) if self._asked.base64 else cast("Any", vector)
        except OverflowError:
            raise AnswerError("an embedding in it holds a number beyond all measure") from None


def _packed(vector: list[float]) -> str:
    """As OpenAI's endpoint does it: the numbers as little-endian floats of 32 bits, in base64."""
    packed = array("f", vector)
    if byteorder == "big":
        packed.byteswap()
    return b64encode(packed.tobytes()).decode()


def told_error(status: int, body: bytes) -> UpstreamError:
    """What the gateway says of its failure, in whichever of its forms: `error` or `detail` as a text or an object, `message`, a text alone."""
    try:
        value: Any = decode_any(body)
    except UNREADABLE:
        value = None
    fields = cast("Fields", value) if isinstance(value, dict) else {"error": value} if isinstance(value, str) else {}
    said: Any = next((fields[name] for name in ("error", "detail", "message", "response") if fields.get(name)), None)
    inside = cast("Fields", said) if isinstance(said, dict) else {}
    found = cast("Any", inside.get("message", inside.get("detail")) if inside else said)
    message = found if isinstance(found, str) else encode_any(found).decode() if found is not None else None
    return UpstreamError(
        message=message[:_MESSAGE] if message else None, type=_word(inside.get("type") or fields.get("type")), code=_word(inside.get("code")),
        status=status,
    )  # fmt: skip


def _word(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None

