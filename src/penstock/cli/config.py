"""`penstock config`: the file itself: which one it is, what it comes to, a first one, an editor for it, and one made of argo-proxy's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from penstock.cli.config_import import app as importing
from penstock.cli.setup import ConfigOption, JsonOption, fail, load_config

app = typer.Typer(help="Show, find, write and edit the configuration's file.", no_args_is_help=True,
                  context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(importing, name="import")

_EDITORS = ("VISUAL", "EDITOR")
_USUAL = "vi"


@app.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Every setting as it comes to be of file and environment, secrets left out. Nothing is started."""
    import yaml

    from penstock.cli.redaction import redact_settings
    from penstock.cli.tables import print_json

    settings = load_config(config)
    effective = redact_settings(settings)
    if json:
        print_json([effective])
        return
    typer.echo(f"# {settings.file or 'no file is read: the defaults, and the environment'}")
    typer.echo(yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, width=140), nl=False)


@app.command()
def path(config: ConfigOption = None) -> None:
    """Which file is read, and where it is looked for. The first line is the path alone. Exit code 1 if the named one is not there."""
    from penstock.config import default_file, find

    found, named_by = find(config, os.environ)
    variable = os.environ.get("PENSTOCK_CONFIG", "").strip()
    default = default_file(os.environ)
    typer.echo(str(found.absolute()) if found is not None else "no file; the providers are those of the environment")
    for name, place in (("--config", str(config) if config else ""), ("PENSTOCK_CONFIG", variable)):
        typer.echo(f"  {name:16} {place or 'not given'}{_state(Path(place).expanduser()) if place else ''}")
    typer.echo(f"  {'the usual place':16} {default}{_state(default)}")
    if found is not None and named_by and not found.is_file():
        raise typer.Exit(1)


@app.command()
def init(
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a first file, with comments, to the place where it is read from. One that is there stays, unless you say otherwise."""
    from penstock.cli.files import write_private
    from penstock.cli.starter import STARTER

    target = _target(config)
    if target.exists() and not force:
        if not sys.stdin.isatty():
            fail(f"{target} is there already; --force overwrites it")
        if not typer.confirm(f"{target} is there already. Overwrite it?"):
            fail("nothing was written")
    write_private(target, STARTER, overwrite=True)
    typer.echo(f"written: {target}")


@app.command()
def edit(config: ConfigOption = None) -> None:
    """Open the file in $VISUAL or $EDITOR, and check it afterwards: every error at once, exit code 2."""
    target = _target(config)
    if not target.is_file():
        fail(f"{target} is not there; penstock config init writes a first one")
    named = next((name for name in _EDITORS if os.environ.get(name, "").strip()), "")
    try:
        words = shlex.split(os.environ[named]) if named else [_USUAL]
    except ValueError as error:
        fail(f"{named} cannot be taken apart into words ({str(error).lower()}); write a program and its options")
    try:
        code = subprocess.run([*words, str(target)], check=False).returncode
    except OSError as error:
        _no_editor(words[0], error)
    if code != 0:
        fail(f"{words[0]} ended with exit code {code}; the file was not checked")
    checked = load_config(target)
    for note in checked.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{target}: fine. A gateway that runs reads it at its next start.")


def _target(config: Path | None) -> Path:
    """The file that is read, or would be if it were there."""
    from penstock.config import default_file, find

    return (find(config, os.environ)[0] or default_file(os.environ)).absolute()


def _state(path: Path) -> str:
    return ": it is there" if path.is_file() else ": not there"


def _no_editor(name: str, error: OSError) -> NoReturn:
    fail(f"{name}, which {' or '.join(_EDITORS)} names, cannot be started: {error.strerror or error}" if name != _USUAL
         else f"{' and '.join(_EDITORS)} name no editor, and {_USUAL} cannot be started: {error.strerror or error}")
