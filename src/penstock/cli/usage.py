"""`penstock usage`: sums from the ledger, two times compared, histories brought in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from penstock.cli.history import bring_in
from penstock.cli.money import with_usd
from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config, reading_ledger, split_list
from penstock.cli.tables import OUTCOME_STYLES, known, print_csv, print_json, print_table, show_money, show_number, show_text
from penstock.cli.times import SinceOption, UntilOption, moments

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(invoke_without_command=True, help="What was used and what it cost: tokens as the providers stated them, summed.")
app.command(name="import")(bring_in)

_HEADINGS = {
    "input_tokens": "input", "output_tokens": "output", "cache_read_tokens": "cache read", "cache_write_tokens": "cache write",
    "reasoning_tokens": "reasoning", "audio_input_tokens": "audio in", "audio_output_tokens": "audio out", "image_input_tokens": "images in",
    "image_output_tokens": "images out", "video_input_tokens": "video in", "video_output_tokens": "video out",
    "cache_read_audio_tokens": "cached audio", "cache_read_image_tokens": "cached images", "cache_read_video_tokens": "cached video",
    "tool_use_tokens": "tool use",
    "tool_requests": "tool requests", "web_searches": "web searches", "cost_nanousd": "cost", "saved_nanousd": "saved",
    "avoided_nanousd": "avoided",
}  # fmt: skip
_ALWAYS = ("input_tokens", "output_tokens")
_MONEY = ("cost_nanousd", "saved_nanousd", "avoided_nanousd")
_SPANS = {"day": 86400.0, "week": 7 * 86400.0, "month": 30 * 86400.0}
ALIASES = {"user": "user_id", "session": "session_id", "app": "client"}
"""Shorter words for groups."""
_WITH = {"key": ("key", "key_id", "key_fingerprint")}
"""What stands in a row for a group, where that is more than itself."""
_NOTHING: Mapping[str, Any] = {"exchanges": 0}
"""The figures of a time in which a group has no exchange: their sums are not known, as those of a total over none."""


@app.callback()
def usage(
    context: typer.Context,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="model, provider, day, month, user, key, project, session, client, effort, ... (repeat, or commas)."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Of this model, as the provider calls it.")] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Of this user.")] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Of this project.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Of this session.")] = None,
    client: Annotated[str | None, typer.Option(metavar="NAME", help="Of this client application.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this key, by name, id or fingerprint; or of the credential with this fingerprint.")
    ] = None,
    compare: Annotated[str | None, typer.Option(metavar="SPAN", help="The last day, week or month beside the one before it.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a line of names.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """What was used and what it cost: tokens as the providers stated them, summed."""
    if context.invoked_subcommand is not None:
        return
    if json and csv:
        fail("--json and --csv are two ways to print the same; choose one", 2)
    if compare is not None and compare not in _SPANS:
        fail(f"--compare takes {', '.join(_SPANS)}, and not {compare!r}", 2)
    if compare is not None and (since or until):
        fail("--compare names the times itself; leave out --since and --until", 2)
    settings = load_config(config, {"data_dir": data_dir})

    from penstock.ledger import query

    groups = [ALIASES.get(name, name) for name in split_list(by)] or ([] if compare else ["model"])
    unknown = [name for name in groups if name not in query.GROUPS]
    if unknown:
        fail(f"usage cannot be told by {', '.join(unknown)}; --by takes {', '.join((*query.GROUPS, *ALIASES))}", 2)
    chosen = cast("Sequence[query.Group]", list(dict.fromkeys(groups)))
    filters: dict[str, Any] = {
        "provider": provider, "model": model, "user_id": user, "project": project, "session_id": session, "client": client, "key": key,
    }  # fmt: skip
    begin, end = moments(since, until)
    with reading_ledger(settings) as engine:
        if compare is not None:
            now, span = time.time(), _SPANS[compare]
            later = query.usage(engine, chosen, since=now - span, until=now, days="begun", **filters)
            former = query.usage(engine, chosen, since=now - 2 * span, until=now - span, days="begun", **filters)
            rows = beside([part for name in chosen for part in _WITH.get(name, (name,))], later, former)
        else:
            rows = query.usage(engine, chosen, since=begin, until=end, **filters)
    if json:
        print_json(with_usd(row) for row in rows)
    elif csv:
        print_csv([with_usd(row) for row in rows])
    elif rows:
        print_table(tabulate_beside(chosen, rows, compare) if compare is not None else tabulate(chosen, rows))
    else:
        typer.echo("nothing yet")


def beside(groups: Sequence[str], later: Sequence[Mapping[str, Any]], former: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of two times as one row per group: figures of the former under the same name with `_before`. The dearest first."""
    before = {tuple(row[name] for name in groups): row for row in former}
    now = {tuple(row[name] for name in groups): row for row in later}
    names = ("exchanges", "input_tokens", "output_tokens", "cache_read_tokens", "cost_nanousd")
    rows: list[dict[str, Any]] = []
    for key in {**now, **before}:
        row: dict[str, Any] = dict(zip(groups, key, strict=True))
        for name in names:
            row[name] = now.get(key, _NOTHING).get(name)
            row[f"{name}_before"] = before.get(key, _NOTHING).get(name)
        rows.append(row)
    return sorted(rows, key=lambda row: -max(row["cost_nanousd"] or 0, row["cost_nanousd_before"] or 0))


def tabulate_beside(groups: Sequence[str], rows: Sequence[Mapping[str, Any]], span: str) -> Table:
    """Two times beside each other, and by how much the cost changed."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in groups:
        table.add_column(name)
    for heading in ("exchanges", f"{span} before", "output", f"{span} before", "cost", f"{span} before", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = [show_number(row["exchanges"]), show_number(row["exchanges_before"])]
        figures += [show_number(row["output_tokens"]), show_number(row["output_tokens_before"])]
        figures += [show_money(row["cost_nanousd"]), show_money(row["cost_nanousd_before"])]
        table.add_row(*(show_text(_shown(name, row[name])) for name in groups), *figures, change(row["cost_nanousd"], row["cost_nanousd_before"]))
    return table


def change(now: int | None, before: int | None) -> str:
    """In per cent of what was before; nothing can be said where that was nothing."""
    return "-" if not before or now is None else f"{100 * (now - before) / before:+.0f} %"


def tabulate(groups: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The sums as a table: columns that no row has anything for are left out."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in groups:
        table.add_column(name)
    counts = ["exchanges", *known(["unreported", "unpriced"], rows)]
    counts += [name for name in _HEADINGS if name in _ALWAYS or name in known([name], rows)]
    for name in counts:
        table.add_column(_HEADINGS.get(name, name), justify="right", no_wrap=True)
    for row in rows:
        cells = [show_text(_shown(name, row[name]), _style(name, row[name])) for name in groups]
        table.add_row(*cells, *(show_money(row[name]) if name in _MONEY else show_number(row[name]) for name in counts))
    return table


def _style(name: str, value: object) -> str:
    return OUTCOME_STYLES.get(str(value), "red") if name == "outcome" and value is not None else ""


def _shown(name: str, value: object) -> str:
    if value is None:
        return "open" if name == "outcome" else "-"
    return str(value)
