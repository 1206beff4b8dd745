"""`penstock usage import`: histories of other programs, brought into the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config
from penstock.cli.tables import print_json
from penstock.cli.times import SinceOption, moment

if TYPE_CHECKING:
    from penstock.config import Config
    from penstock.ledger.histories import Source, Tally


def bring_in(
    source: Annotated[str, typer.Argument(metavar="WHAT", help="claude-code, codex, or a file or directory of theirs, or TokenCost's tracker.db.")],
    since: SinceOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Bring in what clients wrote down of their own use. Twice changes nothing, and what went through a gateway is not counted again."""
    settings = load_config(config, {"data_dir": data_dir})

    from penstock.ledger.errors import LedgerError, StoreError
    from penstock.ledger.histories import BadSource, find_sources

    try:
        sources = find_sources(source, os.environ)
        tally = _load(settings, sources, moment(since))
    except (BadSource, LedgerError, StoreError) as error:
        fail(str(error))
    if json:
        import msgspec

        print_json([msgspec.to_builtins(tally)])
    else:
        typer.echo(told(tally))
    for reason in tally.failed:
        typer.echo(f"penstock: {reason}", err=True)
    if tally.failed:
        raise typer.Exit(1)


def told(tally: Tally) -> str:
    """What became of them, in a sentence."""
    parts = [f"{tally.new} new"]
    parts += [f"{tally.known} known already"] if tally.known else []
    parts += [f"{tally.relayed} relayed by a gateway and so counted before"] if tally.relayed else []
    parts += [f"{tally.summed} of days that are only kept as sums"] if tally.summed else []
    end = f"; {tally.unpriced} have a model whose price is not known (`penstock prices --unknown`)" if tally.unpriced else ""
    return f"{tally.found} answers in {tally.files} {'file' if tally.files == 1 else 'files'}: {', '.join(parts)}{end}"


def _load(settings: Config, sources: Sequence[Source], since: float | None) -> Tally:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from penstock.app import prices_of
    from penstock.ledger.ascribe import Ascriber
    from penstock.ledger.histories import load
    from penstock.ledger.rollup import Roller
    from penstock.ledger.settings import LedgerSettings
    from penstock.ledger.store import Store

    ledger = LedgerSettings(settings.data_dir, settings.ledger_url, lock_wait_s=5.0)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store.open(ledger)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        console = Console(stderr=True, highlight=False)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=sum(source.size for source in sources))
            tally = load(
                store, Ascriber(prices_of(settings)), sources, lambda size: progress.update(task, advance=size), now=time.time(), since=since)
        Roller(ledger, store).look()
        return tally
    finally:
        store.close()
