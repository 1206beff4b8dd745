"""A tap hands everything on, in order and unchanged, and notes what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from penstock.capture import AnswerTap, Phase, ReplyTap
from penstock.capture.taps import Receiving, Replying
from penstock.upstream.contract import Loss, LossKind, ResponseHead
from tests.support.captures import Clock, begin, make, one


class Heard:
    """Whoever is behind a tap."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def note(*given: object) -> None:
            self.calls.append((name, *given))

        return note


def test_what_goes_to_the_client(tmp_path: Path) -> None:
    recorder, clock, client = make(tmp_path), Clock(), Heard()
    recording = begin(recorder)
    tap = ReplyTap(cast("Replying", client), recording, clock)
    headers = [(b"content-type", b"text/event-stream")]
    tap.head(200, headers, None)
    clock.now += 1
    tap.write(b"data: 1\n\n")
    tap.pause_upload()
    tap.resume_upload()
    tap.end()
    tap.abort()
    recording.end("COMPLETE", None, 102)
    assert client.calls == [("head", 200, headers, None), ("write", b"data: 1\n\n"), ("pause_upload",), ("resume_upload",), ("end",), ("abort",)]
    store, item = one(recorder, tmp_path)
    assert item.meta is not None
    part = item.meta.last(Phase.OUTBOUND_RESPONSE)
    assert part is not None
    content = store.read(item, part)
    assert (part.start, content.body, content.times) == ("200", b"data: 1\n\n", [(1.0, 9)])
    recorder.close()


def test_what_comes_from_the_provider(tmp_path: Path) -> None:
    recorder, exchange = make(tmp_path), Heard()
    recording = begin(recorder)
    head, loss = ResponseHead(200, [(b"x", b"y")]), Loss(LossKind.EOF, "cut")
    tap = AnswerTap(cast("Receiving", exchange), recording)
    tap.answer_began(head, 100.5)
    tap.answer_body(b"a", 101.0)
    tap.upload_paused()
    tap.upload_resumed()
    tap.answer_ended(102.0)
    tap.answer_lost(loss, 102.0)
    recording.end("TRUNCATED", None, 102)
    assert exchange.calls == [
        ("answer_began", head, 100.5), ("answer_body", b"a", 101.0), ("upload_paused",), ("upload_resumed",), ("answer_ended", 102.0),
        ("answer_lost", loss, 102.0),
    ]  # fmt: skip
    store, item = one(recorder, tmp_path)
    assert item.meta is not None
    part = item.meta.last(Phase.UPSTREAM_RESPONSE)
    assert part is not None
    content = store.read(item, part)
    assert (content.head, content.body, content.times) == (b"200\nx: y\n", b"a", [(1.0, 1)])
    recorder.close()
