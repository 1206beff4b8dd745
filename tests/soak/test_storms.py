"""Two thousand streams at once; gateways that are killed over and over; memory after thousands. `PENSTOCK_SOAK=N` multiplies the rounds."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
from pathlib import Path

import pytest

from tests.support.gateway import providers_at, run
from tests.support.process import Process, all_settled, rows_in, rows_until, serving, spilled_in
from tests.support.storm import ALL, Fate, Plan, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_killed, check_row

ROUNDS = max(1, int(os.environ.get("PENSTOCK_SOAK", "1")))
HURRY = {"lease_s": 2.0, "renew_s": 0.5}


@pytest.fixture(autouse=True)
def many_files() -> None:
    """Each stream takes two descriptors here, and two in the gateway, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_two_thousand_streams_and_a_stop(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        plans = scatter(random.Random(f"stop {seed}"), 2000, ALL, lasting=15.0)
        # Some wait for as long as all the others take, and on a busy machine that is longer than a keep-alive.
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port), {"keepalive": "off"}) as gateway:
            clients = storm.begin(gateway.port)
            await asyncio.gather(*(plan.arrived.wait() for plan in plans))
            gateway.signal(signal.SIGTERM)
            await storm.over([plan for plan in plans if plan.fate is not Fate.RUNNING], 120)
            storm.release.set()
            await asyncio.gather(*clients)
            assert await gateway.ended(60) == 0, gateway.stderr[-2000:]
            rows = by_plan(rows_in(gateway.data_dir))
            assert rows.keys() == {plan.model for plan in plans}
            for plan in plans:
                check_answer(plan)
                check_row(rows[plan.model], plan, plan.outcome)

    run(main())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_one_of_two_is_killed_five_times(tmp_path: Path, seed: int) -> None:
    """Each generation has its own streams; the survivor's go on through all of them."""

    async def main() -> None:
        dice = random.Random(f"kill {seed}")
        plans = scatter(dice, 1200, ALL, lasting=3.0)
        killed: list[tuple[Plan, float, float]] = []
        async with storming(plans) as (storm, port):
            at = providers_at(port)
            async with serving(tmp_path, at, hurry=HURRY) as survivor:
                kept, others = plans[:200], plans[200:]
                clients = storm.begin(survivor.port, kept)
                while others:
                    some, others = others[:200], others[200:]
                    async with serving(tmp_path, at, hurry=HURRY) as victim:
                        clients += storm.begin(victim.port, some)
                        await asyncio.sleep(dice.uniform(0.5, 2.5))
                        killed_at = asyncio.get_running_loop().time()
                        killed += [(plan, killed_at, storm.lag) for plan in some]
                        await victim.kill()
                storm.release.set()
                await asyncio.gather(*clients)
                rows = by_plan(await rows_until(tmp_path / "data", all_settled, 30))
                assert await survivor.stop() == 0
            assert not spilled_in(tmp_path / "data")
        for plan in kept:
            check_answer(plan)
            check_row(rows[plan.model], plan, plan.outcome)
        for plan, killed_at, lag in killed:
            row = rows.get(plan.model)
            check_killed(plan, row["outcome"] if row else None, killed_at, lag)
            if row is not None:
                check_row(row, plan, row["outcome"])
        assert sum(row["outcome"] == "CRASHED" for row in rows.values()) > 50

    run(main())


@pytest.mark.timeout(600)
def test_memory_after_many_streams(tmp_path: Path) -> None:
    """Twenty storms through one gateway: the last ones leave no more behind than the first ones did."""

    async def main() -> None:
        dice = random.Random("memory")
        fates = [fate for fate in ALL if fate is not Fate.RUNNING]
        plans = scatter(dice, 20 * 300 * ROUNDS, fates, lasting=1.0)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port)) as gateway:
            sizes: list[int] = []
            while plans:
                some, plans = plans[:300], plans[300:]
                await asyncio.gather(*storm.begin(gateway.port, some))
                await storm.over(some, 60)
                sizes.append(await quiet_size(gateway))
            half = len(sizes) // 2
            assert max(sizes[half:]) - max(sizes[:half]) < 4 << 20, [size >> 20 for size in sizes]
            assert await gateway.stop() == 0
            assert len(rows_in(gateway.data_dir)) == len(storm.plans)

    run(main())


async def quiet_size(gateway: Process) -> int:
    await rows_until(gateway.data_dir, all_settled)
    return gateway.resident()
