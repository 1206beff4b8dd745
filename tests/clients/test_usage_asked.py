"""`stream_options.include_usage`, asked for by the gateway where the client did not, and the frame that answers it taken out again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openai
import pytest

from penstock.lab.recordings import Recording, split_frames
from penstock.lab.scripted import Visit
from penstock.lab.server import Chunk, ReplayServer
from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, cases
from tests.support.gateway import providers_at, run
from tests.support.http import ask
from tests.support.sdk import Mode, check_row, each_mode, openai_sdk, page, pages, plain, recorded, site, sse

CHAT = [c for c in cases() if c.recording.protocol == ProtocolId.OPENAI_CHAT]
HEALTHY = "openai_chat/test_dbos_agent_run_stream_0"


def is_usage_alone(data: bytes) -> bool:
    """The frame that the field brings: no choices, usage, and nothing else of substance. Judged by plain json, not by an observer."""
    if not data or data == b"[DONE]":
        return False
    value: dict[str, Any] = json.loads(data)
    return value.get("choices") == [] and value.get("usage") is not None and "moderation" not in value and "error" not in value


def without_usage(recording: Recording) -> bytes:
    return b"".join(frame.raw for frame in recording.frames if not is_usage_alone(frame.data))


def body(case: Case, **more: Any) -> dict[str, Any]:
    return {"model": f"replay/{case.name}", "messages": [], "stream": True, **more}


@pytest.mark.parametrize("chunk", ["whole", 7, "random"])
def test_byte_for_byte(tmp_path: Path, chunk: Chunk) -> None:
    """Asked for by the client: the recording. Not asked for: the recording minus that one frame. The row says the same both times."""

    async def main() -> None:
        taken = 0
        async with site(tmp_path, ReplayServer([c.recording for c in cases()], chunk=chunk, seed=3)) as here:
            for case in CHAT:
                with_usage = await ask(here.port, "POST", "/v1/chat/completions", body(case, stream_options={"include_usage": True}))
                assert with_usage.body == case.body, case.name
                row = await here.last_row()
                check_row(row, case, "chat", streamed=True)
                assert row["bytes_out"] == len(case.body)
                for options in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}, {"stream_options": {"other": 1}}):
                    if options and case is not CHAT[0]:
                        continue
                    wanted = without_usage(case.recording)
                    plain_answer = await ask(here.port, "POST", "/v1/chat/completions", body(case, **options))
                    assert plain_answer.clean
                    assert plain_answer.body == wanted, case.name
                    asked: dict[str, Any] = json.loads(here.last_asked().body)
                    assert asked.pop("stream_options") == {**((options.get("stream_options") if options else None) or {}), "include_usage": True}
                    assert asked == body(case)
                    row = await here.last_row()
                    check_row(row, case, "chat", streamed=True)
                    assert row["bytes_out"] == len(wanted)
                taken += wanted != case.body
            assert taken > 10  # most of the recordings have such a frame

    run(main())


def test_only_that_one_field_is_changed(tmp_path: Path) -> None:
    """The client's bytes, odd spacing and order included, with one member put in."""
    raw = b'{ "model":"replay/' + HEALTHY.encode() + b'" ,"stream" : true,\n "messages":[ ], "x": 1.50, "u":"\\u00e9\xc3\xa9" }'

    async def main() -> None:
        async with site(tmp_path, recorded()) as here:
            await ask(here.port, "POST", "/v1/chat/completions", raw=raw)
            found = here.last_asked().body
            member = b'"stream_options":{"include_usage":true}'
            assert member in found
            at = found.index(member)
            # Whatever the comma's place, taking the member out gives the client's bytes again.
            assert raw in (found[:at].rstrip(b",") + found[at + len(member) :], found[:at] + found[at + len(member) :].removeprefix(b","))
            whole = raw.replace(b'"stream" : true', b'"stream" : false')
            await ask(here.port, "POST", "/v1/chat/completions", raw=whole)
            assert here.last_asked().body == whole
            text = raw.replace(b'"stream" : true', b'"stream" : "true"')
            await ask(here.port, "POST", "/v1/chat/completions", raw=text)
            assert here.last_asked().body == text

    run(main())


@each_mode
def test_the_client_sees_usage_only_if_it_asked(tmp_path: Path, mode: Mode) -> None:
    async def main() -> None:
        async with site(tmp_path, recorded()) as here, openai_sdk(here.url, mode) as sdk:
            asked: dict[str, Any] = {"model": f"replay/{HEALTHY}", "messages": []}
            unasked = await sdk.many(lambda c: c.chat.completions.create(**asked, stream=True))
            assert all(e.choices and e.usage is None for e in unasked)
            wanted = await sdk.many(lambda c: c.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
            assert plain(wanted[:-1]) == plain(unasked)
            assert (wanted[-1].choices, wanted[-1].usage.prompt_tokens) == ([], 14)
            _, final = await sdk.helped(lambda c: c.chat.completions.stream(**asked), lambda s: s.get_final_completion())
            assert final.usage is None
            assert [(row["input_tokens"], row["output_tokens"], row["usage_source"]) for row in await here.running.rows()] == [
                (14, 8, "reported")
            ] * 3

    run(main())


def refusing(status: int, refusal: Mapping[str, Any], answer: bytes) -> Any:
    """A provider that does not know the field."""

    async def judge(visit: Visit) -> None:
        asked = json.loads(await visit.body())
        await visit.send(page(refusal, status) if "stream_options" in asked else answer)

    return pages({"POST /v1/chat/completions": judge})


REFUSALS: list[tuple[int, dict[str, Any]]] = [
    (
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                        "input": {"include_usage": True},
                    }
                ]
            },
            "type": "invalid_request_error",
        },
    ),
    (
        400,
        {
            "error": {
                "message": "Unrecognized request argument supplied: stream_options",
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            }
        },
    ),
]
"""Mistral's words, and OpenAI's."""


@each_mode
@pytest.mark.parametrize(("status", "refusal"), REFUSALS)
def test_a_provider_that_refuses_is_asked_once_more_and_remembered(tmp_path: Path, status: int, refusal: Mapping[str, Any], mode: Mode) -> None:
    case = next(c for c in CHAT if c.name == HEALTHY)
    frames = [frame.raw for frame in split_frames(without_usage(case.recording))]

    async def main() -> None:
        async with site(tmp_path, refusing(status, refusal, sse(*frames))) as here, openai_sdk(here.url, mode) as sdk:
            for number in range(3):
                events = await sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True))
                assert "".join(e.choices[0].delta.content or "" for e in events) == "The capital of Mexico is Mexico City."
                row = await here.last_row()
                assert (row["outcome"], row["status"], row["upstream_status"], row["usage_source"]) == ("COMPLETE", 200, 200, "none")
                assert (row["retries"] or 0) == (1 if number == 0 else 0)
            assert ["stream_options" in json.loads(asked.body) for asked in here.upstream.log] == [True, False, False, False]
            assert here.upstream.log[0].body != here.upstream.log[1].body
            assert json.loads(here.upstream.log[1].body) == {"model": "m", "messages": [], "stream": True}
            # Who asks for it himself is told what the provider says.
            with pytest.raises((openai.UnprocessableEntityError, openai.BadRequestError)) as told:
                await sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True, stream_options={"include_usage": True}))
            assert told.value.status_code == status
            assert len(here.upstream.log) == 5

    run(main())


@each_mode
def test_a_refusal_of_something_else_is_passed_on(tmp_path: Path, mode: Mode) -> None:
    refusal = {"error": {"message": "messages: at least one is needed", "type": "invalid_request_error", "param": "messages", "code": None}}

    async def main() -> None:
        async with site(tmp_path, pages({"POST /v1/chat/completions": page(refusal, 422)})) as here, openai_sdk(here.url, mode) as sdk:
            for number in (1, 2):
                with pytest.raises(openai.UnprocessableEntityError, match="at least one"):
                    await sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True))
                assert len(here.upstream.log) == number
                assert "stream_options" in json.loads(here.last_asked().body)
                row = await here.last_row()
                assert (row["outcome"], row["status"], row["retries"] or 0) == ("UPSTREAM_ERROR", 422, 0)

    run(main())


@pytest.mark.parametrize("how", ["ask_usage", "transparent"])
def test_it_can_be_switched_off(tmp_path: Path, how: str) -> None:
    def providers(port: int) -> dict[str, Any]:
        found = providers_at(port)
        return {**found, "openai": {**found["openai"], "ask_usage": False}} if how == "ask_usage" else found

    async def main() -> None:
        async with site(tmp_path, recorded(), providers, {"transparent": True} if how == "transparent" else None) as here:
            case = next(c for c in CHAT if c.name == HEALTHY)
            raw = json.dumps(body(case)).encode()
            answer = await ask(here.port, "POST", "/v1/chat/completions", raw=raw)
            assert here.last_asked().body == raw
            # The upstream of this test tells usage all the same; unasked by us, it is the client's.
            assert answer.body == case.body
            check_row(await here.last_row(), case, "chat", streamed=True)

    run(main())
