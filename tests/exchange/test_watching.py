"""The time of one exchange: every timer before the commit, behind an early head and in the stream; keep-alives; the drain of the gateway."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import LOOK
from penstock.pipeline.timers import Timers
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.exchanges import CHUNK, DONE, SSE, STOP, Asker, FakeAsk, House, routes, told_last, told_whole

EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
CHAT = ProtocolId.OPENAI_CHAT
OFF = {"first_content": None, "idle": None, "content": None, "tool_call": None, "client_stall": None, "drain": None}
STEP = 0.02
"""By how much a figure of `until` may be off."""


def only(*, keepalive: float | None = None, early_head: float | None = None, **timers: float | None) -> House:
    """A house in which no other timer runs."""
    return House(conduct=Conduct(timers=Timers(**{**OFF, **timers}), keepalive=keepalive, early_head=early_head))  # pyright: ignore[reportArgumentType]


def streaming(house: House, dialect: Dialect) -> tuple[Asker, FakeAsk]:
    asker, ask = house.stream(dialect.protocol)
    ask.answer().body(dialect.head(), dialect.text())
    return asker, ask


def ran_out(house: House, asker: Asker, ask: FakeAsk, timer: str, after: float) -> None:
    """It runs out after that many seconds, and a look's length later at most; everything is told and given back."""
    took = house.until(lambda: asker.reply.over, after + 1.0)
    assert after - STEP <= took <= after + LOOK + STEP
    assert ask.cancelled
    row = house.row()
    assert (row.outcome, row.timer, row.ended_by) == ("TIMED_OUT", timer, "gateway")
    assert (row.cause or "").startswith(f"{timer}: ")
    body = asker.reply.body
    house.loop.wait(1.0)
    assert asker.reply.body == body
    house.check_quiet()


# Before the commit: a true status.


@PROTOCOL
@pytest.mark.parametrize("timer", ["first_content", "max_duration"])
@pytest.mark.parametrize("stage", ["dialing", "head", "comments", "half a frame"])
@pytest.mark.parametrize("whole", [True, False])
def test_before_the_commit(protocol: ProtocolId, timer: str, stage: str, whole: bool) -> None:
    with only(**{timer: 2.0}) as house:
        asker, ask = house.whole(protocol) if whole else house.stream(protocol)
        json = [(b"content-type", b"application/json")]
        if stage != "dialing":
            ask.answer(200, json if whole else SSE)
        if not whole and stage == "comments":
            ask.body(b": a\n\n")
        if not whole and stage == "half a frame":
            ask.body(b"data: {")
        ran_out(house, asker, ask, timer, 2.0)
        assert asker.reply.status == house.row().status == 504
        assert timer in told_whole(protocol, asker.reply)["message"]


@PROTOCOL
@pytest.mark.parametrize("timer", ["first_content", "max_duration"])
@pytest.mark.parametrize("body", [b"<h1>", b'{"error": {"mess', b""])
@pytest.mark.parametrize("whole", [True, False])
def test_an_error_of_which_no_more_comes_keeps_its_status(protocol: ProtocolId, timer: str, body: bytes, whole: bool) -> None:
    """As one that breaks off does: clients go by it."""
    with only(**{timer: 2.0}) as house:
        asker, ask = house.whole(protocol) if whole else house.stream(protocol)
        ask.answer(429, [(b"content-type", b"text/html" if body.startswith(b"<") else b"application/json"), (b"retry-after", b"7")])
        if body:
            ask.body(body)
        house.until(lambda: asker.reply.over, 3.0)
        row = house.row()
        assert ask.cancelled
        assert asker.reply.status == row.status == row.upstream_status == 429
        assert (b"retry-after", b"7") in asker.reply.headers
        assert told_whole(protocol, asker.reply)["message"]
        assert (row.outcome, row.timer) == ("UPSTREAM_ERROR", timer)
        assert (row.cause or "").startswith("the provider answered 429")
        assert f"{timer}: " in (row.cause or "")
        house.check_quiet()


def test_a_request_that_takes_its_time_is_looked_at_as_soon_as_it_is_whole() -> None:
    with only(first_content=0.4) as house:
        asker = house.open("POST", "/v1/chat/completions", length=13)
        house.loop.wait(0.5)
        asker.body(b'{"model":"m"}').end()
        ran_out(house, asker, house.last, "first_content", 0.4)


# In the stream: in band.


@EACH
def test_first_content(dialect: Dialect) -> None:
    """Heads, opening events and pings are none."""
    with only(first_content=2.0) as house:
        asker, ask = house.stream(dialect.protocol)
        ask.answer().body(dialect.head())
        for ping in dialect.pings():
            house.loop.wait(0.2)
            ask.body(ping)
        ran_out(house, asker, ask, "first_content", 2.0 - 0.2 * len(dialect.pings()))
        assert "first_content" in told_last(dialect.protocol, asker.reply)["message"]


@EACH
def test_idle(dialect: Dialect) -> None:
    with only(idle=2.0) as house:
        asker, ask = streaming(house, dialect)
        house.loop.wait(1.9)
        ask.body(b": a\n\n")
        ran_out(house, asker, ask, "idle", 2.0)
        assert "idle" in told_last(dialect.protocol, asker.reply)["message"]
        assert 2000.0 <= (house.row().largest_gap_ms or 0.0) <= 2200.0, "its longest silence ended it"


@EACH
def test_content(dialect: Dialect) -> None:
    with only(content=2.0) as house:
        asker, ask = streaming(house, dialect)
        house.loop.wait(1.5)
        ask.body(dialect.text())
        for _ in range(3):
            house.loop.wait(0.5)
            ask.body(*dialect.pings())
        ran_out(house, asker, ask, "content", 0.5)
        assert "content" in told_last(dialect.protocol, asker.reply)["message"]


@EACH
def test_tool_call(dialect: Dialect) -> None:
    """Its own arguments are all that counts: no ping, no text and no other call extends it."""
    with only(tool_call=2.0) as house:
        asker, ask = streaming(house, dialect)
        ask.body(dialect.open(0), dialect.arguments(0), dialect.open(1), dialect.arguments(1))
        house.loop.wait(1.0)
        ask.body(dialect.arguments(0, "["))
        for _ in range(4):
            house.loop.wait(0.4)
            ask.body(*dialect.pings(), dialect.text(), dialect.arguments(1, "["))
        ran_out(house, asker, ask, "tool_call", 0.4)
        told = told_last(dialect.protocol, asker.reply)["message"]
        assert "tool_call" in told
        assert "'f0'" in told or dialect.protocol is ProtocolId.GEMINI


@EACH
def test_a_call_that_was_closed_has_all_the_time(dialect: Dialect) -> None:
    with only(tool_call=1.0) as house:
        asker, ask = streaming(house, dialect)
        ask.body(dialect.open(0), dialect.arguments(0), dialect.close(0))
        house.loop.wait(3.0)
        assert asker.reply.over is None
        asker.leave()


@EACH
def test_max_duration(dialect: Dialect) -> None:
    with only(max_duration=2.0) as house:
        asker, ask = streaming(house, dialect)
        for _ in range(18):
            house.loop.wait(0.1)
            ask.body(dialect.text())
        ran_out(house, asker, ask, "max_duration", 0.2)
        assert "max_duration" in told_last(dialect.protocol, asker.reply)["message"]


def test_what_was_used_until_then_is_booked_as_partial() -> None:
    with only(idle=1.0) as house:
        dialect = next(d for d in DIALECTS if d.protocol is ProtocolId.ANTHROPIC_MESSAGES)
        asker, ask = streaming(house, dialect)
        ran_out(house, asker, ask, "idle", 1.0)
        assert (house.row().input_tokens, house.row().usage_source, house.row().events) == (3, "partial", 2)
        assert house.row().tail is not None


def test_inside_a_whole_body_the_framing_shows_it() -> None:
    with only(idle=1.0) as house:
        asker, ask = house.whole(CHAT)
        ask.answer(200, [(b"content-type", b"application/json")]).body(b'{"id":')
        ran_out(house, asker, ask, "idle", 1.0)
        assert (asker.reply.body, asker.reply.over) == (b'{"id":', "aborted")


def test_half_a_frame_is_not_glued_to_the_error() -> None:
    with only(idle=1.0) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK + b"data: half")
        ran_out(house, asker, ask, "idle", 1.0)
        assert b"half" not in asker.reply.body
        told_last(CHAT, asker.reply)


@PROTOCOL
def test_off(protocol: ProtocolId) -> None:
    with only() as house:
        dialect = next(d for d in DIALECTS if d.protocol is protocol)
        asker, ask = house.stream(protocol)
        house.loop.wait(20.0)
        ask.answer().body(dialect.head(), dialect.text(), dialect.open(0), dialect.arguments(0))
        house.loop.wait(20.0)
        assert asker.reply.over is None
        asker.leave()
        house.check_quiet()


def test_nothing_runs_behind_the_terminal_event() -> None:
    conduct = Conduct(timers=Timers(first_content=1.0, idle=1.0, content=1.0, max_duration=1.0), keepalive=0.3)
    with House(conduct=conduct) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK + STOP + DONE)
        house.loop.wait(1.8)
        assert ask.live, "its connection has a while to end"
        house.loop.wait(5.0)
        assert (asker.reply.body, asker.reply.over) == (CHUNK + STOP + DONE, "ended")
        assert (house.row().outcome, house.row().timer) == ("COMPLETE", None)
        house.check_quiet()


@EACH
@pytest.mark.parametrize("how", ["idle", "client_stall", "shut down"])
def test_who_told_an_error_and_does_not_hang_up_is_known_for_the_error(dialect: Dialect, how: str) -> None:
    said: dict[str, Any] = {"error": {"message": "m"}}
    named = {ProtocolId.OPENAI_RESPONSES: {"type": "error", "message": "m"}, ProtocolId.ANTHROPIC_MESSAGES: {"type": "error", **said}}
    frame = sse(named.get(dialect.protocol, said), "error" if dialect.protocol in named else "")
    with only(idle=2.0, client_stall=1.0) as house:
        asker, ask = streaming(house, dialect)
        ask.body(frame)
        if how == "client_stall":
            pause(house, asker)
        if how == "shut down":
            house.run(house.gateway.shut_down)
        house.loop.wait(2.2)
        assert asker.reply.body == dialect.head() + dialect.text() + frame
        assert asker.reply.over == ("aborted" if how == "client_stall" else "ended")
        assert not ask.live
        assert (house.row().outcome, house.row().timer, house.row().error_message) == ("UPSTREAM_ERROR", None, "m")
        house.check_quiet()


# A client that does not read.


def pause(house: House, asker: Asker) -> None:
    house.run(asker.handler.client_paused)


def resume(house: House, asker: Asker) -> None:
    house.run(asker.handler.client_resumed)


@EACH
def test_client_stall(dialect: Dialect) -> None:
    with only(client_stall=2.0) as house:
        asker, ask = streaming(house, dialect)
        pause(house, asker)
        body = asker.reply.body
        house.loop.wait(1.9)
        resume(house, asker)
        pause(house, asker)
        took = house.until(lambda: asker.reply.over, 3.0)
        assert 2.0 - STEP <= took <= 2.0 + LOOK + STEP
        assert (asker.reply.over, asker.reply.body) == ("aborted", body), "it takes no last word either"
        assert ask.cancelled
        row = house.row()
        assert (row.outcome, row.timer, row.ended_by, row.largest_gap_ms) == ("TIMED_OUT", "client_stall", "client", 0.0)
        house.check_quiet()


@EACH
def test_a_client_that_takes_a_large_frame_slowly_is_not_stalled(dialect: Dialect) -> None:
    with only(client_stall=2.0) as house:
        asker, _ = streaming(house, dialect)
        asker.reply.waiting = 10_000
        pause(house, asker)
        while asker.reply.waiting > 1_000:
            house.loop.wait(1.5)
            asker.reply.waiting -= 1_000
            assert asker.reply.over is None
        took = house.until(lambda: asker.reply.over, 3.0)
        assert 2.0 - STEP <= took <= 2.0 + 0.25
        assert house.row().timer == "client_stall"
        house.check_quiet()


def test_who_was_told_nothing_has_no_status_in_its_row() -> None:
    with only(client_stall=1.0) as house:
        asker, _ = house.stream(CHAT)
        pause(house, asker)
        house.loop.wait(1.3)
        assert (asker.reply.status, asker.reply.over, house.row().status) == (None, "aborted", None)
        house.check_quiet()


@EACH
@pytest.mark.parametrize("timer", ["idle", "content", "tool_call"])
def test_the_time_in_which_a_client_does_not_read_is_not_its_providers(dialect: Dialect, timer: str) -> None:
    with only(**{timer: 2.0}) as house:
        asker, ask = streaming(house, dialect)
        ask.body(dialect.open(0), dialect.arguments(0))
        house.loop.wait(1.0)
        for _ in range(3):
            pause(house, asker)
            assert ask.paused
            house.loop.wait(5.0)
            resume(house, asker)
            assert not ask.paused
        assert asker.reply.over is None
        ran_out(house, asker, ask, timer, 1.0)


def test_but_max_duration_runs_on() -> None:
    with only(max_duration=2.0) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        house.loop.wait(1.0)
        pause(house, asker)
        ran_out(house, asker, ask, "max_duration", 1.0)


# Keep-alives.


@EACH
def test_a_stream_is_kept_alive(dialect: Dialect) -> None:
    still = REGISTRY[dialect.protocol].keepalive
    with only(keepalive=1.0) as house:
        asker, ask = streaming(house, dialect)
        said = dialect.head() + dialect.text()
        took = house.until(lambda: asker.reply.body != said, 2.0)
        assert 1.0 - STEP <= took <= 1.0 + LOOK + STEP
        house.loop.wait(0.7)
        half = dialect.text()
        ask.body(half[:10])
        house.loop.wait(0.6)
        assert asker.reply.body == said + still * 2, "never inside a frame: what has come of one has not left"
        ask.body(half[10:])
        house.loop.wait(0.8)
        assert asker.reply.body == said + still * 2 + half, "what is sent sets it back"
        house.loop.wait(0.5)
        assert asker.reply.body == said + still * 2 + half + still
        asker.leave()
        assert house.row().bytes_out == len(asker.reply.body)
        assert house.row().events == 3
        house.check_quiet()


@PROTOCOL
def test_no_keep_alive_extends_a_timer(protocol: ProtocolId) -> None:
    dialect = next(d for d in DIALECTS if d.protocol is protocol)
    with only(keepalive=0.3, idle=2.0) as house:
        asker, ask = streaming(house, dialect)
        ran_out(house, asker, ask, "idle", 2.0)
        told_last(protocol, asker.reply)


@pytest.mark.parametrize("kind", [b"application/json", b"text/markdown"])
def test_nothing_is_put_into_a_whole_body(kind: bytes) -> None:
    with only(keepalive=0.5, early_head=1.0) as house:
        for ask_it in (house.whole, house.stream):
            asker, ask = ask_it(CHAT)
            ask.answer(200, [(b"content-type", kind)]).body(b'{"id":')
            house.loop.wait(3.0)
            ask.body(b"1}").end()
            assert asker.reply.body == b'{"id":1}'
        house.check_quiet()


@pytest.mark.parametrize("frame", [b'data: {"error":{"message":"m"}}\n\n', DONE])
def test_nothing_is_put_behind_the_end(frame: bytes) -> None:
    with only(keepalive=0.5) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK, frame)
        house.loop.wait(1.5)
        assert asker.reply.body == CHUNK + frame
        asker.leave()


def test_nothing_is_put_into_what_nobody_could_read() -> None:
    with House(conduct=Conduct(keepalive=0.5), held=50) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(b"data: " + b"x" * 100)
        house.loop.wait(2.0)
        assert asker.reply.body == b"data: " + b"x" * 100
        asker.leave()
        house.check_quiet()


def test_nothing_is_written_to_who_does_not_read() -> None:
    with only(keepalive=0.5) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        house.loop.wait(0.2)
        pause(house, asker)
        house.loop.wait(3.0)
        assert asker.reply.body == CHUNK
        resume(house, asker)
        house.loop.wait(0.2)
        assert asker.reply.body == CHUNK + REGISTRY[CHAT].keepalive
        asker.leave()


def test_an_array_is_kept_alive_with_white_space() -> None:
    with only(keepalive=0.5) as house:
        asker = house.post("/v1beta/models/m:streamGenerateContent", {})
        house.last.answer(200, [(b"content-type", b"application/json")]).body(b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}')
        house.loop.wait(2.0)
        house.last.body(b',{"candidates":[{"finishReason":"STOP"}]}', b"]")
        house.loop.wait(2.0)
        house.last.end()
        assert len(asker.reply.json()) == 2
        assert asker.reply.body.count(b"\n") >= 3
        assert asker.reply.body.endswith(b"]")
        assert house.row().outcome == "COMPLETE"


def test_no_keep_alives() -> None:
    with only() as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        house.loop.wait(30.0)
        assert asker.reply.body == CHUNK
        asker.leave()


# What looking costs.


@pytest.mark.parametrize("stage", ["dialing", "head", "streaming", "body", "paused"])
def test_an_exchange_that_is_well_is_left_alone(stage: str) -> None:
    """The next look is no sooner than something could be due."""
    conduct = Conduct(timers=Timers(idle=4.0, content=5.0, tool_call=4.0), keepalive=2.0, early_head=30.0)
    with House(conduct=conduct) as house:
        asker, ask = house.whole(CHAT) if stage == "body" else house.stream(CHAT)
        if stage == "body":
            ask.answer(200, [(b"content-type", b"application/json")]).body(b"{")
        elif stage != "dialing":
            ask.answer()
        if stage in ("streaming", "paused"):
            ask.body(CHUNK)
        if stage == "paused":
            pause(house, asker)
        exchange = asker.intake.exchange
        looks: list[float] = []
        plain = exchange.tick

        def tick(now: float) -> None:
            looks.append(now)
            plain(now)

        exchange.tick = tick  # pyright: ignore[reportAttributeAccessIssue]
        house.loop.wait(3.9)
        assert len(looks) <= 4
        asker.leave()


def test_an_exchange_that_is_over_is_looked_at_once_more_when_its_provider_lingers() -> None:
    with House() as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK + STOP + DONE)
        exchange = asker.intake.exchange
        house.loop.wait(0.3)
        assert exchange.due == exchange.lingers_until
        assert house.gateway.live
        house.loop.wait(2.0)
        assert exchange.due == inf
        assert not house.gateway.live
        assert ask.cancelled


def test_a_mistake_of_ours_in_a_look_reaches_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with only(idle=1.0) as house:
        first, ask = house.stream(CHAT)
        second, other = house.stream(CHAT)
        for each in (ask, other):
            each.answer().body(CHUNK)

        def broken(now: float) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(first.intake.exchange, "_tick", broken)
        house.loop.wait(0.3)
        assert (first.reply.over, second.reply.over) == ("aborted", None)
        assert "RuntimeError" in (house.book.settled[0].cause or "")
        house.loop.wait(1.2)
        assert second.reply.over == "ended"
        assert house.book.settled[1].timer == "idle"
        house.check_quiet()


# The drain of the gateway.


def drained(house: House) -> None:
    house.run(house.gateway.drain)


@EACH
@pytest.mark.parametrize("stage", ["dialing", "head", "streaming", "early", "paused"])
def test_what_does_not_finish_in_its_drain_is_ended_in_shape(dialect: Dialect, stage: str) -> None:
    with only(drain=2.0, keepalive=5.0, early_head=1.0 if stage == "early" else None) as house:
        asker, ask = house.stream(dialect.protocol)
        if stage not in ("dialing", "early"):
            ask.answer()
        if stage in ("streaming", "paused"):
            ask.body(dialect.head(), dialect.text())
        house.loop.wait(1.3)
        if stage == "paused":
            pause(house, asker)
        drained(house)
        took = house.until(lambda: asker.reply.over, 4.0)
        assert 2.0 - STEP <= took <= 2.0 + LOOK + STEP
        told: Any = told_whole if stage in ("dialing", "head") else told_last
        assert "shutting down" in told(dialect.protocol, asker.reply)["message"]
        assert asker.reply.status == (503 if stage in ("dialing", "head") else 200)
        assert (house.row().outcome, house.row().ended_by, house.row().timer) == ("SHUTDOWN", "gateway", None)
        assert ask.cancelled
        house.check_quiet()


def test_what_finishes_in_time_is_whole_and_nothing_new_is_taken() -> None:
    with only(drain=2.0) as house:
        asker, ask = house.stream(CHAT)
        ask.answer().body(CHUNK)
        drained(house)
        refused = house.chat()
        assert (refused.reply.status, refused.reply.header(b"retry-after")) == (503, b"1")
        house.loop.wait(1.8)
        ask.body(STOP + DONE).end()
        assert asker.reply.body == CHUNK + STOP + DONE
        assert {row.outcome for row in house.book.settled} == {"REFUSED", "COMPLETE"}
        house.loop.wait(1.0)
        house.check_quiet()


def test_each_has_its_own_drain() -> None:
    conducts = [Conduct(timers=Timers(drain=seconds)) for seconds in (1.0, 3.0, None)]
    with House(routes=routes(("a", "openai"), ("b", "openai"), ("c", "openai")), route_conduct=conducts) as house:
        askers = [house.chat(model=model) for model in "abc"]
        drained(house)
        assert 1.0 - STEP <= house.until(lambda: askers[0].reply.over) <= 1.0 + LOOK + STEP
        assert 2.0 - STEP - LOOK <= house.until(lambda: askers[1].reply.over) <= 2.0 + LOOK + STEP
        house.loop.wait(200.0)
        assert askers[2].reply.over is None
        house.run(house.gateway.shut_down)
        assert askers[2].reply.over == "ended"
        house.check_quiet()


def test_a_request_that_is_still_coming_has_its_drain_too() -> None:
    with only(drain=1.0) as house:
        asker = house.open("POST", "/v1/chat/completions", length=13)
        house.loop.wait(0.5)
        drained(house)
        assert 1.0 - STEP <= house.until(lambda: asker.reply.over, 3.0) <= 1.0 + LOOK + STEP
        assert (asker.reply.status, house.row().outcome) == (503, "SHUTDOWN")
        house.check_quiet()
