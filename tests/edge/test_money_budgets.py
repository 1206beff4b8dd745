"""Budgets of money, with the installed prices and recorded streams, end to end: what is refused, what is cut, what is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.server import ReplayServer
from tests.pricing.test_recordings import BY_HAND
from tests.support.corpus import Case, cases
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import Answer, ask
from tests.support.process import rows_in

ONE_OF_EACH = (
    "openai_chat/test_complex_agent_run_0", "openai_responses/test_openai_responses_stream_0",
    "anthropic_messages/test_anthropic_model_thinking_part_stream_0", "gemini/test_google_model_thinking_part_iter_0",
)  # fmt: skip
LONG = "openai_responses/test_openai_responses_thinking_part_iter_0"
ALL = {case.name: case for case in cases()}


def micros(name: str) -> int:
    """What the recording costs, by hand."""
    return ceil(BY_HAND[name])


def dollars(micros: Decimal | int) -> Decimal:
    return (Decimal(micros) / 1_000_000).quantize(Decimal("0.000001"))


@asynccontextmanager
async def house(directory: Path, budget: Decimal, action: str, **more: Any) -> AsyncGenerator[tuple[Running, ReplayServer]]:
    server = ReplayServer([case.recording for case in cases()])
    port = await server.start("127.0.0.1", 0)
    try:
        budgets = [{"money": str(budget), "per": "total", "action": action, "name": "purse"}]
        async with gateway(directory, providers_at(port), {"admission": {"budgets": budgets}, **more}) as running:
            yield running, server
    finally:
        server.close()


async def stream(running: Running, case: Case) -> Answer:
    path, body = case.request()
    return await ask(running.port, "POST", path, body)


def spent_in(directory: Path) -> list[int]:
    return [row["spent"] for row in rows_in(directory / "data", "budget_spent")]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_what_is_spent_blocks(tmp_path: Path, name: str) -> None:
    each = micros(name)

    async def main() -> None:
        async with house(tmp_path, dollars(each * 3 // 2), "block") as (running, server):
            answers = [await stream(running, ALL[name]) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 429], "the second may go on, the third finds it spent"
            assert answers[0].body == ALL[name].body
            rows = await running.rows()
            assert [row["charged_micros"] for row in rows] == [each, each, None]
            assert [row["cost_nanousd"] for row in rows[:2]] == [BY_HAND[name] * 1000] * 2
            assert (rows[2]["outcome"], rows[2]["rule"], len(server.log)) == ("REFUSED", "purse", 2)
            assert str(answers[1].header("x-penstock-budget")).startswith(f'"purse"; spent={dollars(each):f}'.rstrip("0"))
        assert spent_in(tmp_path) == [2 * each]

    run(main())


@pytest.mark.parametrize("alias", [False, True], ids=["by the provider's word", "by a route's rename"])
def test_what_is_spent_on_the_way_cuts(tmp_path: Path, alias: bool) -> None:
    """The price of a running answer is that of the model which the provider says it is, whatever the client called it."""
    case = ALL[LONG]
    budget = dollars(BY_HAND[LONG] / 4)

    async def main() -> None:
        routes = [{"model": "fast", "provider": "openai", "rename": f"replay/{LONG}"}]
        async with house(tmp_path, budget, "cut", **({"routes": routes} if alias else {})) as (running, server):
            server.pace = 1.0  # of it all at once nothing could be cut
            path, body = case.request()
            answer = await ask(running.port, "POST", path, {**body, "model": "fast"} if alias else body)
            assert (answer.status, case.body.startswith(answer.body)) == (200, False)
            assert b'"reason":"max_output_tokens"' in answer.body
            [row] = await running.rows()
            assert (row["outcome"], row["rule"], row["ended_by"]) == ("CUT", "purse", "gateway")
            assert budget * 1_000_000 <= row["charged_micros"] < BY_HAND[LONG] / 2
            status = (await stream(running, case)).status
            assert status == 429
        assert spent_in(tmp_path) == [row["charged_micros"]]

    run(main())


def test_a_model_without_a_price_costs_nothing_and_says_so(tmp_path: Path) -> None:
    name = "openai_chat/test_crusoe_model_streaming_0"

    async def main() -> None:
        async with house(tmp_path, Decimal("0.000001"), "block") as (running, _):
            answers = await asyncio.gather(*(stream(running, ALL[name]) for _ in range(3)))
            assert {answer.status for answer in answers} == {200}
            rows = await running.rows()
            assert {(row["charged_micros"], row["cost_nanousd"]) for row in rows} == {(None, None)}
        assert spent_in(tmp_path) == [0]

    run(main())
