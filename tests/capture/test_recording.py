"""What is kept of an exchange in memory: bounded, in order, and never in its way."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.capture import Phase, layout
from penstock.capture.layout import Files, Meta, lay_out
from penstock.capture.recording import HEAD, MARKS, SLACK, TRIES, Finished, Recording, Room
from penstock.capture.redact import Headers, compile_patterns
from penstock.wire.encoding import Gunzip
from tests.support.captures import subject

UPSTREAM = Phase.UPSTREAM_RESPONSE
ID = "20231115-000001-abcdef"


class Ended:
    def __init__(self) -> None:
        self.all: list[Finished | None] = []

    def __call__(self, finished: Finished | None) -> None:
        self.all.append(finished)

    def files(self, *patterns: str, mask_keys: bool = False) -> tuple[Meta, Files]:
        (finished,) = self.all
        assert finished is not None
        return lay_out(finished, ID, compile_patterns(patterns, mask_keys=mask_keys))


def record(*phases: Phase, size: int = 1 << 20, room: Room | None = None) -> tuple[Recording, Ended]:
    ended = Ended()
    return Recording(subject(), phases or (UPSTREAM,), size, room or Room(1 << 30), (), ended), ended


def feed(recording: Recording, body: bytes, cuts: list[int] | None = None, headers: Headers = ()) -> None:
    recording.answer(UPSTREAM, 200, headers, 100.0)
    at = 0
    for number, cut in enumerate([*sorted(min(cut, len(body)) for cut in cuts or []), len(body)]):
        recording.chunk(UPSTREAM, body[at:cut], 101.0 + number)
        at = cut
    recording.end("COMPLETE", None, 200.0)


def test_all_four_phases_with_their_heads_and_times() -> None:
    recording, ended = record(*Phase)
    recording.inbound("POST", "/v1/chat/completions?key=abc", [(b"Host", b"h"), (b"Authorization", b"Bearer secret-key-1")], b'{"a":1}', 100.5)
    recording.provider((b"POST", b"/v1/chat/completions", b"Host: p\r\nx-api-key: k\r\nContent-Length: 7\r\n\r\n{\"b\":2}"), 100.75)
    recording.answer(UPSTREAM, 200, [(b"content-type", b"text/event-stream")], 101.0)
    recording.chunk(UPSTREAM, b"data: ", 101.25)
    recording.chunk(UPSTREAM, b"1\n\n", 101.5)
    recording.answer(Phase.OUTBOUND_RESPONSE, 200, [], 101.0)
    recording.chunk(Phase.OUTBOUND_RESPONSE, b"data: 1\n\n", 101.5)
    recording.end("COMPLETE", "all came", 102.0)
    meta, files = ended.files()
    assert files["inbound_request.head"] == b"POST /v1/chat/completions?key=***\nHost: h\nAuthorization: Bearer ***\n"
    assert files["provider_request.head"] == b"POST /v1/chat/completions\nHost: p\nx-api-key: ***\nContent-Length: 7\n"
    assert (files["inbound_request.body"], files["provider_request.body"]) == (b'{"a":1}', b'{"b":2}')
    assert files["upstream_response.head"] == b"200\ncontent-type: text/event-stream\n"
    assert files["upstream_response.times"] == b"1.250000 6\n1.500000 3\n"
    assert files["outbound_response.body"] == files["upstream_response.body"] == b"data: 1\n\n"
    assert (meta.outcome, meta.cause, meta.took, meta.exchange) == ("COMPLETE", "all came", 2.0, "px-1-1")
    assert [(part.phase, part.at, part.size, part.truncated) for part in meta.parts] == [
        (Phase.INBOUND_REQUEST, 0.5, 7, False), (Phase.PROVIDER_REQUEST, 0.75, 7, False), (UPSTREAM, 1.0, 9, False),
        (Phase.OUTBOUND_RESPONSE, 1.0, 9, False),
    ]  # fmt: skip


def test_only_the_phases_that_are_on_are_kept() -> None:
    recording, ended = record(Phase.OUTBOUND_RESPONSE)
    recording.inbound("POST", "/", [], b"in", 100)
    recording.provider((b"POST", b"/", b"\r\n\r\nup"), 100)
    feed(recording, b"answer")
    meta, files = ended.files()
    assert meta.parts == ()
    assert list(files) == ["capture.json"]


def test_an_uploaded_body_comes_in_chunks() -> None:
    recording, ended = record(Phase.INBOUND_REQUEST, Phase.PROVIDER_REQUEST)
    recording.inbound("POST", "/", [], None, 100)
    recording.provider((b"POST", b"/", b"Transfer-Encoding: chunked\r\n\r\n"), 100)
    recording.upload(b"ab", 101)
    recording.upload(b"cd", 102)
    recording.end(None, None, 103)
    _, files = ended.files()
    assert files["inbound_request.body"] == files["provider_request.body"] == b"abcd"
    assert files["inbound_request.times"] == b"1.000000 2\n2.000000 2\n"


def test_a_second_try_has_parts_of_its_own() -> None:
    recording, ended = record(*Phase)
    recording.inbound("POST", "/", [], b"in", 100)
    recording.provider((b"POST", b"/a", b"\r\n\r\nfirst"), 100)
    recording.answer(UPSTREAM, 503, [], 101)
    recording.chunk(UPSTREAM, b"busy", 101)
    recording.provider((b"POST", b"/b", b"\r\n\r\nsecond"), 102)
    recording.answer(UPSTREAM, 200, [], 103)
    recording.chunk(UPSTREAM, b"fine", 103)
    recording.end("COMPLETE", None, 104)
    meta, files = ended.files()
    assert (files["upstream_response.body"], files["upstream_response.2.body"]) == (b"busy", b"fine")
    assert (files["provider_request.2.head"], files["provider_request.2.body"]) == (b"POST /b\n", b"second")
    last = meta.last(UPSTREAM)
    assert last is not None
    assert (last.number, last.start) == (2, "200")


def test_however_often_it_is_tried_the_bound_holds() -> None:
    recording, ended = record(UPSTREAM, size=100)
    for _ in range(3 * TRIES):
        recording.provider((b"GET", b"/", b"\r\n\r\n"), 100)
        recording.answer(UPSTREAM, 503, [], 100)
        recording.chunk(UPSTREAM, b"x" * 90, 100)
    recording.end(None, None, 101)
    meta, _ = ended.files()
    assert len(meta.parts) == TRIES
    assert meta.size == 100


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)), st.integers(1, 300))
def test_the_beginning_is_kept_however_it_is_cut(body: bytes, cuts: list[int], size: int) -> None:
    body = body.removeprefix(b"\x1f\x8b")
    recording, ended = record(size=size)
    feed(recording, body, cuts)
    meta, files = ended.files()
    (part,) = meta.parts
    kept = files.get("upstream_response.body", b"")
    assert kept == body[:size]
    assert (part.truncated, part.seen, part.size) == (len(body) > size, len(body), len(kept))
    assert sum(int(line.split()[1]) for line in files.get("upstream_response.times", b"").splitlines()) == len(kept)


@given(st.lists(st.integers(0, 60)), st.integers(1, 60))
def test_a_secret_is_found_over_any_cut_and_at_any_limit(cuts: list[int], size: int) -> None:
    recording, ended = record(size=size)
    feed(recording, b"before 4242-4242-4242-4242 after, and so on and on", cuts)
    _, files = ended.files(r"\d{4}(-\d{4}){3}")
    kept = files["upstream_response.body"]
    assert b"before *** after, and so on and on".startswith(kept)
    assert b"4242" not in b"".join(files.values())


def test_a_credential_of_a_head_is_found_in_every_body() -> None:
    recording, ended = record(*Phase)
    recording.inbound("POST", "/x?key=query%2Dsecret", [(b"Authorization", b"Bearer plainwordsecret")], b"plainwordsecret", 100)
    recording.provider((b"POST", b"/x", b"api-key: housesecret\r\n\r\nbody"), 100)
    feed(recording, b"Incorrect key plainwordsecret, query-secret or housesecret")
    _, files = ended.files()
    assert files["upstream_response.body"] == b"Incorrect key ***, *** or ***"
    assert not [name for name, content in files.items() if b"wordsecret" in content or b"housesecret" in content]


def test_a_body_over_the_limit_is_not_held_in_memory() -> None:
    room = Room(1 << 30)
    recording, _ = record(size=1000, room=room)
    recording.answer(UPSTREAM, 200, [], 100)
    for _ in range(100):
        recording.chunk(UPSTREAM, b"x" * 10_000, 100)
    assert room.used == 1000 + SLACK
    assert len(recording.parts[0].body) == 1000 + SLACK


def test_very_many_chunks_share_times_and_lose_no_byte() -> None:
    recording, ended = record(size=1 << 20)
    recording.answer(UPSTREAM, 200, [], 100)
    for number in range(MARKS + 50):
        recording.chunk(UPSTREAM, b"x", 100 + number)
    recording.end(None, None, 101)
    meta, files = ended.files()
    assert (meta.parts[0].chunks, meta.size) == (MARKS, MARKS + 50)
    assert files["upstream_response.times"].splitlines()[-1].endswith(b" 51")


def test_a_head_without_end_is_cut() -> None:
    recording, ended = record()
    recording.answer(UPSTREAM, 200, [(b"x", b"y" * 1000)] * 1000, 100)
    recording.end(None, None, 101)
    _, files = ended.files()
    assert len(files["upstream_response.head"]) < HEAD + 1000


def test_where_all_together_hold_too_much_the_rest_is_left_out_and_said() -> None:
    room = Room(100)
    first, _ = record(room=room)
    feed(first, b"x" * 60)
    second, ended = record(room=room)
    feed(second, b"y" * 60, [30])
    meta, files = ended.files()
    (part,) = meta.parts
    assert files["upstream_response.body"] == b"y" * 30
    assert part.truncated
    assert part.note is not None
    assert "memory" in part.note
    assert room.used == 90
    room.give(60)
    assert room.take(70)
    assert room.used == 100


def test_after_its_end_nothing_more_happens() -> None:
    recording, ended = record()
    feed(recording, b"x")
    recording.chunk(UPSTREAM, b"y", 201)
    recording.answer(UPSTREAM, 500, [], 201)
    recording.end("TRUNCATED", None, 202)
    meta, files = ended.files()
    assert (meta.outcome, files["upstream_response.body"]) == ("COMPLETE", b"x")


def test_nothing_that_it_is_given_makes_it_raise_and_what_it_held_is_given_back() -> None:
    mistakes: list[Callable[[Recording], None]] = [
        lambda r: r.chunk(UPSTREAM, cast("bytes", object()), 100.0),
        lambda r: r.answer(UPSTREAM, 200, cast("Headers", [1]), 100.0),
        lambda r: r.provider(cast("tuple[bytes, bytes, bytes]", (1,)), 100.0),
        lambda r: r.inbound("GET", "/", cast("Headers", 7), b"", 100.0),
    ]
    for spoil in mistakes:
        room = Room(1000)
        recording, ended = record(*Phase, room=room)
        recording.chunk(UPSTREAM, b"x" * 100, 100)
        spoil(recording)
        recording.chunk(UPSTREAM, b"more", 100)
        recording.end("COMPLETE", None, 101)
        assert ended.all == [None]
        assert room.take(1000)


# Codings.


def test_gzip_is_decoded_chunk_by_chunk() -> None:
    body = b"data: 4242-4242\n\n" * 20
    packed = gzip.compress(body)
    recording, ended = record()
    feed(recording, packed, [10, 20, len(packed) - 4], [(b"Content-Encoding", b"gzip")])
    meta, files = ended.files(r"\d{4}-\d{4}")
    (part,) = meta.parts
    assert files["upstream_response.body"] == body.replace(b"4242-4242", b"***")
    assert (part.decoded, part.seen, part.truncated, part.chunks) == ("gzip", len(packed), False, 3)


def test_gzip_that_is_not_announced_is_no_way_around_the_patterns() -> None:
    recording, ended = record()
    feed(recording, gzip.compress(b"4242-4242"))
    _, files = ended.files(r"\d{4}-\d{4}")
    assert files["upstream_response.body"] == b"***"


def test_a_small_body_that_swells_is_not_decoded_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counting(Gunzip):
        def feed(self, data: bytes) -> Iterator[bytes]:
            for piece in super().feed(data):
                made.append(len(piece))
                yield piece

    monkeypatch.setattr(layout, "Gunzip", Counting)
    recording, ended = record(size=5000)
    feed(recording, gzip.compress(b"\0" * (50 << 20), 9)[:4000], headers=[(b"content-encoding", b"gzip")])
    meta, _ = ended.files()
    assert meta.size == 5000
    assert meta.parts[0].truncated
    assert sum(made) <= 64 * 1024


def test_broken_gzip_is_kept_as_far_as_it_goes() -> None:
    packed = gzip.compress(bytes(range(256)) * 100, 0)
    recording, ended = record()
    feed(recording, packed[:-8] + b"\xff" * 8, [1000, len(packed) - 8], [(b"content-encoding", b"gzip")])
    meta, files = ended.files()
    assert files["upstream_response.body"] == bytes(range(256)) * 100
    assert "broken" in (meta.parts[0].note or "")
    recording, ended = record()
    feed(recording, b"plain", headers=[(b"content-encoding", b"gzip")])
    assert ended.files()[1]["upstream_response.body"] == b"plain"


def test_a_coding_that_nobody_can_look_into_is_not_kept_where_something_must_be_masked() -> None:
    for masked, kept in ((True, b""), (False, b"\x0b\x02\x80secret")):
        recording, ended = record()
        feed(recording, b"\x0b\x02\x80secret", headers=[(b"content-encoding", b"br")])
        meta, files = ended.files(mask_keys=masked)
        assert files["upstream_response.body"] == kept
        assert meta.parts[0].truncated is masked
        assert ("br" in (meta.parts[0].note or "")) is masked


def test_names_in_headers_of_ours_are_masked_there_and_stay_elsewhere() -> None:
    recording, ended = record(Phase.INBOUND_REQUEST)
    headers = [(b"x-penstock-provider", b"anthropic"), (b"X-Penstock-Project", b"waterworks"), (b"x-penstock-key", b"pst-key-0001")]
    body = b'{"model":"anthropic/claude","text":"waterworks pst-key-0001"}'
    recording.inbound("POST", "/anthropic/v1/messages", headers, body, 100.5)
    recording.end("COMPLETE", None, 200.0)
    meta, files = ended.files()
    assert meta.parts[0].start == "POST /anthropic/v1/messages"
    assert files["inbound_request.body"] == b'{"model":"anthropic/claude","text":"waterworks ***"}'
    assert files["inbound_request.head"].count(b"***") == 3


def test_a_key_is_found_in_the_spellings_of_json_and_of_urls() -> None:
    recording, ended = record(Phase.INBOUND_REQUEST, UPSTREAM)
    recording.inbound("POST", "/openai/v1/ab%2Fcd%2Bef%3D12/x", [(b"Authorization", b"Bearer ab/cd+ef=12")], None, 100.5)
    body = b'{"a":"ab\\/cd+ef=12","b":"https://h/?x=ab%2Fcd%2Bef%3D12","c":"ab/cd+ef=12","d":"ab/cd%2Bef%3D12","e":"ab/cd"}'
    feed(recording, body)
    meta, files = ended.files()
    assert files["upstream_response.body"] == b'{"a":"***","b":"https://h/?x=***","c":"***","d":"***","e":"ab/cd"}'
    assert meta.parts[0].start == "POST /openai/v1/***/x"


def test_many_secrets_of_the_house_leave_room_for_the_exchanges_own() -> None:
    ended = Ended()
    house = [b"house-secret-%03d" % number for number in range(100)]
    recording = Recording(subject(), (UPSTREAM,), 1 << 20, Room(1 << 30), house, ended)
    recording.inbound("POST", "/v1/chat/completions", [(b"x-api-key", b"somebodys-word")], None, 100.5)
    feed(recording, b"house-secret-099 somebodys-word")
    assert ended.files()[1]["upstream_response.body"] == b"*** ***"
