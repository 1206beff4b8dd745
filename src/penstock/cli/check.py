"""`penstock check`: is this configuration right?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.asking import ask_providers, build_providers
from penstock.cli.setup import ConfigOption, load_config

if TYPE_CHECKING:
    from penstock.config import Config


def check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The file to check; left out: the one that `serve` would read.")] = None,
    config: ConfigOption = None,
    probe: Annotated[bool, typer.Option("--probe", help="Ask each provider for its models as well: is it there, does it take the key?")] = False,
) -> None:
    """Check a configuration: every error at once, exit code 2; nothing is started. Notes tell what is allowed and yet does nothing.

    Nobody is called unless --probe is given; then a provider that is not well makes exit code 1.
    """
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
    if probe and not _probe(found):
        raise typer.Exit(1)


def _probe(config: Config) -> bool:
    """Tell of each provider how it is; are all well?"""
    from penstock.exchange.probe import judge

    providers = build_providers(config)
    findings = [judge(listed, provider) for listed, provider in zip(ask_providers(config, providers), providers, strict=True)]
    for finding, provider in zip(findings, providers, strict=True):
        typer.echo(f"{provider.name}: {finding.told}", err=not finding.well)
    return all(finding.well for finding in findings)
