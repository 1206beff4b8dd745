"""`penstock serve`: run the gateway until a signal."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.ports import explain, find_holder, is_taken
from penstock.cli.setup import ConfigOption, fail, load_config
from penstock.cli.tables import print_if_heard

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.config import Config
    from penstock.providers import Origin

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
_BODY = '{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}'


@dataclass(frozen=True, slots=True)
class ProviderLine:
    name: str
    protocol: str
    host: str
    own_key: bool
    """Its key, or who asks it, is configured; otherwise each client sends its own."""


@dataclass(frozen=True, slots=True)
class BannerInfo:
    """What the banner tells, as plain data."""

    version: str
    data_url: str
    """Where clients connect: `http://127.0.0.1:4270`, or the path of a unix socket."""
    admin_url: str | None
    providers: Sequence[ProviderLine]
    data_dir: Path
    config_file: Path | None = None
    token_asked: bool = False
    """Clients must send a token."""
    token_file: Path | None = None
    """Where a token that we made is kept."""
    notes: Sequence[str] = ()
    everywhere: str | None = None
    """The address, where that is every one of this machine's; `data_url` is then only the one to try."""
    key_asked: bool = False
    """Clients must show a key or a JSON Web Token."""


def serve(
    config: ConfigOption = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where clients connect (else 127.0.0.1:4270).")] = None,
    admin: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The admin plane (else 127.0.0.1:4271).")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Where ledger and tokens are kept.")] = None,
    token: Annotated[str | None, typer.Option(metavar="auto|VALUE", help="What clients must send; auto makes one.")] = None,
    socket: Annotated[str | None, typer.Option(metavar="PATH", help="A unix socket for clients (0600) instead of --listen.")] = None,
    anthropic_stream_mode: Annotated[
        str | None, typer.Option(metavar="force|retry|passthrough", help="How Anthropic providers are asked for whole bodies (else force).")] = None,
    legacy_argo: Annotated[bool, typer.Option("--legacy-argo", help="Send everything to legacy Argo (its provider, or ARGO_USER).")] = False,
    real_stream: Annotated[
        bool | None, typer.Option("--real-stream/--pseudo-stream", help="Legacy Argo: stream raw text as it comes, or whole answers as streams.",
                                  show_default=False)] = None,
) -> None:
    """Run the gateway (what `penstock` alone does)."""
    settings = load_config(config, {
        "listen": listen, "admin": admin, "data_dir": data_dir, "token": token, "socket": socket, "anthropic_stream_mode": anthropic_stream_mode,
        "legacy_argo": legacy_argo or None, "real_stream": real_stream,
    })  # fmt: skip

    from penstock import app
    from penstock.admin import TokenError
    from penstock.ledger.errors import LedgerError
    from penstock.server.files import make_room
    from penstock.stores.errors import StoreError

    def show(started: app.Started) -> None:
        print_if_heard(banner(describe(settings, started.data_port, started.admin_port, started.notes, key_asked=started.key_asked)))

    make_room()
    try:
        code = app.serve(settings, show)
    except (LedgerError, StoreError, TokenError) as error:
        fail(str(error))
    except OSError as error:
        fail(explain_failure(settings, error))
    raise typer.Exit(code)


def describe(config: Config, data_port: int, admin_port: int | None, notes: Sequence[str], *, key_asked: bool = False) -> BannerInfo:
    """The banner's facts. The ports are those that were taken, which tells what a configured 0 became."""
    from penstock import __version__
    from penstock.config import AUTO_TOKEN
    from penstock.providers import build

    return BannerInfo(
        version=__version__,
        data_url=str(config.socket) if config.socket else _url(config.listen.host, data_port),
        admin_url=_url(config.admin.host, admin_port) if admin_port is not None else None,
        providers=[ProviderLine(p.name, p.kind, _place(build(p).origin), build(p).has_key or p.user is not None) for p in config.providers],
        data_dir=config.data_dir,
        config_file=config.file,
        token_asked=config.token is not None,
        token_file=config.data_dir / "token" if config.token == AUTO_TOKEN else None,
        notes=(*config.notes, *notes),
        everywhere=f"{config.listen.host}, port {data_port}" if config.listen.host in _EVERYWHERE and not config.socket else None,
        key_asked=key_asked,
    )


def banner(info: BannerInfo) -> RenderableType:
    """What `serve` says when it is ready. Print it with `crop=False`: its last line is there to be copied."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("clients", Text(info.data_url, style="bold"))
    if info.everywhere is not None:
        facts.add_row("", f"and every other address of this machine ({info.everywhere})")
    if info.token_asked:
        facts.add_row("token", f"asked of every client; it is in {info.token_file}" if info.token_file else "asked of every client")
    elif info.key_asked:
        facts.add_row("keys", "asked of every client; penstock keys create NAME makes one")
    if info.admin_url is not None:
        facts.add_row("admin", info.admin_url)
    facts.add_row("data", str(info.data_dir))
    facts.add_row("config", str(info.config_file) if info.config_file else "no file; providers from the environment")

    providers = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    for heading in ("provider", "protocol", "at", "pays with"):
        providers.add_column(heading, overflow="fold")
    for p in info.providers:
        providers.add_row(p.name, p.protocol, p.host, "own key" if p.own_key else "client's key")
    providers.add_row("demo", "any", "built in", "nothing", style="dim")

    parts: list[RenderableType] = [Text.assemble(("Penstock", "bold cyan"), f" {info.version}"), facts, Text(), providers]
    if info.notes:
        parts += [Text(), *(Text.assemble(("note: ", "yellow"), note) for note in info.notes)]
    parts += [Text(), Text("Try it:", style="dim"), Text(curl_line(info), no_wrap=True, overflow="ignore")]
    return Group(*parts)


def curl_line(info: BannerInfo) -> str:
    """A command that streams a few words from the `demo` model; it needs no provider and no key."""
    words = ["curl -N"]
    base = info.data_url
    if not base.startswith("http"):
        words.append(f"--unix-socket {_quote(base)}")
        base = "http://localhost"
    words.append(f"{base}/v1/chat/completions -H 'content-type: application/json'")
    if info.token_asked:
        value = f"$(cat {_quote(str(info.token_file))})" if info.token_file else "$TOKEN"
        words.append(f'-H "authorization: Bearer {value}"')
    elif info.key_asked:
        words.append('-H "authorization: Bearer $KEY"')
    return " ".join([*words, f"-d '{_BODY}'"])


def explain_failure(config: Config, error: OSError) -> str:
    """Why the gateway could not listen, with what to do about it."""
    places = [("--admin", config.admin)] if config.socket else [("--listen", config.listen), ("--admin", config.admin)]
    if error.errno == errno.EADDRINUSE:
        for option, address in places:
            if address.port and is_taken(address.host, address.port):
                return explain(option, address.host, address.port, find_holder(address.port))
        if config.socket:
            return f"{config.socket} is in use by another program; name another one: penstock serve --socket PATH"
    if isinstance(error, socket.gaierror) or (error.errno or 0) < 0:  # look-ups count down from 0
        named = " and ".join(f"{option} {address}" for option, address in places)
        return f"the name of an address to listen on is not known here ({named}); write one of this machine's, like 127.0.0.1"
    if error.errno == errno.EACCES and any(0 < address.port < 1024 for _, address in places):
        return "ports below 1024 need privileges; listen on a higher one: penstock serve --listen 127.0.0.1:4270"
    if error.errno == errno.EADDRNOTAVAIL:
        named = " and ".join(f"{option} {address}" for option, address in places)
        return f"an address to listen on is not one of this machine's ({named})"
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return f"the gateway cannot start: {error.filename}: {reason}" if error.filename else f"the gateway cannot start: {reason}"


def _url(host: str, port: int) -> str:
    """An URL that works on this machine, also for a listener on every address."""
    shown = _EVERYWHERE.get(host) or (f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _place(origin: Origin) -> str:
    """Where a provider is, without what its URL may hold besides."""
    if origin.socket_path is not None:
        return origin.socket_path
    return origin.host if origin.port in (80, 443) else f"{origin.host}:{origin.port}"


def _quote(path: str) -> str:
    import shlex

    return shlex.quote(path)
