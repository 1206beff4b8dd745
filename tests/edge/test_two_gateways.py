"""Two gateways on one ledger: neither touches what the other one holds, until its lease has run out; and then it is told as CRASHED."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

from tests.support.gateway import providers_at, run
from tests.support.process import Row, open_models, rows_in, rows_until, serving
from tests.support.storm import ALL, Fate, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_row

HURRY = {"lease_s": 1.5, "renew_s": 0.3}


def leases(data_dir: Path) -> dict[str, float]:
    """Until when each instance's lease holds."""
    return {row["id"]: row["lease_until"] for row in rows_in(data_dir, "instances")}


def instance_of(rows: list[Row], model: str) -> str:
    return next(str(row["instance"]) for row in rows if row["requested_model"] == model)


def test_one_is_killed_and_the_others_rows_are_untouched(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(7), 120, ALL, lasting=1.0)
        ours, theirs = plans[:60], plans[60:]
        async with storming(plans) as (storm, port):
            at = providers_at(port)
            async with serving(tmp_path, at, hurry=HURRY) as survivor, serving(tmp_path, at, hurry=HURRY) as victim:
                clients = storm.begin(survivor.port, ours) + storm.begin(victim.port, theirs)
                # Everything is over and written but what was left running, in both.
                await storm.over([plan for plan in plans if plan.fate is not Fate.RUNNING])
                running = {plan.model for plan in storm[Fate.RUNNING]}
                crashed = running & {plan.model for plan in theirs}
                rows = await rows_until(tmp_path / "data", lambda rows: len(rows) == len(plans) and open_models(rows) == running)
                dead = instance_of(rows, theirs[0].model)
                assert {row["instance"] for row in rows} == {dead, instance_of(rows, ours[0].model)}

                await victim.kill()
                lease_until = leases(tmp_path / "data")[dead]
                assert open_models(rows_in(tmp_path / "data")) == running, "nothing is judged before its lease is over"

                rows = await rows_until(tmp_path / "data", lambda rows: not open_models(rows) & crashed)
                found = by_plan(rows)
                assert {model for model, row in found.items() if row["outcome"] == "CRASHED"} == crashed
                assert all(found[model]["settled_at"] > lease_until for model in crashed)
                assert open_models(rows) == running - crashed

                storm.release.set()
                await asyncio.gather(*clients)
                assert await survivor.stop() == 0, survivor.stderr
            found = by_plan(rows_in(tmp_path / "data"))
            assert len(found) == len(plans)
            for plan in ours:
                check_answer(plan)
                check_row(found[plan.model], plan, plan.outcome)
            for plan in theirs:
                check_row(found[plan.model], plan, "CRASHED" if plan.model in crashed else plan.outcome)

    run(main())


def test_one_that_slept_through_its_lease_has_the_last_word(tmp_path: Path) -> None:
    """It is taken for dead and its rows are told as CRASHED; then it wakes up, goes on with its streams, and says how they really ended."""

    async def main() -> None:
        plans = scatter(random.Random(8), 16, [Fate.RUNNING], lasting=0.3)
        ours, theirs = plans[:8], plans[8:]
        async with storming(plans) as (storm, port):
            at = providers_at(port)
            async with serving(tmp_path, at, hurry=HURRY) as waking, serving(tmp_path, at, hurry=HURRY) as sleeping:
                clients = storm.begin(waking.port, ours) + storm.begin(sleeping.port, theirs)
                await storm.halfway()
                await rows_until(tmp_path / "data", lambda rows: len(rows) == len(plans))
                sleeping.signal(signal.SIGSTOP)
                await rows_until(tmp_path / "data", lambda rows: open_models(rows) == {plan.model for plan in ours})
                renewed = leases(tmp_path / "data")
                sleeping.signal(signal.SIGCONT)
                # Both have renewed their leases, and had the occasion to judge: it must not take its own long sleep for the other one's death.
                await rows_until(tmp_path / "data", lambda _: all(until > renewed[name] for name, until in leases(tmp_path / "data").items()))
                rows = rows_in(tmp_path / "data")
                assert open_models(rows) == {plan.model for plan in ours}
                assert {row["outcome"] for row in rows} == {None, "CRASHED"}
                storm.release.set()
                await asyncio.gather(*clients)
                assert await sleeping.stop() == 0
                assert await waking.stop() == 0
            found = by_plan(rows_in(tmp_path / "data"))
            for plan in plans:
                check_answer(plan)
                check_row(found[plan.model], plan, "COMPLETE")

    run(main())


def test_when_the_whole_machine_slept_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(9), 8, [Fate.RUNNING], lasting=0.3)
        async with storming(plans) as (storm, port):
            at = providers_at(port)
            async with serving(tmp_path, at, hurry=HURRY) as early, serving(tmp_path, at, hurry=HURRY) as late:
                clients = storm.begin(early.port, plans[:4]) + storm.begin(late.port, plans[4:])
                await storm.halfway()
                rows = await rows_until(tmp_path / "data", lambda rows: len(rows) == len(plans))
                for gateway in (early, late):
                    gateway.signal(signal.SIGSTOP)
                await rows_until(tmp_path / "data", lambda _: max(leases(tmp_path / "data").values()) < time.time())
                early.signal(signal.SIGCONT)
                own = instance_of(rows, plans[0].model)
                await rows_until(tmp_path / "data", lambda _: leases(tmp_path / "data")[own] > time.time())
                await asyncio.sleep(2 * HURRY["renew_s"])  # it had occasion to judge
                late.signal(signal.SIGCONT)
                await rows_until(tmp_path / "data", lambda _: min(leases(tmp_path / "data").values()) > time.time())
                assert open_models(rows_in(tmp_path / "data")) == {plan.model for plan in plans}
                storm.release.set()
                await asyncio.gather(*clients)
                assert await early.stop() == 0
                assert await late.stop() == 0
            found = by_plan(rows_in(tmp_path / "data"))
            for plan in plans:
                check_row(found[plan.model], plan, "COMPLETE")

    run(main())
