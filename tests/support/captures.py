"""Exchanges as a recorder sees them, without a gateway: told what passes, in the order in which it would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock.capture import CaptureSettings, Order, Phase, Recorder, Recording, Subject
from penstock.capture.store import Item, Store

BEGAN = 1_700_006_401.5
"""2023-11-15 00:00:01.5 UTC."""
CHAT = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'
FOR_EVER = CaptureSettings(keep_days=None)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def subject(exchange: str = "px-1-1", **values: Any) -> Subject:
    known: dict[str, Any] = {
        "began": BEGAN, "started": 100.0, "provider": "openai", "model": "gpt-4o", "sent_model": "gpt-4o", "protocol": "openai_chat",
        "operation": "chat", "fingerprint": "0123456789ab",
    }  # fmt: skip
    return Subject(exchange, **{**known, **values})


def make(data_dir: Path, settings: CaptureSettings = FOR_EVER, **values: Any) -> Recorder:
    return Recorder(data_dir, settings, **values)


def begin(recorder: Recorder, order: Order | None = None, about: Subject | None = None) -> Recording:
    """Turned on, and an exchange that is wanted."""
    recorder.turn_on(order if order is not None else Order())
    recording = recorder.begin(about if about is not None else subject())
    assert recording is not None
    return recording


def answer(
    recording: Recording, pieces: Sequence[bytes], *, headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"text/event-stream"),),
    status: int = 200, phase: Phase = Phase.UPSTREAM_RESPONSE, outcome: str = "COMPLETE",
) -> None:  # fmt: skip
    """An answer, a piece every hundredth of a second, to its end."""
    recording.answer(phase, status, headers, 100.25)
    for number, piece in enumerate(pieces):
        recording.chunk(phase, piece, 100.5 + number / 100)
    recording.end(outcome, None, 101.0)


def one(recorder: Recorder, data_dir: Path) -> tuple[Store, Item]:
    """The only capture there is."""
    assert recorder.flush()
    store = Store(data_dir)
    (item,) = store.items()
    return store, item


def body_of(recorder: Recorder, data_dir: Path, phase: Phase = Phase.UPSTREAM_RESPONSE) -> bytes:
    store, item = one(recorder, data_dir)
    assert item.meta is not None
    part = item.meta.last(phase)
    assert part is not None
    return store.read(item, part).body
