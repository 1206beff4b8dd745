"""Recorded answers through the official clients: what they make of them through the gateway is what they make of them without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.vocabulary.ids import ProtocolId
from tests.support.corpus import Case, distinct
from tests.support.gateway import run
from tests.support.sdk import Mode, Sdk, anthropic_sdk, check_row, each_mode, gemini_sdk, openai_sdk, plain, recorded, site

MAKERS = {
    ProtocolId.OPENAI_CHAT: (openai_sdk, "chat"),
    ProtocolId.OPENAI_RESPONSES: (openai_sdk, "responses"),
    ProtocolId.ANTHROPIC_MESSAGES: (anthropic_sdk, "messages"),
    ProtocolId.GEMINI: (gemini_sdk, "generate"),
}


def create(client: Any, case: Case, *, stream: bool) -> Any:
    """The plain call for a recording."""
    name: str = f"replay/{case.name}"
    match case.recording.protocol:
        case ProtocolId.OPENAI_CHAT:
            options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
            return client.chat.completions.create(model=name, messages=[], stream=stream, **options)
        case ProtocolId.OPENAI_RESPONSES:
            return client.responses.create(model=name, input="x", stream=stream)
        case ProtocolId.ANTHROPIC_MESSAGES:
            return client.messages.create(model=name, max_tokens=9, messages=[], stream=stream)
        case ProtocolId.GEMINI:
            call = client.models.generate_content_stream if stream else client.models.generate_content
            return call(model=name, contents="x")


async def tell(sdk: Sdk, case: Case, *, stream: bool) -> Any:
    """Everything that the client gives, and the error that it ends with."""
    try:
        if stream:
            return await sdk.many(lambda c: create(c, case, stream=True))
        return await sdk.one(lambda c: create(c, case, stream=False))
    except Exception as error:  # every client has errors of its own, and both sides must raise the same one
        return type(error).__name__, getattr(error, "message", str(error)), getattr(error, "body", None)


@each_mode
@pytest.mark.parametrize("protocol", list(MAKERS))
def test_every_recording_is_the_same_through_the_gateway(tmp_path: Path, protocol: ProtocolId, mode: Mode) -> None:
    make, operation = MAKERS[protocol]
    some = [case for case in distinct() if case.recording.protocol == protocol]
    assert len(some) >= 4

    async def main() -> None:
        async with site(tmp_path, recorded()) as here, make(here.upstream_url, mode) as direct, make(here.url, mode) as relayed:
            for case in some:
                for stream in (True, False):
                    wanted = await tell(direct, case, stream=stream)
                    found = await tell(relayed, case, stream=stream)
                    assert plain(found) == plain(wanted), (case.name, stream)
                    assert isinstance(found, tuple) == (case.expected["outcome"] != "COMPLETE"), found
            rows = await here.running.rows()
            assert len(rows) == 2 * len(some)
            for number, row in enumerate(rows):
                check_row(row, some[number // 2], operation, streamed=number % 2 == 0)

    run(main())
