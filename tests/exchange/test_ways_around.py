"""Ways around rules and budgets that there are none of: other spellings, bodies that cannot be read, answers that are fetched elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.admission.settings import AdmissionSettings
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import BEARER, KEYS, TPM, a_rule, charged, limited, refused
from tests.laws.talk import DIALECTS
from tests.support.admitted import Admitted


@pytest.mark.parametrize(("path", "body"), [
    ("/openai/v1/chat/completions", b"\xef\xbb\xbf" + b'{"model": "m", "messages": []}'),
    ("/openai/v1/chat/completions", '{"model": "m", "messages": []}'.encode("utf-16")),
    ("/openai/v1/chat/completions/", b'{"model": "m", "messages": []}'), ("/openai/v1/ch%61t/completions", b'{"model": "m", "messages": []}'),
    ("/anthropic/v1/messages/", b'{"model": "m", "messages": []}'), ("/v1/batches", b'{"input_file_id": "f"}'),
    ("/v1/audio/transcriptions", b"--x"), ("/v1/messages/batches", b"{}"),
])  # fmt: skip
def test_a_model_that_cannot_be_read_is_no_way_around_a_rule(path: str, body: bytes) -> None:
    """Servers take a body in UTF-16, or behind a byte order mark, and other spellings of a path."""
    with Admitted(AdmissionSettings(rules=(a_rule("deny", model="m"),)), KEYS) as a:
        refused(a.house.post(path, body, BEARER), 403, "'house-rule'", "rule", "house-rule")
        assert a.house.asks == []
        a.house.post("/openai/v1/files", b"--x", BEARER).leave()
        assert len(a.house.asks) == 1, "a file has no model"
        a.house.get("/v1/batches/b1", BEARER).leave()
        assert len(a.house.asks) == 2
        a.check()


@pytest.mark.parametrize("how", ["queued", "left", "done", "refused"])
def test_an_answer_in_the_background_is_charged_what_was_set_aside(how: str) -> None:
    """It is made whoever waits for it, and fetched by a path that uses nothing."""
    usage = {"input_tokens": 3, "output_tokens": 2}
    done: dict[str, Any] = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [], "usage": usage}
    with Admitted(limited(TPM), KEYS) as a:
        body = {"model": "m", "input": "x", "background": True, "stream": how == "left", "max_output_tokens": 900}
        asker = a.house.post("/v1/responses", body, BEARER)
        size = asker.handler.exchange.entry.bytes_in
        if how == "left":
            talk = next(d for d in DIALECTS if d.protocol is ProtocolId.OPENAI_RESPONSES)
            a.house.last.answer().body(talk.head() + talk.text())
            asker.leave()
        elif how == "refused":
            a.house.last.answer_json({"error": {"message": "no"}}, status=400)
        else:
            a.house.last.answer_json(done if how == "done" else {**done, "status": "queued", "usage": None})
        read, made = {"done": (3, 2), "refused": (0, 0)}.get(how, (-(-size // 4), 900))
        assert charged(a) == (read, made, read + made)
        a.check()
