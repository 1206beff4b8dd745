"""Two hundred streams at once, each with a fate of its own, in a gateway that is stopped, hurried, or killed meanwhile: one row for each
stream, settled once, with the outcome that it had."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest

from tests.support.gateway import providers_at, run
from tests.support.http import read_answer, request
from tests.support.process import all_settled, rows_in, rows_until, serving, spilled_in
from tests.support.storm import ALL, GONE, Fate, Storm, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_killed, check_row, is_told

STREAMS = 200
LASTING = 1.5
"""Seconds that a stream takes at most."""
LOOKED_AT_S = 0.3
"""Before a kill, for which it is counted how long the machine kept the gateway from running."""
HURRY = {"lease_s": 1.0, "renew_s": 0.2}
AT_ONCE = {"dedup": False}
"""No retry is waited for."""


def check_left_at_once(storm: Storm) -> None:
    """The provider's connection of a client that left was closed in 100 ms, as well as this process could see; where the machine was too busy for
    some, for three of four, and for none without end."""
    late: list[float] = []
    for plan in storm.plans.values():
        if plan.fate in GONE:
            assert plan.dropped_at is not None
            assert plan.over_at is not None
            late.append(plan.dropped_at - plan.over_at - storm.lag)
    late.sort()
    assert late[len(late) * 3 // 4] < 0.1, (late, storm.lag)
    assert late[-1] < 2.0, (late, storm.lag)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_ending_is_in_the_ledger_once_and_a_stop_loses_none(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        plans = scatter(random.Random(seed), STREAMS, ALL, lasting=LASTING)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port), AT_ONCE) as gateway:
            clients = storm.begin(gateway.port)
            # Some streams are over by then, others are in their middle; all have begun.
            await asyncio.gather(*(plan.arrived.wait() for plan in plans))
            gateway.signal(signal.SIGTERM)
            await storm.over([plan for plan in plans if plan.fate is not Fate.RUNNING])
            assert gateway.popen.poll() is None, "it did not wait for the streams that run"
            assert not any(plan.over_at for plan in storm[Fate.RUNNING])
            storm.release.set()
            await asyncio.gather(*clients)
            assert await gateway.ended() == 0, gateway.stderr
            check_left_at_once(storm)
            rows = by_plan(rows_in(gateway.data_dir))
            assert len(rows) == STREAMS
            for plan in plans:
                check_answer(plan)
                check_row(rows[plan.model], plan, plan.outcome)
            assert not spilled_in(gateway.data_dir)
            assert "Traceback" not in gateway.stderr

    run(main())


@pytest.mark.parametrize("seed", [3, 4])
def test_kill_9_loses_no_more_than_the_last_100_ms(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        plans = scatter(dice, STREAMS, ALL, lasting=LASTING)
        async with storming(plans) as (storm, port):
            loop = asyncio.get_running_loop()
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as gateway:
                clients = storm.begin(gateway.port)
                await asyncio.sleep(dice.uniform(0.4, 0.8) * LASTING - LOOKED_AT_S)
                starved = gateway.starved()
                await asyncio.sleep(LOOKED_AT_S)
                killed_at = loop.time()
                lag = storm.lag + gateway.starved() - starved
                await gateway.kill()
                await asyncio.gather(*clients)
            ended = [plan for plan in plans if plan.settled_by is not None and plan.settled_by < killed_at]
            assert 20 < len(ended) < STREAMS - 20, "the kill came too early or too late to show anything"
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as successor:
                rows = by_plan(await rows_until(successor.data_dir, all_settled))
                for plan in plans:
                    row = rows.get(plan.model)
                    check_killed(plan, row["outcome"] if row else None, killed_at, lag)
                    if row is not None:
                        check_row(row, plan, row["outcome"])
                assert await successor.stop() == 0
            after = by_plan(rows_in(tmp_path / "data"))
            assert {model: row["outcome"] for model, row in after.items()} == {model: row["outcome"] for model, row in rows.items()}
            assert not spilled_in(tmp_path / "data")

    run(main())


def test_a_stop_waits_for_streams_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(5), 50, [Fate.RUNNING], lasting=0.3)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port)) as gateway:
            clients = storm.begin(gateway.port)
            await storm.halfway()
            gateway.signal(signal.SIGTERM)
            await refuses(gateway.port)
            assert gateway.popen.poll() is None
            storm.release.set()
            await asyncio.gather(*clients)
            assert await gateway.ended() == 0
            rows = by_plan(rows_in(gateway.data_dir))
            assert len(rows) == len(plans)
            for plan in plans:
                check_answer(plan)
                check_row(rows[plan.model], plan, "COMPLETE")

    run(main())


def test_a_second_stop_ends_streams_in_their_protocols_words(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(6), 50, [Fate.RUNNING], lasting=0.3)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port)) as gateway:
            loop = asyncio.get_running_loop()
            clients = storm.begin(gateway.port)
            await storm.halfway()
            gateway.signal(signal.SIGTERM)
            await refuses(gateway.port)
            second = loop.time()
            gateway.signal(signal.SIGTERM)
            await asyncio.gather(*clients)
            assert loop.time() - second < 2.0
            assert await gateway.ended() == 0
            rows = by_plan(rows_in(gateway.data_dir))
            assert len(rows) == len(plans)
            for plan in plans:
                assert plan.clean, plan.model
                assert bytes(plan.body[: plan.at]) == plan.case.body[: plan.at]
                assert is_told(plan.case, bytes(plan.body[plan.at :])), (plan.case.name, plan.body[plan.at :])
                check_row(rows[plan.model], plan, "SHUTDOWN")
                assert rows[plan.model]["ended_by"] == "gateway"

    run(main())


def test_a_second_stop_while_a_request_is_still_coming(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, providers_at(9)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request("POST", "/v1/messages", b'{"model": "demo"}')[:-3])
            await asyncio.sleep(0.1)
            gateway.signal(signal.SIGTERM)
            await refuses(gateway.port)
            gateway.signal(signal.SIGTERM)
            answer = await read_answer(reader)
            writer.close()
            assert await gateway.ended() == 0
            assert (answer.status, answer.json()["error"]["type"]) == (503, "overloaded_error")
            [row] = rows_in(gateway.data_dir)
            assert (row["id"], row["outcome"], row["status"]) == (answer.header("x-penstock-id"), "SHUTDOWN", 503)

    run(main())


async def refuses(port: int) -> None:
    """Wait until nobody listens on the port."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.005)
