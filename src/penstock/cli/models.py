"""`penstock models`: the models of each provider, and under which other names they may be asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.asking import ask_providers, build_providers
from penstock.cli.setup import ConfigOption, JsonOption, load_config, split_list
from penstock.cli.tables import print_json, print_table, show_text

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.config import Config
    from penstock.exchange.probe import Listed
    from penstock.routing.routes import Route

_WILD = frozenset("*?[")


def models(
    provider: Annotated[list[str] | None, typer.Option("--provider", metavar="NAME", help="Of these alone (repeat, or commas).")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """The models and aliases of each provider, which are asked for them. One that does not answer is told; exit code 1 if none does."""
    found = load_config(config)
    listed = ask_providers(found, build_providers(found, split_list(provider)))
    rows = list(_rows(found, listed))
    if json:
        print_json(rows)
    elif any("model" in row for row in rows):
        print_table(tabulate(rows))
    for one in listed:
        if one.models is None:
            typer.echo(f"penstock: provider {one.provider!r} lists nothing: {one.failure}", err=True)
        elif not one.models and not json:
            typer.echo(f"{one.provider}: its list is empty")
    if all(one.models is None for one in listed):
        raise typer.Exit(1)


def tabulate(rows: Iterable[dict[str, Any]]) -> Table:
    """A table of the rows that have a model."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    for heading in ("provider", "model", "aliases"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if "model" in row:
            table.add_row(*map(show_text, (row["provider"], row["model"], "  ".join(row["aliases"]))))
    return table


def _rows(config: Config, listed: Sequence[Listed]) -> Iterable[dict[str, Any]]:
    """One for each model; for a provider without a list, one that says why."""
    for one in listed:
        if one.models is None:
            yield {"provider": one.provider, "error": one.failure}
            continue
        named = _routed(route for route in config.routes if route.provider == one.provider)
        for model in one.models:
            names = [name for told in (model.id, *model.aliases) for name in named.pop(told, [])]
            yield {"provider": one.provider, "model": model.id, "aliases": [*model.aliases, *names]}
        for told, names in named.items():  # a route may name what the provider does not list
            yield {"provider": one.provider, "model": told, "aliases": names, "listed": False}


def _routed(routes: Iterable[Route]) -> dict[str, list[str]]:
    """What routes that name one model let clients write, by what the provider is told."""
    named: dict[str, list[str]] = {}
    for route in routes:
        if route.rename is not None and not _WILD & set(route.model.text):
            named.setdefault(route.rename, []).append(route.model.text)
    return named
