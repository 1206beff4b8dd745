"""What is charged of answers whose provider counts nothing: what we estimate of them, however they are told."""

from __future__ import annotations

from typing import Any, cast

import pytest

from penstock.exchange.conduct import Conduct
from penstock.pipeline.pseudo import Pace
from penstock.routing import Glob, Route
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import BEARER, KEYS, TPM, ask, charged, limited
from tests.support.admitted import Admitted
from tests.support.exchanges import House

WORDS = "word " * 400
LEGACY_ASKS: dict[str, tuple[dict[str, Any], Any, int]] = {
    "a body": ({"stream": False}, {"response": WORDS}, 500),
    "a short body": ({"stream": False}, {"response": "hi"}, 1),
    "a stream made of a body": ({"stream": True, "tools": [{"type": "function", "function": {"name": "f"}}]}, {"response": WORDS}, 500),
    "raw text, a byte at a time": ({"stream": True}, [bytes((byte,)) for byte in WORDS.encode()], 500),
    "raw text in one piece": ({"stream": True}, [WORDS.encode()], 500),
}


@pytest.mark.parametrize("how", LEGACY_ASKS)
def test_what_is_estimated_is_charged_as_it_is_estimated(how: str) -> None:
    """Legacy Argo counts nothing; how many events or bytes it takes to tell its answer says nothing of it."""
    asked, says, made = LEGACY_ASKS[how]
    with Admitted(limited(TPM), KEYS, routes=[Route(Glob("*"), "argo_legacy")], argo_legacy={"user": "ada"}) as a:
        a.house.post("/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **asked}, BEARER)
        if isinstance(says, list):
            a.house.last.answer(200, [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")]).body(*cast("list[bytes]", says)).end()
        else:
            a.house.last.answer_json(says)
        row = a.house.row()
        assert (row.outcome, row.usage_source, row.output_tokens) == ("COMPLETE", "estimated", made)
        assert charged(a)[:2] == (row.input_tokens, made)
        a.check()


def test_embeddings_that_are_estimated_have_no_output() -> None:
    with Admitted(limited(TPM), KEYS, routes=[Route(Glob("*"), "argo_legacy")], argo_legacy={"user": "ada"}) as a:
        a.house.post("/v1/embeddings", {"model": "v3small", "input": "four words of text"}, BEARER)
        a.house.last.answer_json({"embedding": [[0.5] * 999]})
        assert charged(a) == (5, 0, 5)


def test_a_body_told_as_a_stream_is_not_charged_by_the_bytes_of_its_telling() -> None:
    with Admitted(limited(TPM), KEYS, house=House(conduct=Conduct(pace=Pace()))) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer_json({"id": "c", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}]})
        a.house.loop.settle()
        row = a.house.row()
        assert (row.outcome, row.usage_source) == ("COMPLETE", "none")
        assert 400 <= (charged(a)[1] or 0) < 420
        a.check()
