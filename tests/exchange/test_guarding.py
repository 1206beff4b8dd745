"""Guards, and answers that come in another form than they were asked for."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import Settings
from penstock.pipeline.compose import Limits
from penstock.policy.guards import Guard, Guards, Speech
from penstock.policy.outside import PASSED, Outside, Said, Verdict
from penstock.policy.rules import Action
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_hearing import Bench, house_with
from tests.pipeline.test_guarded import ENDS
from tests.support.exchanges import CHUNK, DONE, STOP, House, told_last
from tests.support.guards import MASKING, REJECTING, all_rules, body_of, frames_saying

PROTOCOLS = list(ProtocolId)
SECRET = "it is 4111 1111 1111 1111, really"


def whole(protocol: ProtocolId, text: str = SECRET) -> dict[str, Any]:
    return body_of(protocol, frames_saying(protocol, [text]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_in_the_place_of_a_stream_waits_for_guards_outside(protocol: ProtocolId) -> None:
    house, bench = house_with()
    with house:
        asker, ask = house.stream(protocol, input=[])
        ask.answer_json(whole(protocol))
        assert (asker.reply.status, asker.reply.body) == (None, b"")
        assert SECRET in bench.answer(house, Verdict(Said.REJECT, why="it rejects it")).texts[0].text
        row = house.row()
        assert (asker.reply.status, row.outcome, row.rule, row.output_tokens) == (403, "CUT", "judge", 5)
        assert b"4111" not in asker.reply.body
        house.check_quiet()
    house, bench = house_with()
    with house:
        asker, ask = house.stream(protocol, input=[])
        ask.answer_json(whole(protocol))
        bench.answer(house, PASSED)
        assert (asker.reply.status, asker.reply.json(), house.row().outcome) == (200, whole(protocol), "COMPLETE")
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_in_the_place_of_a_stream_is_rejected_with_its_status(protocol: ProtocolId) -> None:
    with House(conduct=Conduct(guards=REJECTING)) as house:
        asker, ask = house.stream(protocol)
        ask.answer_json(whole(protocol))
        row = house.row()
        assert (asker.reply.status, row.outcome, row.rule, row.output_tokens) == (403, "CUT", "house", 5)
        assert b"blocked by a policy" in asker.reply.body
        house.check_quiet()
    with House(conduct=Conduct(guards=MASKING)) as house:
        asker, ask = house.stream(protocol)
        ask.answer_json(whole(protocol, SECRET + " " * 70_000))  # more than is held of an error
        assert (asker.reply.status, house.row().outcome) == (200, "COMPLETE")
        assert b"[CARD]" in asker.reply.body
        assert b"4111" not in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_that_is_told_as_a_stream_is_paid_for_when_it_is_rejected(protocol: ProtocolId) -> None:
    """The client has a head of ours already: it is told in band, in the words of a policy, and not which guard it was."""
    with House(conduct=Conduct(guards=REJECTING, early_head=1.0)) as house:
        asker, ask = house.stream(protocol)
        house.loop.wait(2.0)
        assert asker.reply.status == 200
        ask.answer_json(whole(protocol))
        row = house.row()
        assert (row.outcome, row.rule, row.input_tokens, row.output_tokens) == ("CUT", "house", 3, 5)
        assert "blocked by a policy" in told_last(protocol, asker.reply)["message"]
        assert b"house" not in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("end", ["rejected", "left", "shutdown"])
def test_a_body_that_is_told_as_a_stream_is_paid_for_while_it_is_judged(protocol: ProtocolId, end: str) -> None:
    house, bench = house_with()
    house.gateway.conduct = replace(house.gateway.conduct, early_head=1.0)
    with house:
        asker, ask = house.stream(protocol, input=[])
        house.loop.wait(2.0)
        ask.answer_json(whole(protocol))
        if end == "rejected":
            bench.answer(house, Verdict(Said.REJECT, why="it rejects it", message="Not this."))
            assert told_last(protocol, asker.reply)["message"] == "Not this."
        elif end == "left":
            asker.leave()
        else:
            house.run(house.gateway.shut_down)
        row = house.row()
        assert (row.outcome, row.output_tokens) == ({"rejected": "CUT", "left": "CLIENT_GONE", "shutdown": "SHUTDOWN"}[end], 5)
        assert b"4111" not in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("early", [True, False])
def test_an_array_whose_first_element_is_rejected_is_one_whatever_kept_it_open(early: bool) -> None:
    with House(conduct=Conduct(guards=REJECTING, early_head=1.0, keepalive=1.0)) as house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
        if early:
            house.loop.wait(3.0)
        house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]).body(b"[")
        house.loop.wait(3.0)
        assert asker.reply.body.strip() == b""
        assert asker.reply.body
        house.last.body(b'{"candidates":[{"content":{"parts":[{"text":"PRJ-20417 "}],"role":"model"},"index":0}]}')
        assert [told["candidates"][0]["finishReason"] for told in asker.reply.json()] == ["SAFETY"]
        assert house.row().outcome == "CUT"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("outside", [True, False])
def test_a_rejected_frame_that_is_too_large_to_be_read_is_told_as_any_rejection(protocol: ProtocolId, outside: bool) -> None:
    guards = Guards([Guard("judge", outside=Outside("judge", "service")) if outside else Guard("judge", all_rules())])
    house, bench = House(settings=Settings(limits=Limits(frame=4000)), conduct=Conduct(guards=guards)), Bench()
    house.gateway.judges = bench
    with house:
        asker, ask = house.stream(protocol, input=[])
        small, large = (next(index for index, frame in enumerate(frames) if b"llo" in frame) for frames in (
            frames_saying(protocol, ["Hello. "]), frames_saying(protocol, ["Hello" * 3000])))
        ask.answer().body(*frames_saying(protocol, ["Hello. "])[: small + 1])
        while bench.open:
            bench.answer(house)
        ask.body(frames_saying(protocol, ["Hello" * 3000])[large])
        row = house.row()
        assert (row.outcome, row.rule, asker.reply.over) == ("CUT", "judge" if outside else "house", "ended")
        assert b"HelloHello" not in asker.reply.body
        assert ENDS[protocol] in asker.reply.body.replace(b" ", b"")
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("how", ["inside", "outside", "at the end"])
def test_a_rejection_behind_what_passed_unread_does_not_look_like_a_good_end(protocol: ProtocolId, how: str) -> None:
    """With every guard open what cannot be read passes, and nothing is put behind it: no words, but no clean end either."""
    outside = how == "outside"
    judge = Guard("judge", outside=Outside("judge", "service", closed=False)) if outside else Guard("house", all_rules(Action.REJECT, closed=False))
    house, bench = House(settings=Settings(limits=Limits(frame=4000)), conduct=Conduct(guards=Guards([judge]))), Bench()
    house.gateway.judges = bench
    with house:
        asker, ask = house.stream(protocol, input=[])
        said = "4111 1111 1111 1111" if how == "at the end" else "It is zanzibar. "
        large, last = (next(index for index, frame in enumerate(frames) if word in frame) for word, frames in (
            (b"HelloHello", frames_saying(protocol, ["Hello" * 3000])), (said[:4].encode(), frames_saying(protocol, [said]))))
        ask.answer().body(*frames_saying(protocol, ["Hello" * 3000])[: large + 1])
        ask.body(*frames_saying(protocol, [said])[: last + 1])
        if ask.live:
            ask.end()
        while bench.open:
            bench.answer(house, Verdict(Said.REJECT, why="it rejects it"))
        row = house.row()
        assert (row.outcome, row.rule, asker.reply.over) == ("CUT", "judge" if outside else "house", "aborted")
        assert b"HelloHello" in asker.reply.body
        assert said[:16].encode() not in asker.reply.body
        assert ENDS[protocol] not in asker.reply.body.replace(b" ", b"")
        house.check_quiet()


ELEMENT = b'{"candidates":[{"content":{"parts":[{"text":"One is here. "}],"role":"model"},"index":0}]}'


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("pieces", [
    [b"zanzibar"], [b"[" + ELEMENT, b"}} zanzibar"], [b"[" + ELEMENT + b"]", b" zanzibar"], [b"[" + ELEMENT + b"\n, ]\nzanzibar"],
])
def test_what_is_no_array_is_rejected(pieces: list[bytes], outside: bool) -> None:
    guards = Guards([Guard("judge", outside=Outside("judge", "service")) if outside else Guard("house", all_rules())])
    house, bench = House(conduct=Conduct(guards=guards)), Bench()
    house.gateway.judges = bench
    with house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
        ask = house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")])
        for piece in pieces:
            ask.body(piece)
            while bench.open:
                bench.answer(house)
        assert house.row().outcome == "CUT"
        assert b"zanzibar" not in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("before", [[], [ELEMENT]])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_array_whose_end_came_with_what_is_rejected_is_closed(outside: bool, before: list[bytes], at_once: bool) -> None:
    judge = [Guard("judge", outside=Outside("judge", "service"))] if outside else []
    guards = Guards([*judge, Guard("house", all_rules(Action.REJECT))])
    house, bench = House(conduct=Conduct(guards=guards)), Bench()
    house.gateway.judges = bench
    with house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
        ask = house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")])
        bad = ELEMENT.replace(b"One is here", b"4111 1111 1111 1111")
        pieces = [b"[", *([before[0], b",\n"] if before else []), bad + b"\n]\n"]
        for piece in [b"".join(pieces)] if at_once else pieces:
            ask.body(piece)
            while bench.open:
                bench.answer(house)
        assert (house.row().outcome, house.row().rule) == ("CUT", "house")
        assert len(json.loads(asker.reply.body)) == len(before) + 1
        assert b"4111" not in asker.reply.body
        assert ENDS[ProtocolId.GEMINI] in asker.reply.body.replace(b" ", b"")
        house.check_quiet()


@pytest.mark.parametrize("outside", [True, False])
def test_half_a_frame_behind_the_end_is_not_given_out(outside: bool) -> None:
    guards = Guards([Guard("judge", outside=Outside("judge", "service")) if outside else Guard("house", all_rules())])
    house, bench = House(conduct=Conduct(guards=guards)), Bench()
    house.gateway.judges = bench
    with house:
        asker, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(CHUNK, STOP, DONE + CHUNK.replace(b'"a"', b'"zanzibar"')[:-2])
        while bench.open:
            bench.answer(house)
        if ask.live:
            ask.end()
        assert (house.row().outcome, asker.reply.over) == ("COMPLETE", "ended")
        assert asker.reply.body.endswith(DONE)
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_reads_again_is_told_nothing_that_was_not_judged(protocol: ProtocolId) -> None:
    house, bench = house_with()
    house.gateway.conduct = replace(house.gateway.conduct, early_head=1.0)
    with house:
        asker, ask = house.stream(protocol, input=[])
        house.loop.wait(2.0)
        ask.answer_json(whole(protocol))
        asker.pause()
        asker.resume()
        house.loop.wait(1.0)
        assert (asker.reply.over, b"4111" in asker.reply.body, len(bench.open)) == (None, False, 1)
        asker.pause()
        bench.answer(house, PASSED)
        house.loop.wait(1.0)
        assert b"4111" not in asker.reply.body
        asker.resume()
        house.loop.wait(1.0)
        assert (asker.reply.over, b"4111" in asker.reply.body, house.row().outcome) == ("ended", True, "COMPLETE")
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_that_is_told_as_a_stream_waits_for_its_client_and_ends(protocol: ProtocolId) -> None:
    with House(conduct=Conduct(guards=MASKING, early_head=1.0)) as house:
        asker, ask = house.stream(protocol)
        house.loop.wait(2.0)
        asker.pause()
        ask.answer_json(whole(protocol))
        house.loop.wait(40.0)  # long enough for any look at what guards may hold
        assert b"really" not in asker.reply.body
        asker.resume()
        house.loop.wait(1.0)
        assert (asker.reply.over, house.row().outcome) == ("ended", "COMPLETE")
        assert b"[CARD]" in asker.reply.body
        house.check_quiet()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_a_body_that_is_larger_than_what_is_judged(protocol: ProtocolId, closed: bool, outside: bool) -> None:
    """It passes where every guard is open, is as it came, and no good end is claimed."""
    asked, rules = (Outside("house", "service", closed=closed), ()) if outside else (None, all_rules(Action.REJECT, closed=closed))
    judge = Guard("house", rules, on=frozenset({"answer"}), outside=asked)
    with House(settings=Settings(limits=Limits(body=4000)), conduct=Conduct(guards=Guards([judge]))) as house:
        house.gateway.judges = bench = Bench()
        asker, ask = house.whole(protocol)
        body = json.dumps(whole(protocol, "Hello. " * 2000)).encode()
        ask.answer(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])
        ask.body(body[:3000])
        assert (asker.reply.status, asker.reply.body) == (None, b"")
        ask.body(body[3000:9000])
        assert asker.reply.body == body[:9000] or closed
        if ask.live:
            ask.body(body[9000:]).end()
        row = house.row()
        assert bench.count == 0
        if closed:
            assert (asker.reply.status, row.outcome) == (502, "CUT")
            assert b"Hello" not in asker.reply.body
        else:
            assert (asker.reply.status, asker.reply.body, asker.reply.over) == (200, body, "ended")
            assert (row.outcome, json.loads(row.findings or "[]")) == (
                "UNVERIFIED", [{"guard": "house", "action": "let_go", "where": "response", "hits": 1}])
        house.check_quiet()


UNREAD = [
    ("POST", "/v1beta/models/m:generateAnswer"), ("POST", "/v1beta/interactions"), ("GET", "/v1beta/interactions/i1"),
    ("POST", "/gemini/v1/projects/p/locations/l/publishers/anthropic/models/c:rawPredict"), ("POST", "/gemini//v1beta/interactions/"),
    ("POST", "/anthropic/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict"),
    ("POST", "/v1/projects/p/locations/l/endpoints/123:predict"), ("POST", "/gemini/v1beta1/projects/p/locations/l/endpoints/123%3Apredict/"),
    ("POST", "/gemini/v1/projects/p/locations/l/endpoints/123:serverStreamingPredict"),
    ("POST", "/gemini/v1/projects/p/locations/l/publishers/google/models/m:directPredict"),
    ("POST", "/anthropic/v1/projects/p/locations/l/publishers/google/models/m:predict"), ("POST", "/openai/v1/models/m:predict"),
]


@pytest.mark.parametrize(("method", "path"), UNREAD)
@pytest.mark.parametrize("how", ["inside", "outside", "open", "open outside", "requests", "audit"])
def test_where_models_speak_in_a_form_that_nobody_reads(method: str, path: str, how: str) -> None:
    judge = {"inside": Guard("judge", all_rules()), "outside": Guard("judge", outside=Outside("judge", "service")), "open": Guard(
        "judge", all_rules(closed=False)), "requests": Guard("judge", all_rules(), on=frozenset({"request"})), "open outside": Guard(
        "judge", outside=Outside("judge", "service", closed=False)), "audit": Guard("judge", all_rules(Action.AUDIT))}[how]  # fmt: skip
    house = House(conduct=Conduct(guards=Guards([judge])))
    house.gateway.judges = bench = Bench()
    with house:
        asker = house.post(path, {"contents": []}) if method == "POST" else house.get(path)
        while bench.open:
            bench.answer(house, PASSED)
        refused = how in ("inside", "outside")
        if not refused:
            house.last.answer_json({"answer": {}})
        row = house.row()
        assert (asker.reply.status, row.outcome, row.rule) == (
            (403, "REFUSED", "house" if how == "inside" else "judge") if refused else (200, "COMPLETE", None))
        assert (b"cannot be judged" in asker.reply.body) is refused
        let_go = [one for one in json.loads(row.findings or "[]") if one["action"] == "let_go"]
        name = {"open": "house", "open outside": "judge"}.get(how)
        assert let_go == ([{"guard": name, "action": "let_go", "where": "response", "hits": 1}] if name is not None else [])
        assert len(house.asks) == (not refused)
        house.check_quiet()


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1beta/models/m:predict"), ("POST", "/v1beta/cachedContents"), ("DELETE", "/v1beta/interactions/i1"),
    ("POST", "/v1/projects/p/locations/l/publishers/google/models/imagen:predict"), ("GET", "/openai/v1/interactions"),
])  # fmt: skip
def test_where_no_model_speaks_or_nobody_knows(method: str, path: str) -> None:
    with House(conduct=Conduct(guards=MASKING)) as house:
        asker = house.post(path, {"contents": []}) if method == "POST" else house.get(path, method=method)
        house.last.answer_json({})
        assert (asker.reply.status, house.row().outcome) == (200, "COMPLETE")


PREDICTED: list[Any] = [
    {"predictions": [{"content": f"Mail {SECRET}", "safetyAttributes": {"scores": [0.1], "categories": ["Toxic"]}}]},
    {"predictions": [{"candidates": [{"author": "1", "content": SECRET}]}]}, {"predictions": [SECRET, "x"]},
    {"predictions": [{"bytesBase64Encoded": "4111111111111111", "mimeType": "image/png", "prompt": SECRET}, {"raiFilteredReason": SECRET}]},
]
PREDICT = [
    "/v1beta/models/imagen:predict", "/gemini/v1beta/models/imagen%3Apredict",
    "/v1/projects/p/locations/l/publishers/google/models/text-bison:predict",
]


@pytest.mark.parametrize("path", PREDICT)
@pytest.mark.parametrize("body", PREDICTED)
@pytest.mark.parametrize("how", ["mask", "reject", "outside", "none"])
def test_what_googles_own_models_predict_is_judged(path: str, body: Any, how: str) -> None:
    guards = {"mask": MASKING, "reject": REJECTING, "outside": Guards([Guard("judge", outside=Outside("judge", "service"))]), "none": None}[how]
    house = House(conduct=Conduct(guards=guards))
    house.gateway.judges = bench = Bench()
    with house:
        asker = house.post(path, {"instances": [{"prompt": "x"}]})
        while bench.open:
            bench.answer(house, PASSED)
        house.last.answer_json(body)
        while bench.open:
            bench.answer(house, Verdict(Said.REJECT))
        if how in ("reject", "outside"):
            assert (asker.reply.status, house.row().outcome) == (403, "CUT")
            assert SECRET[6:20].encode() not in asker.reply.body
        else:
            masked = json.dumps(body).replace("4111 1111 1111 1111", "[CARD]" if how == "mask" else "4111 1111 1111 1111")
            assert (asker.reply.status, json.loads(asker.reply.body)) == (200, json.loads(masked))
        house.check_quiet()


def test_vectors_that_googles_own_models_predict_pass_as_they_came() -> None:
    body = b'{"predictions":[{"embeddings":{"values":[4111111111111111, 0.0123456789012,-1e-7],"statistics":{"truncated":false}}}]}'
    for guards in (MASKING, REJECTING):
        with House(conduct=Conduct(guards=guards)) as house:
            asker = house.post(PREDICT[0], {"instances": [{"content": "x"}]})
            house.last.answer(200, [(b"content-type", b"application/json")]).body(body).end()
            assert (asker.reply.status, asker.reply.body) == (200, body)


@pytest.mark.parametrize("how", ["inside", "outside", "open", "open outside", "answers", "none"])
def test_what_some_servers_read_and_no_guard_is_refused(how: str) -> None:
    """`Messages` is `messages` to whoever takes names in any case."""
    asked: frozenset[Speech] = frozenset({"request"})
    house = House(conduct=Conduct(guards={
        "inside": MASKING, "outside": Guards([Guard("judge", outside=Outside("judge", "service"), on=asked)]),
        "open": Guards([Guard("judge", all_rules(closed=False), on=asked)]),
        "answers": Guards([Guard("judge", all_rules(), on=frozenset({"answer"}))]),
        "open outside": Guards([Guard("judge", outside=Outside("judge", "service", closed=False), on=asked)]), "none": None}[how]))  # fmt: skip
    house.gateway.judges = bench = Bench()
    sent = b'{"model":"m","messages":[{"role":"user","content":"hello"}],"Messages":[{"role":"user","content":"PRJ-20417"}]}'
    refused = how in ("inside", "outside")
    with house:
        asker = house.post("/v1/chat/completions", sent)
        while bench.open:
            bench.answer(house, PASSED)
        if not refused:
            assert house.last.sent_body == sent
            house.last.answer_json(whole(ProtocolId.OPENAI_CHAT, "hello"))
        row = house.row()
        let_go = [one for one in json.loads(row.findings or "[]") if one["action"] == "let_go"]
        name = {"open": "house", "open outside": "judge"}.get(how)
        assert let_go == ([{"guard": name, "action": "let_go", "where": "request", "hits": 1}] if name is not None else [])
        if refused:
            assert (asker.reply.status, row.outcome, row.rule) == (400, "REFUSED", "house" if how == "inside" else "judge")
            error = asker.reply.json()["error"]
            assert (error["type"], "'messages'" in error["message"], house.asks) == ("invalid_request_error", True, [])
            assert "PRJ" not in str(row.cause)
        else:
            assert (asker.reply.status, row.outcome) == (200, "COMPLETE")
        house.check_quiet()


@pytest.mark.parametrize("how", ["inside", "outside", "none"])
def test_what_a_request_says_twice_goes_on_once_where_guards_have_judged_it(how: str) -> None:
    outside = Guards([Guard("judge", outside=Outside("judge", "service"), on=frozenset({"request"}))])
    house = House(conduct=Conduct(guards={"inside": MASKING, "outside": outside, "none": None}[how]))
    house.gateway.judges = bench = Bench()
    sent = b'{"model":"m", "messages":[{"role":"user","content":"PRJ-20417"}], "messages":[{"role":"user","content":"hello"}]}'
    with house:
        house.post("/v1/chat/completions", sent)
        while bench.open:
            bench.answer(house, PASSED)
        got = house.last.sent_body
        assert got == sent if how == "none" else b"PRJ" not in got
        assert json.loads(got)["messages"] == [{"role": "user", "content": "hello"}]
        house.last.answer_json(whole(ProtocolId.OPENAI_CHAT))
        assert house.row().outcome == "COMPLETE"


@pytest.mark.parametrize("how", ["end", "lose", "shutdown"])
@pytest.mark.parametrize("kind", ["house", "open house", "judge"])
@pytest.mark.parametrize("zip_it", [False, True])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_array_that_is_closed_without_a_finish_reason_ends_with_an_error(how: str, kind: str, zip_it: bool, at_once: bool) -> None:
    judge = Guard("judge", outside=Outside("judge", "service"))
    guards = Guards([judge if kind == "judge" else Guard("house", all_rules(closed=kind == "house"))])
    house, bench = House(conduct=Conduct(guards=guards, keepalive=1.0)), Bench()
    house.gateway.judges = bench
    with house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
        coded = [(b"content-encoding", b"gzip")] if zip_it else []
        ask = house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked"), *coded])
        pieces = [b"[" + ELEMENT, b",\n" + ELEMENT.replace(b"One is", b"Two are"), b"\n]", b"\n"]
        pieces = [b"".join(pieces)] if at_once else pieces
        packer = zlib.compressobj(wbits=31)
        packed = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        packed[-1] += packer.flush()
        for piece in packed if zip_it else pieces:
            ask.body(piece)
            while bench.open:
                bench.answer(house)
        house.loop.wait(1.5)  # it is kept open meanwhile
        assert asker.reply.over is None
        house.run(house.gateway.shut_down) if how == "shutdown" else getattr(ask, how)()
        told = asker.reply.json()
        texts = ["".join(part["text"] for part in one["candidates"][0]["content"]["parts"]) for one in told[:-1]]
        assert texts == ["One is here. ", "Two are here. "]
        assert told[-1]["error"]["code"] in (502, 503)
        assert (asker.reply.over, house.row().outcome) == ("ended", {"end": "TRUNCATED", "lose": "UPSTREAM_LOST", "shutdown": "SHUTDOWN"}[how])
        house.check_quiet()


@pytest.mark.parametrize("outside", [True, False])
def test_what_stands_behind_the_bracket_of_an_array_goes_out_behind_it_where_every_guard_is_open(outside: bool) -> None:
    guard = Guard("judge", outside=Outside("judge", "service", closed=False)) if outside else Guard("house", all_rules(closed=False))
    house, bench = House(conduct=Conduct(guards=Guards([guard]))), Bench()
    house.gateway.judges = bench
    with house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {"contents": []})
        ask = house.last.answer(200, [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")])
        for piece in (b"[" + ELEMENT, b"\n]\n", b" and more"):
            ask.body(piece)
            while bench.open:
                bench.answer(house)
        ask.end()
        while bench.open:
            bench.answer(house)
        assert asker.reply.body.endswith(b"\n]\n and more")
        assert asker.reply.over == "aborted"
        house.check_quiet()
