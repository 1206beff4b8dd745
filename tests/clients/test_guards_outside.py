"""Guards outside between the official clients and a provider: masked, rejected and failing, streamed and whole, answers and requests."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google

from penstock.lab.scripted import whole
from tests.clients.test_guards import KINDS, MAKERS, PROTOCOL, config, provider_saying, say, text_of
from tests.support.gateway import run
from tests.support.guards import frames_saying
from tests.support.judges import JudgeServer, by_words, judging
from tests.support.sdk import Mode, Sdk, each_mode, openai_sdk, page, pages, site, sse

FRUIT = "An apple for the teacher. No poison in this one, I hope."
CLEAN = "An apple for the teacher. And another apple for me, thank you."
REFUSED = (openai.PermissionDeniedError, anthropic.PermissionDeniedError, google.ClientError)


def guard(judge: JudgeServer, kind: str = "penstock", **more: Any) -> list[dict[str, Any]]:
    how: dict[str, Any]
    if kind == "moderation":
        how = {"moderation": {"base_url": judge.url + "/v1", "key": "sk-of-the-guard"}}
    else:
        how = {"webhook": {"url": judge.url + ("/judge" if kind == "penstock" else ""), "format": kind, "key": "sk-of-the-guard"}}
    return [{"name": "fruit", "scope": ["assistant", "user"], **how, **more}]


@each_mode
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_answer(tmp_path: Path, kind: str, stream: bool, mode: Mode) -> None:
    async def main() -> None:
        async with judging() as judge:
            more = config(kind, guard(judge, on=["answer"]))
            async with site(tmp_path, pages(provider_saying(kind, CLEAN)), more=more) as here, MAKERS[kind](here.url, mode) as sdk:
                assert text_of(kind, await say(sdk, kind, stream=stream)) == CLEAN.replace("apple", "<masked>")
                row = await here.last_row()
                assert (row["outcome"], row["output_tokens"], row["rule"]) == ("COMPLETE", 5, None)
                assert json.loads(row["findings"]) == [{"guard": "fruit", "action": "mask", "where": "response", "hits": 2 if stream else 1}]
                assert judge.texts == (["An apple for the teacher. ", "And another apple for me, thank you."] if stream else [CLEAN])
                [first, *_] = judge.log
                assert (first["guard"], first["where"], first["model"], first["id"]) == ("fruit", "response", "m", row["id"])
                assert judge.headers[0]["authorization"] == "Bearer sk-of-the-guard"

    run(main())


@each_mode
@pytest.mark.parametrize("form", ["penstock", "agentgateway", "moderation"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_rejected_in_its_second_window(tmp_path: Path, kind: str, form: str, mode: Mode) -> None:
    async def main() -> None:
        async with judging() as judge:
            judge.judge = by_words("nothing at all")
            more = config(kind, guard(judge, form, on=["answer"]))
            async with site(tmp_path, pages(provider_saying(kind, FRUIT)), more=more) as here, MAKERS[kind](here.url, mode) as sdk:
                assert await rejected(sdk, kind) == "An apple for the teacher"  # what leaves are frames
                row = await here.last_row()
                assert (row["outcome"], row["rule"], row["ended_by"]) == ("CUT", "fruit", "gateway")
                assert json.loads(row["findings"]) == [{"guard": "fruit", "action": "reject", "where": "response", "hits": 1}]

    run(main())


async def rejected(sdk: Sdk, kind: str) -> str:
    """What was said until then."""
    match kind:
        case "chat":
            chunks = await sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True))
            assert chunks[-1].choices[0].finish_reason == "content_filter"
            return "".join(c.choices[0].delta.content or "" for c in chunks)
        case "responses":
            events = await sdk.many(lambda c: c.responses.create(model="m", input="x", stream=True))
            assert events[-1].type == "response.incomplete"
            return "".join(e.delta for e in events if e.type == "response.output_text.delta")
        case "messages":
            final = await say(sdk, kind, stream=True)
            assert final.stop_reason == "refusal"
            return text_of(kind, final)
        case _:
            parts = await say(sdk, kind, stream=True)
            assert parts[-1].candidates[0].finish_reason.name == "SAFETY"
            return text_of(kind, parts)


@pytest.mark.parametrize("form", ["penstock", "agentgateway", "moderation"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rejected_body_and_a_rejected_request_have_their_status(tmp_path: Path, kind: str, form: str) -> None:
    async def main() -> None:
        async with judging() as judge:
            said = pages(provider_saying(kind, FRUIT))
            async with site(tmp_path, said, more=config(kind, guard(judge, form))) as here, MAKERS[kind](here.url, "async") as sdk:
                with pytest.raises(REFUSED) as raised:
                    await say(sdk, kind, stream=False)
                assert form == "moderation" or "No, says the guard." in str(raised.value)
                row = await here.last_row()
                assert (row["outcome"], row["rule"], row["status"]) == ("CUT", "fruit", 403)
                asked = len(here.upstream.log)
                with pytest.raises(REFUSED):
                    await say(sdk, kind, stream=True, text="Is it poison?")
                assert len(here.upstream.log) == asked
                row = await here.last_row()
                assert (row["outcome"], row["rule"], row["status"]) == ("REFUSED", "fruit", 403)

    run(main())


@pytest.mark.parametrize("form", ["penstock", "agentgateway"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_request(tmp_path: Path, kind: str, form: str) -> None:
    async def main() -> None:
        async with judging() as judge:
            said = pages(provider_saying(kind, "Yes."))
            more = config(kind, guard(judge, form, on=["request"]))
            async with site(tmp_path, said, more=more) as here, MAKERS[kind](here.url, "sync") as sdk:
                await say(sdk, kind, stream=True, text="Is this an apple?")
                assert b"Is this an <masked>?" in here.last_asked().body
                assert b"apple" not in here.last_asked().body

    run(main())


@pytest.mark.parametrize("trouble", ["silent", "refusing", "status", "garbage", "no JSON"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_verdict_on_error_decides(tmp_path: Path, kind: str, stream: bool, trouble: str) -> None:
    async def main() -> None:
        async with judging() as judge:
            match trouble:
                case "silent":
                    judge.hang = 0
                case "refusing":
                    judge.server.close()
                case "status":
                    judge.answers = [whole(b'{"action":"pass"}', 500)] * 9
                case "garbage":
                    judge.answers = [whole(b'{"action":"perhaps"}')] * 9
                case _:
                    judge.answers = [whole(b"\xff\x00")] * 9
            for on_error in ("closed", "open"):
                more = config(kind, guard(judge, on=["answer"], on_error=on_error, timeout="300ms"))
                where = tmp_path / on_error
                where.mkdir()
                async with site(where, pages(provider_saying(kind, CLEAN)), more=more) as here, MAKERS[kind](here.url, "async") as sdk:
                    if on_error == "open":
                        assert text_of(kind, await say(sdk, kind, stream=stream)) == CLEAN
                    elif stream:
                        assert await rejected(sdk, kind) == ""
                    else:
                        with pytest.raises(REFUSED):
                            await say(sdk, kind, stream=False)
                    row = await here.last_row()
                    assert row["outcome"] == ("COMPLETE" if on_error == "open" else "CUT"), row["cause"]
                    assert {one["action"] for one in json.loads(row["findings"])} == ({"error", "let_go"} if on_error == "open" else {"error"})
                    assert here.running.app.judges.open == 0

    run(main())


def test_text_waits_while_keep_alives_flow_and_a_client_that_leaves_gives_up_its_questions(tmp_path: Path) -> None:
    frames = frames_saying(PROTOCOL["chat"], ["An apple for the teacher. ", "And so on."])

    async def main() -> None:
        async with judging() as judge:
            judge.hang = 0
            more = {**config("chat", guard(judge, on=["answer"], timeout="60s")), "keepalive": "50ms"}
            said = pages({"POST /v1/chat/completions": sse(*frames)})
            async with site(tmp_path, said, more=more) as here:
                reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
                body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                             b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                got = b""
                while got.count(b": ") < 3 or b"\n: " not in got:
                    got += await reader.read(1000)
                assert b"apple" not in got
                assert here.running.app.judges.open > 0
                writer.close()
                row = await here.last_row()
                assert row["outcome"] == "CLIENT_GONE"
                async with asyncio.timeout(5):
                    while not judge.left:  # noqa: ASYNC110  # nobody tells; the wait is bounded
                        await asyncio.sleep(0.01)
                assert here.running.app.judges.open == 0

    run(main())


def test_the_next_window_comes_while_one_is_judged_and_a_full_house_pauses_the_provider(tmp_path: Path) -> None:
    text = "One more sentence of this story. " * 200
    frames = frames_saying(PROTOCOL["chat"], [text[at : at + 11] for at in range(0, len(text), 11)])

    async def main() -> None:
        async with judging() as judge:
            judge.gate.clear()
            more = {**config("chat", guard(judge, on=["answer"], timeout="60s")), "guard_windows": {"held": "16KiB", "chars": 200}}
            said = pages({"POST /v1/chat/completions": sse(*frames)})
            async with site(tmp_path, said, more=more) as here, openai_sdk(here.url, "async") as sdk:
                asking = asyncio.create_task(sdk.many(lambda c: c.chat.completions.create(model="m", messages=[], stream=True)))
                async with asyncio.timeout(5):
                    while len(judge.log) < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                [live] = here.running.app.gateway.live
                assert live.full  # pyright: ignore
                judge.gate.set()
                chunks = await asking
                assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
                assert (await here.last_row())["outcome"] == "COMPLETE"

    run(main())


@pytest.mark.parametrize("kind", ["messages", "chat"])
def test_streams_made_of_bodies_and_bodies_made_of_streams_are_judged_too(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with judging() as judge:
            modes = {"pseudo_stream": True} if kind == "chat" else {"nonstream_mode": "force"}
            more = {**config(kind, guard(judge, on=["answer"])), **modes}
            for text, fine in ((CLEAN, True), (FRUIT, False)):
                where = tmp_path / str(fine)
                where.mkdir()
                async with site(where, pages(provider_saying(kind, text)), more=more) as here, MAKERS[kind](here.url, "async") as sdk:
                    if fine:
                        assert text_of(kind, await say(sdk, kind, stream=kind == "chat")) == CLEAN.replace("apple", "<masked>")
                        continue
                    with pytest.raises(REFUSED):
                        await say(sdk, kind, stream=kind == "chat")
                    row = await here.last_row()
                    assert (row["outcome"], row["rule"]) == ("CUT", "fruit"), row["cause"]
            assert judge.texts == [CLEAN, FRUIT]

    run(main())


def test_headers_of_the_client_go_with_a_question_where_that_is_said_and_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with judging() as judge:
            asked = guard(judge, on=["request"])
            asked[0]["webhook"] |= {"forward": ["x-tenant"], "key_header": "x-guard-key"}
            said = pages(provider_saying("chat", "Yes."))
            async with site(tmp_path, said, more=config("chat", asked)) as here, openai_sdk(
                here.url, "async", default_headers={"x-tenant": "blue", "x-other": "red"}) as sdk:
                await say(sdk, "chat", stream=False, text="Hello")
                [headers] = judge.headers
                assert (headers["x-tenant"], headers["x-guard-key"]) == ("blue", "sk-of-the-guard")
                assert "x-other" not in headers
                assert "authorization" not in headers

    run(main())


@pytest.mark.parametrize("uploads", ["pass", "reject"])
def test_an_upload_passes_unseen_or_is_refused(tmp_path: Path, uploads: str) -> None:
    async def main() -> None:
        more = config("chat", [{"name": "cards", "detect": ["card"], "uploads": uploads, "message": "No files."}])
        said = pages({"POST /v1/files": page({"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a", "purpose": "batch"})})
        async with site(tmp_path, said, more=more) as here, openai_sdk(here.url, "async") as sdk:
            if uploads == "pass":
                assert (await sdk.one(lambda c: c.files.create(file=b"4111 1111 1111 1111", purpose="batch"))).id == "file-1"
                assert b"4111 1111 1111 1111" in here.last_asked().body
                return
            with pytest.raises(openai.PermissionDeniedError) as raised:
                await sdk.one(lambda c: c.files.create(file=b"4111 1111 1111 1111", purpose="batch"))
            assert "No files." in str(raised.value)
            assert not here.upstream.log
            row = await here.last_row()
            assert (row["outcome"], row["status"], row["rule"]) == ("REFUSED", 403, "cards")

    run(main())
