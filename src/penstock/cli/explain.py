"""`penstock explain`: the life of one exchange, in plain words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.setup import ConfigOption, DataDirOption, fail, load_config, reading_ledger
from penstock.cli.tables import OUTCOME_STYLES, open_console, print_json, show_ms, show_time

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.console import RenderableType

    from penstock.ledger.story import Story

_MANY = 10


def explain(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Its id (x-penstock-id), or how that begins.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The one that began last.")] = False,
    last_failed: Annotated[bool, typer.Option("--last-failed", help="The last one that went wrong.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    events: Annotated[bool, typer.Option("--events", help="All events that were kept, not only the last dozen.")] = False,
    kept: Annotated[bool, typer.Option("--bytes", help="The stream's last bytes too, where its route keeps them (tail: content).")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Why one exchange ended as it did: what was expected, what came, who ended it, what to change."""
    if sum((id is not None, last, last_failed)) != 1:
        fail("say which exchange: an ID, or --last, or --last-failed", 2)
    settings = load_config(config, {"data_dir": data_dir})

    from penstock.ledger import query
    from penstock.ledger.story import read_findings, tell

    with reading_ledger(settings) as engine:
        row = _find(engine, id, failed=last_failed)
        content = query.kept_bytes(engine, row["id"]) if kept else None
    story = tell(row, more=events)
    if json:
        from msgspec import to_builtins

        plain = {name: value for name, value in row.items() if name not in ("tries", "tail", "findings")}  # the story has them, decoded
        findings = read_findings(row.get("findings"))
        print_json([{
            **to_builtins(story), "findings": findings, "row": plain, **({"tail_bytes": content and b64encode(content).decode()} if kept else {}),
        }])  # fmt: skip
        return
    open_console().print(show(story, row), soft_wrap=False)
    if kept:
        show_bytes(content)


def _find(engine: sa.Engine, id: str | None, *, failed: bool) -> dict[str, Any]:
    """The row that is meant; where there is none, or more than one, that is said, with exit code 1."""
    from penstock.ledger import query

    if id is None:
        found = query.exchanges(engine, 1, outcome=query.FAILED if failed else None)
        if not found:
            fail("no exchange has gone wrong" if failed else "there is no exchange yet")
        return found[0]
    exact = query.exchange(engine, id)
    if exact is None and id:
        exact = query.by_request_id(engine, id)  # what an error of Anthropic's shape quotes
    if exact is not None:
        return exact
    found = query.exchanges(engine, _MANY + 1, id_prefix=id) if id else []
    if not found:
        fail(f"no exchange has an id that begins with {id}; of those beyond the ledger's retention only daily sums are kept")
    if len(found) > 1:
        ids = ", ".join(row["id"] for row in found[:_MANY]) + (", ..." if len(found) > _MANY else "")
        fail(f"more than one exchange has an id that begins with {id}: {ids}")
    return found[0]


def show(story: Story, row: Mapping[str, Any]) -> RenderableType:
    """The story on a page."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    style = OUTCOME_STYLES.get(story.outcome or "", "red") if story.outcome else "cyan"
    head = Text.assemble((story.id, "bold"), "  ", (story.outcome or "open", style), "  ", (f"{show_time(row['started_at'])} UTC", "dim"))

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("verdict", Text(story.verdict))
    if story.cause:
        facts.add_row("cause", Text(story.cause))
    if story.replay:
        facts.add_row("replay", Text(story.replay))
    facts.add_row("expected", Text(story.expected))
    facts.add_row("came", Text(story.came))
    facts.add_row("ended by", Text(story.ended_by + (f", by the timer {story.timer}" if story.timer else "")))
    for number, line in enumerate(story.guards):
        facts.add_row("guards" if number == 0 else "", Text(line))
    for number, line in enumerate(story.change):
        facts.add_row("what to do" if number == 0 else "", Text(line))

    times = Table.grid(padding=(0, 2))
    times.add_column(justify="right", style="dim", no_wrap=True)
    times.add_column(overflow="fold")
    for moment in story.timeline:
        times.add_row(show_ms(moment.ms), Text(moment.what))
    return Group(head, Text(), facts, Text(), times)


def show_bytes(content: bytes | None) -> None:
    """What was kept of the stream, a line for each of its lines, everything but plain text escaped."""
    if content is None:
        typer.echo("\nno bytes were kept: they are with `tail: content` on the route, and only where a stream ends badly")
        return
    typer.echo(f"\nthe last {len(content):,} bytes from the provider:")
    for line in content.splitlines(keepends=True):
        typer.echo("  " + escape(line))


def escape(data: bytes) -> str:
    """`data` in characters that a terminal only shows: controls and what is no UTF-8 as escapes."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
