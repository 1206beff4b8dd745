"""What the commands share: the configuration or its errors, the ledger's reader, how to fail."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from penstock.config import Config

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The configuration file.")]
DataDirOption = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where the ledger is kept.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

MOST = 1_000_000_000
"""Rows that a command may be asked for: more than there are, and fewer than a database can count to."""


def fail(message: str, code: int = 1) -> NoReturn:
    """Say on standard error what went wrong, and exit."""
    typer.echo(f"penstock: {message}", err=True)
    raise typer.Exit(code)


def load_config(path: Path | None, overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration; where it is wrong, all of its errors on standard error, one a line, and exit code 2."""
    from penstock.config import ConfigErrors, load

    try:
        return load(path, environ=os.environ, overrides=overrides)
    except ConfigErrors as errors:
        for error in errors.errors:
            typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@contextmanager
def reading_ledger(config: Config) -> Generator[sa.Engine, None, None]:
    """The ledger's reader. A ledger that is missing or cannot be read is said in one line, with exit code 1."""
    from penstock.ledger import query
    from penstock.ledger.errors import LedgerError
    from penstock.ledger.settings import LedgerSettings

    try:
        engine = query.connect(LedgerSettings(config.data_dir, config.ledger_url))
        try:
            yield engine
        finally:
            engine.dispose()
    except LedgerError as error:
        fail(str(error))


def split_list(values: list[str] | None) -> list[str]:
    """What an option that may be repeated, and takes commas, was given: in order, each once."""
    parts = (part.strip() for value in values or [] for part in value.split(","))
    return list(dict.fromkeys(part for part in parts if part))
