"""Recordings are found, told apart and picked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.lab.recordings import Recording, RecordingError, find_recording, load_recordings, split_frames, tell_operation
from penstock.vocabulary.ids import Operation, ProtocolId

CORPUS = Path(__file__).parents[1] / "corpus"


def recording(name: str, protocol: ProtocolId = ProtocolId.OPENAI_CHAT) -> Recording:
    return Recording(name, protocol, Operation.CHAT, b"")


def test_the_corpus_is_loaded_whole_and_its_content_agrees_with_its_folders() -> None:
    library = load_recordings(CORPUS)
    assert not library.skipped
    assert len(library.recordings) == len(list(CORPUS.rglob("*.sse")))
    for r in library.recordings:
        told = tell_operation(r.body)
        assert told is not None
        assert told[0] is r.protocol, r.name


def test_a_recording_brings_the_request_beside_it() -> None:
    library = load_recordings(CORPUS / "gemini")
    assert all(r.protocol is ProtocolId.GEMINI and r.request is not None and b'"contents"' in r.request for r in library.recordings)


def test_without_a_telling_folder_the_content_tells(tmp_path: Path) -> None:
    (tmp_path / "a.sse").write_bytes(b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n')
    (tmp_path / "b.sse").write_bytes(b'data: {"object":"text_completion","choices":[]}\n\ndata: [DONE]\n\n')
    (tmp_path / "c.sse").write_bytes(b": nothing that could be told\n\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "d.sse").write_bytes(b'data: {"candidates": []}\r\n\r\n')
    library = load_recordings(tmp_path)
    assert [(r.name, r.operation) for r in library.recordings] == [
        ("a", Operation.MESSAGES), ("b", Operation.COMPLETIONS), ("deep/er/d", Operation.GENERATE),
    ]
    assert [path.name for path, _ in library.skipped] == ["c.sse"]


def test_the_protocols_folder_may_be_the_root_itself(tmp_path: Path) -> None:
    root = tmp_path / "anthropic_messages"
    root.mkdir()
    (root / "cut-short.sse").write_bytes(b": only a comment")
    assert load_recordings(root).recordings[0].protocol is ProtocolId.ANTHROPIC_MESSAGES


def test_what_cannot_be_read_or_told_is_passed_over_and_said(tmp_path: Path) -> None:
    (tmp_path / "good.sse").write_bytes(b'data: {"candidates": []}\r\n\r\n')
    (tmp_path / "deep.sse").write_bytes(b"data: " + b"[" * 100_000 + b"\n\n")
    (tmp_path / "latin.sse").write_bytes(b'data: {"choices":["\xff\xfe"]}\n\n')
    (tmp_path / "folder.sse").mkdir()
    (tmp_path / "loose.sse").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device.sse").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.sse")
    (tmp_path / os.fsdecode(b"name\xff.sse")).write_bytes((tmp_path / "good.sse").read_bytes())
    with (tmp_path / "huge.sse").open("wb") as file:
        file.truncate(1 << 40)
    library = load_recordings(tmp_path)
    assert [r.name for r in library.recordings] == ["good"]
    assert {path.name[:4] for path, _ in library.skipped} == {"deep", "lati", "fold", "loos", "devi", "pipe", "name", "huge"}


def test_nothing_to_serve_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="is not a directory"):
        load_recordings(tmp_path / "absent")
    with pytest.raises(RecordingError, match="no recorded stream"):
        load_recordings(tmp_path)


class TestPicking:
    some = [recording("stream_1"), recording("stream_12"), recording("other"), recording("twin"), recording("twin", ProtocolId.GEMINI)]

    def test_a_whole_name_wins_over_a_longer_one(self) -> None:
        assert find_recording(self.some, "stream_1").name == "stream_1"

    def test_a_prefix_that_only_one_has_is_enough(self) -> None:
        assert find_recording(self.some, "oth").name == "other"
        assert find_recording(self.some, "openai_chat/oth").name == "other"

    def test_the_protocol_tells_twins_apart(self) -> None:
        assert find_recording(self.some, "gemini/twin").protocol is ProtocolId.GEMINI

    @pytest.mark.parametrize(("wanted", "words"), [("stream", "any of 2"), ("twin", "any of 2"), ("nothing", "stream is called 'nothing'")])
    def test_anything_else_is_refused_in_words(self, wanted: str, words: str) -> None:
        with pytest.raises(RecordingError, match=words):
            find_recording(self.some, wanted)


@given(st.lists(st.sampled_from([b"data: x", b"event: y", b":", b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf", b"\xff", b""])).map(b"".join))
def test_frames_together_are_the_body(body: bytes) -> None:
    assert b"".join(frame.raw for frame in split_frames(body)) == body


def test_frames_are_read_as_the_standard_says() -> None:
    frames = list(split_frames(b"\xef\xbb\xbfevent: a\r\ndata: 1\r\ndata:2\r\rdata: 3\n\n: c\n\ndata: tail"))
    assert [(f.name, f.data) for f in frames] == [(b"a", b"1\n2"), (b"", b"3"), (b"", b""), (b"", b"")]
