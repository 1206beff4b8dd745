"""Guarded streams: a secret in any pieces, in every protocol, in speech, thought and arguments, and what a rejection looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.contract import State
from penstock.pipeline.guarded import GuardedStream
from penstock.pipeline.tail import TailBytes
from penstock.policy.bodies import guard_answer
from penstock.policy.guards import Guards
from penstock.policy.matcher import Findings, Hold
from penstock.policy.rules import Action, Terms, built_in, of_pattern, of_words
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner, parse
from tests.support.fuzz import THOROUGH
from tests.support.guards import MASKING, REJECTING, SAMPLES, body_of, frames_saying, guarded, rule_guards, split_frames
from tests.support.relays import OPERATIONS, cut

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
PROTOCOLS = (CHAT, RESPONSES, MESSAGES, GEMINI)
KINDS = ("text", "thought", "arguments")


def heard(protocol: ProtocolId, frames: list[bytes]) -> dict[str, object]:
    """The client's body of a guarded stream, fed frame by frame."""
    stream = guarded(protocol)
    out = [stream.feed(frame, 100.0) for frame in frames]
    assert stream.conclude(True, "").ending is Ending.COMPLETE
    out.append(stream.end(None, "px-1"))
    return body_of(protocol, split_frames(b"".join(out)))


def places(secret: str, kind: str) -> list[int]:
    """Where it is cut: everywhere in a text; in thoughts and arguments, which the same matcher reads, at both ends and at every third place."""
    step = 1 if kind == "text" or THOROUGH else 3
    return [place for place in range(len(secret) + 1) if place % step == 0 or place < step or place > len(secret) - step]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_secret_is_masked_however_it_is_cut(name: str, protocol: ProtocolId, kind: str) -> None:
    secret, mask = SAMPLES[name]
    before, behind = "Here it is: ", " and so on."
    whole = body_of(protocol, frames_saying(protocol, [before, secret, behind], kind))
    findings = Findings()
    wanted = json.loads(guard_answer(protocol, OPERATIONS[protocol], json.dumps(whole).encode(), MASKING.answers, findings))
    shown = json.dumps(wanted)
    assert json.dumps(secret)[1:-1] not in shown
    assert before + mask + behind in shown.replace('\\"', '"')
    cuts = [[secret[:place], secret[place:]] for place in places(secret, kind)] + [list(secret)]
    for pieces in cuts:
        assert heard(protocol, frames_saying(protocol, [before, *pieces, behind], kind)) == wanted, pieces
        assert heard(protocol, frames_saying(protocol, [before + pieces[0], *pieces[1:-1], pieces[-1] + behind], kind)) == wanted, pieces


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_secret_at_the_very_end_leaves_before_the_end_of_its_text(name: str, protocol: ProtocolId) -> None:
    secret, mask = SAMPLES[name]
    for pieces in ([secret], list(secret)):
        body = json.dumps(heard(protocol, frames_saying(protocol, ["It is ", *pieces])))
        assert f"It is {mask}" in body


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_nothing_in_sight_every_frame_is_the_providers_own(protocol: ProtocolId) -> None:
    guards = rule_guards(*(built_in(name, Terms("g")) for name in ("card", "ssn", "iban", "api_token", "private_key", "phone")))
    stream = guarded(protocol, guards)
    for frame in frames_saying(protocol, ["Hello", " there", ", this", " is", " nothing", " to", " see", "."]):
        assert stream.feed(frame, 100.0) is frame
    assert stream.findings.held_chars == 0


@pytest.mark.parametrize("array", [False, True])
@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=12), name=st.sampled_from(sorted(SAMPLES)))
def test_chunks_of_bytes_do_not_matter(array: bool, cuts: list[int], name: str) -> None:
    secret, mask = SAMPLES[name]
    for protocol in (GEMINI,) if array else PROTOCOLS:
        frames = frames_saying(protocol, ["a ", secret[:3], secret[3:], " b"])
        data = b"".join(frames)
        if array:
            data = b"[" + b",\r\n".join(frame.strip().removeprefix(b"data: ") for frame in frames) + b"]\n"
        stream = guarded(protocol, array=array)
        out = b"".join([stream.feed(piece, 100.0) for piece in cut(data, cuts)])
        assert stream.conclude(True, "").ending is Ending.COMPLETE
        out += stream.end(None, "px-1")
        if array:
            said = "".join(part["text"] for element in json.loads(out) for c in element["candidates"] for part in c["content"]["parts"])
            assert said == f"a {mask} b"
        else:
            assert f"a {mask} b" in json.dumps(body_of(protocol, split_frames(out)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", SAMPLES)
def test_of_blocked_text_not_a_character_leaves(name: str, protocol: ProtocolId) -> None:
    secret, _ = SAMPLES[name]
    for pieces in ([secret], list(secret), [secret[:1], secret[1:]]):
        stream = guarded(protocol, REJECTING)
        out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, ["Here: ", *pieces, " and more"])])
        outcome = stream.conclude(False, "cancelled")
        assert (stream.state, outcome.ending, outcome.ended_by) == (State.CUT, Ending.CUT, EndedBy.GATEWAY)
        assert "'house'" in outcome.cause
        assert stream.end(None, "px-1") == b""
        assert b"and more" not in out
        assert said_of(protocol, out) == "Here: "


def said_of(protocol: ProtocolId, out: bytes) -> str:
    """The text of the deltas."""
    said = ""
    for frame in split_frames(out):
        data = next((line[6:] for line in frame.splitlines() if line.startswith(b"data: ")), b"")
        if not data.startswith(b"{"):
            continue
        event = json.loads(data)
        match protocol:
            case ProtocolId.OPENAI_CHAT:
                said += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
            case ProtocolId.OPENAI_RESPONSES:
                said += event["delta"] if event["type"] == "response.output_text.delta" else ""
            case ProtocolId.ANTHROPIC_MESSAGES:
                said += event["delta"]["text"] if event["type"] == "content_block_delta" else ""
            case ProtocolId.GEMINI:
                said += "".join(part.get("text", "") for c in event.get("candidates", []) for part in c["content"]["parts"])
    return said


ENDS: dict[ProtocolId, bytes] = {CHAT: b'"content_filter"', RESPONSES: b'"content_filter"', MESSAGES: b'"refusal"', GEMINI: b'"SAFETY"'}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_how_a_rejection_is_told(protocol: ProtocolId) -> None:
    stream = guarded(protocol, REJECTING)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, ["It is PRJ-20417", " yes"])])
    assert ENDS[protocol] in out
    assert b'"error":{' not in out
    spoken = rule_guards(of_pattern(r"\bPRJ-[0-9]{4,8}\b", Terms("g", Action.REJECT, message="Not here.", in_stream="error"), streamed=True))
    stream = guarded(protocol, spoken)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, ["It is PRJ-20417", " yes"])])
    assert ENDS[protocol] not in out
    assert b"Not here." in out


@pytest.mark.parametrize("protocol", [CHAT, RESPONSES, MESSAGES])
def test_with_a_call_open_it_is_an_error(protocol: ProtocolId) -> None:
    stream = guarded(protocol, REJECTING)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, ["It is PRJ-20417", " yes"], "arguments")])
    assert stream.state is State.CUT
    assert ENDS[protocol] not in out
    assert b"blocked by a policy" in out


def test_what_is_held_too_long_is_decided_by_its_guard() -> None:
    for closed in (True, False):
        guards = rule_guards(built_in("email", Terms("mails", closed=closed)), hold=Hold(seconds=2.0))
        stream = guarded(CHAT, guards)
        frames = frames_saying(CHAT, ["write to jane"])
        assert b"jane" not in b"".join([stream.feed(frame, 100.0) for frame in frames[:2]])
        assert stream.deadline() == 102.0
        assert stream.tick(101.0) == b""
        out = stream.tick(102.0)
        if closed:
            assert stream.state is State.CUT
            assert b"content_filter" in out
            assert "mails" in stream.conclude(True, "").cause
        else:
            assert said_of(CHAT, out) == "jane"
            assert stream.findings.let_go["mails"] == 1
            assert stream.deadline() is None


def test_more_than_may_be_held_is_decided_by_its_guard() -> None:
    long = "x" * 50
    for closed in (True, False):
        stream = guarded(CHAT, rule_guards(built_in("email", Terms("mails", closed=closed)), hold=Hold(chars=40)))
        out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(CHAT, [long, "@", "example.com", " ok"])])
        assert (stream.state is State.CUT) is closed
        assert (long in out.decode()) is not closed


def test_a_frame_that_cannot_be_read_does_not_go_around_a_guard() -> None:
    for closed in (True, False):
        stream = guarded(CHAT, rule_guards(built_in("email", Terms("mails", closed=closed))))
        out = stream.feed(b'data: {"choices": [{"delta": {"content": "jane@example.com"}\n\n', 100.0)
        assert (b"jane" in out) is not closed
        assert (stream.state is State.CUT) is closed


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_the_last_bytes_are_kept_a_text_is_read_once(protocol: ProtocolId) -> None:
    kept = TailBytes()
    stream = guarded(protocol, kept=kept)
    frames = frames_saying(protocol, ["4111 ", "1111 ", "x ", "1111 1111 ", "and 4111 1111", " 1111 1111."])
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    assert kept.get() == out[-len(kept.get()) :]
    body = json.dumps(body_of(protocol, split_frames(out)))
    assert "4111 1111 x 1111 1111 and [CARD]." in body
    assert sum(stream.findings.hits.values()) == 1


def test_two_choices_are_two_texts() -> None:
    def chunk(index: int, text: str) -> bytes:
        return b"data: " + json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode() + b"\n\n"

    stream = guarded(CHAT)
    frames = [chunk(0, "4111 1111 "), chunk(1, "4111 1111 "), chunk(0, "1111 1111 x"), chunk(1, "a 1111 1111")]
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    stream.conclude(True, "")
    out += stream.end(None, "px-1")
    said = {0: "", 1: ""}
    for frame in split_frames(out):
        for choice in json.loads(frame[6:])["choices"]:
            said[choice["index"]] += choice["delta"]["content"]
    assert said == {0: "[CARD] x", 1: "4111 1111 a 1111 1111"}


def test_what_spells_masked_tokens_out_is_dropped() -> None:
    stream = guarded(CHAT)
    frame = {"choices": [{"index": 0, "delta": {"content": "PRJ-20417 x"}, "logprobs": {"content": [{"token": "PRJ"}]}}], "kept": [1, {"a": None}]}
    out = json.loads(stream.feed(b"data: " + json.dumps(frame).encode() + b"\n\n", 100.0)[6:])
    assert out == {"choices": [{"index": 0, "delta": {"content": "[MASKED] "}, "logprobs": None}], "kept": [1, {"a": None}]}


def test_other_lines_of_a_frame_stay() -> None:
    stream = guarded(CHAT)
    out = stream.feed(b'id: 7\r\nretry: 10\r\ndata: {"choices":[{"index":0,"delta":{"content":"PRJ-20417 x "}}]}\r\n\r\n', 100.0)
    assert out == b'id: 7\r\nretry: 10\r\ndata: {"choices":[{"index":0,"delta":{"content":"[MASKED] x "}}]}\r\n\r\n'


def test_a_truncated_stream_gives_out_what_was_held() -> None:
    stream = guarded(CHAT)
    frames = frames_saying(CHAT, ["number 4111 1111 1111 1111"])
    stream.feed(b"".join(frames[:2]), 100.0)
    assert stream.conclude(True, "").ending is Ending.TRUNCATED
    assert said_of(CHAT, stream.end(None, "px-1")) == "[CARD]"


@pytest.mark.parametrize("kind", ["text", "thought"])
def test_what_responses_says_at_a_rejection_is_what_it_told_until_then(kind: str) -> None:
    frames = frames_saying(RESPONSES, ["First comes this, ", "then PRJ-", "20417", " and on"], kind)
    stream = guarded(RESPONSES, REJECTING)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    events = [json.loads(line[6:]) for frame in split_frames(out) for line in frame.splitlines() if line.startswith(b"data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
    told = "".join(event["delta"] for event in events if event["type"].endswith(".delta"))
    assert told == "First comes this, then "
    [item] = last["response"]["output"]
    assert item["status"] == "incomplete"
    assert [part["text"] for part in item.get("content") or item["summary"]] == [told]
    assert {event["type"] for event in events} >= {"response.output_item.done"}
    assert b"PRJ" not in out


def chat_frame(**delta: object) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


CALL = {"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
DONE = [
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n',
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("between", [CALL, {"reasoning_content": "hm"}])
@given(name=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_a_text_that_is_interrupted_is_one_text(between: dict[str, object], name: str, data: st.DataObject) -> None:
    secret, mask = SAMPLES[name]
    text = f"Here it is: {secret} and so on."
    places = sorted(data.draw(st.lists(st.integers(1, len(text) - 1), min_size=1, max_size=3)))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    frames = [chat_frame(role="assistant", content=""), chat_frame(content=pieces[0])]
    for piece in pieces[1:]:
        frames += [chat_frame(**between), chat_frame(content=piece)]
    out = heard(CHAT, [*frames, *DONE])
    assert f"Here it is: {mask} and so on." in json.dumps(out)
    stream = guarded(CHAT, REJECTING)
    said = said_of(CHAT, b"".join([stream.feed(frame, 100.0) for frame in [*frames, *DONE]]))
    assert stream.state is State.CUT
    assert "Here it is: ".startswith(said)


def test_what_is_held_of_an_interrupted_text_leaves_after_its_time_as_if_it_had_ended() -> None:
    guards = rule_guards(built_in("email", Terms("g")), hold=Hold(seconds=30.0))
    stream = guarded(CHAT, guards)
    frames = [chat_frame(role="assistant", content=""), chat_frame(content="ask jane.doe"), chat_frame(**CALL)]
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    assert said_of(CHAT, out) == "ask "
    assert stream.deadline() == 130.0
    assert said_of(CHAT, stream.tick(130.0)) == "jane.doe"
    assert (stream.state, stream.deadline()) == (State.RUNNING, None)
    out = b"".join([stream.feed(frame, 131.0) for frame in [chat_frame(content=" or john@example.org"), *DONE]])
    assert said_of(CHAT, out) == " or [EMAIL]"


ZANZIBAR = rule_guards(of_words(["zanzibar"], Terms("g")))
OPEN = rule_guards(of_words(["zanzibar"], Terms("g", closed=False)))
CHAT_LEAD = [
    b'data: {"choices":[{"index":0,"delta":{"content":"Hello "}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"there. "}}]}\n\n',
]
MESSAGES_LEAD = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"i","model":"m","usage":{"input_tokens":1}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello. "}}\n\n',
]


@pytest.mark.parametrize(("delta", "more"), [
    (b'"content":"\\u007aanzibar. "', b',"echo":{"content":"zanzibar. "}'),
    (b'"\\u0063ontent":"\\u007aanzibar. "', b',"echo":{"content":"zanzibar. "}'),
    (b'"content":"zanzibar. ","content":"\\u007aanzibar. "', b""),
    (b'"content":"\\u007aanzibar. ","content":"zanzibar. "', b""),
    (b'"\\u0063ontent":"zanzibar. ","content":"zanzibar. "', b""),
    (b'"content":"zanzibar. "},"delta":{"content":"zanzibar. "', b""),
])  # fmt: skip
def test_the_mask_stands_where_the_text_stood(delta: bytes, more: bytes) -> None:
    stream = guarded(CHAT, ZANZIBAR)
    for frame in CHAT_LEAD:
        assert stream.feed(frame, 100.0) is frame
    out = stream.feed(b'data: {"choices":[{"index":0,"delta":{%b}}]%b}\n\n' % (delta, more), 100.0)
    assert said_of(CHAT, out) == "[MASKED]. "
    assert b"anzibar" not in out.partition(b'"echo"')[0]


MAIL = "jane.doe@example.com"
SEALED = "+1 (415) 555-2671"
"""What is for the provider's eyes only stays as it was, whatever it looks like."""


def sse(name: str, **fields: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def item_frames(**item: object) -> bytes:
    response = {"id": "r", "model": "m", "status": "completed", "output": [item]}
    return sse("response.output_item.done", sequence_number=1, output_index=0, item=item) + sse(
        "response.completed", sequence_number=2, response=response)


def block_frames(**block: object) -> bytes:
    return sse("content_block_start", index=0, content_block=block) + sse("content_block_stop", index=0)


def chat_frames(**delta: object) -> bytes:
    """A delta with text, and another thing beside it."""
    frames = ({"choices": [{"index": 0, "delta": {"content": "ok. ", **more}}]} for more in ({}, delta))
    return b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames)


def gemini_frames(*parts: object, **more: object) -> bytes:
    return b"data: %b\r\n\r\n" % json.dumps({"candidates": [{"index": 0, "content": {"parts": parts}, **more}]}).encode()


def grounded(chunk: object) -> bytes:
    return gemini_frames({"text": "ok. "}) + gemini_frames({"text": "ok. "}, groundingMetadata={"groundingChunks": [chunk]})


FOUND = {"type": "web_search_result", "title": MAIL, "url": "https://x", "encrypted_content": SEALED}
EXECUTED = b'{"codeExecutionResult":{"output":"jane.doe@example.com"}}'
SNIPPET = b'data: {"choices":[{"index":0,"delta":{"content":"ok. "}}],"search_results":[{"snippet":"jane.doe@example.com"}]}\n\n'
RESULTS: dict[str, tuple[ProtocolId, bytes]] = {
    "mcp": (ProtocolId.OPENAI_RESPONSES, item_frames(type="mcp_call", id="i", name="f", server_label="s", arguments="{}", output=MAIL)),
    "code": (ProtocolId.OPENAI_RESPONSES, item_frames(type="code_interpreter_call", id="i", code="1", outputs=[{"type": "logs", "logs": MAIL}])),
    "file": (ProtocolId.OPENAI_RESPONSES, item_frames(type="file_search_call", id="i", queries=["q"], results=[{"file_id": "f", "text": MAIL}])),
    "mcp error": (ProtocolId.OPENAI_RESPONSES, item_frames(
        type="mcp_call", id="i", arguments="{}", error={"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": MAIL}]})),
    "mcp refused": (ProtocolId.OPENAI_RESPONSES, item_frames(type="mcp_call", id="i", arguments="{}", error={"type": "http_error", "message": MAIL})),
    "program": (ProtocolId.OPENAI_RESPONSES, item_frames(type="program_output", id="i", call_id="c", result=MAIL)),
    "shell": (ProtocolId.OPENAI_RESPONSES, item_frames(type="shell_call_output", id="i", output=[{"stdout": MAIL, "stderr": MAIL}])),
    "search": (ProtocolId.ANTHROPIC_MESSAGES, block_frames(type="web_search_tool_result", tool_use_id="t", content=[FOUND])),
    "bash": (ProtocolId.ANTHROPIC_MESSAGES, block_frames(type="bash_code_execution_tool_result", content={"stdout": MAIL, "content": []})),
    "mcp block": (ProtocolId.ANTHROPIC_MESSAGES, block_frames(type="mcp_tool_result", tool_use_id="t", content=[{"type": "text", "text": MAIL}])),
    "groq": (ProtocolId.OPENAI_CHAT, chat_frames(executed_tools=[{"type": "search", "arguments": "{}", "output": MAIL}])),
    "groq's pages": (ProtocolId.OPENAI_CHAT, chat_frames(executed_tools=[{"search_results": {"results": [{"content": MAIL}]}}])),
    "a page": (ProtocolId.OPENAI_CHAT, chat_frames(annotations=[{"type": "url_citation", "url_citation": {"content": MAIL}}])),
    "own data": (ProtocolId.OPENAI_CHAT, chat_frames(context={"citations": [{"content": MAIL, "title": "t"}], "intent": "[]"})),
    "perplexity": (ProtocolId.OPENAI_CHAT, chat_frames() + SNIPPET),
    "retrieved": (ProtocolId.GEMINI, grounded({"retrievedContext": {"text": MAIL}})),
    "rag": (ProtocolId.GEMINI, grounded({"retrievedContext": {"ragChunk": {"text": MAIL}}})),
    "a place": (ProtocolId.GEMINI, grounded({"maps": {"placeAnswerSources": {"reviewSnippets": [{"review": MAIL}]}}})),
    "execution": (ProtocolId.GEMINI, b'data: {"candidates":[{"content":{"parts":[' + EXECUTED + b"]}}]}\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RESULTS))
def test_results_of_tools_that_the_provider_runs_are_judged(name: str) -> None:
    protocol, frames = RESULTS[name]
    told = guarded(protocol).feed(frames, 101.0)
    assert MAIL.encode() not in told
    assert b"[EMAIL]" in told
    assert told.count(SEALED.encode()) == frames.count(SEALED.encode())
    stream = guarded(protocol, REJECTING)
    assert MAIL.encode() not in stream.feed(frames, 101.0)
    assert stream.state is State.CUT


@pytest.mark.parametrize("item", [
    {"type": "tool_search_call", "arguments": {"q": MAIL}}, {"type": "computer_call", "actions": [{"type": "type", "text": MAIL}]},
    {"type": "agent_message", "author": "a", "content": [{"type": "text", "text": MAIL}]},
])  # fmt: skip
def test_what_a_model_says_in_other_items_is_judged(item: dict[str, object]) -> None:
    told = guarded(ProtocolId.OPENAI_RESPONSES).feed(item_frames(id="i", **item), 101.0)
    assert told.count(b"[EMAIL]") == 2
    assert MAIL.encode() not in told


@pytest.mark.parametrize(("protocol", "frames"), [
    (CHAT, chat_frames(thinking_blocks=[{"type": "thinking", "thinking": f"to {MAIL} "}])),
    (GEMINI, gemini_frames(finishReason="MALFORMED_FUNCTION_CALL", finishMessage=f"Malformed function call: mail('{MAIL}')")),
    (GEMINI, gemini_frames({"text": "", "functionCall": {"name": "f", "args": {"to": MAIL}}})),
    (GEMINI, gemini_frames({"text": "ok. "}, {"text": "", "functionCall": {"name": "f", "args": {"to": MAIL}}})),
    (ProtocolId.ANTHROPIC_MESSAGES, sse("content_block_start", index=0, content_block={
        "type": "text", "text": "See: ", "citations": [{"type": "char_location", "cited_text": MAIL}]})),
])  # fmt: skip
def test_what_a_model_says_beside_its_text_is_judged(protocol: ProtocolId, frames: bytes) -> None:
    told = guarded(protocol).feed(frames, 101.0)
    assert told.count(b"[EMAIL]") == 1
    assert MAIL.encode() not in told
    if protocol is GEMINI:
        body = json.dumps(json.loads(frames[6:])).encode()
        assert guard_answer(GEMINI, OPERATIONS[GEMINI], body, MASKING.answers, Findings()).count(b"[EMAIL]") == 1


def test_a_thought_of_a_proxy_s_is_one_text() -> None:
    stream = guarded(CHAT)
    blocks = [{"type": "thinking", "thinking": text} for text in ("jane.doe@exa", "mple.com")]
    told = b"".join(stream.feed(chat_frames(thinking_blocks=[block]), 101.0) for block in blocks)
    told += stream.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', 101.0)
    assert b"jane" not in told
    assert told.count(b"[EMAIL]") == 1


def shell(verb: str, **fields: object) -> bytes:
    return sse(f"response.shell_call_{verb}", sequence_number=1, output_index=0, item_id="s", command_index=0, **fields)


def test_what_a_shell_tells_is_judged_on_both_of_its_channels() -> None:
    whole = {"stdout": f"mail {MAIL} now", "stderr": f"to {MAIL}", "outcome": {"type": "exit", "exit_code": 0}}
    stream = guarded(ProtocolId.OPENAI_RESPONSES)
    told = [stream.feed(frame, 101.0) for frame in (
        shell("output_content.delta", delta={"stdout": "mail jane.d", "stderr": "to jane"}),
        shell("output_content.delta", delta={"stdout": "oe@example.com now", "stderr": ".doe@example.com"}),
        shell("output_content.done", output=[whole]), item_frames(type="shell_call_output", id="s", output=[whole]),
    )]  # fmt: skip
    assert b"jane" not in b"".join(told)
    deltas = [json.loads(data)["delta"] for data in (parse(frame)[1] for part in told for frame in split_frames(part)) if data and b'"delta"' in data]
    assert "".join(delta.get("stdout", "") for delta in deltas) == "mail [EMAIL] now"
    assert "".join(delta.get("stderr", "") for delta in deltas) == "to [EMAIL]"
    assert stream.findings.hits["house", "mask"] == 2, "what is told again is counted once"


def test_a_command_that_comes_whole_is_judged() -> None:
    stream = guarded(ProtocolId.OPENAI_RESPONSES)
    told = stream.feed(shell("command.added", command="mail jane.doe@example.com"), 101.0)
    assert b"jane" not in told
    told += stream.feed(shell("command.done", command="mail jane.doe@example.com"), 101.0)
    frames = [json.loads(data) for data in (parse(frame)[1] for frame in split_frames(told)) if data]
    assert [(frame["type"].rpartition(".")[2], frame.get("command"), frame.get("delta")) for frame in frames] == [
        ("added", "mail ", None), ("delta", None, "[EMAIL]"), ("done", "mail [EMAIL]", None)]


def test_where_text_is_masked_no_other_byte_changes() -> None:
    stream = guarded(CHAT, ZANZIBAR)
    frame = b'data: {"x" : 1.50, "choices":[{"delta":{"content": "to zanzibar. \\"content\\" "} ,"index":0, "logprobs": null}]}\n\n'
    out = [stream.feed(told, 100.0) for told in [*CHAT_LEAD, frame]]
    assert out == [*CHAT_LEAD, frame.replace(b"zanzibar", b"[MASKED]")]


def messages_delta(name: bytes, more: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%b}}\n\n' % (name, more)


@pytest.mark.parametrize(("protocol", "lead", "frame"), [
    (CHAT, CHAT_LEAD, b'data: {"choices":[{"index":0,"delta":{"content":"ok. "},"message":{"content":"to zanzibar. "}}]}\n\n'),
    (CHAT, CHAT_LEAD, b'data: {"choices":[{"index":0,"delta":{"content":"zanzibar. "},"message":{"content":"to zanzibar. "}}]}\n\n'),
    (MESSAGES, MESSAGES_LEAD, messages_delta(b"ping", b'"to zanzibar. "')),
    (MESSAGES, MESSAGES_LEAD, messages_delta(b"content_block_delta", b'"ok. ","citation":{"type":"char_location","cited_text":"zanzibar. "}')),
])  # fmt: skip
def test_no_text_is_passed_over_beside_another(protocol: ProtocolId, lead: list[bytes], frame: bytes) -> None:
    stream = guarded(protocol, ZANZIBAR)
    for told in lead:
        assert stream.feed(told, 100.0) is told
    out = stream.feed(frame, 100.0)
    assert json.loads(out.partition(b"data: ")[2]) == json.loads(frame.partition(b"data: ")[2].replace(b"zanzibar", b"[MASKED]"))


@pytest.mark.parametrize(("data", "passes"), [(b'{"type": "ping"}', True), (b"", True), (b"{}", True), (b"zanzibar", False)])
def test_a_ping_is_one_by_its_data(data: bytes, passes: bool) -> None:
    stream = guarded(MESSAGES, ZANZIBAR)
    frame = b"event: ping\ndata: " + data + b"\n\n"
    out = [stream.feed(told, 100.0) for told in [*MESSAGES_LEAD, frame]]
    assert (out[-1] is frame) is passes
    assert b"zanzibar" not in b"".join(out)


def test_texts_of_responses_are_told_apart_by_all_of_their_numbers() -> None:
    def delta(text: str, **more: int) -> bytes:
        event = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text, **more}
        return b"event: response.output_text.delta\ndata: " + json.dumps(event).encode() + b"\n\n"

    stream = guarded(RESPONSES, ZANZIBAR)
    frames = [delta("ok "), delta("ok "), delta("zanzi", summary_index=1), delta("x "), delta("bar. ", summary_index=1)]
    assert said_of(RESPONSES, b"".join([stream.feed(frame, 100.0) for frame in frames])) == "ok ok x [MASKED]. "


def test_what_is_held_of_a_text_that_goes_on_is_decided_by_its_guard() -> None:
    stream = guarded(CHAT, rule_guards(built_in("email", Terms("mails")), hold=Hold(seconds=2.0)))
    lead = [*CHAT_LEAD, chat_frame(**CALL), chat_frame(refusal="No. ")]
    assert b"jane" not in b"".join([stream.feed(frame, 100.0) for frame in [*lead, chat_frame(content="ask jane")]])
    stream.tick(102.0)
    assert stream.state is State.CUT


def fails(*_: object) -> None:
    raise TypeError


NUMBER = b"1" * 5000
"""Passed over by a decoder that does not want it, refused by any that does."""


@pytest.mark.parametrize("guards", [ZANZIBAR, OPEN])
@pytest.mark.parametrize(("protocol", "frames"), [
    (MESSAGES, [told.replace(b'"index":0', b'"index":[]') for told in MESSAGES_LEAD]),
    (MESSAGES, [told.replace(b'"index":0', b'"index":{}') for told in [*MESSAGES_LEAD, messages_delta(b"x", b'"to zan"')]]),
    (MESSAGES, [MESSAGES_LEAD[0].replace(b'"id":"i"', b'"content":5')]),
    *[(RESPONSES, [b'event: response.%b\ndata: {"type":"response.%b","output_index":%b,"delta":"zan"}\n\n' % (name, name, index)])
      for name in (b"output_text.delta", b"output_text.done", b"output_item.done") for index in (b"{}", b"[]", b'0,"content_index":[]')],
    (RESPONSES, [b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[{"id":{}}]}}\n\n']),
    (GEMINI, [b'data: {"candidates":[{"content":{"parts":[{"text":"zan"}]},"finishReason":[]}]}\n\n']),
    (CHAT, [b'data: {"choices":[{"index":0,"delta":{"reasoning_details":[{"index":"\xc2\xb2","text":"zan"}]}}]}\n\n']),
    (CHAT, [b'data: {"choices":[{"index":0,"delta":{"content":"zanzibar. "}}],"n":%b}\n\n' % NUMBER]),
    (CHAT, [*CHAT_LEAD, b'data: {"choices":[{"index":0,"delta":{"content":"\\u007aanzibar. "}}],"n":%b}\n\n' % NUMBER]),
    (CHAT, [*CHAT_LEAD, b'data: {"choices":[{"index":0,"delta":{"content":"to zan"}}],"n":%b}\n\n' % NUMBER]),
])  # fmt: skip
def test_no_shape_of_a_frame_raises(protocol: ProtocolId, frames: list[bytes], guards: Guards) -> None:
    stream = guarded(protocol, guards)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames])
    stream.conclude(False, "")
    out += stream.end(None, "px-1")
    assert b"anzibar" not in out or guards is OPEN


@pytest.mark.parametrize("guards", [ZANZIBAR, OPEN])
def test_a_frame_whose_reading_fails_does_not_go_around_a_guard(guards: Guards, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = guarded(CHAT, guards)
    monkeypatch.setattr(stream.editor, "steps", fails)
    out = stream.feed(CHAT_LEAD[0], 100.0)
    assert (out is CHAT_LEAD[0]) is (guards is OPEN)
    assert (stream.state is State.CUT) is (guards is ZANZIBAR)
    assert b"Hello" not in out or guards is OPEN


@pytest.mark.parametrize("protocol", [CHAT, MESSAGES])
def test_a_rejection_whose_words_fail_is_an_error(protocol: ProtocolId, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = guarded(protocol, REJECTING)
    monkeypatch.setattr(stream.editor, "stop", fails)
    out = b"".join([stream.feed(frame, 100.0) for frame in frames_saying(protocol, ["It is PRJ-20417", " yes"])])
    assert stream.state is State.CUT
    assert b"blocked by a policy" in out


def test_the_silence_before_a_rejection_is_noted() -> None:
    stream = guarded(CHAT, REJECTING)
    for frame, now in ((CHAT_LEAD[0], 100.25), (CHAT_LEAD[1], 100.5), (chat_frame(content="PRJ-20417 "), 130.0)):
        stream.feed(frame, now)
    assert stream.state is State.CUT
    assert (stream.largest_gap, stream.last_at) == (29.5, 130.0)


def test_a_mask_may_make_a_frame_longer_than_one_may_be() -> None:
    spec, budget, mask = REGISTRY[CHAT], Budget(1 << 20), "*" * 60
    stream = GuardedStream(Scanner(80, budget), spec.observer(OPERATIONS[CHAT]), spec.error_frame, 100.0)
    stream.guard(rule_guards(of_words(["zanzibar"], Terms("g", mask=mask))), spec, OPERATIONS[CHAT])
    frame = CHAT_LEAD[0].replace(b"Hello", b"zanzibar")
    long = CHAT_LEAD[0].replace(b"Hello", b"a" * 80)
    out = [stream.feed(told, 100.0) for told in [*CHAT_LEAD, frame, frame, CHAT_LEAD[1]]]
    masked = frame.replace(b"zanzibar", mask.encode())
    assert out == [*CHAT_LEAD, masked, masked, CHAT_LEAD[1]]
    assert (stream.bytes_out, stream.findings.hits["g", "mask"]) == (len(b"".join(out)), 2)
    assert stream.state is State.RUNNING
    assert long not in stream.feed(long, 100.0)
    assert stream.state is State.CUT
