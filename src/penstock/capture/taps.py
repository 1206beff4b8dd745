"""A recording between two that talk to each other: what passes is noted and handed on, so that whoever is not recorded pays nothing.

`ReplyTap` stands in for an exchange's client, `AnswerTap` for the exchange itself before its provider. Neither changes, delays or keeps
anything; the shapes are those of `exchange.contract.Reply` and `upstream.contract.Receiver`, which are not this room's to import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from penstock.capture.recording import Recording
from penstock.capture.settings import Phase

Headers = list[tuple[bytes, bytes]]

_UPSTREAM, _OUTBOUND = Phase.UPSTREAM_RESPONSE, Phase.OUTBOUND_RESPONSE


class Replying(Protocol):
    def head(self, status: int, headers: Headers, length: int | None) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def whole(self, status: int, headers: Headers, body: bytes) -> None: ...
    def abort(self) -> None: ...
    def pause_upload(self) -> None: ...
    def resume_upload(self) -> None: ...
    def unsent(self) -> int: ...
    def peer(self) -> str | None: ...


class Receiving(Protocol):
    """`head` has a `status` and `headers`."""

    def answer_began(self, head: Any, now: float) -> None: ...
    def answer_body(self, data: bytes, now: float) -> None: ...
    def answer_ended(self, now: float) -> None: ...
    def answer_whole(self, head: Any, body: bytes, now: float) -> None: ...
    def answer_lost(self, loss: Any, now: float) -> None: ...
    def upload_paused(self) -> None: ...
    def upload_resumed(self) -> None: ...


class ReplyTap:
    """Notes what goes to the client. `clock`: the monotonic clock that the exchange is on."""

    __slots__ = ("_clock", "_recording", "_reply")

    def __init__(self, reply: Replying, recording: Recording, clock: Callable[[], float]) -> None:
        self._reply = reply
        self._recording = recording
        self._clock = clock

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        self._recording.answer(_OUTBOUND, status, headers, self._clock())
        self._reply.head(status, headers, length)

    def write(self, data: bytes) -> None:
        self._recording.chunk(_OUTBOUND, data, self._clock())
        self._reply.write(data)

    def end(self) -> None:
        self._reply.end()

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        now = self._clock()
        self._recording.answer(_OUTBOUND, status, headers, now)
        if body:
            self._recording.chunk(_OUTBOUND, body, now)
        self._reply.whole(status, headers, body)

    def abort(self) -> None:
        self._reply.abort()

    def pause_upload(self) -> None:
        self._reply.pause_upload()

    def resume_upload(self) -> None:
        self._reply.resume_upload()

    def unsent(self) -> int:
        return self._reply.unsent()

    def peer(self) -> str | None:
        return self._reply.peer()


class AnswerTap:
    """Notes what comes from the provider, of one try."""

    __slots__ = ("_receiver", "_recording")

    def __init__(self, receiver: Receiving, recording: Recording) -> None:
        self._receiver = receiver
        self._recording = recording

    def answer_began(self, head: Any, now: float) -> None:
        self._recording.answer(_UPSTREAM, head.status, head.headers, now)
        self._receiver.answer_began(head, now)

    def answer_body(self, data: bytes, now: float) -> None:
        self._recording.chunk(_UPSTREAM, data, now)
        self._receiver.answer_body(data, now)

    def answer_ended(self, now: float) -> None:
        self._receiver.answer_ended(now)

    def answer_whole(self, head: Any, body: bytes, now: float) -> None:
        self._recording.answer(_UPSTREAM, head.status, head.headers, now)
        self._recording.chunk(_UPSTREAM, body, now)
        self._receiver.answer_whole(head, body, now)

    def answer_lost(self, loss: Any, now: float) -> None:
        self._receiver.answer_lost(loss, now)

    def upload_paused(self) -> None:
        self._receiver.upload_paused()

    def upload_resumed(self) -> None:
        self._receiver.upload_resumed()
