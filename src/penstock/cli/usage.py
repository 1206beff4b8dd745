"""`penstock usage`: sums from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config, reading_ledger, split_list
from penstock.cli.tables import OUTCOME_STYLES, known, open_console, print_json, show_number
from penstock.cli.times import SinceOption, UntilOption, moment

if TYPE_CHECKING:
    from rich.table import Table

_HEADINGS = {
    "input_tokens": "input", "output_tokens": "output", "cache_read_tokens": "cache read", "cache_write_tokens": "cache write",
    "reasoning_tokens": "reasoning", "audio_input_tokens": "audio in", "audio_output_tokens": "audio out", "tool_use_tokens": "tool use",
    "tool_requests": "tool requests",
}  # fmt: skip
_ALWAYS = ("input_tokens", "output_tokens")


def usage(
    by: Annotated[list[str] | None, typer.Option(metavar="WHAT", help="model, provider, day, outcome, operation (repeat, or commas).")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Of this model, as the provider calls it.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """What was used: tokens as the providers stated them, summed."""
    settings = load_config(config, {"data_dir": data_dir})

    from penstock.ledger import query

    groups = split_list(by) or ["model"]
    unknown = [name for name in groups if name not in query.GROUPS]
    if unknown:
        fail(f"usage cannot be told by {', '.join(unknown)}; --by takes {', '.join(query.GROUPS)}", 2)
    with reading_ledger(settings) as engine:
        rows = query.usage(
            engine, cast("Sequence[query.Group]", groups), since=moment(since), until=moment(until, end=True), provider=provider, model=model)
    if json:
        print_json(rows)
    elif rows:
        open_console().print(tabulate(groups, rows))
    else:
        typer.echo("nothing yet")


def tabulate(groups: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The sums as a table: columns that no row has anything for are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in groups:
        table.add_column(name)
    counts = ["exchanges", *known(["unreported"], rows)]
    counts += [name for name in _HEADINGS if name in _ALWAYS or name in known([name], rows)]
    for name in counts:
        table.add_column(_HEADINGS.get(name, name), justify="right", no_wrap=True)
    for row in rows:
        cells = [Text(_shown(name, row[name]), style=_style(name, row[name])) for name in groups]
        table.add_row(*cells, *(show_number(row[name]) for name in counts))
    return table


def _style(name: str, value: object) -> str:
    return OUTCOME_STYLES.get(str(value), "red") if name == "outcome" and value is not None else ""


def _shown(name: str, value: object) -> str:
    if value is None:
        return "open" if name == "outcome" else "-"
    return str(value)
