"""Captures of a running gateway: each phase holds the bytes that passed there, and no key."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.capture import Order, Phase
from penstock.capture.store import Store
from tests.edge.test_corpus import relay, stream
from tests.support.corpus import Case, distinct
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask
from tests.support.streams import named

FIRST = {case.recording.protocol: case for case in reversed(distinct()) if case.expected["outcome"] == "COMPLETE"}


@pytest.mark.parametrize(**named(tuple(FIRST.values())))
def test_every_phase_of_a_stream(tmp_path: Path, case: Case) -> None:
    async def main() -> None:
        async with relay(tmp_path) as (running, _):
            recorder = running.app.recorder
            recorder.turn_on(Order())
            first, second = await stream(running, case), await stream(running, case)
            assert first.body == second.body == case.body, "capturing changes nothing"
            await running.quiet()
            assert recorder.flush()
            assert not recorder.active, "one exchange was ordered"
        (item,) = Store(tmp_path / "data").items()
        assert item.meta is not None
        assert item.meta.outcome == "COMPLETE"
        store = Store(tmp_path / "data")
        parts = {part.phase: store.read(item, part) for part in item.meta.parts}
        assert parts.keys() == set(Phase)
        assert parts[Phase.OUTBOUND_RESPONSE].body == case.body
        assert parts[Phase.UPSTREAM_RESPONSE].body.startswith(case.body[:64])
        assert b"test-openai" not in b"".join(part.head + part.body for part in parts.values())
        assert sum(size for _, size in parts[Phase.OUTBOUND_RESPONSE].times) == len(case.body)

    run(main())


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", b'{"model": "gpt-4o", "messages": [', 400),
        ("/v1/messages", b'{"max_tokens": 5, "key": "sk-abcdefghijklmnop123456"}', 400),
        ("/v1/chat/completions", b'{"model": "elsewhere"}', 400),
    ],
)
@pytest.mark.parametrize("order", [Order(), Order(model="else*"), Order(provider="openai"), Order(phases=(Phase.UPSTREAM_RESPONSE,))])
def test_what_is_refused_for_its_body_is_there_to_be_looked_at(tmp_path: Path, path: str, body: bytes, status: int, order: Order) -> None:
    wanted = order.provider is None and len(order.phases) > 1 and (order.model is None or b"elsewhere" in body)

    async def main() -> None:
        more = {"routes": [{"model": "elsewhere", "provider": "gemini"}]}
        async with gateway(tmp_path, providers_at(9), more) as running:
            recorder = running.app.recorder
            recorder.turn_on(order)
            stranger = await ask(running.port, "POST", path, headers={"host": "x.example"}, raw=b"{")
            assert stranger.status == 403, "and it is not captured"
            answer = await ask(running.port, "POST", path, raw=body)
            assert answer.status == status
            await running.quiet()
            assert recorder.flush()
            assert (recorder.open, recorder.active) == (0, not wanted)
        items = Store(tmp_path / "data").items()
        assert len(items) == wanted
        if wanted:
            assert items[0].meta is not None
            assert items[0].meta.outcome == "REFUSED"
            store = Store(tmp_path / "data")
            parts = {part.phase: store.read(items[0], part).body for part in items[0].meta.parts}
            assert parts == {Phase.INBOUND_REQUEST: body.replace(b"sk-abcdefghijklmnop123456", b"***"), Phase.OUTBOUND_RESPONSE: answer.body}

    run(main())
