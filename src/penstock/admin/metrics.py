"""`GET /metrics`: what was counted and what is now, in Prometheus' text format.

The format is version 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/: every line ends with a line feed; in help texts
backslash and line feed are escaped, in label values the double quote too; the series of one metric stand together, below its HELP and TYPE.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from starlette.responses import Response

from penstock.admin.deps import Deps, Readings
from penstock.telemetry.metrics import Family, Labels, Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


class Exposition:
    """Of one gateway."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._started_at = deps.clock()

    async def answer(self) -> Response:
        """All metrics. A family at a time, so that streams go on in between however many providers there are."""
        parts: list[str] = []
        for family in self._families():
            parts.append(write(family))
            await asyncio.sleep(0)
        return Response("".join(parts), media_type=None, headers={"content-type": CONTENT_TYPE})

    def _families(self) -> Generator[Family]:
        deps = self._deps
        yield _gauge("penstock_info", "Which gateway this is.", 1, (("version", deps.version), ("instance", deps.instance)))
        yield _gauge("penstock_draining", "1 while no new exchange is taken.", int(deps.draining()))
        yield _gauge("penstock_ledger_failing", "1 while rows do not reach the database.", int(deps.ledger_failing()))
        yield from deps.families()
        if deps.readings is not None:
            yield from _read(deps.readings)
        yield _gauge("process_start_time_seconds", "When the admin plane began, in seconds since the epoch.", self._started_at)
        yield _counter("process_cpu_seconds_total", "User and system CPU time.", time.process_time())
        resident = _resident()
        if resident is not None:
            yield _gauge("process_resident_memory_bytes", "Resident memory.", resident)


def _read(now: Readings) -> Generator[Family]:
    yield _gauge("penstock_exchanges_open", "Exchanges under way, streams and others.", now.exchanges_open())
    yield _gauge("penstock_client_connections", "Connections of clients that are open.", now.client_connections())
    idle = now.upstream_idle()
    states = (("in_use", max(0, now.upstream_open() - idle)), ("idle", idle), ("dialing", now.upstream_dialing()))
    yield Family(
        "penstock_upstream_connections", "gauge", "Connections to providers: answering, kept for later, being made.",
        [Sample("", (("state", state),), count) for state, count in states])  # fmt: skip
    ledger = now.ledger_counters()
    yield _gauge("penstock_ledger_queue_length", "Rows that wait in memory for the database or the spill file.", now.ledger_queued())
    yield _counter("penstock_ledger_rows_written_total", "Rows that the database took from the queue.", ledger.written)
    yield _counter("penstock_ledger_rows_spilled_total", "Rows that went to the spill file because the database did not take them.", ledger.spilled)
    yield _counter("penstock_ledger_rows_drained_total", "Rows that came from spill files into the database.", ledger.drained)
    yield _counter("penstock_ledger_failures_total", "Tries that the database or the spill file refused.", ledger.failures)
    yield _counter("penstock_ledger_refused_total", "Exchanges refused because their row could be kept nowhere.", ledger.refused)
    yield _counter("penstock_ledger_late_settles_total", "Attempts to settle an exchange again; each is a bug.", ledger.late_settles)
    yield _counter("penstock_ledger_crashed_total", "Exchanges of dead instances that this one settled.", ledger.crashed)
    yield _counter("penstock_ledger_torn_lines_total", "Lines of spill files that could not be read.", now.ledger_torn())
    yield _counter("penstock_log_dropped_lines_total", "Lines of the log that were lost.", now.log_dropped())


def _gauge(name: str, help: str, value: float, labels: Labels = ()) -> Family:
    return Family(name, "gauge", help, [Sample("", labels, value)])


def _counter(name: str, help: str, value: float) -> Family:
    return Family(name, "counter", help, [Sample("", (), value)])


def write(family: Family) -> str:
    """`family` in the text format. A metric without a series has only its HELP and TYPE."""
    name = family.name
    help = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {family.kind}"]
    for suffix, labels, value in family.samples:
        told = ",".join([f'{label}="{_escape(text)}"' for label, text in labels])
        # repr: the shortest digits that give the float again.
        lines.append(f"{name}{suffix}{{{told}}} {value!r}" if told else f"{name}{suffix} {value!r}")
    lines.append("")
    return "\n".join(lines)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _resident() -> int | None:
    """Bytes; `None` where the system does not tell (anywhere but Linux)."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
