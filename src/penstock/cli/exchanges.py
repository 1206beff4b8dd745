"""`penstock exchanges`: single rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.setup import MOST, ConfigOption, DataDirOption, JsonOption, fail, load_config, reading_ledger, split_list
from penstock.cli.tables import OUTCOME_STYLES, known, open_console, print_json, print_table, show_money, show_ms, show_number, show_text, show_time
from penstock.cli.times import SinceOption, UntilOption, moments

if TYPE_CHECKING:
    from rich.table import Table

_SENTENCE = 32
"""Characters of a line of a cause at least, on a narrow terminal."""


def exchanges(
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=1, max=MOST, help="How many, the newest first.")] = 20,
    outcome: Annotated[list[str] | None, typer.Option(metavar="NAME", help="With this outcome: TRUNCATED, ... (repeat, or commas).")] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Of this model, as asked for or as it was.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The one whose id (x-penstock-id) begins so, in full.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Those that have not ended.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """The last exchanges: how each ended and what it used."""
    from penstock.vocabulary.outcome import Ending

    outcomes = [name.upper() for name in split_list(outcome)]
    unknown = [name for name in outcomes if name not in set(Ending)]
    if unknown:
        fail(f"there is no outcome {', '.join(unknown)}; there are {', '.join(Ending)}", 2)
    settings = load_config(config, {"data_dir": data_dir})

    from penstock.ledger import query

    begin, end = moments(since, until)
    with reading_ledger(settings) as engine:
        rows = query.exchanges(
            engine, last, outcome=outcomes or None, provider=provider, model=model, since=begin, until=end, id_prefix=id, open_only=open_only)
    if json:
        print_json(rows)
    elif not rows:
        typer.echo("none" if id is None else f"no exchange has an id that begins with {id}")
    elif id is not None and len(rows) == 1:
        open_console().print(spread(rows[0]))
    else:
        print_table(tabulate(rows))


def tabulate(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line an exchange."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("began (UTC)", "id", "outcome"):
        table.add_column(heading, no_wrap=True)
    for heading in ("provider", "model", "operation", "stop"):
        table.add_column(heading)
    for heading in ("input", "output", "cost", "ttft", "took"):
        table.add_column(heading, justify="right", no_wrap=True)
    ruled = any(row.get("rule") for row in rows)
    if ruled:
        table.add_column("rule")
    guarded = any(row.get("findings") for row in rows)
    if guarded:
        table.add_column("guards")
    told = bool(known(["replay"], rows))
    if told:
        table.add_column("replay", no_wrap=True)
    table.add_column("cause", min_width=_SENTENCE if any(row["cause"] and row["outcome"] != "COMPLETE" for row in rows) else None)
    for row in rows:
        outcome = row["outcome"]
        table.add_row(
            show_time(row["started_at"]),
            show_text(row["id"]),
            Text(outcome, style=OUTCOME_STYLES.get(outcome, "red")) if outcome else Text("open", style="cyan"),
            show_text(row["provider"]),
            show_text(row["model"] or row["requested_model"]),
            show_text(row["operation"]),
            show_text(row["stop_reason"]),
            show_number(row["input_tokens"]),
            show_number(row["output_tokens"]),
            show_money(row.get("cost_nanousd")),
            show_ms(row["ttft_ms"]),
            show_ms(row["duration_ms"]),
            *([show_text(row["rule"]) if row.get("rule") else ""] if ruled else []),
            *([show_text(show_findings(row["findings"])) if row.get("findings") else ""] if guarded else ()),
            *([str(row["replay"] or "")] if told else []),
            show_text(row["cause"]) if row["cause"] and outcome != "COMPLETE" else "",
        )
    return table


def show_findings(text: str | None) -> str:
    """What guards found, in few words: `secrets: mask 2, projects: reject 1`."""
    from penstock.ledger.story import read_findings

    sums: dict[tuple[str, str], int] = {}
    for one in read_findings(text):
        key = str(one.get("guard")), str(one.get("action"))
        sums[key] = sums.get(key, 0) + int(one.get("hits") or 0)
    return ", ".join(f"{guard}: {action} {hits}" for (guard, action), hits in sums.items())


def spread(row: Mapping[str, Any]) -> Table:
    """One exchange in full: a line for every column that has a value."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        if value is None:
            continue
        if name in ("started_at", "settled_at"):
            shown = f"{show_time(value)} UTC"
        elif name.endswith("_ms"):
            shown = show_ms(value)
        elif name.endswith("_nanousd"):
            name, shown = name.removesuffix("_nanousd"), show_money(value)
        elif name == "outcome":
            table.add_row(name, Text(str(value), style=OUTCOME_STYLES.get(str(value), "red")))
            continue
        else:
            shown = show_number(value) if not isinstance(value, bool) else ("yes" if value else "no")
        table.add_row(name, show_text(shown))
    return table
