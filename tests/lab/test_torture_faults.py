"""The table of faults, the streams they are made of, and the parts of the judge that need no socket."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.lab.torture.client import read_place
from penstock.lab.torture.faults import FAULTS, Must
from penstock.lab.torture.forms import FORMS, Form, form_asked, model_of, read_model
from penstock.lab.torture.matrix import GROUPS, Cell, Result, cells
from penstock.lab.torture.own import audit, settings
from penstock.lab.torture.reading import Kind, read_pieces, text_of
from penstock.lab.torture.shapes import wrong_in_band, wrong_with_body
from penstock.lab.torture.speakers import error_body, error_value
from penstock.protocols import REGISTRY
from penstock.protocols.contract import ERROR
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation, ProtocolId

PAGE = Path(__file__).parents[2] / "docs" / "torture.md"
OPERATIONS = {
    ProtocolId.OPENAI_CHAT: Operation.CHAT, ProtocolId.OPENAI_RESPONSES: Operation.RESPONSES,
    ProtocolId.ANTHROPIC_MESSAGES: Operation.MESSAGES, ProtocolId.GEMINI: Operation.GENERATE,
}  # fmt: skip
FAULT = Fault(FaultKind.UPSTREAM_BROKEN, 502, "The answer was lost.")
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))


def story(form: Form) -> list[bytes]:
    say = form.speaker()
    frames = [*say.opening(), *say.text("Grüße, "), *say.text("世界"), *say.ping()]
    frames += [*say.call(0), *say.arguments(0, '{"query": "x'), *say.arguments(0, '"}')]
    return [*frames, *say.finish(), *say.terminal()]


@each_form
def test_a_speaker_tells_what_its_protocol_knows_as_a_complete_answer(form: Form) -> None:
    observer = REGISTRY[form.protocol].observer(OPERATIONS[form.protocol])
    pieces = read_pieces(form, b"".join(story(form)))
    for piece in pieces:
        if form.array and piece.value is None:
            continue
        data = piece.raw if form.array else piece.raw.partition(b"data: ")[2].strip()
        if data:
            observer.observe(piece.name.encode(), data, 0.0)
    assert observer.closable()
    assert (observer.malformed, observer.calls, observer.error) == (0, 1, None)
    assert observer.unknown <= 1, "a ping may be of a type that is in no reference"
    assert text_of(pieces).startswith("Grüße, 世界")


@each_form
def test_a_speakers_error_is_one_to_its_protocol_and_to_the_judge(form: Form) -> None:
    say = form.speaker()
    frames = [*say.opening(), *say.text("x"), *say.error("tired")]
    pieces = [piece for piece in read_pieces(form, b"".join(frames)) if piece.kind is not Kind.TERMINAL]
    assert pieces[-1].kind is Kind.ERROR
    assert wrong_in_band(form, pieces, own=False) is None
    observer = REGISTRY[form.protocol].observer(OPERATIONS[form.protocol])
    data = pieces[-1].raw if form.array else pieces[-1].raw.partition(b"data: ")[2].strip()
    assert observer.observe(pieces[-1].name.encode(), data, 0.0) & ERROR
    assert observer.error is not None
    assert observer.error.message == "tired"
    observer.observe_error(429, error_body(form.speaker, 429, "slower"))
    assert observer.error.message == "slower"


@each_form
def test_the_gateways_own_errors_have_the_shapes_that_the_judge_asks_for(form: Form) -> None:
    import msgspec

    spec = REGISTRY[form.protocol]
    assert wrong_with_body(form, msgspec.json.decode(spec.error_body(FAULT, "x"), type=dict[str, object])) is None
    if form.array:
        return
    observer = spec.observer(OPERATIONS[form.protocol])
    for before in (0, 1, 3):
        frames = story(form)[:before]
        observer = spec.observer(OPERATIONS[form.protocol])
        for piece in read_pieces(form, b"".join(frames)):
            observer.observe(piece.name.encode(), piece.raw.partition(b"data: ")[2].strip(), 0.0)
        pieces = read_pieces(form, b"".join(frames) + spec.error_frame(FAULT, "x", observer))
        assert wrong_in_band(form, pieces, own=True) is None, before


@pytest.mark.parametrize(("form", "frame", "words"), [
    ("chat", b'data: {"error":{"message":"m","type":"t"}}\n\n', "no param"),
    ("chat", b'data: {"error":"m"}\n\n', "no error object"),
    ("chat", b'data: {"error":{"message":"","type":"t","param":null,"code":null}}\n\n', "no message"),
    ("messages", b'data: {"type":"error","error":{"type":"t","message":"m"}}\n\n', "called 'nothing'"),
    ("messages", b'event: error\ndata: {"type":"error","error":{"message":"m"}}\n\n', "no type"),
    ("gemini", b'data: {"error":{"code":"502","message":"m","status":"INTERNAL"}}\n\n', "no status"),
    ("gemini", b'data: {"error":{"code":502,"message":"m"}}\n\n', "no status word"),
    ("responses", b'event: error\ndata: {"type":"error","sequence_number":0,"message":"m"}\n\n', "not response.failed"),
    ("responses", b'event: response.failed\ndata: {"type":"response.failed","sequence_number":0,"response":{"id":"r","model":"m","created_at":1,'
                  b'"status":"failed","error":{"code":"c","message":"m"}}}\n\n', "no response.created"),
])  # fmt: skip
def test_errors_of_another_shape_are_found(form: str, frame: bytes, words: str) -> None:
    wrong = wrong_in_band(FORMS[form], read_pieces(FORMS[form], frame), own=True)
    assert wrong is not None
    assert words in wrong


@pytest.mark.parametrize(("form", "body", "kinds"), [
    ("chat", b'data: {"choices":[]}\n\ndata: [DONE]\n\n', "EVENT TERMINAL"),
    ("chat", b'data: {"choices":[]}\r\rdata: [DONE]\r\r', "EVENT TERMINAL"),
    ("chat", b'data: {"choices":[]}\r\n\r\ndata: [DONE]\r\n', "EVENT HALF"),
    ("chat", b": x\n\n: y\ndata: [DONE]\n\n", "QUIET QUIET TERMINAL"),
    ("chat", b": x\n", "QUIET"),
    ("chat", b'data: {"choices":\n\n', "UNREADABLE"),
    ("chat", b'data: {"choices"data: {"error":{}}\n\n', "UNREADABLE"),
    ("messages", b'event: ping\ndata: {"type":"ping"}\n\nevent: error\ndata: {"type":"error"}\n\n', "QUIET ERROR"),
    ("gemini", b'\n\ndata: {"candidates":[{"finishReason":"STOP"}]}\n\n', "QUIET QUIET FINISH"),
    ("array", b'[{"a":1},\r\n{"error":{}}\n]\n', "EVENT ERROR TERMINAL"),
    ("array", b' [ {"a":1} , \n', "EVENT HALF"),
    ("array", b'[{"a":1}', "EVENT"),
    ("array", b'[{"a":', "HALF"),
    ("array", b'[{"a":1}]{"b":2}', "EVENT TERMINAL UNREADABLE"),
    ("array", b"[]", "TERMINAL"),
    ("array", b"<html>", "UNREADABLE"),
])  # fmt: skip
def test_bytes_are_read_as_frames(form: str, body: bytes, kinds: str) -> None:
    assert " ".join(piece.kind.name for piece in read_pieces(FORMS[form], body)) == kinds


def test_a_models_name_tells_its_cell_wherever_it_stands() -> None:
    for cell in cells():
        request = cell.form.request(cell.model, "localhost")
        head, _, body = request.partition(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        path, _, query = target.partition("?")
        assert read_model(target, body) == (cell.fault.name, cell.form.name)
        assert form_asked(path, query) is cell.form
    assert read_model("/v1beta/models/vendor%2Ftorture-plain.gemini:streamGenerateContent", b"") == ("plain", "gemini")
    assert read_model("/", b'{"model":"gpt-5"}') is None


def test_headers_and_paths_of_the_users_go_before_ours() -> None:
    request = FORMS["chat"].request("m", "h", [("Authorization", "Bearer mine")], "/openai/{model}/chat").decode()
    assert request.startswith("POST /openai/m/chat HTTP/1.1\r\n")
    assert "torture-key" not in request
    assert "Authorization: Bearer mine\r\n" in request


def test_the_table_is_legible() -> None:
    for name, fault in FAULTS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert fault.means.rstrip(")").endswith("."), name
        assert len(fault.means) > 30, name
        assert "|" not in fault.means, name
        assert set(fault.forms) <= set(FORMS), name
        assert fault.group in GROUPS, name
    assert {fault.must for fault in FAULTS.values()} == set(Must)
    assert {form for fault in FAULTS.values() if fault.must is Must.WHOLE for form in fault.forms} == set(FORMS)


def test_the_page_tells_every_fault_as_it_is() -> None:
    rows = dict(re.findall(r"^\| `([a-z][a-z0-9-]*)` \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert rows == {name: fault.means for name, fault in FAULTS.items()}, "write the table anew: penstock torture --markdown"


@pytest.mark.parametrize(("fault", "outcomes", "saw"), [
    ("plain", ["COMPLETE"], None),
    ("plain", [], "0 rows for 1"),
    ("plain", ["COMPLETE", "COMPLETE"], "2 rows for 1"),
    ("eof-mid-stream", ["COMPLETE"], "says COMPLETE"),
    ("eof-mid-stream", ["UPSTREAM_LOST"], None),
    ("stall-in-text", ["TRUNCATED"], "not TIMED_OUT"),
    ("client-leaves-mid-stream", ["CLIENT_GONE"], None),
    ("client-leaves-mid-stream", [None], "says open"),
])  # fmt: skip
def test_the_ledger_is_held_against_what_was_done(fault: str, outcomes: list[str | None], saw: str | None) -> None:
    result = Result(Cell(FAULTS[fault], FORMS["chat"]), None, 0.1)
    others = [{"requested_model": model_of("plain", "gemini"), "outcome": "CRASHED"}]
    audit([result], others + [{"requested_model": model_of(fault, "chat"), "outcome": outcome} for outcome in outcomes])
    assert (result.saw is None) if saw is None else (result.saw is not None and saw in result.saw)


def test_our_own_gateway_is_configured_rightly(tmp_path: Path) -> None:
    import msgspec

    from penstock.config import load

    file = tmp_path / "penstock.yaml"
    file.write_bytes(msgspec.json.encode(settings(4299, str(tmp_path))))
    config = load(file, environ={"HOME": str(tmp_path)})
    assert len(config.providers) == 3


@pytest.mark.parametrize(("url", "shown"), [
    ("http://127.0.0.1:4270", "127.0.0.1:4270"), ("localhost:8080/base/", "localhost:8080"), ("https://[::1]", "[::1]"), ("https://h:443", "h"),
])  # fmt: skip
def test_a_gateways_address_is_read(url: str, shown: str) -> None:
    assert read_place(url).authority == shown
    assert read_place("http://h/base/").base == "/base"


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h?x=1", "http://h:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        read_place(url)


def test_in_band_errors_are_those_of_their_statuses() -> None:
    assert error_value(FORMS["responses"].speaker, 503, "m")["type"] == "error"
    assert b'"error":{' in error_body(FORMS["responses"].speaker, 503, "m")
