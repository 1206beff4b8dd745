"""Find the file, read it, lay environment and command line over it, and hold the whole against the rules."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, cast
from urllib.parse import quote

from penstock.capture.dumps import DumpSettings
from penstock.capture.settings import CaptureSettings
from penstock.config import env, legacy_argo, providers
from penstock.config.admission import read_admission
from penstock.config.admission_keys import read_long_secret
from penstock.config.conduct import read_level
from penstock.config.document import Listing, Node, Scalar, Section, parse
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.guards import call_limits, read_guards, together
from penstock.config.levels import gather
from penstock.config.model import TOP
from penstock.config.modes import Level, over_the_file, unheard_words
from penstock.config.prices import read_prices
from penstock.config.providers import FoundRoute
from penstock.config.resolve import note_unused, read_resolve
from penstock.config.rules import exposure, own_listener, same_place
from penstock.config.settings import AUTO_TOKEN, Address, Config, Limits, Listening
from penstock.config.slips import slips
from penstock.config.walk import Given, read_fields
from penstock.policy.guards import Guard
from penstock.providers import ProviderSettings
from penstock.telemetry.log import LogSettings

T = TypeVar("T")

_KEYS = frozenset({"api_key", "token", "keys_secret"})
"""What the file calls its secrets."""
_MOST_PEM = 16 << 20
"""Bytes of a file of authorities that are looked through."""
_SQLITE = re.compile(r"sqlite(?:\+[a-z0-9]+)?:///(?=[^/~:])")
"""Before a relative path."""


def find(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Which file is read, and who named it: `path`, `PENSTOCK_CONFIG`, or `penstock/penstock.yaml` in the user's configuration
    directory if it is there. `None`: no file. Never one of the working directory."""
    if path is not None:
        return path, "--config"
    if environ.get(env.CONFIG_VARIABLE, "").strip():
        return _expand(Path(environ[env.CONFIG_VARIABLE].strip()), environ, Path.cwd()), env.CONFIG_VARIABLE
    default = default_file(environ)
    try:
        there = default.is_file()
    except OSError:
        there = True  # it cannot be looked for: nobody may go on as if nothing were configured, and who reads it says why
    return (default, "") if there else (None, "")


def default_file(environ: Mapping[str, str]) -> Path:
    """The file that is read where none is named, whether it is there or not."""
    return _base(environ, "XDG_CONFIG_HOME", ".config") / "penstock" / "penstock.yaml"


def load(path: Path | None = None, *, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> Config:
    """The configuration. Raises `ConfigErrors` with everything that is wrong with it.

    `overrides`: what the command line says, by key (`listen`, `ledger.url`); `None` where it says nothing. Relative paths are relative
    to the file in a file, and to the working directory elsewhere.
    """
    problems = Problems()
    file, named_by = find(path, environ)
    section, notes = Section(()), list[str]()
    if file is not None:
        file = _expand(file, environ, Path.cwd())
        section = _read_file(file, named_by, environ, problems)
    top = Place(str(file) if file is not None else "no file", None, "")

    given = read_fields(section, TOP, top, problems, others=("providers", "routes", "resolve", "prices", "guards", "admission"))
    from_env, misspelt = env.from_environment(environ, problems)
    notes += misspelt
    given |= from_env | env.from_command_line(overrides or {}, problems)
    if "listen" in given and "socket" in given and _rank(given["listen"]) > _rank(given["socket"]):
        del given["socket"]  # an address that beats the file beats the file's other word for it, too

    def absolute(written: Path, place: Place) -> Path:
        in_file = file is not None and place.file == str(file)
        return _expand(written, environ, file.parent if in_file and file is not None else Path.cwd())

    def path_of(name: str) -> Path | None:
        written = _get(given, name, Path)
        return absolute(written, given[name].place) if written is not None else None

    defaults = Config(data_dir=_base(environ, "XDG_DATA_HOME", ".local/share") / "penstock", providers=())
    ca_file = path_of("upstream.ca_file")
    if ca_file is not None:
        _check_authorities(ca_file, given["upstream.ca_file"].place, problems)
    listen, admin, socket = _get(given, "listen", Address) or defaults.listen, _get(given, "admin", Address) or defaults.admin, path_of("socket")
    token = _get(given, "token", str)

    def is_own(base_url: str) -> str | None:
        return own_listener(base_url, listen, admin, socket)

    nodes = {key.text: (node, top.below(key.text, key.line)) for key, node in section.items}
    guarded: dict[str, tuple[Guard, ...]] = {}
    found, provider_notes = _providers(nodes, environ, is_own, lambda written: absolute(written, top), guarded, problems)
    notes += provider_notes
    routes = _routes(nodes, [settings for settings, _ in found], lambda written: absolute(written, top), problems)
    real_stream = cast("bool | None", _said(given, "real_stream", None))
    if _get(given, "legacy_argo", bool):
        found, routes = legacy_argo.alone(found, environ, _place(given, "legacy_argo", "legacy_argo", top), problems), ()
    found = [(legacy_argo.streaming(settings, real_stream), level) for settings, level in found]
    notes += legacy_argo.idle(settings for settings, _ in found)
    settings_found = [settings for settings, _ in found]
    pinned = read_resolve(*nodes["resolve"], problems) if "resolve" in nodes else {}
    notes += note_unused(pinned, settings_found)
    own_prices = read_prices(*nodes["prices"], problems, notes) if "prices" in nodes else ()
    guards = read_guards(section, top, lambda written: absolute(written, top), problems)
    level = read_level(given, problems)
    admission = read_admission(nodes, lambda written: absolute(written, top), tuple(found.mode for found in routes), problems)
    if environ.get("PENSTOCK_KEYS_SECRET", "").strip():
        admission = replace(admission, keys_secret=_keys_secret(environ["PENSTOCK_KEYS_SECRET"], problems))

    if socket is None and same_place(listen, admin):
        where = _place(given, "admin", "listen", top) if "admin" in given else _place(given, "listen", "listen", top)
        problems.add(where, f"listen and admin both want {listen}; give admin another port")
    danger = exposure(listen, socket, settings_found, token, admission)
    if danger is not None:
        problems.add(_place(given, "listen", "listen", top), danger)
    if (guards or any(guarded.values()) or any(found.guards for found in routes)) and _get(given, "transparent", bool):
        problems.add(_place(given, "transparent", "transparent", top), "guards change what passes, and transparent forbids it; keep one of the two")
    problems.raise_any()

    transparent = _get(given, "transparent", bool) or False
    drops = cast("tuple[str, ...]", _get(given, "drop_headers", tuple) or ())
    conducts = gather(level, found, routes, transparent=transparent, worker=given.get("limits.max_streams"), over=over_the_file(given))
    notes += [guard.blind for some in (guards, *guarded.values(), *(found.guards for found in routes)) for guard in some if guard.blind]
    notes += unheard_words(given, [settings.kind for settings in settings_found])
    limits = defaults.limits
    return replace(
        defaults,
        file=file,
        listen=listen,
        admin=admin,
        socket=socket,
        token=token,
        data_dir=path_of("data_dir") or defaults.data_dir,
        hosts=cast("tuple[str, ...]", _get(given, "hosts", tuple) or ()),
        providers=tuple(
            replace(settings, ask_usage=settings.ask_usage and not transparent, drop_headers=settings.drop_headers + drops)
            for settings in settings_found),
        routes=tuple(found.route for found in routes),
        admission=admission,
        conduct=replace(conducts.top, guards=together(guards, given)),
        provider_conduct={
            name: replace(conduct, guards=together((*guards, *guarded.get(name, ())), given)) for name, conduct in conducts.providers.items()},
        route_conduct=tuple(
            replace(conduct, guards=together((*guards, *guarded.get(found.route.provider, ()), *found.guards), given))
            for found, conduct in zip(routes, conducts.routes, strict=True)),
        listening=_listening(given),
        guard_calls=call_limits(given),
        log=LogSettings(
            level=cast("Literal['debug', 'info', 'warning', 'error']", _said(given, "log.level", defaults.log.level)),
            format=cast("Literal['auto', 'human', 'json']", _said(given, "log.format", defaults.log.format)),
            file=path_of("log.file"),
        ),
        capture=_capture(given),
        real_stream=_get(given, "real_stream", bool),
        dumps=DumpSettings(
            most=_get(given, "stream_retry_dumps.most", int) or defaults.dumps.most,
            keep_days=cast("float | None", _said(given, "stream_retry_dumps.keep_days", defaults.dumps.keep_days)),
            total_bytes=_get(given, "stream_retry_dumps.total_bytes", int) or defaults.dumps.total_bytes,
        ),
        max_streams=cast("int | None", _said(given, "limits.max_streams", defaults.max_streams)),
        limits=Limits(
            max_frame=_get(given, "limits.max_frame", int) or limits.max_frame,
            held_total=_get(given, "limits.held_total", int) or limits.held_total,
            assembly=_get(given, "limits.assembly", int) or limits.assembly,
            noted=_get(given, "limits.noted", int) or limits.noted,
            noted_total=_get(given, "limits.noted_total", int) or limits.noted_total,
            noted_on_disk=cast("bool", _said(given, "limits.noted_on_disk", limits.noted_on_disk)),
            noted_answers=_get(given, "limits.noted_answers", int) or limits.noted_answers,
            peeked_total=_get(given, "limits.peeked_total", int) or limits.peeked_total,
            body=_get(given, "limits.body", int) or limits.body,
        ),
        retention_days=cast("int | None", _said(given, "retention", defaults.retention_days)),
        ledger_url=_ledger_url(given, absolute),
        ledger_queue=_get(given, "ledger.queue", int) or defaults.ledger_queue,
        preview=cast("int | None", _said(given, "ledger.preview", None)),
        prices=own_prices,
        ca_file=ca_file,
        resolve={target: address for target, (address, _) in pinned.items()},
        connection_test=cast("float | None", _said(given, "connection_test_timeout", defaults.connection_test)),
        transparent=transparent,
        drop_response_headers=frozenset(cast("tuple[str, ...]", _get(given, "drop_response_headers", tuple) or ())),
        notes=(*notes, *conducts.notes) + (_readable_by_others(file, section) if file is not None else ()),
    )


def load_place(path: Path | None, *, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
    """The defaults with the data directory that is meant, whatever else is wrong. Raises `ConfigErrors` where `overrides` is, which has nothing
    but `data_dir`."""
    calm = {name: environ[name] for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "PENSTOCK_DATA_DIR") if name in environ}
    plain = load(Path(os.devnull), environ=calm, overrides=overrides)
    file, _ = find(path, environ)
    if file is None or overrides.get("data_dir") or calm.get("PENSTOCK_DATA_DIR", "").strip():
        return plain
    file = _expand(file, environ, Path.cwd())
    ignored = Problems()
    section = _read_file(file, "", environ, ignored)
    fields = [known for known in TOP if known.name == "data_dir"]
    given = read_fields(Section(tuple(item for item in section.items if item[0].text == "data_dir")), fields, Place(str(file), None, ""), ignored)
    written = _get(given, "data_dir", Path)
    return plain if written is None else replace(plain, data_dir=_expand(written, environ, file.parent))


def _keys_secret(written: str, problems: Problems) -> str | None:
    try:
        return read_long_secret(Scalar(written, "str"))
    except Unfit as error:
        problems.add(Place("environment", None, "PENSTOCK_KEYS_SECRET"), str(error))
        return None


def _check_authorities(file: Path, place: Place, problems: Problems) -> None:
    """Is it there, and is it PEM? What stands in it, the start looks at."""
    try:
        with file.open("rb") as opened:
            found = opened.read(_MOST_PEM)
    except OSError as error:
        problems.add(place, f"cannot be read: {error.strerror or type(error).__name__}; write the path of a PEM file with certificates")
        return
    if b"-----BEGIN " not in found:
        problems.add(place, "holds no certificate; a PEM file has lines -----BEGIN CERTIFICATE-----")


def _ledger_url(given: Mapping[str, Given], absolute: Callable[[Path, Place], Path]) -> str | None:
    """The file of a SQLite URL is a path like any other: a relative one is relative to the configuration's file, where it stands there."""
    url = _get(given, "ledger.url", str)
    found = _SQLITE.match(url or "")
    if url is None or found is None:
        return url
    return f"{found[0]}{quote(str(absolute(Path(), given['ledger.url'].place)))}/{url[found.end():]}"


def _listening(given: Mapping[str, Given]) -> Listening:
    default = Listening()
    return Listening(
        head_bytes=_get(given, "limits.head", int) or default.head_bytes,
        head_fields=_get(given, "limits.head_fields", int) or default.head_fields,
        head_seconds=_get(given, "limits.head_time", float) or default.head_seconds,
        body_seconds=_get(given, "limits.body_gap", float) or default.body_seconds,
        idle_seconds=cast("float | None", _said(given, "limits.keepalive_idle", default.idle_seconds)),
        client_connections=cast("int | None", _said(given, "limits.connections_per_client", default.client_connections)),
    )


def _capture(given: Mapping[str, Given]) -> CaptureSettings:
    default = CaptureSettings()
    return CaptureSettings(
        patterns=cast("tuple[str, ...]", _said(given, "capture.patterns", default.patterns)),
        mask_keys=_get(given, "capture.mask_keys", bool) is not False,
        max_bytes=_get(given, "capture.max_bytes", int) or default.max_bytes,
        total_bytes=_get(given, "capture.total_bytes", int) or default.total_bytes,
        keep_days=cast("int | None", _said(given, "capture.keep_days", default.keep_days)),
        most=_get(given, "capture.most", int) or default.most,
    )


def _read_file(file: Path, named_by: str, environ: Mapping[str, str], problems: Problems) -> Section:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        why = f", which {named_by} names," if named_by else ""
        problems.add(Place(str(file), None, ""), f"this file{why} cannot be read: {error.strerror or type(error).__name__}")
        return Section(())
    except UnicodeDecodeError as error:
        problems.add(Place(str(file), error.object.count(b"\n", 0, error.start) + 1, ""), "this is not UTF-8; save the file as UTF-8")
        return Section(())
    return parse(text, environ, str(file), problems)


def _providers(
    nodes: Mapping[str, tuple[Node, Place]], environ: Mapping[str, str], is_own: Callable[[str], str | None], absolute: Callable[[Path], Path],
    guarded: dict[str, tuple[Guard, ...]], problems: Problems,
) -> tuple[list[tuple[ProviderSettings, Level]], list[str]]:
    """The file's providers if it has that key, else those that always exist; what each says of its exchanges; and notes."""
    if "providers" not in nodes:
        always, notes = providers.from_environment(environ, is_own, problems)
        return [(settings, {}) for settings in always], notes
    node, place = nodes["providers"]
    read = providers.read_providers(node, place, absolute, problems)
    for provider in read.values():
        own = is_own(provider.settings.base_url)
        if own is not None:
            problems.add(provider.place.below("base_url"), f"points at this gateway itself ({own}); write the provider's own address")
    guarded |= {name: provider.guards for name, provider in read.items()}
    return [(provider.settings, provider.level) for provider in read.values()], slips(read.values())


def _routes(nodes: Mapping[str, tuple[Node, Place]], found: Sequence[ProviderSettings], absolute: Callable[[Path], Path], problems: Problems
) -> tuple[FoundRoute, ...]:
    if "routes" not in nodes:
        return ()
    # A provider that is there but wrong is one error, not one more in each of its routes.
    known = [settings.name for settings in found]
    if "providers" in nodes and isinstance(nodes["providers"][0], Section):
        known = [key.text for key, _ in nodes["providers"][0].items]
    return providers.read_routes(*nodes["routes"], known, absolute, problems)


def _readable_by_others(file: Path, section: Section) -> tuple[str, ...]:
    """A note if the file holds keys in plain text that every user of this machine can read."""
    try:
        open_to_all = bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return ()
    if open_to_all and _holds_key(section):
        return (f"{file} holds keys and other users can read it; chmod 600 {file}, or take them from variables (\"${{NAME}}\") or api_key_file",)
    return ()


def _holds_key(node: Node, within: str = "") -> bool:
    if isinstance(node, Listing):
        return any(_holds_key(item) for item in node.items)
    if not isinstance(node, Section):
        return False
    names = _KEYS | {"key"} if within in ("webhook", "moderation") else _KEYS  # elsewhere a key is named by its id
    return any((key.text in names and _is_plain(below)) or _holds_key(below, key.text) for key, below in node.items)


def _is_plain(node: Node) -> bool:
    """Is it a secret as it is? `auto` is none, nor is a variable's name."""
    return isinstance(node, Scalar) and node.raw is None and node.text != AUTO_TOKEN


def _rank(one: Given) -> int:
    """How near to the person who starts the gateway it was said."""
    return {"command line": 2, "environment": 1}.get(one.place.file, 0)


def _place(given: Mapping[str, Given], name: str, path: str, top: Place) -> Place:
    return given[name].place if name in given else Place(top.file, None, path)


def _said(given: Mapping[str, Given], name: str, default: object) -> object:
    """What is given, which may be `None` for `off`."""
    return given[name].value if name in given else default


def _get(given: Mapping[str, Given], name: str, kind: type[T]) -> T | None:
    found = given.get(name)
    return found.value if found is not None and isinstance(found.value, kind) else None


def _base(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A directory of the XDG base directory specification; a relative one is to be ignored, says it."""
    stated = Path(environ.get(variable, ""))
    return stated if stated.is_absolute() else _home(environ) / default


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _expand(written: Path, environ: Mapping[str, str], base: Path) -> Path:
    text = str(written)
    if text == "~" or text.startswith("~/"):
        return _home(environ) / text[2:]
    return base / written
