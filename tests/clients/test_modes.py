"""Forced streams and pseudo streams with the official clients, over real sockets: whoever asks for a body gets the body, whoever asks for a stream
gets one, and neither can tell how the provider was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.genai import types

from penstock.lab.server import Chunk, ReplayServer
from penstock.vocabulary.ids import ProtocolId
from tests.clients.test_accumulators import HELLO, folded, missing, tidy_completion, tidy_response
from tests.clients.test_corpus import MAKERS, create
from tests.support.corpus import Case
from tests.support.gateway import run
from tests.support.http import ask
from tests.support.sdk import Mode, Sdk, anthropic_sdk, check_row, each_mode, gemini_sdk, openai_sdk, plain, site
from tests.support.streams import COMPLETE, small

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
Object = dict[str, Any]
CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
PROTOCOL = pytest.mark.parametrize("protocol", list(MAKERS), ids=lambda p: p.value)
FORCE = {"nonstream_mode": "force"}
PSEUDO = {"pseudo_stream": True, "keepalive": "off"}


def of(protocol: ProtocolId, mode: Mode = "async") -> list[Case]:
    """All that are complete; to the slower kind of client, some."""
    return [case for case in (COMPLETE if mode == "async" else small()) if case.recording.protocol is protocol and case in COMPLETE]


def upstream(chunk: Chunk = "whole") -> ReplayServer:
    return ReplayServer([case.recording for case in COMPLETE], chunk=chunk, seed=7)


# Force


def whole_request(case: Case) -> tuple[str, Object]:
    path, body = case.request()
    body = {key: value for key, value in body.items() if not key.startswith("stream")}
    return path.replace("streamGenerateContent?alt=sse", "generateContent"), body


@pytest.mark.timeout(180)
@PROTOCOL
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_however_the_bytes_come_the_body_is_the_one_of_the_events(tmp_path: Path, chunk: Chunk, protocol: ProtocolId) -> None:
    """What that body holds of the events and of what the clients accumulate: `test_accumulators`."""
    some = [case for case in of(protocol) if chunk == 7 or len(case.body) < (40_000 if protocol is MESSAGES else 20_000)]

    async def main() -> None:
        async with site(tmp_path, upstream(chunk), more=FORCE) as here:
            for case in some:
                answer = await ask(here.port, "POST", *whole_request(case))
                assert (answer.status, answer.clean) == (200, True), case.name
                assert json.loads(answer.body) == folded(protocol, [case.body]), case.name
                headers = {name.lower(): value for name, value in answer.headers}
                assert headers["content-type"] == "application/json", case.name
                assert headers["content-length"] == str(len(answer.body)), case.name
                assert headers["x-request-id"].startswith("req_replay_"), "the provider's own"
                asked = here.last_asked()
                assert "stream" in asked.path.lower() or json.loads(asked.body)["stream"] is True, case.name
            assert len(here.upstream.log) == len(some)
            for case, row in zip(some, await here.running.rows(), strict=True):
                check_row(row, case, MAKERS[protocol][1], streamed=False)

    run(main())


@each_mode
@PROTOCOL
def test_a_client_gets_what_it_would_get_without_streaming(tmp_path: Path, protocol: ProtocolId, mode: Mode) -> None:
    make, operation = MAKERS[protocol]

    async def main() -> None:
        async with site(tmp_path, upstream(), more=FORCE) as here, make(here.upstream_url, mode) as direct, make(here.url, mode) as relayed:
            for case in of(protocol, mode):
                wanted = await direct.one(lambda c, case=case: create(c, case, stream=False))
                found = await relayed.one(lambda c, case=case: create(c, case, stream=False))
                assert plain(found) == plain(wanted), case.name
                check_row(await here.last_row(), case, operation, streamed=False)

    run(main())


@pytest.mark.parametrize("beta", [False, True], ids=["plain", "beta"])
@each_mode
def test_a_message_is_what_the_client_s_own_helper_accumulates(tmp_path: Path, beta: bool, mode: Mode) -> None:
    def messages(client: Any) -> Any:
        return client.beta.messages if beta else client.messages

    async def main() -> None:
        async with (
            site(tmp_path, upstream(), more=FORCE) as here, anthropic_sdk(here.upstream_url, mode) as direct,
            anthropic_sdk(here.url, mode) as relayed,
        ):  # fmt: skip
            for case in of(MESSAGES, mode):
                asked: Object = {"model": f"replay/{case.name}", "max_tokens": 9, "messages": HELLO}
                _, theirs = await direct.helped(lambda c, asked=asked: messages(c).stream(**asked), lambda s: s.get_final_message())
                ours = (await relayed.one(lambda c, asked=asked: messages(c).create(**asked))).to_dict(mode="json")
                left_out = [".content[0].content"] if "compaction" in case.name and not beta else []  # the plain helper drops it
                assert missing(ours, theirs.to_dict(mode="json")) == left_out, case.name

    run(main())


# Pseudo


async def streamed(sdk: Sdk, protocol: ProtocolId, model: str) -> Object:
    """What the client's stream helper puts together."""
    match protocol:
        case ProtocolId.OPENAI_CHAT:
            options = {"include_usage": True}
            _, final = await sdk.helped(
                lambda c: c.chat.completions.stream(model=model, messages=HELLO, stream_options=options), lambda s: s.get_final_completion())
            return tidy_completion(final.to_dict(mode="json")) | {"object": "chat.completion"}
        case ProtocolId.OPENAI_RESPONSES:
            _, final = await sdk.helped(lambda c: c.responses.stream(model=model, input="x"), lambda s: s.get_final_response())
            return tidy_response(final.to_dict(mode="json"))
        case _:
            _, final = await sdk.helped(
                lambda c: c.beta.messages.stream(model=model, max_tokens=9, messages=HELLO), lambda s: s.get_final_message())
            return final.to_dict(mode="json")


@each_mode
@pytest.mark.parametrize("pace", [{}, {"pseudo_chunk_chars": 30}], ids=["words", "30"])
@pytest.mark.parametrize("protocol", [CHAT, RESPONSES, MESSAGES], ids=lambda p: p.value)
def test_a_stream_helper_gets_the_body_back(tmp_path: Path, protocol: ProtocolId, pace: Object, mode: Mode) -> None:
    make, operation = MAKERS[protocol]

    async def main() -> None:
        async with site(tmp_path, upstream(), more={**PSEUDO, **pace}) as here, make(here.url, mode) as client:
            for case in of(protocol, mode):
                body = folded(protocol, [case.body])
                found = await streamed(client, protocol, f"replay/{case.name}")
                assert missing(body, found) == [], case.name
                assert missing(found, body) == [], case.name
                assert json.loads(here.last_asked().body)["stream"] is False
                check_row(await here.last_row(), case, operation, streamed=True)

    run(main())


@each_mode
def test_gemini_s_client_too(tmp_path: Path, mode: Mode) -> None:
    def said(found: list[types.GenerateContentResponse]) -> tuple[str, str]:
        parts = [part for piece in found for c in piece.candidates or [] if c.content for part in c.content.parts or []]
        texts = ["".join(part.text or "" for part in parts if bool(part.thought) is thought) for thought in (False, True)]
        return texts[0], texts[1]

    async def main() -> None:
        async with (
            site(tmp_path, upstream(), more=PSEUDO) as here, gemini_sdk(here.upstream_url, mode) as direct, gemini_sdk(here.url, mode) as relayed,
        ):  # fmt: skip
            for case in of(GEMINI, mode):
                whole = await direct.one(lambda c, case=case: create(c, case, stream=False))
                pieces = await relayed.many(lambda c, case=case: create(c, case, stream=True))
                assert said(pieces) == said([whole]), case.name
                assert plain(pieces[-1].usage_metadata) == plain(whole.usage_metadata), case.name
                assert pieces[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason
                assert here.last_asked().path.endswith(":generateContent")
                check_row(await here.last_row(), case, "generate", streamed=True)

    run(main())


@each_mode
def test_a_pseudo_stream_s_error_is_the_client_s_own_class(tmp_path: Path, mode: Mode) -> None:
    """A body that was cut: a status while none was sent."""

    async def main() -> None:
        server = upstream()
        async with site(tmp_path, server, more=PSEUDO) as here:
            server.cut_at = 40
            async with anthropic_sdk(here.url, mode) as claude, openai_sdk(here.url, mode) as gpt:
                for client, protocol in ((claude, MESSAGES), (gpt, CHAT), (gpt, RESPONSES)):
                    case = of(protocol)[0]
                    with pytest.raises(Exception) as error:
                        await streamed(client, protocol, f"replay/{case.name}")
                    assert getattr(error.value, "status_code", None) == 502
                    assert (await here.last_row())["outcome"] == "UPSTREAM_LOST"

    run(main())
