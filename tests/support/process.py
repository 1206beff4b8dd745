"""`penstock serve` in a process of its own, which can be stopped, killed, paused, starved, and looked at from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import IO, Any

from tests.support import forking
from tests.support.gateway import write_config
from tests.support.http import ask

RUNNER = Path(__file__).with_name("serve_hurried.py")
READY_S = 120.0
ENDED_S = 120.0
"""Bounds for what hangs, not measures of how fast a machine is."""
Row = dict[str, Any]


class Process:
    """One gateway. Make it with `start`; it is ready then."""

    def __init__(self, popen: subprocess.Popen[bytes] | forking.Forked, data_dir: Path, out: IO[bytes], err: IO[bytes]) -> None:
        self.popen = popen
        self.data_dir = data_dir
        self.port = 0
        self._out = _Heard(out)
        self._err = _Heard(err)

    @classmethod
    async def start(
        cls, directory: Path, providers: Mapping[str, Any], more: Mapping[str, Any] | None = None, hurry: Mapping[str, float] | None = None,
        *, anew: bool = False,
    ) -> Process:  # fmt: skip
        """A gateway whose ledger is in `directory/data`, on free ports. `hurry`: fields of `LedgerSettings` to be replaced. `anew`: in an interpreter
        of its own, and not forked from one that has imported everything."""
        config = write_config(directory, providers, more)
        script = RUNNER if hurry else Path(sys.executable).with_name("penstock")
        arguments = [*([json.dumps(hurry)] if hurry else []), "serve", "--config", str(config)]
        environ = {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_") and not n.lower().endswith("_proxy")}
        environ["HOME"] = str(directory)
        with tempfile.TemporaryDirectory() as place:
            out, err = Path(place) / "out", Path(place) / "err"
            if anew:
                popen = subprocess.Popen(  # noqa: ASYNC220 - a fork takes no time here
                    [sys.executable, "-P", str(script), *arguments],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
                )  # fmt: skip
                assert popen.stdout is not None
                assert popen.stderr is not None
                said = popen.stdout, popen.stderr
            else:
                for pipe in (out, err):
                    os.mkfifo(pipe)
                popen = forking.start(str(script), arguments, environ, Path.cwd(), out, err, script=script, limit_s=0)
                said = out.open("rb"), err.open("rb")
        process = cls(popen, directory / "data", *said)
        try:
            process.port = int((await process._said(process._out, r"clients +http://\S+:(\d+)"))[1])
            assert (await ask(process.port, "GET", "/health")).status == 200
        except BaseException:
            await process.end()
            raise
        return process

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._err.text

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait until its standard error has the words."""
        return await self._said(self._err, pattern)

    async def _said(self, heard: _Heard, pattern: str) -> re.Match[str]:
        until = asyncio.get_running_loop().time() + READY_S
        while (found := re.search(pattern, heard.text)) is None:
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {self.stderr}"
            assert asyncio.get_running_loop().time() < until, f"{pattern!r} was not said: {self.stderr}"
            await asyncio.sleep(0.01)
        return found

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    async def ended(self, timeout: float = ENDED_S) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        await asyncio.to_thread(self.popen.wait, timeout)
        self._out.thread.join(5)
        self._err.thread.join(5)
        code = self.popen.poll()
        assert code is not None
        return code

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL

    async def end(self) -> None:
        """Whatever state it is in: gone afterwards."""
        if self.popen.poll() is None:
            self.popen.kill()
        await self.ended()

    def resident(self) -> int:
        """Bytes of resident memory now."""
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def starved(self) -> float:
        """Seconds for which its threads were ready to run and had no processor, since it began (Linux's own count)."""
        return sum(int(file.read_text().split()[1]) for file in Path(f"/proc/{self.pid}/task").glob("*/schedstat")) / 1e9

    def fill_disk(self) -> None:
        """From now on no byte goes into any file (pipes and sockets do): as on a full disk, and for root as well."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (0, hard))

    def free_disk(self) -> None:
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard, hard))


class _Heard:
    """What a pipe brings, read by a thread: nobody may block on writing to it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lines: list[bytes] = []
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    @property
    def text(self) -> str:
        return b"".join(self._lines).decode()

    def _listen(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self._lines.append(line)


@asynccontextmanager
async def serving(
    directory: Path, providers: Mapping[str, Any], more: Mapping[str, Any] | None = None, hurry: Mapping[str, float] | None = None,
    *, anew: bool = False,
) -> AsyncGenerator[Process]:  # fmt: skip
    """A gateway that is gone at the end, whatever happens."""
    process = await Process.start(directory, providers, more, hurry, anew=anew)
    try:
        yield process
    finally:
        await process.end()


def rows_in(data_dir: Path, table: str = "exchanges") -> list[Row]:
    """All rows, read by plain sqlite3 and not by the code under test; also while a gateway runs."""
    with closing(sqlite3.connect(data_dir / "ledger.db", timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


async def rows_until(data_dir: Path, met: Callable[[list[Row]], bool], timeout: float = 15.0, table: str = "exchanges") -> list[Row]:
    """The rows, as soon as they meet the condition; as they are after `timeout` seconds, for the test to say what is missing."""
    until = asyncio.get_running_loop().time() + timeout
    while True:
        rows = rows_in(data_dir, table)
        if met(rows) or asyncio.get_running_loop().time() > until:
            return rows
        await asyncio.sleep(0.02)


def all_settled(rows: list[Row]) -> bool:
    return all(row["outcome"] is not None for row in rows)


def open_models(rows: list[Row]) -> set[str]:
    """The requested models of the rows that are open."""
    return {str(row["requested_model"]) for row in rows if row["outcome"] is None}


def spilled_in(data_dir: Path) -> list[Path]:
    """The spill files that are there."""
    return sorted(data_dir.glob("spill-*"))
