"""Answers of 200 that are none: a provider that tells its refusal in the place of the text (Argo: "AUTHENTICATION NOTICE FROM ARGO").

A text is such a notice if it begins with one of the configured openings; what is no letter or digit of any script in front of it (line breaks,
asterisks, quotes, warning signs) and case do not count, and any run of white space is one blank. Of JSON, any string in it that begins so is enough.

A `Gate` stands between the provider and the exchange, for providers that have openings. A stream is held by it only while its text could
still become a notice: a healthy one goes on with the first letter that is another one, and in any case with its first thinking or tool call,
after `HOLD` seconds or `HELD` bytes. What was let go for its time is still read until its text is decided: the notice is then told in band.
JSON is held to its end, where it is small enough to be a notice. Behind the decision the gate costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from penstock.pipeline.compose import READ
from penstock.protocols.contract import CONTENT, ERROR, TERMINAL, TOOL, Observer, ProtocolSpec
from penstock.upstream.contract import Loss, Receiver, ResponseHead
from penstock.vocabulary.events import Event, TextDelta
from penstock.vocabulary.ids import Operation
from penstock.wire.budget import Budget
from penstock.wire.encoding import PLAIN
from penstock.wire.sse import Scanner

HELD: Final = 64 * 1024
"""Bytes; a longer answer is no notice."""
HOLD: Final = 2.0
"""Seconds from its head for which a stream without a word is held."""
MORE: Final = 1.0
"""Seconds for which the rest of a notice is waited for, so that the client can be told all of it."""
_TOLD = 4096
"""Characters of it."""
_FRONT = re.compile(r"[\W_]+")
_JUNK = r'(?:[^\w"\\]|_|\\["\\bfnrt/]|\\u[0-9a-fA-F]{4})*+'
_BLANKS = r"(?:\s|\\[nrt])+"
_EVENTS = b"text/event-stream"
_SUBSTANCE = CONTENT | TERMINAL | ERROR | TOOL

Told = Callable[[str, float], None]
"""Called with the notice's text, in place of anything that the receiver would have been told."""


class Verdict(Enum):
    NOTICE = auto()
    OPEN = auto()
    """It could still become one."""
    CLEAR = auto()


class Openings:
    """How notices begin."""

    __slots__ = ("_bodies", "_words")

    def __init__(self, openings: Sequence[str]) -> None:
        self._words = [_fold(opening) for opening in openings]
        spelled = "|".join(_BLANKS.join(map(re.escape, opening.split())) for opening in openings)
        self._bodies = re.compile(rf'(?<!\\)"{_JUNK}(?:{spelled})', re.IGNORECASE)

    def judge(self, text: str) -> Verdict:
        """Of the text of an answer so far."""
        seen = _fold(text)
        if any(seen.startswith(word) for word in self._words):
            return Verdict.NOTICE
        return Verdict.OPEN if any(word.startswith(seen) for word in self._words) else Verdict.CLEAR

    def find(self, body: bytes) -> str | None:
        """The notice that a JSON body holds, or is although it was said to be JSON."""
        text = body.decode("utf-8", "replace")
        if self.judge(text[:_TOLD]) is Verdict.NOTICE:
            return text[:_TOLD]
        for found in self._bodies.finditer(text):
            try:
                told: object = json.JSONDecoder(strict=False).raw_decode(text, found.start())[0]
            except ValueError:
                continue  # a string that does not end is in nothing that anybody could read
            # A letter that is spelled with an escape is only known as one now.
            if isinstance(told, str) and self.judge(told[:_TOLD]) is Verdict.NOTICE:
                return told[:_TOLD]
        return None


class _State(Enum):
    BODY = auto()
    """JSON, held to its end."""
    HOLDING = auto()
    WATCHING = auto()
    """Let go, and still read."""
    TELLING = auto()
    """It is a notice; its rest is waited for."""
    PASSED = auto()


class Gate:
    """Implements `upstream.contract.Receiver`. To be closed when its request is cancelled."""

    def __init__(self, receiver: Receiver, openings: Openings, spec: ProtocolSpec, operation: Operation, told: Told) -> None:
        self._receiver = receiver
        self._openings = openings
        self._observer: Observer = spec.observer(operation)
        self._sink: list[Event] = []
        self._observer.sink = self._sink
        self._read = operation in READ
        self._told = told
        self._state = _State.PASSED
        self._head: tuple[ResponseHead, float] | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._text = ""
        self._events = False  # what comes is a stream of events; else its bytes are the text
        self._scanner = Scanner(HELD, Budget(2 * HELD))
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.begun: Callable[[], None] | None = None
        """Called once the receiver has been told a head that was held, before anything else is."""
        self.upload_paused = receiver.upload_paused
        self.upload_resumed = receiver.upload_resumed

    def answer_began(self, head: ResponseHead, now: float) -> None:
        if not self._is_looked_at(head):
            self._pass_on()
            self._receiver.answer_began(head, now)
            return
        self._head = head, now
        if b"json" in head.content_type:
            self._state = _State.BODY
            return
        self._events = head.content_type.startswith(_EVENTS)
        self._state = _State.HOLDING
        self._timer = asyncio.get_running_loop().call_later(HOLD, self._let_go, now + HOLD)

    def answer_body(self, data: bytes, now: float) -> None:
        if self._closed:
            return
        if self._state is not _State.BODY and self._state is not _State.TELLING:
            verdict = self._look(data, now)
            if verdict is Verdict.NOTICE:
                self._rest()
                self._state = _State.TELLING
                self._timer = asyncio.get_running_loop().call_later(MORE, self._tell, now + MORE)
            elif self._state is _State.WATCHING:
                if verdict is Verdict.CLEAR:
                    self._pass_on()
                self._receiver.answer_body(data, now)
                return
            elif verdict is Verdict.CLEAR:
                self._pieces.append(data)
                self._let_go(now, decided=True)
                return
        elif self._state is _State.TELLING:
            self._look(data, now)
        self._pieces.append(data)
        self._size += len(data)
        if self._state is _State.TELLING:
            if self._observer.terminal or self._size > HELD:
                self._tell(now)
        elif self._size > HELD:
            self._let_go(now, decided=True)

    def answer_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        if b"json" in head.content_type and self._is_looked_at(head):
            notice = self._openings.find(body) if len(body) <= HELD else None
            if notice is None:
                self._rest()
                self._receiver.answer_whole(head, body, now)
            else:
                self._text = notice
                self._tell(now)
            return
        self.answer_began(head, now)
        if not self._closed:
            self.answer_body(body, now)
        if not self._closed:
            self.answer_ended(now)

    def answer_ended(self, now: float) -> None:
        if self._state is _State.BODY:
            notice = self._openings.find(b"".join(self._pieces))
            if notice is not None:
                self._text, self._state = notice, _State.TELLING
        if self._state is _State.TELLING:
            self._tell(now)
            return
        self._let_go(now)
        if not self._closed:
            self._receiver.answer_ended(now)

    def answer_lost(self, loss: Loss, now: float) -> None:
        if self._state is _State.TELLING:
            self._tell(now)
            return
        self._let_go(now)
        if not self._closed:
            self._receiver.answer_lost(loss, now)

    def close(self) -> None:
        """Nothing is called any more."""
        self._closed = True
        self._rest()
        self._pieces.clear()

    def _is_looked_at(self, head: ResponseHead) -> bool:
        return head.status == 200 and self._read and head.content_encoding in PLAIN and (head.content_length or 0) <= HELD

    def _look(self, data: bytes, now: float) -> Verdict:
        """Read on. What is no text, an error for one, is no notice either."""
        other = False
        if not self._events:
            self._text += data[: _TOLD - len(self._text)].decode("utf-8", "replace")
            return self._openings.judge(self._text)
        for name, payload, _ in self._scanner.feed(data):
            if payload is None:
                continue
            self._sink.clear()
            try:
                mark = self._observer.observe(name, payload, now)
            except Exception:  # as in every pipeline: the bytes go on, and the account of it is given there
                other = True
                continue
            said = "".join([event.text for event in self._sink if isinstance(event, TextDelta)])
            other = other or (mark & _SUBSTANCE != 0 and not said)
            self._text += said[: _TOLD - len(self._text)]
        verdict = self._openings.judge(self._text)
        return Verdict.CLEAR if verdict is Verdict.OPEN and (other or self._scanner.overflowed) else verdict

    def _tell(self, now: float) -> None:
        self._rest()
        if not self._closed:
            self._closed = True
            self._told(self._text, now)

    def _let_go(self, now: float, *, decided: bool = False) -> None:
        """What is held goes on, and is read on unless it is decided."""
        head, self._head = self._head, None
        begun, self.begun = self.begun, None
        if head is None or self._closed:
            return
        pieces, self._pieces = self._pieces, []
        if decided or self._state is _State.BODY:
            self._pass_on()
        else:
            self._rest()
            self._state = _State.WATCHING
        self._receiver.answer_began(*head)
        if begun is not None:
            begun()
        if pieces and not self._closed:
            self._receiver.answer_body(b"".join(pieces), now)

    def _pass_on(self) -> None:
        """It is decided: nothing stands between the provider and the receiver any more but a look-up of this name."""
        self._rest()
        self._state = _State.PASSED
        self._scanner.close()
        self.__dict__["answer_body"] = self._receiver.answer_body

    def _rest(self) -> None:
        self.begun = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _fold(text: str) -> str:
    low = " ".join(text.lower().split())
    front = _FRONT.match(low)
    return low[front.end() :] if front is not None else low
