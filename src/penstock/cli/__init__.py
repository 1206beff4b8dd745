"""The command line: arguments -> a configuration -> the room that does the work.

Enters: `sys.argv`, the environment. Leaves: tables and sentences on standard output, errors on standard error, an exit code:
0 done, 1 it failed (an address in use, a ledger that cannot be read), 2 the configuration or the command line is wrong.

One file a command: `serve`, `check`, `models`, `config`, `keys`, `usage` (with `history` for its `import`), `prices`, `exchanges`, `explain`,
`capture`, `logs`, `replay`, `torture`; `config_import` and `starter` belong to `config`. `asking` asks providers, `setup` is what all share
(configuration, ledger, errors), `times` reads moments, `tables` prints rows, `money` names it in dollars, `transcript` prints captures, `bundle`
is what `logs` packs, `redaction` a configuration without its secrets, `gateway` asks the gateway that runs, `ports` finds out who holds a port,
`streams` copes with standard streams that are closed or full.

Laws: `penstock` alone serves. `--json` prints one object a line, named as the ledger's columns, and nothing else. Every error of a
configuration is printed. Nothing heavy (SQLAlchemy, Rich, the gateway) is imported before a command needs it: `penstock --help` is quick.

Not here: any decision about streams, rows or settings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

try:
    import typer

    from penstock.cli.capture import app as capture
    from penstock.cli.check import check
    from penstock.cli.config import app as config
    from penstock.cli.exchanges import exchanges
    from penstock.cli.explain import explain
    from penstock.cli.keys import app as keys
    from penstock.cli.logs import app as logs
    from penstock.cli.models import models
    from penstock.cli.prices import prices
    from penstock.cli.replay import replay
    from penstock.cli.serve import serve
    from penstock.cli.streams import UNWRITABLE, flush_or_drop, open_missing, spell_all
    from penstock.cli.torture import torture
    from penstock.cli.usage import app as usage
except KeyboardInterrupt:  # while all this is read, which takes a moment; later Typer makes the same of it
    sys.stderr.write("penstock: interrupted\n")
    raise SystemExit(130) from None

app = typer.Typer(
    name="penstock",
    help="A gateway that carries streamed LLM answers unchanged and accounts for each of them.",
    epilog="`penstock` alone is `penstock serve`.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (serve, check, models, exchanges, explain, prices, replay, torture):
    app.command()(_command)
app.add_typer(usage, name="usage")
app.add_typer(config, name="config")
app.add_typer(capture, name="capture")
app.add_typer(logs, name="logs")
app.add_typer(keys, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        from penstock import __version__

        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")] = False) -> None:
    """What stands before a command."""


def complete(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command that is meant where none is named: `penstock` and `penstock --listen ...` serve."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        return ["serve", *arguments]
    return list(arguments)


def main() -> None:
    """The `penstock` command."""
    open_missing()
    spell_all()
    try:
        app(args=complete(sys.argv[1:]))
    except UnicodeEncodeError:
        torn = [word for word in sys.argv[1:] if not word.isascii() and any("\ud800" <= char <= "\udfff" for char in word)]
        if not torn:
            raise
        # Names of files may be of any bytes; what is looked for in the ledger is text.
        typer.echo(f"penstock: {torn[0]!r} is no UTF-8", err=True)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        # What was printed could not be written: a full disk, a pipe that nobody reads.
        typer.echo(f"penstock: nothing more can be written: {error.strerror}", err=True)
        raise SystemExit(1) from None
    finally:
        flush_or_drop()
