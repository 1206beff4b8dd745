"""Every recording is read as the index says, and never as complete before its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.protocols.contract import TERMINAL, USAGE_ONLY, Observer
from penstock.protocols.openai_chat import SPEC
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.usage import Provenance
from tests.support.corpus import figures

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_chat"
INDEX: list[dict[str, Any]] = yaml.safe_load((CORPUS / "index.yaml").read_text(encoding="utf-8"))


def new(sink: bool = False) -> Observer:
    observer = SPEC.observer(Operation.CHAT)
    if sink:
        observer.sink = []
    return observer


def recorded(name: str) -> list[tuple[bytes, bytes]]:
    frames: list[tuple[bytes, bytes]] = []
    for block in (CORPUS / f"{name}.sse").read_bytes().split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if fields:
            frames.append((fields.get(b"event", b""), fields.get(b"data", b"")))
    return frames


def test_every_recording_is_in_the_index() -> None:
    assert [entry["name"] for entry in INDEX] == sorted(path.stem for path in CORPUS.glob("*.sse"))


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["name"])
@pytest.mark.parametrize("sink", [False, True])
def test_recordings_are_read_as_the_index_says(entry: dict[str, Any], sink: bool) -> None:
    observer = new(sink)
    for name, data in recorded(entry["name"]):
        assert not observer.terminal
        observer.observe(name, data, 1.0)
    outcome = "UPSTREAM_ERROR" if observer.error else "COMPLETE" if observer.closable() else "TRUNCATED"
    told = figures(observer.usage)
    seen = {
        "name": entry["name"],
        "shows": entry["shows"],
        "outcome": outcome,
        "stop_reason": observer.stop_reason,
        "response_id": observer.response_id,
        "model": observer.model,
        "usage": told,
        "tools": observer.calls,
    }
    assert seen == entry
    assert (observer.malformed, observer.unknown, observer.tools) == (0, 0, {})
    assert observer.provenance() is (Provenance.REPORTED if entry["usage"] else Provenance.NONE)


@pytest.mark.parametrize("entry", [entry for entry in INDEX if entry["outcome"] == "COMPLETE"], ids=lambda entry: entry["name"])
def test_no_recording_is_complete_before_its_last_frame(entry: dict[str, Any]) -> None:
    observer = new()
    for name, data in recorded(entry["name"])[:-1]:
        assert not observer.observe(name, data, 1.0) & TERMINAL
        assert not observer.closable()


def test_moderation_results_are_not_a_usage_only_frame() -> None:
    observer = new()
    bits = [observer.observe(name, data, 1.0) for name, data in recorded("test_openai_moderation_stream_0")]
    assert [bool(bit & USAGE_ONLY) for bit in bits[-3:]] == [True, False, False]
    assert bits[-2] == 0
