"""`penstock torture`: a provider that misbehaves in every way, and a verdict on what the gateway makes of it."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from penstock.cli.ports import explain, find_holder, is_taken
from penstock.cli.setup import JsonOption, fail, split_list
from penstock.cli.tables import open_console, print_json, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.lab.torture.matrix import Cell, Result
    from penstock.lab.torture.sessions import Report, Target

T = TypeVar("T")
LONG_NAMES = {"openai_chat": "chat", "openai_responses": "responses", "anthropic_messages": "messages", "openai": "chat", "anthropic": "messages"}
"""What protocols are called elsewhere."""


def torture(
    target: Annotated[str | None, typer.Option(metavar="URL", help="A running gateway, whose providers are the scripted one.")] = None,
    own: Annotated[bool, typer.Option("--self", help="A gateway of our own, started for this with short timers (the default).")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="FAULT", help="Only this fault (repeat, or commas).")] = None,
    protocol: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this protocol: chat, responses, messages, gemini, array.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Tell the faults, and try nothing.")] = False,
    json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table as it stands in the documents.")] = False,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Cells at the same time.")] = 8,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="With --target: where the scripted provider listens.")] = "127.0.0.1:4280",
    patience: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="With --target: when a stall must have ended.")] = 310.0,
    header: Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="With --target: sent with every request; for its keys.")] = None,
    path: Annotated[list[str] | None, typer.Option(metavar="PROTOCOL=PATH", help="With --target: where it has a protocol; {model} in it.")] = None,
    model_prefix: Annotated[str, typer.Option(metavar="TEXT", help="With --target: before every model's name, as in openai/.")] = "",
    rewritten: Annotated[bool, typer.Option("--rewritten", help="With --target: it makes frames anew; compare what they say.")] = False,
    config: Annotated[Path | None, typer.Option("--config", hidden=True, help="Taken as everywhere; nothing here is configured.")] = None,
) -> None:
    """Try a gateway with a provider that misbehaves: one cell a fault and protocol; exit code 1 if one fails."""
    if own and target is not None:
        fail("--self and --target exclude each other", 2)
    told = {"--header": header, "--path": path, "--model-prefix": model_prefix, "--rewritten": rewritten}
    if target is None and (stray := [name for name, given in told.items() if given]):
        fail(f"{stray[0]} is about a gateway that runs: say which with --target", 2)
    wanted = choose(split_list(only), split_list(protocol))
    if listed:
        _list(wanted, json)
        return
    if target is None:
        report = _try_own(wanted, jobs)
    else:
        report = _try_target(read_target(target, listen, patience, header, path, model_prefix, rewritten), wanted, jobs)
    if json:
        print_json(as_row(result) for result in report.results)
    elif markdown:
        typer.echo("\n".join(as_markdown(report.results)))
    else:
        _show(report)
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    if not all(result.passed for result in report.results):
        raise typer.Exit(1)


def choose(faults: Sequence[str], protocols: Sequence[str]) -> list[Cell]:
    """The cells that are wanted. A name that nothing has is a mistake of the command line."""
    from penstock.lab.torture.matrix import FAULTS, FORMS, cells

    forms = [LONG_NAMES.get(name, name) for name in protocols]
    for what, names, known in (("fault", faults, FAULTS), ("protocol", forms, FORMS)):
        if unknown := [name for name in names if name not in known]:
            hint = "penstock torture --list tells them" if what == "fault" else f"there are {', '.join(known)}"
            fail(f"there is no {what} {', '.join(unknown)}; {hint}", 2)
    wanted = cells(faults, forms)
    if not wanted:
        fail("none of these faults makes sense in these protocols", 2)
    return wanted


def read_target(
    url: str, listen: str, patience: float, headers: list[str] | None, paths: list[str] | None, model_prefix: str, rewritten: bool
) -> Target:
    """The options about a target; each mistake in them ends the command with 2."""
    from penstock.config.document import Scalar
    from penstock.config.errors import Unfit
    from penstock.config.values import read_address
    from penstock.lab.torture.client import read_place
    from penstock.lab.torture.matrix import FORMS
    from penstock.lab.torture.sessions import Target

    pairs: list[tuple[str, str]] = []
    for line in headers or []:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(char in line for char in "\r\n"):
            fail(f"--header: {line.split(':')[0]!r} is no header; write 'NAME: VALUE'", 2)
        pairs.append((name.strip(), value.strip()))
    places: dict[str, str] = {}
    for given in paths or []:
        name, _, where = given.partition("=")
        form = LONG_NAMES.get(name, name)
        if form not in FORMS or not where.startswith("/"):
            fail(f"--path: {given!r} is none; write PROTOCOL=/PATH with one of {', '.join(FORMS)}", 2)
        places[form] = where
    try:
        address = read_address(Scalar(listen, "str"))
        return Target(read_place(url), (address.host, address.port), patience, pairs, places, model_prefix, rewritten)
    except Unfit as error:
        fail(f"--listen: {error}", 2)
    except ValueError as error:
        fail(f"--target: {error}", 2)


def as_row(result: Result) -> dict[str, object]:
    """A result as `--json` tells it."""
    cell = result.cell
    return {
        "fault": cell.fault.name, "protocol": cell.form.name, "passed": result.passed, "expected": cell.fault.must.value, "saw": result.saw,
        "seconds": round(result.seconds, 3),
    }  # fmt: skip


def as_markdown(results: Sequence[Result]) -> list[str]:
    """Lines of a table with the meaning of every fault."""
    from penstock.lab.torture.matrix import FORMS

    found = {(result.cell.fault.name, result.cell.form.name): result for result in results}
    lines = [f"| fault | what it does, and what must arrive | {' | '.join(FORMS)} |", f"|---|---|{':-:|' * len(FORMS)}"]
    for fault in dict.fromkeys(result.cell.fault for result in results):
        marks = [_mark(found.get((fault.name, form))) for form in FORMS]
        lines.append(f"| `{fault.name}` | {fault.means} | {' | '.join(marks)} |")
    return lines


def tabulate(results: Sequence[Result]) -> Table:
    """A line for each fault: a tick, or a cross and the beginning of its reason."""
    from rich.table import Table
    from rich.text import Text

    from penstock.lab.torture.matrix import FORMS

    found = {(result.cell.fault.name, result.cell.form.name): result for result in results}
    forms = [form for form in FORMS if any(result.cell.form.name == form for result in results)]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("fault", no_wrap=True)
    for form in forms:
        table.add_column(form, max_width=28)
    for name in dict.fromkeys(result.cell.fault.name for result in results):
        row: list[Text] = []
        for form in forms:
            result = found.get((name, form))
            reason = f" {_short(result.saw)}" if result is not None and result.saw is not None else ""
            row.append(Text(_mark(result) + reason, style="dim" if result is None else "green" if result.passed else "red"))
        table.add_row(name, *row)
    return table


def _mark(result: Result | None) -> str:
    return "·" if result is None else "✓" if result.passed else "✗"


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23].rstrip() + "…"


def _show(report: Report) -> None:
    from rich.text import Text

    console = open_console()
    console.print(tabulate(report.results))
    failed = [result for result in report.results if not result.passed]
    for result in failed:
        cell = result.cell
        console.print(Text.assemble(("\n✗ ", "red"), (f"{cell.fault.name}, {cell.form.name}", "bold"), f"\n  {cell.fault.means}"))
        console.print(Text(f"  expected: {cell.fault.must.value}\n  saw:      {result.saw}"))
    passed = len(report.results) - len(failed)
    style = "red" if failed else "green"
    console.print(Text(f"\n{passed} of {len(report.results)} cells passed in {report.seconds:.0f} s", style=style))


def _list(wanted: Sequence[Cell], json: bool) -> None:
    faults = dict.fromkeys(cell.fault for cell in wanted)
    forms = Counter[str]()
    if json:
        print_json({"fault": fault.name, "protocols": fault.forms, "expected": fault.must.value, "means": fault.means} for fault in faults)
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("fault", no_wrap=True)
    table.add_column("what it does, and what must arrive")
    for fault in faults:
        forms.update(fault.forms)
        table.add_row(fault.name, fault.means)
    print_table(table)


def _try_own(wanted: Sequence[Cell], jobs: int) -> Report:
    from penstock.lab.torture.own import StartError
    from penstock.lab.torture.sessions import try_own

    with _Progress(len(wanted)) as progress:
        try:
            return _run(try_own(wanted, progress.begin, progress.done, jobs))
        except StartError as error:
            fail(f"the gateway did not start: {error}")


def _try_target(target: Target, wanted: Sequence[Cell], jobs: int) -> Report:
    from penstock.lab.torture.sessions import Unreachable, try_target

    host, port = target.listen
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    typer.echo(f"The scripted provider is at {base}. Your gateway must send the models torture-* there:", err=True)
    typer.echo(f"OpenAI's base URL is {base}/v1, Anthropic's and Gemini's is {base}; any key will do.", err=True)
    with _Progress(len(wanted)) as progress:
        try:
            return _run(try_target(target, wanted, progress.begin, progress.done, jobs))
        except Unreachable as error:
            fail(f"--target: no gateway takes connections at {error}")
        except OSError as error:
            if is_taken(host, port):
                fail(explain("--listen", host, port, find_holder(port)).replace("penstock serve", "penstock torture"))
            fail(f"cannot listen on {host}:{port}: {error.strerror or error}")


class _Progress:
    """A bar on standard error, where somebody looks at it."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._failed = 0
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> _Progress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, cell: Cell) -> None:
        self._progress.update(self._task, description=self._words(f"{cell.fault.name} {cell.form.name}"))

    def done(self, result: Result) -> None:
        self._failed += not result.passed
        self._progress.advance(self._task)

    def _words(self, now: str) -> str:
        return f"[red]{self._failed} failed[/] {now}" if self._failed else now


def _run(work: Coroutine[Any, Any, T]) -> T:
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
