"""`penstock capture`: record single exchanges on the running gateway, and look at what was recorded.

`on`, `off` and `status` ask the gateway; the others work on the files in the data directory, whether one runs or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from penstock.cli.gateway import ask_gateway
from penstock.cli.setup import ConfigOption, DataDirOption, JsonOption, fail, load_config, split_list
from penstock.cli.tables import OUTCOME_STYLES, print_json, print_table, show_number, show_text, show_time

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.capture.layout import Meta, PartMeta
    from penstock.capture.store import Item, Store

app = typer.Typer(
    help="Record single exchanges, byte by byte, and look at them.", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

_ENDPOINT = "/api/capture"
AdminOption = Annotated[str | None, typer.Option("--admin", metavar="HOST:PORT", help="The running gateway's admin address.")]
PhaseOption = Annotated[
    list[str] | None,
    typer.Option("--phase", metavar="NAME", help="inbound_request, provider_request, upstream_response, outbound_response, all (repeat, or commas)."),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The capture's id, or its exchange's; its beginning is enough.")]


@app.command()
def on(
    phase: PhaseOption = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Exchanges; then it is off again.")] = 1,
    route: Annotated[str | None, typer.Option(metavar="R", help="Of this route: its model pattern, or its number in the file, from 0.")] = None,
    model: Annotated[str | None, typer.Option(metavar="GLOB", help="Of models with such a name.")] = None,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FINGERPRINT", help="Of this key; its fingerprint is in the ledger.")] = None,
    max_bytes: Annotated[int | None, typer.Option(metavar="N", min=1, help="Of one capture, shared by its phases.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", metavar="SECONDS", help="Then it is off, whatever was captured.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    admin: AdminOption = None,
) -> None:
    """Capture the next exchanges that match, in all phases unless some are named."""
    import msgspec

    from penstock.capture.settings import BadOrder, Order

    try:
        order = Order(
            phases=_phases(phase), count=count, route=route, model=model, provider=provider, key=key.lower() if key else None,
            max_bytes=max_bytes, seconds=seconds,
        )  # fmt: skip
    except BadOrder as error:
        fail(str(error), 2)
    _tell(ask_gateway(load_config(config, {"data_dir": data_dir, "admin": admin}), "POST", _ENDPOINT, msgspec.json.encode(order)), json)


@app.command()
def off(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None, admin: AdminOption = None) -> None:
    """Capture no further exchanges. Those under way are captured to their end."""
    _tell(ask_gateway(load_config(config, {"data_dir": data_dir, "admin": admin}), "DELETE", _ENDPOINT), json)


@app.command()
def status(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None, admin: AdminOption = None) -> None:
    """Is anything captured now?"""
    _tell(ask_gateway(load_config(config, {"data_dir": data_dir, "admin": admin}), "GET", _ENDPOINT), json)


@app.command(name="list")
def list_(json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """All captures, the newest first."""
    items = _items(_store(config, data_dir))
    if json:
        print_json(_row(item) for item in items)
    elif items:
        print_table(tabulate(items))
    else:
        typer.echo("none")


@app.command()
def show(
    id: IdArgument,
    phase: PhaseOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="The body's bytes of one phase, and nothing else.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """One capture, with the time of every chunk since the exchange began."""
    from penstock.capture.store import StoreError
    from penstock.cli.transcript import print_capture, print_raw

    store = _store(config, data_dir)
    try:
        item, meta = _find(store, id)
        wanted = _phases(phase)
        parts = [part for part in meta.parts if part.phase in wanted]
        if not parts:
            fail(f"{item.id} has nothing of {', '.join(wanted)}; it has {', '.join(meta.phases) or 'no phase at all'}")
        if not raw:
            print_capture(meta, [(part, store.read(item, part)) for part in parts])
            return
        if len({part.phase for part in parts}) > 1:
            fail(f"--raw prints one phase: name it with --phase, of {', '.join(meta.phases)}", 2)
        print_raw(store.read(item, parts[-1]).body)
    except StoreError as error:
        fail(str(error))


@app.command()
def export(
    id: IdArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made where it is not there.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Copy a capture, and write its answer so that `penstock replay DIR` serves it."""
    from penstock.capture.export import export as write
    from penstock.capture.store import StoreError

    store = _store(config, data_dir)
    try:
        item = store.find(id)
        done = write(store, item, directory)
    except StoreError as error:
        fail(str(error))
    typer.echo(f"wrote {done.folder}")
    if done.recording is not None:
        typer.echo(f"wrote {done.recording}; serve it: penstock replay {directory}, model replay/{item.id}")
    if done.note is not None:
        typer.echo(f"note: {done.note}")


@app.command()
def delete(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The capture's id, or its exchange's; its beginning is enough.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete one capture, or all."""
    from penstock.capture.store import StoreError

    if (id is None) == (not every):
        fail("name one capture, or --all", 2)
    store = _store(config, data_dir)
    try:
        items = store.items() if id is None else [store.find(id)]
    except StoreError as error:
        fail(str(error))
    gone = store.delete(items)
    if gone < len(items):
        fail(f"{len(items) - gone} of {len(items)} captures in {store.directory} cannot be deleted")
    typer.echo(f"deleted {items[0].id}" if len(items) == 1 else f"deleted {len(items)} captures" if items else "none")


def tabulate(items: Sequence[Item]) -> Table:
    """One line a capture."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("id", "began (UTC)", "exchange", "outcome"):
        table.add_column(heading, no_wrap=True)
    for heading in ("provider", "model", "phases"):
        table.add_column(heading)
    table.add_column("bytes", justify="right", no_wrap=True)
    for item in items:
        meta = item.meta
        if meta is None:
            table.add_row(item.id, "-", "-", Text("damaged", style="red"), "-", "-", "-", "-")
            continue
        outcome = meta.outcome
        table.add_row(
            item.id, show_time(meta.began), show_text(meta.exchange), Text(outcome, style=OUTCOME_STYLES.get(outcome, "red")) if outcome else "-",
            show_text(meta.provider), show_text(meta.model), ", ".join(meta.phases), show_number(meta.size),
        )  # fmt: skip
    return table


def _row(item: Item) -> dict[str, Any]:
    meta = item.meta
    if meta is None:
        return {"id": item.id, "damaged": True}
    return {
        "id": item.id, "began": meta.began, "exchange": meta.exchange, "outcome": meta.outcome, "provider": meta.provider, "model": meta.model,
        "phases": list(meta.phases), "size": meta.size, "truncated": any(part.truncated for part in meta.parts),
        "masked": sum(part.masked for part in meta.parts), "parts": [_spread(part) for part in meta.parts],
    }  # fmt: skip


def _spread(part: PartMeta) -> dict[str, Any]:
    import msgspec

    return {key: value for key, value in msgspec.to_builtins(part).items() if value is not None}


def _tell(state: dict[str, Any], json: bool) -> None:
    if json:
        print_json([state])
        return
    running = f"; {state['running']} under way" if state.get("running") else ""
    order = state.get("order")
    if not state.get("on") or not isinstance(order, dict):
        typer.echo(f"capturing is off{running}")
        return
    asked = cast("dict[str, Any]", order)
    filters = [f"{name} {asked[name]}" for name in ("route", "model", "provider", "key") if asked.get(name) is not None]
    left = state.get("left")
    of = f" of {', '.join(filters)}" if filters else ""
    until = f", for {state['seconds_left']:.0f} s at most" if isinstance(state.get("seconds_left"), int | float) else ""
    typer.echo(f"capturing the next {'exchange' if left == 1 else f'{left} exchanges'}{of}: {', '.join(asked['phases'])}{until}{running}")


def _phases(names: list[str] | None) -> tuple[Any, ...]:
    """The phases that are meant: those that are named, all where none is."""
    from penstock.capture.settings import Phase

    named = [name.lower().replace("-", "_") for name in split_list(names)]
    unknown = [name for name in named if name != "all" and name not in set(Phase)]
    if unknown:
        fail(f"there is no phase {', '.join(unknown)}; there are {', '.join(Phase)}, and all", 2)
    return tuple(Phase) if not named or "all" in named else tuple(phase for phase in Phase if phase in named)


def _store(config: Path | None, data_dir: str | None) -> Store:
    from penstock.capture.store import Store

    return Store(load_config(config, {"data_dir": data_dir}).data_dir)


def _items(store: Store) -> list[Item]:
    from penstock.capture.store import StoreError

    try:
        return store.items()
    except StoreError as error:
        fail(str(error))


def _find(store: Store, id: str) -> tuple[Item, Meta]:
    """Raises `StoreError`."""
    item = store.find(id)
    if item.meta is None:
        fail(f"{item.id} is damaged: its capture.json cannot be read")
    return item, item.meta
