"""`penstock keys`: virtual keys made, listed, rotated, revoked, taken over. They are in the ledger's database: a gateway that runs sees a change
within seconds, and none has to run."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config, split_list
from penstock.cli.tables import print_json, print_table, show_time
from penstock.ledger.moments import parse_span, parse_time
from penstock.vocabulary.moments import LAST

if TYPE_CHECKING:
    from penstock.admission.keys import VirtualKey
    from penstock.stores.keys import Keys

app = typer.Typer(
    help="Keys that clients show to this gateway.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, its beginning, or its name.")]
OwnerOption = Annotated[str | None, typer.Option(metavar="NAME", help="Whose it is; the user of its exchanges.")]
ProjectOption = Annotated[str | None, typer.Option(metavar="NAME", help="What it is for.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="For rules (repeat, or commas).")]
ExpiresOption = Annotated[str | None, typer.Option("--expires", metavar="TIME", help="2027-01-31, or in 90d, 12h.")]
ModelOption = Annotated[list[str] | None, typer.Option("--model", metavar="GLOB", help="Models that it may use (repeat, or commas).")]
RouteOption = Annotated[list[str] | None, typer.Option("--route", metavar="PATTERN", help="Routes that it may use, by their model patterns.")]
ProtocolOption = Annotated[list[str] | None, typer.Option("--protocol", metavar="NAME", help="Protocols that it may speak.")]
LimitOption = Annotated[list[str] | None, typer.Option("--limit", metavar="LIMIT", help="requests=60/minute, tokens=500000/day, streams=5 (repeat).")]
BudgetOption = Annotated[list[str] | None, typer.Option("--budget", metavar="BUDGET", help="tokens=1000000/day, money=12.50/month,cut (repeat).")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    owner: OwnerOption = None,
    project: ProjectOption = None,
    tag: TagOption = None,
    expires: ExpiresOption = None,
    model: ModelOption = None,
    route: RouteOption = None,
    protocol: ProtocolOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key. It is printed once and can be read nowhere afterwards."""
    from penstock.stores.keys import Wanted, shown

    wanted = Wanted(
        name, owner, project, split_list(tag), _until(expires), split_list(model), split_list(route), split_list(protocol), limit or (), budget or ())
    with _keys(config, data_dir) as keys:
        key, text = keys.create(wanted.key(time.time()))
    if json:
        print_json([{**shown(key), "secret": text}])
        return
    typer.echo(f"made {key.id} ({key.name}); the key, which is shown only now:", err=True)
    typer.echo(text)


@app.command(name="list")
def list_(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """All keys, the newest last. None of them is shown itself."""
    from penstock.stores.keys import shown

    with _keys(config, data_dir) as keys:
        found = keys.all()
    if json:
        print_json([shown(key) for key in found])
    elif found:
        _print(found)
    else:
        typer.echo("none")


@app.command()
def rotate(
    id: IdArgument,
    grace: Annotated[str, typer.Option(metavar="TIME", help="For which the old text is still taken: 24h, 7d.")] = "0s",
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give a key a new text, printed once; everything else of it stays."""
    from penstock.stores.keys import shown

    now, span = time.time(), _grace(grace)
    with _keys(config, data_dir) as keys:
        key, text = keys.rotate(id, now, span)
    if json:
        print_json([{**shown(key), "secret": text}])
        return
    typer.echo(f"rotated {key.id} ({key.name}); the new key, which is shown only now:", err=True)
    typer.echo(text)


@app.command()
def revoke(id: IdArgument, json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Refuse a key from now on, for ever. What runs with it goes on to its end."""
    from penstock.stores.keys import shown

    with _keys(config, data_dir) as keys:
        key = keys.revoke(id, time.time())
    if json:
        print_json([shown(key)])
    else:
        typer.echo(f"revoked {key.id} ({key.name})")


@app.command(name="import")
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="The key's SHA-256 in hexadecimal digits, as other gateways store it; - reads it.")],
    owner: OwnerOption = None,
    project: ProjectOption = None,
    tag: TagOption = None,
    expires: ExpiresOption = None,
    model: ModelOption = None,
    route: RouteOption = None,
    protocol: ProtocolOption = None,
    limit: LimitOption = None,
    budget: BudgetOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take over a key that was made elsewhere, by its digest: whoever holds it goes on using it."""
    from penstock.admin.keys import digest_of
    from penstock.stores.keys import Wanted, shown

    wanted = Wanted(
        name, owner, project, split_list(tag), _until(expires), split_list(model), split_list(route), split_list(protocol), limit or (), budget or ())
    with _keys(config, data_dir) as keys:
        key = keys.adopt(wanted.key(time.time()), digest_of(sys.stdin.readline() if sha256 == "-" else sha256))
    if json:
        print_json([shown(key)])
    else:
        typer.echo(f"took over {key.id} ({key.name})")


@contextmanager
def _keys(config: Path | None, data_dir: str | None) -> Generator[Keys, None, None]:
    """The keys of the configured gateway; its database is made where there is none yet. What is wrong is said in one line."""
    from penstock.admin.token import TokenError, load_token
    from penstock.ledger.engine import open_engine
    from penstock.ledger.errors import LedgerError
    from penstock.ledger.settings import LedgerSettings
    from penstock.ledger.store import Store
    from penstock.stores.errors import KeyProblem, StoreError
    from penstock.stores.keys import SECRET_FILE, Keys

    settings = load_config(config, {"data_dir": data_dir})
    ledger = LedgerSettings(settings.data_dir, settings.ledger_url)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        Store.open(ledger).close()
        secret = settings.admission.keys_secret or load_token(settings.data_dir, SECRET_FILE)
        engine = open_engine(ledger, lock_wait_s=5.0)
        try:
            yield Keys(engine, secret.encode())
        finally:
            engine.dispose()
    except KeyProblem as error:
        fail(str(error), 2)
    except (LedgerError, StoreError, TokenError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{settings.data_dir}: {error.strerror}")


def _until(text: str | None) -> float | None:
    """A moment to come, in seconds since the epoch: a day (to its end), or so much time from now."""
    if text is None:
        return None
    now = time.time()
    span = parse_span(text)
    try:
        found = parse_time(text, now, end=True) if span is None else now + span
    except ValueError as error:
        fail(str(error), 2)
    if found > LAST:
        fail(f"{text!r} is beyond the year 9999; leave --expires out for a key that does not expire", 2)
    return found


def _grace(text: str) -> float:
    """Seconds."""
    span = parse_span(text)
    if span is None:
        fail(f"{text!r} is no span of time: write 24h or 7d", 2)
    return span


def _print(keys: list[VirtualKey]) -> None:
    from rich.table import Table
    from rich.text import Text

    now = time.time()
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("id", "name", "owner", "project", "state", "made (UTC)", "expires (UTC)", "models"):
        table.add_column(heading, no_wrap=heading != "models")
    for key in keys:
        expired = key.expires_at is not None and key.expires_at <= now
        state, style = ("revoked", "red") if key.revoked_at is not None else ("expired", "red") if expired else ("good", "green")
        table.add_row(
            key.id, Text(key.name), Text(key.owner or "-"), Text(key.project or "-"), Text(state, style=style), show_time(key.created_at),
            show_time(key.expires_at), Text(", ".join(key.models) or "all"),
        )  # fmt: skip
    print_table(table)
