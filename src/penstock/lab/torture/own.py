"""A gateway of our own to be tried: a child process on free ports, with short timers and a ledger that is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from penstock.lab.torture.client import Place
from penstock.lab.torture.faults import FAULTS, Must, read_all
from penstock.lab.torture.judging import Bounds
from penstock.lab.torture.matrix import Result

BOUNDS = Bounds(
    timers={"first_content": 1.6, "idle": 1.2, "content": 1.8, "tool_call": 1.0, "client_stall": 4.0},
    exact=True, keepalive=0.4, holds_heads=True, pause=0.8,
)  # fmt: skip
"""Timers of a second or so, no two of them alike, so that an error tells by its time which of them fired."""
_EARLY_HEAD_S = 0.4
_PROVIDERS = ("openai", "anthropic", "gemini")
_PATIENT = dict.fromkeys(BOUNDS.timers, 60)
_READY_S = 60.0
_STOPPED_S = 30.0
_KEY = "sk-torture-upstream"
_COMMAND = (sys.executable, "-P", "-c", "from penstock.cli import main; main()")
_OUTCOMES: Mapping[Must, frozenset[str]] = {
    Must.WHOLE: frozenset({"COMPLETE"}),
    Must.UNTIL_TERMINAL: frozenset({"COMPLETE"}),
    Must.LET_GO: frozenset({"CLIENT_GONE"}),
    Must.TOLD: frozenset({"UPSTREAM_ERROR"}),
    Must.TOLD_IN_BAND: frozenset({"UPSTREAM_ERROR"}),
    Must.REFUSED: frozenset({"TRUNCATED", "UPSTREAM_LOST", "UPSTREAM_ERROR"}),
    Must.BROKEN: frozenset({"TRUNCATED", "UPSTREAM_LOST"}),
}


class StartError(Exception):
    """The gateway did not start. Its text is what it said."""


class OwnGateway:
    """One that runs. Make it with `running`."""

    def __init__(self, process: asyncio.subprocess.Process, config: Path, environ: Mapping[str, str]) -> None:
        self.place = Place("127.0.0.1", 0)
        self._process = process
        self._config = config
        self._environ = environ
        self._said = bytearray()
        self._listeners = [asyncio.create_task(self._hear(pipe), name="torture: hear the gateway") for pipe in (process.stdout, process.stderr)]

    async def ready(self) -> None:
        """Wait for its banner. Raises `StartError`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _READY_S
        while (found := re.search(rb"clients +http://[^\s]+:(\d+)", self._said)) is None:
            if self._process.returncode is not None or loop.time() > until:
                raise StartError(self._said.decode("utf-8", "replace").strip() or "it said nothing")
            await asyncio.sleep(0.02)
        self.place = Place("127.0.0.1", int(found[1]))

    async def stop(self) -> str | None:
        """SIGTERM; what was wrong with its end."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self._process.wait(), _STOPPED_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            return f"the gateway did not stop within {_STOPPED_S:.0f} s"
        return None if code == 0 else f"the gateway ended with {code}: {self._said.decode('utf-8', 'replace').strip()[-500:]}"

    async def rows(self) -> list[dict[str, Any]]:
        """Its ledger, by its own command; also when it has stopped."""
        command = (*_COMMAND, "exchanges", "--json", "--last", "1000000", "--config", str(self._config))
        reader = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=self._environ)
        out, errors = await reader.communicate()
        if reader.returncode != 0:
            raise StartError(errors.decode("utf-8", "replace").strip())
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in out.splitlines()]

    async def close(self) -> None:
        """Gone afterwards, whatever its state."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._listeners)

    async def _hear(self, pipe: asyncio.StreamReader | None) -> None:
        assert pipe is not None
        while data := await pipe.read(65_536):
            self._said += data
            del self._said[:-65_536]


@asynccontextmanager
async def running(upstream_port: int) -> AsyncGenerator[OwnGateway]:
    """A gateway whose providers are all at that port of loopback. Raises `StartError`."""
    with TemporaryDirectory(prefix="penstock-torture-") as directory:
        config = Path(directory) / "penstock.yaml"
        config.write_bytes(msgspec.json.format(msgspec.json.encode(settings(upstream_port, directory))))  # JSON is YAML
        environ = {n: v for n, v in os.environ.items() if not n.startswith("PENSTOCK_") and not n.lower().endswith("_proxy")} | {"HOME": directory}
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, "serve", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environ,
        )  # fmt: skip
        gateway = OwnGateway(process, config, environ)
        try:
            await gateway.ready()
            yield gateway
        finally:
            await gateway.close()


def settings(upstream_port: int, directory: str) -> dict[str, Any]:
    """The gateway's configuration file."""
    base = f"http://127.0.0.1:{upstream_port}"
    early = [{"model": "torture-early-*", "provider": name, "early_head": _EARLY_HEAD_S} for name in _PROVIDERS]
    # On a slow machine many bytes take longer than timers that are short on purpose. And no timer may be what ends an answer that is whole.
    bulky = [fault.name for fault in FAULTS.values() if fault.heavy and fault.must is Must.WHOLE and fault.client is read_all]
    patient = [{"model": f"torture-{name}.*", "provider": provider, "timers": _PATIENT} for name in (*bulky, "lingering") for provider in _PROVIDERS]
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "data_dir": f"{directory}/data",
        "timers": {**BOUNDS.timers, "connect": 1.5, "drain": 5},
        "keepalive": BOUNDS.keepalive,
        "early_head": "off",
        "dedup": "off",  # when a client leaves, its provider is to be left at once: no retry is waited for
        "providers": {name: {"protocol": name, "base_url": base, "api_key": _KEY} for name in _PROVIDERS},
        "routes": early + patient,
    }


def audit(results: Iterable[Result], rows: Iterable[Mapping[str, Any]]) -> None:
    """Hold the ledger against what was done: one row for each exchange, and COMPLETE only where it was. Adds what is wrong to the results."""
    told: dict[str, list[str]] = {}
    for row in rows:
        told.setdefault(str(row.get("requested_model")), []).append(str(row.get("outcome") or "open"))
    for result in results:
        fault = result.cell.fault
        outcomes = told.get(result.cell.model, [])
        allowed = fault.outcomes or (("TIMED_OUT",) if fault.timer is not None else tuple(_OUTCOMES[fault.must]))
        wrong = [outcome for outcome in outcomes if outcome not in allowed]
        complaint = None
        if len(outcomes) != result.requests:
            complaint = f"the ledger has {len(outcomes)} rows for {result.requests}"
        elif wrong:
            complaint = f"the ledger says {', '.join(wrong)}, not {' or '.join(sorted(allowed))}"
        if complaint is not None:
            result.saw = complaint if result.saw is None else f"{result.saw}; {complaint}"
