"""Legacy Argo's answers between connection and exchange: what is held, told at a pace, cancelled; what a mistake of ours costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.pipeline.pseudo import PORTION, Pace
from penstock.pipeline.timers import Timers
from penstock.routing import Glob, Route
from penstock.translate.argo_legacy import Told
from penstock.upstream.contract import LossKind
from tests.support.exchanges import Asker, FakeAsk, House
from tests.support.relays import every, zipped

TEXT = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Transfer-Encoding", b"chunked")]
OPEN = [(b"Content-Type", b"text/plain"), (b"Connection", b"close")]
ROUTES = [Route(Glob("*"), "argo_legacy")]


def argo(*, real: bool = True, held: int = 1 << 24, **more: Any) -> House:
    return House(routes=ROUTES, held=held, argo_legacy={"user": "ada", "real_stream": real}, **more)


def stream(house: House, **more: Any) -> tuple[Asker, FakeAsk]:
    client = house.chat(**{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **more})
    return client, house.last


def contents(client: Asker) -> list[str]:
    """What it was told, piece by piece."""
    values = [json.loads(line[6:]) for line in client.reply.body.split(b"\n") if line.startswith(b"data: {")]
    return [text for value in values for choice in value["choices"] if (text := choice["delta"].get("content"))]


def test_nothing_is_told_before_the_first_word() -> None:
    with argo() as house:
        client, asked = stream(house)
        assert asked.target == b"/argoapi/api/v1/resource/streamchat/"
        assert json.loads(asked.sent_body) == {"user": "ada", "model": "gpt4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        asked.answer(200, TEXT)
        assert client.reply.status is None
        asked.body(b"\xc3")
        assert client.reply.status is None
        asked.body(b"\xa9")
        assert client.reply.status == 200
        assert '"content":"é"' in client.reply.body.decode()
        before = len(client.reply.body)
        asked.body(b"x")
        assert b'"content":"x"' in client.reply.body[before:]
        asked.end()
        assert client.reply.body.endswith(b"[DONE]\n\n")
        assert client.reply.over == "ended"


def test_a_whole_answer_is_held_and_given_back() -> None:
    with argo(real=False) as house:
        client, asked = stream(house)
        asked.answer(200, [(b"Content-Type", b"application/json")])
        asked.body(b'{"response": "a', b' b"}')
        assert house.gateway.held.used == 19
        assert client.reply.status is None
        asked.end()
        assert (client.reply.status, client.reply.over) == (200, "ended")
        assert house.gateway.held.used == 0


def test_portions_wait_for_the_client() -> None:
    with argo(real=False) as house:
        client, asked = stream(house)
        asked.answer_json({"response": "word " * 20_000})
        assert client.reply.over is None  # a portion a turn of the loop
        house.loop.wait(1)
        total = len(client.reply.body)
        assert client.reply.over == "ended"
        assert total > 5 * PORTION
        client, asked = stream(house)
        house.run(client.intake.client_paused)
        asked.answer_json({"response": "word " * 20_000})
        assert client.reply.body == b""
        house.run(client.intake.client_resumed)
        house.loop.wait(1)
        assert client.reply.over == "ended"
        assert abs(len(client.reply.body) - total) < total // 10
        assert [entry.outcome for entry in house.told] == ["COMPLETE", "COMPLETE"]


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
AT_A_PACE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "real_stream: false": ({"real": False, "conduct": Conduct(telling=Pace(4, 0.5))}, {}),
    "pseudo_stream: true": ({"conduct": Conduct(pace=Pace(4, 0.5), telling=Pace(4, 0.5))}, {}),
    "tools": ({"conduct": Conduct(telling=Pace(4, 0.5))}, {"tools": [TOOL]}),
}


@pytest.mark.parametrize("how", AT_A_PACE)
def test_a_whole_answer_is_told_at_its_pace(how: str) -> None:
    settings, body = AT_A_PACE[how]
    with argo(**settings) as house:
        client, asked = stream(house, **body)
        assert asked.target == b"/argoapi/api/v1/resource/chat/"
        assert json.loads(asked.sent_body)["stream"] is False
        asked.answer_json({"response": "one two three"})
        for pieces in (["one "], ["one ", "two "], ["one ", "two ", "thre"], ["one ", "two ", "thre", "e"]):
            assert contents(client) == pieces
            assert client.reply.over is None
            house.loop.wait(0.5)
        house.loop.wait(0.5)
        assert (client.reply.over, client.reply.body.endswith(b"[DONE]\n\n")) == ("ended", True)
        row = house.told[-1]
        assert (row.outcome, row.usage_source, row.streamed) == ("COMPLETE", "estimated", True)
        house.check_quiet()


def test_raw_text_has_no_pace_but_the_provider_s() -> None:
    with argo(conduct=Conduct(telling=Pace(4, 0.5))) as house:
        client, asked = stream(house)
        asked.answer(200, TEXT).body(b"one two ", b"three")
        assert contents(client) == ["one two ", "three"]
        asked.end()
        assert client.reply.over == "ended"
        house.check_quiet()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize("pieces", [[], [b"\xc3"]], ids=["nothing", "half a character"])
def test_no_word_is_no_answer(path: str, pieces: list[bytes]) -> None:
    asks = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    with argo() as house:
        client = house.post(path, {key: asks[key] for key in ("model", "stream", {"completions": "prompt", "responses": "input"}.get(
            path.removeprefix("/v1/"), "messages"))})
        assert house.last.target.endswith(b"/streamchat/")
        house.last.answer(200, TEXT).body(*pieces).end()
        assert client.reply.status == 502
        assert client.reply.json()["error"]["message"]
        assert (house.told[-1].outcome, house.told[-1].output_tokens) == ("TRUNCATED", None)
        house.check_quiet()


def test_no_word_is_reason_for_another_try_and_behind_a_head_of_ours_an_error_in_band() -> None:
    with argo(conduct=Conduct(retries=Retries(first_frame=1))) as house:
        client, asked = stream(house)
        asked.answer(200, TEXT).end()
        house.loop.wait(1)
        house.last.answer(200, TEXT).body(b"word").end()
        assert (contents(client), house.told[-1].retries) == (["word"], 1)
    with argo(conduct=Conduct(early_head=1.0, keepalive=None)) as house:
        client, asked = stream(house)
        house.loop.wait(1.2)
        asked.answer(200, TEXT).end()
        assert (client.reply.status, b'"error"' in client.reply.body, b"[DONE]" in client.reply.body) == (200, True, False)
        house.check_quiet()


def test_a_client_that_leaves_between_two_portions_is_the_end() -> None:
    with argo(real=False) as house:
        client, asked = stream(house)
        house.run(client.intake.client_paused)
        asked.answer_json({"response": "word " * 20_000})
        house.run(client.intake.client_gone)
        house.loop.settle()
        assert house.told[-1].outcome == "CLIENT_GONE"
        assert house.told[-1].usage_source == "estimated"
        assert not house.gateway.live


def test_a_mistake_of_ours_ends_this_exchange_with_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(told: Told, data: bytes) -> bytes:
        raise ZeroDivisionError

    with argo() as house:
        client, asked = stream(house)
        asked.answer(200, TEXT)
        monkeypatch.setattr(Told, "text", broken)
        asked.body(b"x")
        assert client.reply.status == 500
        assert asked.cancelled
        assert len(house.told) == 1


def test_the_budget_of_all_answers_holds() -> None:
    with argo(real=False, held=10) as house:
        client, asked = stream(house)
        asked.answer(200, [(b"Content-Type", b"application/json")]).body(b'{"response": "too long"}')
        assert (client.reply.status, asked.cancelled) == (502, True)
        assert (house.told[-1].outcome, house.told[-1].ended_by) == ("CUT", "gateway")
        assert house.gateway.held.used == 0


@pytest.mark.parametrize(("status", "kept"), [(200, "UPSTREAM_LOST"), (500, "UPSTREAM_ERROR")])
def test_what_is_lost_has_its_head_in_the_record(status: int, kept: str) -> None:
    with argo(real=False) as house:
        client, asked = stream(house)
        asked.answer(status, [(b"Content-Type", b"application/json")]).body(b'{"resp')
        asked.lose()
        assert (house.told[-1].outcome, house.told[-1].upstream_status) == (kept, status)
        assert client.reply.status == (502 if status == 200 else 500)


def test_an_open_connection_that_closes_before_the_first_word_is_no_answer() -> None:
    with argo() as house:
        client, asked = stream(house)
        asked.answer(200, OPEN).end()
        assert (client.reply.status, house.told[-1].outcome) == (502, "TRUNCATED")


def test_a_stale_connection_is_replaced_and_a_new_try_begins_anew() -> None:
    with argo(conduct=Conduct(retries=Retries(first_frame=1))) as house:
        client, asked = stream(house)
        asked.lose(LossKind.STALE)
        house.last.answer(200, TEXT).body(b"\xc3")
        house.last.lose()
        house.loop.wait(1)
        house.last.answer(200, TEXT).body(b"\xa9a")
        house.last.end()
        assert len(house.asks) == 3
        assert "\ufffda" in client.reply.body.decode()  # nothing of the try before it is left
        assert (house.told[-1].outcome, house.told[-1].retries) == ("COMPLETE", 2)  # both are in the row


def test_the_row_of_a_text_that_broke_off_has_what_had_come() -> None:
    with argo() as house:
        client, asked = stream(house)
        asked.answer(200, TEXT).body(b"four letters or more")
        asked.lose()
        entry = house.told[-1]
        assert (entry.outcome, entry.usage_source, entry.output_tokens) == ("UPSTREAM_LOST", "estimated", 5)
        assert b"error" in client.reply.body


def test_read_on_for_its_account() -> None:
    with argo(conduct=Conduct(on_disconnect="drain")) as house:
        client, asked = stream(house)
        asked.answer(200, TEXT).body(b"some")
        house.run(client.intake.client_gone)
        asked.body(b" more words")
        asked.end()
        assert (house.told[-1].outcome, house.told[-1].output_tokens) == ("CLIENT_GONE", 4)


@pytest.mark.parametrize(("piece", "times"), [(b"word " * 16, 1), (b"x", 37)], ids=["one large piece", "many small ones"])
def test_read_on_for_so_many_tokens(piece: bytes, times: int) -> None:
    with argo(conduct=Conduct(on_disconnect="drain", drain_tokens=10)) as house:
        client, asked = stream(house)
        asked.answer(200, TEXT).body(b"some")
        house.run(client.intake.client_gone)
        for number in range(100):
            if not asked.live:
                assert times <= number <= times + 2
                break
            asked.body(piece)
            house.loop.wait(0.5)
        else:
            raise AssertionError("it was read on without end")
        assert house.told[-1].outcome == "CLIENT_GONE"


def test_silence_runs_out() -> None:
    with argo(conduct=Conduct(timers=Timers(first_content=5.0, idle=2.0))) as house:
        client, asked = stream(house)
        asked.answer(200, TEXT)
        house.loop.wait(6)
        assert (client.reply.status, house.told[-1].timer) == (504, "first_content")
        client, asked = stream(house)
        asked.answer(200, TEXT).body(b"word")
        house.loop.wait(3)
        assert (client.reply.status, house.told[-1].timer) == (200, "idle")
        assert b'"error"' in client.reply.body


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("status", [201, 203, 206])
def test_an_answer_of_another_2xx_is_told_as_well(status: int, real: bool) -> None:
    with argo(real=real) as house:
        client = house.chat(model="gpt-4o", stream=False, messages=[])
        house.last.answer_json({"response": "hi"}, status)
        assert (client.reply.status, json.loads(client.reply.body)["choices"][0]["message"]["content"]) == (status, "hi")
        assert (house.row().outcome, house.row().output_tokens) == ("COMPLETE", 1)


def test_no_content_is_no_answer() -> None:
    with argo() as house:
        client = house.chat(model="gpt-4o", stream=False, messages=[])
        house.last.answer(204, []).end()
        assert client.reply.status == 502
        assert house.row().outcome != "COMPLETE"


@pytest.mark.parametrize("kind", [
    b"text/html", b"text/plain; charset=utf-8", b"text/event-stream", b"application/octet-stream", b"application/json", None])
@pytest.mark.parametrize(("body", "message"), [
    (b'{"detail": "no such user"}', "no such user"), (b"data: {\"error\": \"down\"}\n\n", "down"), (b"<p>Down</p>", "Down"),
    (b"", "Service Unavailable"), (b"\xff\xfe", "Service Unavailable")])
@pytest.mark.parametrize("real", [True, False])
def test_an_error_has_the_clients_shape_whatever_its_type_says(kind: bytes | None, body: bytes, message: str, real: bool) -> None:
    with argo() as house:
        client, asked = stream(house, stream=real)
        asked.answer(503, [(b"Content-Length", b"%d" % len(body)), *([(b"Content-Type", kind)] if kind is not None else [])])
        if body:
            asked.body(body)
        asked.end()
        assert client.reply.status == 503
        error = client.reply.json()["error"]
        assert error["type"] == "server_error"
        plain = (body.startswith(b"<") and kind == b"application/json") or (body.startswith(b"data") and kind != b"text/event-stream")
        assert plain or error["message"] == message
        assert (house.row().outcome, house.row().upstream_status) == ("UPSTREAM_ERROR", 503)
        house.check_quiet()


def test_an_error_in_a_coding_that_nobody_reads_keeps_its_status() -> None:
    with argo() as house:
        client, asked = stream(house)
        asked.answer(429, [(b"Content-Type", b"application/json"), (b"Content-Encoding", b"br"), (b"Retry-After", b"7")]).body(b"xx").end()
        assert (client.reply.status, client.reply.json()["error"]["type"]) == (429, "rate_limit_error")
        assert house.row().outcome == "UPSTREAM_ERROR"


def test_of_an_error_that_swells_the_beginning_is_read() -> None:
    with argo(held=4 << 20) as house:
        client, asked = stream(house)
        asked.answer(400, [(b"Content-Type", b"text/plain"), (b"Content-Encoding", b"gzip")])
        asked.body(*every(zipped(b"no such user; " * (4 << 20), 9), 1 << 14)).end()
        assert (client.reply.status, client.reply.over) == (400, "ended")
        assert client.reply.json()["error"]["message"].startswith("no such user; no")
        assert house.gateway.held.used == 0
        house.check_quiet()
