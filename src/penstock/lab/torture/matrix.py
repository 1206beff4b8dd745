"""Runs cells, each a fault in a form, and tells what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from penstock.lab.torture import endings, healthy, leaving, refusals, stalls
from penstock.lab.torture.client import Answer, Client, End, Place, ask
from penstock.lab.torture.faults import FAULTS, Asking, Fault
from penstock.lab.torture.forms import FORMS, Form, model_of
from penstock.lab.torture.judging import Bounds, Evidence, judge
from penstock.lab.torture.upstream import TortureServer

GROUPS = tuple(room.__name__.rpartition(".")[2] for room in (healthy, endings, refusals, stalls, leaving))
"""The files that hold faults, in the order of the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    fault: Fault
    form: Form

    @property
    def model(self) -> str:
        return model_of(self.fault.name, self.form.name)


@dataclass(slots=True)
class Result:
    """What came of a cell."""

    cell: Cell
    saw: str | None
    """`None`: what had to arrive arrived."""
    seconds: float
    requests: int = 1
    """How many exchanges the gateway had with the client."""

    @property
    def passed(self) -> bool:
        return self.saw is None


Begun = Callable[[Cell], None]
Done = Callable[[Result], None]


def cells(faults: Sequence[str] = (), forms: Sequence[str] = ()) -> list[Cell]:
    """The cells of these faults and forms, in the order of the table; of all where none are named."""
    wanted = [fault for fault in sorted(FAULTS.values(), key=lambda fault: GROUPS.index(fault.group)) if not faults or fault.name in faults]
    return [Cell(fault, FORMS[name]) for fault in wanted for name in fault.forms if not forms or name in forms]


@dataclass(slots=True)
class Matrix:
    """One gateway, one scripted provider that it asks."""

    place: Place
    """Where the gateway is."""
    server: TortureServer
    bounds: Bounds
    headers: Sequence[tuple[str, str]] = ()
    """Sent with every request, in place of ours of the same name."""
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    """By form, where it is not the usual one."""
    model_prefix: str = ""
    jobs: int = 8
    """Cells at the same time."""

    async def run(self, wanted: Sequence[Cell], begun: Begun = lambda _: None, done: Done = lambda _: None) -> list[Result]:
        """The results, in the order of the cells; `begun` and `done` are told of each as it comes. Heavy cells run last, one by one."""
        tasks: dict[Cell, asyncio.Task[Result]] = {}
        for heavy, jobs in ((False, self.jobs), (True, 1)):
            gate = asyncio.Semaphore(jobs)
            async with asyncio.TaskGroup() as group:
                for cell in wanted:
                    if cell.fault.heavy is heavy:
                        tasks[cell] = group.create_task(self._when_free(gate, cell, begun, done), name=f"torture {cell.model}")
        return [tasks[cell].result() for cell in wanted]

    async def _when_free(self, gate: asyncio.Semaphore, cell: Cell, begun: Begun, done: Done) -> Result:
        async with gate:
            begun(cell)
            result = await self.try_cell(cell)
            done(result)
            return result

    async def try_cell(self, cell: Cell) -> Result:
        """One cell, whose verdict never takes longer than its fault's patience and a little."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = self.server.watch(cell.fault.name, cell.form.name)
        answer = Answer(began, last_at=began)
        requests = 0
        for _ in range(cell.fault.requests):
            requests += 1
            try:
                client = await ask(self.place, self._request(cell))
            except OSError as error:
                return Result(cell, f"nobody listens at {self.place.authority}: {error.strerror or error}", loop.time() - began, 0)
            answer = await self._converse(client, Asking(client, watch, self.bounds.pause), cell.fault)
        evidence = Evidence(cell.fault, cell.form, self.bounds, answer, watch)
        await self._see_it_leave(evidence)
        return Result(cell, judge(evidence), loop.time() - began, requests)

    def _request(self, cell: Cell) -> bytes:
        path = self.paths.get(cell.form.name, cell.form.path)
        return cell.form.request(self.model_prefix + cell.model, self.place.authority, self.headers, self.place.base + path)

    async def _converse(self, client: Client, asking: Asking, fault: Fault) -> Answer:
        try:
            async with asyncio.timeout(self._patience(fault)):
                await fault.client(asking)
        except TimeoutError:
            pass
        answer = client.answer
        if not answer.over.is_set():
            client.leave()
            answer.end = End.SILENT
        return answer

    async def _see_it_leave(self, evidence: Evidence) -> None:
        """The provider's side is told of a leaving a moment after the client's."""
        visits = evidence.watch.visits
        if visits and (evidence.fault.timer is not None or evidence.fault.must.name == "LET_GO"):
            with suppress(TimeoutError):
                await asyncio.wait_for(visits[-1].asked.over.wait(), evidence.bounds.slack + 2 * evidence.bounds.let_go)

    def _patience(self, fault: Fault) -> float:
        if fault.timer is not None:
            return self.bounds.timers[fault.timer] + self.bounds.overtime
        return self.bounds.patience * (8 if fault.heavy else 1)
