"""A ledger that cannot be written: locked by somebody for long, or on a full disk. No stream notices, and no row is lost."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.vocabulary.ids import ProtocolId
from tests.support.gateway import providers_at, run
from tests.support.http import Answer, ask
from tests.support.process import Row, all_settled, rows_in, rows_until, serving, spilled_in
from tests.support.storm import ALL, Fate, Plan, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_killed, check_row

HURRY = {"lease_s": 1.0, "renew_s": 0.2}


@contextmanager
def locked(data_dir: Path) -> Generator[None]:
    """Nobody else writes to the ledger. (The gateway is another process than this one.)"""
    connection = sqlite3.connect(data_dir / "ledger.db", timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def check_all(plans: list[Plan], data_dir: Path) -> None:
    rows = by_plan(rows_in(data_dir))
    assert rows.keys() == {plan.model for plan in plans}
    for plan in plans:
        check_answer(plan)
        check_row(rows[plan.model], plan, plan.outcome)


def test_streams_begin_run_and_end_while_the_database_is_locked(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(11), 96, ALL, lasting=1.0)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port)) as gateway:
            storm.release.set()
            with locked(gateway.data_dir):
                await asyncio.gather(*storm.begin(gateway.port))
                await storm.over(plans)
                assert not rows_in(gateway.data_dir)
                await gateway.said("locked")
                assert spilled_in(gateway.data_dir), "what waits must be safe from a kill"
            await rows_until(gateway.data_dir, lambda rows: len(rows) == len(plans) and all_settled(rows))
            check_all(plans, gateway.data_dir)
            assert await gateway.stop() == 0
            check_all(plans, gateway.data_dir)
            assert not spilled_in(gateway.data_dir)

    run(main())


def test_a_stop_while_the_database_is_locked_leaves_the_rows_to_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(12), 48, ALL, lasting=0.5)
        async with storming(plans) as (storm, port):
            storm.release.set()
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as gateway:
                with locked(gateway.data_dir):
                    await asyncio.gather(*storm.begin(gateway.port))
                    await storm.over(plans)
                    assert await gateway.stop() == 0
                assert not rows_in(gateway.data_dir)
                assert spilled_in(gateway.data_dir)
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as successor:
                await rows_until(successor.data_dir, lambda rows: len(rows) == len(plans))
                check_all(plans, successor.data_dir)
                assert await successor.stop() == 0
                assert not spilled_in(successor.data_dir)

    run(main())


def test_kill_9_while_the_database_is_locked(tmp_path: Path) -> None:
    def drained(rows: list[Row]) -> bool:
        return bool(rows) and all_settled(rows) and not spilled_in(tmp_path / "data")

    async def main() -> None:
        plans = scatter(random.Random(13), 96, ALL, lasting=1.0)
        async with storming(plans) as (storm, port):
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as gateway:
                with locked(gateway.data_dir):
                    clients = storm.begin(gateway.port)
                    await asyncio.sleep(0.6)
                    killed_at = asyncio.get_running_loop().time()
                    lag = storm.lag
                await gateway.kill()
                await asyncio.gather(*clients)
                # A few may have been written before: the lock was not taken in the first instant.
                assert spilled_in(gateway.data_dir)
            async with serving(tmp_path, providers_at(port), hurry=HURRY) as successor:
                rows = by_plan(await rows_until(successor.data_dir, drained))
                assert "CRASHED" in {row["outcome"] for row in rows.values()}
                for plan in plans:
                    row = rows.get(plan.model)
                    check_killed(plan, row["outcome"] if row else None, killed_at, lag)
                    if row is not None:
                        check_row(row, plan, row["outcome"])
                assert await successor.stop() == 0

    run(main())


QUESTIONS: dict[ProtocolId, tuple[str, dict[str, Any]]] = {
    ProtocolId.OPENAI_CHAT: ("/v1/chat/completions", {"model": "demo", "messages": []}),
    ProtocolId.OPENAI_RESPONSES: ("/v1/responses", {"model": "demo", "input": "x"}),
    ProtocolId.ANTHROPIC_MESSAGES: ("/v1/messages", {"model": "demo", "max_tokens": 9, "messages": []}),
    ProtocolId.GEMINI: ("/v1beta/models/demo:generateContent", {"contents": []}),
}


def check_refused(answer: Answer, protocol: ProtocolId) -> None:
    """503 in the protocol's own shape, and when to come again."""
    assert (answer.status, answer.clean) == (503, True), answer
    assert answer.header("retry-after")
    said = answer.json()
    match protocol:
        case ProtocolId.ANTHROPIC_MESSAGES:
            assert said["type"] == "error"
            assert said["error"]["type"] == "overloaded_error"
        case ProtocolId.GEMINI:
            assert (said["error"]["code"], said["error"]["status"]) == (503, "UNAVAILABLE")
        case _:
            assert said["error"]["message"]
            assert "code" in said["error"]


def test_a_full_disk_refuses_what_is_new_and_keeps_what_runs(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(14), 40, [Fate.RUNNING], lasting=0.3)
        async with storming(plans) as (storm, port), serving(tmp_path, providers_at(port), {"ledger": {"queue": 10}}) as gateway:
            clients = storm.begin(gateway.port)
            await storm.halfway()
            await rows_until(gateway.data_dir, lambda rows: len(rows) == len(plans))
            gateway.fill_disk()
            taken: list[Answer] = []
            async with asyncio.timeout(10):
                while (answer := await ask(gateway.port, "POST", *QUESTIONS[ProtocolId.OPENAI_CHAT])).status == 200:
                    taken.append(answer)
                    await asyncio.sleep(0.01)
            assert taken, "it gave up before the queue was full"
            for protocol, question in QUESTIONS.items():
                check_refused(await ask(gateway.port, "POST", *question), protocol)
            assert (await ask(gateway.port, "GET", "/health")).status == 200

            storm.release.set()
            await asyncio.gather(*clients)
            for plan in plans:
                check_answer(plan)
            gateway.free_disk()
            wanted = len(plans) + len(taken)
            rows = await rows_until(gateway.data_dir, lambda rows: len(rows) == wanted and all_settled(rows))
            found = by_plan([row for row in rows if row["requested_model"] != "demo"])
            assert found.keys() == {plan.model for plan in plans}
            for plan in plans:
                check_row(found[plan.model], plan, "COMPLETE")
            ours = {row["id"]: row["outcome"] for row in rows if row["requested_model"] == "demo"}
            assert ours == {str(answer.header("x-penstock-id")): "COMPLETE" for answer in taken}
            assert (await ask(gateway.port, "POST", *QUESTIONS[ProtocolId.OPENAI_CHAT])).status == 200
            assert await gateway.stop() == 0
            assert len(rows_in(gateway.data_dir)) == wanted + 1

    run(main())


def test_a_stop_on_a_full_disk_says_what_it_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, {"openai": {"protocol": "openai", "base_url": "http://127.0.0.1:9", "api_key": "sk-x"}}) as gateway:
            gateway.fill_disk()
            for _ in range(3):
                assert (await ask(gateway.port, "POST", *QUESTIONS[ProtocolId.OPENAI_CHAT])).status == 200
            gateway.signal(signal.SIGTERM)
            assert await gateway.ended() == 1, gateway.stderr
            assert re.search(r'"level":"error".*"message":"3 rows', gateway.stderr), gateway.stderr

    run(main())
