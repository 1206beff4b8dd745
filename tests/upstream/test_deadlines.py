"""Waits that share one timer end as waits with one of their own do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from penstock.upstream.deadlines import Deadlines
from tests.support.gateway import run


async def ends(of: Coroutine[Any, Any, Any]) -> str:
    try:
        return str(await of)
    except BaseException as error:
        return type(error).__name__


async def after(seconds: float, word: str) -> str:
    await asyncio.sleep(seconds)
    return word


def test_each_has_its_own_deadline() -> None:
    async def go() -> list[str]:
        deadlines = Deadlines()
        waits = [(5.0, 0.0, "a"), (0.02, 5.0, "b"), (5.0, 0.03, "c"), (0.01, 5.0, "d"), (0.03, 5.0, "e")]
        return list(await asyncio.gather(*[ends(deadlines.within(limit, after(takes, word))) for limit, takes, word in waits]))

    assert run(go()) == ["a", "TimeoutError", "c", "TimeoutError", "TimeoutError"]


def test_one_that_comes_when_the_timer_stands_later() -> None:
    async def go() -> list[str]:
        deadlines = Deadlines()
        long = asyncio.create_task(ends(deadlines.within(0.06, after(5.0, "long"))))
        await asyncio.sleep(0.01)
        short = await ends(deadlines.within(0.01, after(5.0, "short")))
        undisturbed = not long.done()
        return [short, str(undisturbed), await long]

    assert run(go()) == ["TimeoutError", "True", "TimeoutError"]


def test_one_that_comes_after_the_timer_ran_out_for_nobody() -> None:
    async def go() -> list[str]:
        deadlines = Deadlines()
        first = await ends(deadlines.within(0.01, after(0.0, "first")))
        await asyncio.sleep(0.03)
        return [first, await ends(deadlines.within(0.01, after(5.0, "second")))]

    assert run(go()) == ["first", "TimeoutError"]


def test_what_fails_fails_as_it_does() -> None:
    async def fail() -> None:
        raise OSError

    async def go() -> str:
        return await ends(Deadlines().within(5.0, fail()))

    assert run(go()) == "OSError"


@pytest.mark.parametrize("limit", [0.0, 5.0])
def test_who_is_cancelled_by_others_is_cancelled(limit: float) -> None:
    async def go() -> tuple[bool, int]:
        task = asyncio.create_task(Deadlines().within(limit, after(5.0, "x")))
        await asyncio.sleep(0)
        task.cancel()  # before its deadline is looked at
        (end,) = await asyncio.gather(task, return_exceptions=True)
        return isinstance(end, asyncio.CancelledError), task.cancelling()

    assert run(go()) == (True, 1)


def test_a_deadline_leaves_the_task_as_it_was() -> None:
    async def go() -> int:
        await ends(Deadlines().within(0.01, after(5.0, "x")))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert run(go()) == 0
