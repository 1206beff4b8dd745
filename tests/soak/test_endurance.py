"""Two minutes of two thousand streams at once, in waves, with every fate there is, stalls among them: nothing hangs, nothing is left over."""

from __future__ import annotations

import asyncio
import os
import random
import resource
from pathlib import Path

import pytest

from penstock.upstream.settings import Settings
from tests.support.gateway import providers_at, run
from tests.support.process import Process, all_settled, rows_in, rows_until, serving, spilled_in
from tests.support.storm import Fate, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_row

ROUNDS = max(1, int(os.environ.get("PENSTOCK_SOAK", "1")))
WAVES = 8
STREAMS = 2000
LASTING = 15.0
CONFIG = {
    "timers": {"first_content": 12, "idle": 8, "content": 10, "tool_call": 9},
    "keepalive": "off",
    "early_head": "off",
    "retries": "off",
    "limits": {"max_streams": 2 * STREAMS},
}
KEPT = Settings().most_idle + 32
"""Descriptors beyond those of a gateway at rest: kept connections to the provider (one origin), which it may have."""


@pytest.mark.timeout(900)
def test_two_minutes_of_two_thousand_streams(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))

    async def main() -> None:
        dice = random.Random("endurance")
        fates = [fate for fate in Fate if fate is not Fate.RUNNING]
        plans = scatter(dice, WAVES * ROUNDS * STREAMS, fates, lasting=LASTING)
        for plan in plans:
            plan.pace = min(plan.pace, 2.0)  # no silence between healthy frames comes near a timer
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port), CONFIG) as gateway:
            left, resting, sizes = plans, descriptors(gateway), list[int]()
            while left:
                wave, left = left[:STREAMS], left[STREAMS:]
                clients = storm.begin(gateway.port, wave)
                await asyncio.gather(*clients)
                await storm.over(wave, 60)
                await rows_until(gateway.data_dir, all_settled, 30)
                sizes.append(gateway.resident())
                for plan in wave:
                    check_answer(plan)
            assert threads(gateway) < 12
            assert descriptors(gateway) <= resting + KEPT
            assert sizes[-1] - sizes[len(sizes) // 2] < 8 << 20, [size >> 20 for size in sizes]
            assert await gateway.stop() == 0, gateway.stderr[-2000:]
            rows = by_plan(rows_in(gateway.data_dir))
            assert rows.keys() == {plan.model for plan in plans}
            for plan in plans:
                check_row(rows[plan.model], plan, plan.outcome)
            assert {row["timer"] for row in rows.values() if row["outcome"] == "TIMED_OUT"} <= {"first_content", "idle", "content", "tool_call"}
            assert not spilled_in(gateway.data_dir)

    run(main())


def descriptors(gateway: Process) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))


def threads(gateway: Process) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/task").iterdir()))
