"""`penstock check`: is this configuration right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.setup import ConfigOption, load_config


def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The file to check; left out: the one that `serve` would read.")] = None,
    config: ConfigOption = None,
) -> None:
    """Check a configuration: every error at once, exit code 2; nothing is started. Notes tell what is allowed and yet does nothing."""
    if file is not None and config is not None and file != config:
        raise typer.BadParameter("give FILE or --config, not both")
    found = load_config(file if file is not None else config)
    count = len(found.providers)
    providers = f"{count} provider{'' if count == 1 else 's'} ({', '.join(p.name for p in found.providers)})"
    routes = f"{len(found.routes)} route{'' if len(found.routes) == 1 else 's'}"
    noted = len(found.notes)
    fine = f"fine, with {'a note' if noted == 1 else f'{noted} notes'}" if noted else "fine"
    typer.echo(f"{found.file or 'no file is read'}: {fine}: {providers}, {routes}")
    for note in found.notes:
        typer.echo(f"note: {note}")
