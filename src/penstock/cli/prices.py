"""`penstock prices`: what models cost, by which list, and which nobody knows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from penstock.cli.money import with_usd
from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config, reading_ledger
from penstock.cli.tables import print_json, print_table, show_money, show_number, show_text
from penstock.cli.times import SinceOption, UntilOption, moments

if TYPE_CHECKING:
    from penstock.config import Config


def prices(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Models, as their providers call them.")] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="At this provider; left out: at each that knows the model.")] = None,
    tier: Annotated[str | None, typer.Option(metavar="NAME", help="In this service tier: batch, priority, flex, ...")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Models in the ledger whose price nobody knows.")] = False,
    reprice: Annotated[bool, typer.Option("--reprice", help="Give exchanges in the ledger that have no price the one that is known now.")] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """What models cost, in US dollars per million tokens; and which have no price."""
    settings = load_config(config, {"data_dir": data_dir})
    if reprice:
        _reprice(settings, *moments(since, until), json=json)
        return
    if unknown:
        rows = _unknown(settings, *moments(since, until))
        nothing = "every exchange that used tokens has its price"
    elif models:
        rows, nothing = known_prices(settings, models, provider, tier, time.time()), ""
        if not rows:
            example = f"prices: [{{model: {models[0]}, input: 1, output: 2}}]"
            fail(f"nobody knows what {', '.join(models)} costs; write it into the configuration: {example}")
    else:
        fail("name models, or ask for --unknown, or --reprice", 2)
    if json:
        print_json(rows)
    elif rows:
        _print(rows)
    else:
        typer.echo(nothing)
    lacking = [model for model in dict.fromkeys(models or ()) if all(row["model"] != model for row in rows)]
    if lacking and not unknown:
        typer.echo(f"penstock: nobody knows what {', '.join(lacking)} costs", err=True)
        raise typer.Exit(1)


def known_prices(settings: Config, models: Sequence[str], provider: str | None, tier: str | None, now: float) -> list[dict[str, Any]]:
    """One row for each model at each provider that has a price for it, now."""
    from penstock.app import prices_of
    from penstock.pricing import to_usd

    lists = prices_of(settings)
    names = [provider] if provider is not None else [each.name for each in settings.providers]
    rows: list[dict[str, Any]] = []
    for model in models:
        for name in names:
            tariff = lists.tariff(name, model, None, tier, now)
            if tariff is not None:
                rates: dict[str, Any] = {part: rate for part, rate in tariff.rates._asdict().items() if rate is not None}
                if tariff.request:
                    rates["requests"] = to_usd(tariff.request // 10**6)  # per thousand, as searches are
                rows.append({"provider": name, "model": model, "source": tariff.source, **rates, "longer": [start for start, _ in tariff.tiers]})
    return rows


def _unknown(settings: Config, since: float | None, until: float | None) -> list[dict[str, Any]]:
    from penstock.ledger import query

    with reading_ledger(settings) as engine:
        found = query.usage(engine, ("provider", "model", "requested_model"), since=since, until=until)
    names = ("provider", "model", "requested_model", "unpriced", "input_tokens", "output_tokens")
    return [{name: row[name] for name in names} for row in found if row["unpriced"]]


def _reprice(settings: Config, since: float | None, until: float | None, *, json: bool) -> None:
    """No row that has a price is touched, so twice changes nothing."""
    from penstock.app import prices_of
    from penstock.ledger.errors import LedgerError, StoreError
    from penstock.ledger.reprice import reprice
    from penstock.ledger.rollup import Roller
    from penstock.ledger.settings import LedgerSettings
    from penstock.ledger.store import Store

    ledger = LedgerSettings(settings.data_dir, settings.ledger_url, lock_wait_s=5.0)
    if settings.ledger_url is None and not ledger.sqlite_path.exists():
        fail(f"there is no ledger at {ledger.sqlite_path} yet: `penstock serve` makes it")
    try:
        store = Store.open(ledger)
        try:
            done = reprice(store, prices_of(settings), time.time(), since=since, until=until)
            Roller(ledger, store).look()
        finally:
            store.close()
    except (LedgerError, StoreError) as error:
        fail(str(error))
    if json:
        print_json([with_usd({"priced": done.priced, "cost_nanousd": done.nanousd, "unknown": done.unknown})])
        return
    rest = f"; {done.unknown:,} still have none (`penstock prices --unknown`)" if done.unknown else ""
    typer.echo(f"{done.priced:,} {'exchange' if done.priced == 1 else 'exchanges'} got a price, {show_money(done.nanousd)} in all{rest}")


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if any(row.get(name) not in (None, []) for row in rows)]
    for name in names:
        text = name in ("provider", "model", "requested_model", "source")
        table.add_column({"longer": "other prices above"}.get(name, name.replace("_", " ")), justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(*(show_text(_cell(row.get(name))) for name in names))
    print_table(table)


def _cell(value: object) -> str:
    return (", ".join(f"{start:,}" for start in cast("list[int]", value)) or "-") if isinstance(value, list) else show_number(value)
