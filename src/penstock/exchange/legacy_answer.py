"""An answer of legacy Argo on its way to its exchange, which gets it as a provider of the client's own protocol would have given it: a stream of
events, a body, or an error, each under a head that says so. Everything behind it (pipeline, timers, keep-alives, account) is the same for all.

Raw text goes on piece by piece, in the callback that brought it. A whole answer is held until its end, within the limits of bodies, and goes on as
a body; where the client wants a stream, the pipeline tells it as one, at its pace (`pipeline.pseudo`), as it does for providers of the client's
own protocol. Redirections go on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

from penstock.pipeline.foreign import is_json, may_be_foreign, unframed
from penstock.protocols.contract import ProtocolSpec
from penstock.translate.argo_legacy import AnswerError, Resource, Told, told_error
from penstock.upstream.contract import Ask, Headers, Loss, LossKind, Receiver, ResponseHead
from penstock.wire.budget import Budget
from penstock.wire.encoding import GZIPPED, PLAIN, EncodingError, Gunzip

ERROR_LIMIT = 64 * 1024
_FRAMING = frozenset({b"content-type", b"content-length", b"content-encoding", b"transfer-encoding"})
_SSE, _JSON = b"text/event-stream", b"application/json"


class _Form(Enum):
    """How what comes is read."""

    UNREAD = auto()
    """No head has come; or it is the exchange's own business."""
    TEXT = auto()
    WHOLE = auto()
    ERROR = auto()


class Turn(Protocol):
    """What an answer needs of its exchange."""

    spec: ProtocolSpec
    answer_id: str
    limit: int
    budget: Budget
    fail: Callable[[Exception], None]

    @property
    def resource(self) -> Resource: ...

    def cannot_be_used(self, why: str, *, by_us: bool = False) -> Loss: ...


class LegacyAnswer:
    """Implements `upstream.contract.Receiver` towards the connection and `Ask` towards the exchange. One per try."""

    __slots__ = ("_ask", "_form", "_gunzip", "_head", "_held", "_parts", "_receiver", "_told", "_turn")

    def __init__(self, turn: Turn, told: Told, receiver: Receiver) -> None:
        self._turn = turn
        self._told = told
        self._receiver: Receiver | None = receiver
        self._ask: Ask | None = None
        self._form = _Form.UNREAD
        self._head: tuple[ResponseHead, float] | None = None
        self._gunzip: Gunzip | None = None
        self._parts: list[bytes] = []
        self._held = 0

    # -- of the exchange --------------------------------------------------------------------------------------------------------------

    def over(self, ask: Ask) -> LegacyAnswer:
        """What the exchange holds in the place of `ask`."""
        self._ask = ask
        return self

    @property
    def dialed_at(self) -> float | None:
        return self._ask.dialed_at if self._ask is not None else None

    def hand_over(self, receiver: Receiver) -> bool:
        del receiver
        return False

    def pause(self) -> None:
        if self._ask is not None:
            self._ask.pause()

    def resume(self) -> None:
        if self._ask is not None:
            self._ask.resume()

    def cancel(self) -> None:
        self._receiver = None
        self._let_go()
        if self._ask is not None:
            self._ask.cancel()

    def upload(self, data: bytes) -> None:
        """Never comes: the request was whole."""

    def upload_end(self) -> None: ...

    # -- of the connection ------------------------------------------------------------------------------------------------------------

    def upload_paused(self) -> None:
        if self._receiver is not None:
            self._receiver.upload_paused()

    def upload_resumed(self) -> None:
        if self._receiver is not None:
            self._receiver.upload_resumed()

    def answer_began(self, head: ResponseHead, now: float) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        kind = head.content_type.partition(b";")[0].rstrip()
        if head.content_encoding in GZIPPED:
            self._gunzip = Gunzip()
        if head.status >= 400:
            self._form = _Form.ERROR
        elif not 200 <= head.status < 300:
            receiver.answer_began(head, now)
            return
        elif self._turn.resource is Resource.STREAM and kind != b"text/html" and not kind.endswith((b"/json", b"+json")):
            self._form = _Form.TEXT
        else:
            self._form = _Form.WHOLE
        self._head = (head, now)
        if self._form is not _Form.ERROR and self._gunzip is None and head.content_encoding not in PLAIN:
            self._form = _Form.WHOLE
            self._refuse(f"it came in the coding {head.content_encoding.decode('latin-1')[:40]!r}", now)
        elif self._form is _Form.TEXT:
            receiver.answer_began(_retyped(head, _SSE), now)

    def answer_body(self, data: bytes, now: float) -> None:
        try:
            if self._form is _Form.UNREAD:
                if self._receiver is not None:
                    self._receiver.answer_body(data, now)
            elif self._form is _Form.ERROR and self._held >= ERROR_LIMIT:
                pass  # enough of it is known
            elif self._gunzip is None:
                self._read(data, now)
            else:
                for piece in self._gunzip.feed(data):
                    self._read(piece, now)
                    if self._form is _Form.ERROR and self._held >= ERROR_LIMIT:
                        break
        except EncodingError:
            self._refuse("it is not the gzip that it says it is", now)
        except Exception as error:  # as in every callback: a mistake of ours ends this exchange and no other
            self._turn.fail(error)

    def answer_ended(self, now: float) -> None:
        try:
            receiver = self._receiver
            if receiver is None:
                return
            if self._form is _Form.UNREAD:
                self._receiver = None
                receiver.answer_ended(now)
            elif self._gunzip is not None and self._gunzip.fed and not self._gunzip.finished:
                self.answer_lost(Loss(LossKind.EOF, "the gzipped body ended before its end"), now)
            elif self._form is _Form.TEXT:
                self._end_text(receiver, now)
            else:
                self._end_whole(receiver, now)
        except Exception as error:  # as above
            self._turn.fail(error)

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        self.answer_began(head, now)
        self.answer_body(body, now)
        self.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        if self._form is _Form.ERROR and self._receiver is not None:
            self._end_whole(self._receiver, now)  # its status is the better part of it
            return
        receiver, self._receiver = self._receiver, None
        self._let_go()
        if receiver is None:
            return
        if self._head is not None and self._form is _Form.WHOLE:
            # Whoever looks at the record is to see that there was a head.
            head, at = self._head
            receiver.answer_began(_retyped(head, _JSON), at)
        receiver.answer_lost(loss, now)

    # -- text -------------------------------------------------------------------------------------------------------------------------

    def _read(self, data: bytes, now: float) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        if self._form is not _Form.TEXT:
            self._hold(data, now)
            return
        frames = self._told.text(data)
        if frames:
            receiver.answer_body(frames, now)

    def _end_text(self, receiver: Receiver, now: float) -> None:
        last = b""
        # No word is no answer, however it ended, and half a character is half a text: the stream has no end then.
        if self._told.begun:
            with suppress(AnswerError):
                last = self._told.end()
        if last:
            receiver.answer_body(last, now)
        self._end(now)

    # -- whole answers ----------------------------------------------------------------------------------------------------------------

    def _hold(self, data: bytes, now: float) -> None:
        n = len(data)
        if self._form is not _Form.ERROR and self._held + n > self._turn.limit:
            self._refuse(f"it is larger than the {self._turn.limit} bytes that may be held of it", now, by_us=True)
            return
        if not self._turn.budget.take(n):
            self._refuse("the gateway holds as many bytes of answers as it may", now, by_us=True)
            return
        self._held += n
        self._parts.append(data)

    def _let_go(self) -> None:
        self._parts.clear()
        if self._held:
            self._turn.budget.give(self._held)
            self._held = 0

    def _refuse(self, why: str, now: float, *, by_us: bool = False) -> None:
        ask, self._ask = self._ask, None
        if ask is not None:
            ask.cancel()
        self.answer_lost(self._turn.cannot_be_used(why, by_us=by_us), now)

    def _end_whole(self, receiver: Receiver, now: float) -> None:
        assert self._head is not None
        head, at = self._head
        body = b"".join(self._parts)
        self._parts.clear()
        if self._form is _Form.ERROR:
            self._end_error(receiver, head, at, body, now)
            return
        try:
            told = self._told.body(body)
        except AnswerError as error:
            page = head.content_type.startswith(b"text/html") and not is_json(body)
            self._refuse("it is a page of HTML" if page else str(error), now)
            return
        self._let_go()
        self._tell(receiver, head, at, told, now)

    def _end_error(self, receiver: Receiver, head: ResponseHead, at: float, body: bytes, now: float) -> None:
        """JSON is the gateway's own word, whatever its type says; a page or a line of text gets its shape where everybody's does."""
        unread = self._gunzip is None and head.content_encoding not in PLAIN
        body = b"" if unread else b"".join(unframed(head.content_type, b"", [body]))
        if body and may_be_foreign(head.content_type) and not is_json(body):
            self._tell(receiver, head, at, body, now, head.content_type or b"text/plain")
        else:
            self._tell(receiver, head, at, self._turn.spec.error_of(told_error(head.status, body), self._turn.answer_id)[1], now)

    def _tell(self, receiver: Receiver, head: ResponseHead, at: float, body: bytes, now: float, kind: bytes = _JSON) -> None:
        receiver.answer_began(_retyped(head, kind, len(body)), at)
        if self._receiver is not None:
            receiver.answer_body(body, now)
        self._end(now)

    def _end(self, now: float) -> None:
        """The last call, where it was not cancelled inside of one before."""
        receiver, self._receiver = self._receiver, None
        self._let_go()
        if receiver is not None:
            receiver.answer_ended(now)


def _retyped(head: ResponseHead, content_type: bytes, length: int | None = None) -> ResponseHead:
    """The head of what is told in the place of what came."""
    headers: Headers = [pair for pair in head.headers if pair[0].lower() not in _FRAMING]
    headers.append((b"content-type", content_type))
    headers.append((b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length))
    return ResponseHead(head.status, headers)
