"""A budget that cuts looks at a stream by itself, or lets the stream say when: both cut it behind the same frame."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.admission.budget.spec import Budget, make_budget
from penstock.exchange.drive import Exchange
from penstock.exchange.metering import Meter
from penstock.pipeline.contract import State
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import KEYS, PLACE, TALK, ask, budgeted
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.admitted import Admitted


def chat(delta: dict[str, Any], usage: int | None = None) -> bytes:
    stated = {} if usage is None else {"usage": {"prompt_tokens": 5, "completion_tokens": usage, "total_tokens": 5 + usage}}
    return sse({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **stated})


def stating(talk: Dialect, output: int) -> bytes:
    """A frame by which the provider says on the way what it has made."""
    match talk.protocol:
        case ProtocolId.OPENAI_CHAT:
            return chat({"content": "x"}, output)
        case ProtocolId.ANTHROPIC_MESSAGES:
            return sse({"type": "message_delta", "delta": {}, "usage": {"output_tokens": output}}, "message_delta")
        case ProtocolId.OPENAI_RESPONSES:
            response = {"id": "r", "model": "m", "usage": {"input_tokens": 5, "output_tokens": output}}
            return sse({"type": "response.in_progress", "response": response}, "response.in_progress")
        case ProtocolId.GEMINI:
            usage = {"promptTokenCount": 5, "candidatesTokenCount": output}
            return sse({"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": 0}], "usageMetadata": usage})


def told(talk: Dialect, budgets: list[Budget], reads: list[bytes], aside: bool, most: int | None, price: int, ahead: bool = False) -> tuple[Any, ...]:
    """What became of it. `ahead`: more of a budget is given within the call."""
    more = {} if most is None or talk.protocol is not ProtocolId.OPENAI_CHAT else {"max_tokens": most}
    with Admitted(budgeted(*budgets), KEYS, price=price) as a:
        asker = ask(a.house, talk.protocol, PLACE[talk.protocol], **more)
        provider = a.house.last.answer()
        provider.hands_over, a.keeper.ahead = aside, ahead
        taken = 0
        for read in reads:
            if not provider.live:
                break
            provider.body(read)
            taken += 1
        stays = isinstance(provider.receiver, Meter)
        if provider.live:
            provider.end()
        a.check()
        row = a.house.row()
        return taken, bytes(asker.reply.body), row.outcome, row.cause, row.rule, row.charged_input, row.charged_output, row.events, stays


@TALK
@pytest.mark.parametrize("budget", range(60, 700, 9))
def test_the_cut_is_behind_the_same_frame(talk: Dialect, budget: int) -> None:
    budgets = [make_budget("tokens", str(budget), "day", "cut", (), "purse")]
    begun = talk.head() + (talk.text() if talk.protocol is ProtocolId.OPENAI_RESPONSES else b"")
    reads = [begun, *[talk.text()] * 900]
    assert told(talk, budgets, reads, True, 4, 0)[:-1] == told(talk, budgets, reads, False, 4, 0)[:-1]


@TALK
@pytest.mark.parametrize("reads", ["one", "two"])
def test_an_end_stays_one_whatever_comes_behind_it(talk: Dialect, reads: str) -> None:
    """It is time to look at the last text, at the end and at what comes behind it."""
    terminal = talk.terminal()
    if terminal is None:
        pytest.skip("its streams end with their bodies")
    tokens = [make_budget("tokens", "100", "day", "cut", (), "purse")]
    for texts in range(1, 56):
        with Admitted(budgeted(*tokens), KEYS) as a:
            ask(a.house, talk.protocol, PLACE[talk.protocol])
            provider = a.house.last.answer().body(talk.head() + talk.text(), talk.text())
            last = [talk.text() * texts, terminal, talk.text() * 2]
            provider.body(*([b"".join(last)] if reads == "one" else last), stating(talk, 700))
            exchange = provider.receiver
            assert isinstance(exchange, Exchange)
            assert exchange.pipeline is not None
            assert exchange.pipeline.state is State.ENDED, texts
            assert [row.outcome for row in a.house.book.settled] == ["COMPLETE"], texts
            provider.end()
            a.check()


@TALK
@pytest.mark.parametrize("how", ["it is cut", "it ends", "it breaks off", "it is left", "a mistake"])
def test_nothing_of_it_has_to_be_collected(talk: Dialect, how: str) -> None:
    """The stream, who looks at it and the exchange hold each other until it is over."""
    gc.disable()
    try:
        with Admitted(budgeted(make_budget("tokens", "100", "day", "cut", (), "purse")), KEYS) as a:
            asker = ask(a.house, talk.protocol, PLACE[talk.protocol])
            (exchange,) = map(weakref.ref, a.house.gateway.live)
            provider = a.house.last.answer().body(talk.head() + talk.text(), *[talk.text()] * 30)
            match how:
                case "it is cut":
                    provider.body(*[talk.text()] * 200)
                case "it ends":
                    provider.body(talk.terminal() or b"").end()
                case "it breaks off":
                    provider.lose()
                case "it is left":
                    asker.leave()
                case _:
                    one = exchange()
                    assert isinstance(one, Exchange)
                    a.house.run(one.fail, ValueError())
                    del one
            assert not provider.live
            a.check()
            del asker, provider
            a.house.asks.clear()
            assert exchange() is None
    finally:
        gc.enable()


@TALK
def test_who_steps_aside(talk: Dialect) -> None:
    """Where text may come with usage in one event, each is looked at."""
    budgets = [make_budget("tokens", "100000", "day", "cut", (), "purse")]
    assert told(talk, budgets, [talk.head(), *[talk.text()] * 3], True, None, 0)[-1] == (talk.protocol is ProtocolId.GEMINI)


@pytest.mark.parametrize("talk", DIALECTS, ids=lambda d: d.protocol.value)
@given(data=st.data())
def test_whatever_comes_it_is_cut_where_it_would_have_been(talk: Dialect, data: st.DataObject) -> None:
    token = st.integers(60, 600).map(lambda amount: make_budget("tokens", str(amount), "day", "cut", (), "tokens"))
    money = st.integers(1, 60).map(lambda amount: make_budget("money", f"0.{amount:03}", "day", "cut", (), "money"))
    budgets = data.draw(st.lists(st.one_of(token, money), min_size=1, max_size=2, unique_by=lambda one: one.name))
    text, ping = talk.text(), b": still there\n\n"
    run = st.integers(1, 90).map(lambda n: [text] * n)
    stated = st.integers(1, 900).map(lambda n: [stating(talk, n)])
    odd = st.sampled_from([[ping], [text + text], [text * 3, ping], [text[:10], text[10:]], [talk.pings()[0] if talk.pings() else ping],
                           [talk.open(0), talk.arguments(0), talk.arguments(0), talk.close(0)]])
    pieces = data.draw(st.lists(st.one_of(run, run, stated, odd), max_size=9))
    reads = [talk.head() + text, *[read for piece in pieces for read in piece if read]]
    most, price = data.draw(st.sampled_from([None, 4, 40, 4000])), data.draw(st.sampled_from([0, 10, 300]))
    ahead = data.draw(st.booleans())
    assert told(talk, budgets, reads, True, most, price, ahead)[:-1] == told(talk, budgets, reads, False, most, price, ahead)[:-1]


@TALK
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("price", [0, 10])
def test_bytes_behind_the_end_do_not_take_it_back(talk: Dialect, apart: bool, price: int) -> None:
    """Wherever the next look was to be: a provider that does not end its answer is not waited for."""
    last = talk.terminal()
    if last is None:
        return
    budget = make_budget("money" if price else "tokens", "100", "day", "cut", (), "purse")
    for pieces in range(70):
        with Admitted(budgeted(budget), KEYS, price=price) as a:
            asker = ask(a.house, talk.protocol, PLACE[talk.protocol])
            provider = a.house.last.answer()
            provider.body(talk.head() + talk.text())
            for _ in range(pieces):
                provider.body(talk.text())
            for read in [last, stating(talk, 7), talk.text()] if apart else [last + talk.text()]:
                provider.body(read)
            for live in a.house.gateway.live:
                assert cast("Exchange", live).pipeline.state is State.ENDED  # pyright: ignore[reportOptionalMemberAccess]
            assert a.house.until(lambda: asker.reply.over, 5.0) < 3  # noqa: B023 - called at once
            assert (asker.reply.over, a.house.row().outcome) == ("ended", "COMPLETE")
            a.check()
