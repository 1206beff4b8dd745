"""`penstock logs collect`: what a bug report needs, in one archive, without secrets."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.setup import MOST, ConfigOption, DataDirOption, fail

if TYPE_CHECKING:
    from penstock.cli.bundle import Part, Source

app = typer.Typer(
    help="Pack what a bug report needs.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def options() -> None:
    """What stands before its commands."""


@app.command()
def collect(
    kind: Annotated[
        str, typer.Option("--type", metavar="all|diagnostics|config|captures|stream-retry", help="What to pack.")] = "all",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; else a name with the time, here.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, max=MOST, help="Rows of the ledger.")] = 1000,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Pack diagnostics, configuration, captures and dumps into a tar.gz (mode 0600); keys and tokens are left out."""
    from penstock.cli.bundle import TYPES, gather

    if kind not in ("all", *TYPES):
        fail(f"there is no type {kind}; there are all, {', '.join(TYPES)}", 2)
    source = find_source(config, data_dir, last)
    found = gather(source, TYPES if kind == "all" else (kind,))
    parts = [part for some in found.values() for part in some]
    if not parts:
        fail(nothing(kind, source))
    target = output if output is not None else Path(f"penstock-logs-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")
    if target.exists() and not force:
        fail(f"{target} is there already; name another file, or say --force")
    try:
        sizes = _pack_visibly(parts, target, force=force)
    except FileExistsError:
        fail(f"{target} is there already; name another file, or say --force")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror or error}")
    typer.echo(str(target.resolve()))
    for part in parts:
        size = sizes[part.name]
        typer.echo(f"  {part.name}  " + (f"{size:,} bytes" if size is not None else "left out: it could not be read"))
    for name, some in found.items():
        if not some:
            typer.echo(nothing(name, source))
    typer.echo("Keys and tokens are masked; captures and dumps hold what people and models wrote: look before you send it.")


def find_source(config: Path | None, data_dir: str | None, last: int) -> Source:
    """Where everything is. A configuration that is wrong is no hindrance: a report may be about just that."""
    from penstock.cli.bundle import Source
    from penstock.config import ConfigErrors, load
    from penstock.config.load import find, load_place

    environ = dict(os.environ)
    overrides = {"data_dir": data_dir}
    errors = ""
    try:
        loaded = load(config, environ=environ, overrides=overrides)
        plain = loaded
    except ConfigErrors as wrong:
        errors = "\n".join(str(error) for error in wrong.errors)
        typer.echo(f"penstock: the configuration has {len(wrong.errors)} errors; they are packed too", err=True)
        loaded = None
        try:
            plain = load_place(config, environ=environ, overrides=overrides)
        except ConfigErrors as worse:
            fail(str(worse), 2)
    file, _ = find(config, environ)
    config_dir = file.absolute().parent if file is not None else _config_home(environ) / "penstock"
    return Source(loaded, errors, file, config_dir, plain.data_dir, environ, last)


def nothing(kind: str, source: Source) -> str:
    """That there is nothing of this type, and where it would be."""
    from penstock.capture.dumps import FOLDER as DUMPS

    where = {
        "captures": f"there are no captures in {source.data_dir / 'captures'}: `penstock capture on` makes them",
        "stream-retry": f"there are no stream-retry dumps (retry_*.json) in {source.config_dir / DUMPS} or {source.data_dir / DUMPS}",
    }
    return where.get(kind, f"there is nothing of the type {kind}")


def _config_home(environ: dict[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config")


def _pack_visibly(parts: list[Part], target: Path, *, force: bool) -> dict[str, int | None]:
    """Pack with a progress bar on standard error; returns the sizes by name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from penstock.cli import bundle

    sizes: dict[str, int | None] = {}
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as progress:
        task = progress.add_task("", total=len(parts))

        def told(part: Part, size: int | None) -> None:
            sizes[part.name] = size
            progress.update(task, advance=1, description=part.name)

        bundle.pack(parts, target, told, force=force)
    return sizes
