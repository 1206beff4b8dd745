"""`penstock config import argo`: argo-proxy's configuration as ours, and what became of each of its keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.files import write_private
from penstock.cli.setup import JsonOption, fail, load_config
from penstock.cli.tables import print_json

if TYPE_CHECKING:
    from penstock.config.argo import Imported

app = typer.Typer(help="Make a configuration of another program's.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def importing() -> None:
    """With this there is a command `argo`, and not its options alone."""


@app.command()
def argo(
    config: Annotated[Path | None, typer.Argument(
        metavar="CONFIG", help="argo-proxy's file; left out: ~/.config/argoproxy/config.yaml, or ~/.argoproxy/config.yaml.")] = None,
    output: Annotated[
        str | None, typer.Option(
            "--output", "-o", "--config", metavar="FILE", help="Where to; - prints it. Left out: the file that serve reads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Write argo-proxy's configuration (version 1 to 3) as Penstock's, and tell line by line what became of it. Then it is checked."""
    from penstock.config import ConfigErrors, default_file, find
    from penstock.config.argo import translate

    source = (config or _find(os.environ)).expanduser().absolute()
    target = None if output == "-" else (Path(output) if output else find(None, os.environ)[0] or default_file(os.environ)).expanduser().absolute()
    if target == source:
        fail(f"{source} is the file that is read; name another one with --output", 2)
    if target is not None and target.exists() and not force:
        fail(f"{target} is there already; --force overwrites it, --output FILE writes elsewhere")
    try:
        imported = translate(source.read_bytes().decode("utf-8-sig"), str(source), os.environ)
    except OSError as error:
        fail(f"{source} cannot be read: {error.strerror or error}", 2)
    except UnicodeDecodeError:
        fail(f"{source} is not UTF-8", 2)
    except ConfigErrors as errors:
        for error in errors.errors:
            typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if target is None:
        sys.stdout.write(imported.text)
        _tell(imported, json=json, aside=True)
        return
    write_private(target, imported.text, overwrite=force)
    _tell(imported, json=json, aside=False)
    if not json:
        typer.echo(f"\n{source} -> {target}")
    checked = load_config(target)
    for note in checked.notes:
        typer.echo(f"note: {note}", err=json)


def _find(environ: Mapping[str, str]) -> Path:
    """Where argo-proxy looks for its file, the working directory apart: whoever means that one says so."""
    home = Path(environ.get("HOME") or Path.home())
    places = [home / ".config" / "argoproxy" / "config.yaml", home / ".argoproxy" / "config.yaml"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        fail(f"there is neither {places[0]} nor {places[1]}; name argo-proxy's file", 2)
    return found


def _tell(imported: Imported, *, json: bool, aside: bool) -> None:
    """`aside`: on standard error, where the file itself goes to standard output."""
    if json and not aside:
        print_json({"line": told.line, "key": told.key, "value": told.value, "fate": told.fate.value, "told": told.words} for told in imported.told)
        return
    rows = [(f"{told.line}" if told.line is not None else "-", f"{told.key}: {told.value}", told.fate.value, told.words) for told in imported.told]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
    for line, key, fate, words in rows:
        typer.echo(f"{line:>{widths[0]}}  {key:<{min(widths[1], 48)}}  {fate:<{widths[2]}}  {words}", err=aside)
