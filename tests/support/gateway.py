"""A whole gateway on real sockets, on the test's own loop, with its ledger in a temporary directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import uvloop
import yaml

from penstock.app import App
from penstock.config.load import load
from penstock.ledger import query
from penstock.ledger.settings import LedgerSettings
from tests.support.ledgers import put_empty_ledger

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine on the loop that the product uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class Running:
    """A gateway that runs."""

    def __init__(self, app: App, port: int) -> None:
        self.app = app
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def quiet(self, seconds: float = 30.0) -> None:
        """Wait until no exchange is running."""
        async with asyncio.timeout(seconds):
            while self.app.gateway.live:  # noqa: ASYNC110  # nobody tells; the wait is bounded
                await asyncio.sleep(0.005)

    async def rows(self, *, settled: bool = True, last: int = 1_000_000) -> list[dict[str, Any]]:
        """All rows, oldest first, as `penstock exchanges` shows them; waits for running exchanges unless told otherwise."""
        if settled:
            await self.quiet()
        return await asyncio.to_thread(self._rows, last)

    async def last_row(self) -> dict[str, Any]:
        """The newest, once nothing runs."""
        return (await self.rows(last=1))[0]

    def _rows(self, last: int) -> list[dict[str, Any]]:
        self.app.ledger.flush()
        return query.exchanges(self._engine, last=last)[::-1]

    @cached_property
    def _engine(self) -> sa.Engine:
        """Kept: a new one would make its statements again."""
        return query.connect(LedgerSettings(self.app.config.data_dir))

    def close(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()


def write_config(directory: Path, providers: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Path:
    """The file of a gateway that has started before: its ledger is there. The migrations have tests of their own (`tests/ledger`, `tests/cli`)."""
    path = directory / "penstock.yaml"
    put_empty_ledger(LedgerSettings(directory / "data"))
    wanted = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "data_dir": str(directory / "data"), "providers": dict(providers), **(more or {})}
    path.write_text(yaml.safe_dump(wanted, sort_keys=False))
    return path


def providers_at(port: int) -> dict[str, Any]:
    """The three kinds, all at one port of loopback, with keys."""
    base = f"http://127.0.0.1:{port}"
    return {
        "openai": {"protocol": "openai", "base_url": base, "api_key": "sk-test-openai"},
        "anthropic": {"protocol": "anthropic", "base_url": base, "api_key": "sk-ant-api-test"},
        "gemini": {"protocol": "gemini", "base_url": base, "api_key": "AIza-test"},
    }


@asynccontextmanager
async def gateway(directory: Path, providers: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> AsyncGenerator[Running]:
    app = App(load(write_config(directory, providers, more), environ={"HOME": str(directory)}))
    started = await app.start()
    work = asyncio.create_task(app.run(), name="gateway")
    running = Running(app, started.data_port)
    try:
        yield running
    finally:
        running.close()
        app.stop()
        app.stop()
        await work
        app.close()
