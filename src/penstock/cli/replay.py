"""`penstock replay`: serve recorded streams as a provider."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.ports import explain, find_holder, is_taken
from penstock.cli.setup import fail

if TYPE_CHECKING:
    from penstock.config import Address
    from penstock.lab.http1 import Asked
    from penstock.lab.recordings import Recording
    from penstock.lab.server import ReplayServer


def replay(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the recordings are: *.sse, with *.request.json beside them.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve them.")] = "127.0.0.1:4280",
    pace: Annotated[str, typer.Option(metavar="original|fast|MS", help="Between events: a usual model's, none, or milliseconds.")] = "original",
    chunk: Annotated[str, typer.Option(metavar="whole|N|random", help="How the bytes are cut.")] = "whole",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the random pieces.")] = 0,
    config: Annotated[Path | None, typer.Option("--config", hidden=True, help="Taken as everywhere; nothing here is configured.")] = None,
) -> None:
    """Serve recorded streams as a provider: the model replay/NAME, or any other model in turn."""
    from penstock.lab.recordings import RecordingError, load_recordings
    from penstock.lab.server import ReplayServer, parse_chunk, parse_pace

    address = _read_address(listen)
    try:
        library = load_recordings(directory)
        server = ReplayServer(library.recordings, parse_pace(pace), parse_chunk(chunk), seed)
    except RecordingError as error:
        fail(str(error))
    except ValueError as error:
        fail(str(error), 2)
    for path, reason in library.skipped:
        typer.echo(f"skipped {path}: {reason}", err=True)
    server.remember = False
    server.on_over = _tell
    try:
        _run(_serve(server, address, library.recordings))
    except OSError as error:
        if is_taken(address.host, address.port):
            fail(explain("--listen", address.host, address.port, find_holder(address.port)).replace("penstock serve", f"penstock replay {directory}"))
        fail(f"cannot listen on {address}: {error.strerror or error}")


async def _serve(server: ReplayServer, address: Address, recordings: Sequence[Recording]) -> None:
    """Until a signal."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    port = await server.start(address.host, address.port)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    counts = ", ".join(f"{count} {protocol}" for protocol, count in Counter(r.protocol for r in recordings).items())
    base = f"http://{str(address).rpartition(':')[0]}:{port}"
    typer.echo(f"serving {len(recordings)} recorded streams ({counts}) on {base}")
    typer.echo(f"models: replay/{recordings[0].name}, ...; all of them: curl {base}/v1/models")
    sys.stdout.flush()
    await stopped.wait()
    server.close()


def _tell(asked: Asked) -> None:
    typer.echo(f"{asked.method} {asked.path} -> {asked.note}")


def _run(work: Coroutine[Any, Any, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(work)
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def _read_address(text: str) -> Address:
    from penstock.config.document import Scalar
    from penstock.config.errors import Unfit
    from penstock.config.values import read_address

    try:
        return read_address(Scalar(text, "str"))
    except Unfit as error:
        fail(f"--listen: {error}", 2)
