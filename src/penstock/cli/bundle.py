"""What goes into a bundle for a bug report, by type, and the archive that it is packed into."""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import os
import platform
import re
import sqlite3
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock import __version__
from penstock.capture.dumps import FOLDER as DUMPS
from penstock.capture.dumps import LARGEST
from penstock.capture.redact import compile_patterns, redact_body
from penstock.capture.store import FOLDER as CAPTURES
from penstock.capture.store import StoreError, is_capture_file, read_private
from penstock.cli.redaction import known_secrets, redact_document, redact_settings, without
from penstock.wire.secrets import mask_secrets

if TYPE_CHECKING:
    from penstock.config import Config

TYPES = ("diagnostics", "config", "captures", "stream-retry")
_LOG_TAIL = 1 << 20
_LARGEST_DUMP = LARGEST + (1 << 20)
_VARIABLES = re.compile(r"(PENSTOCK|XDG|OPENAI|ANTHROPIC|GEMINI|GOOGLE|PYTHON|SSL|LC)_|LANG$|TZ$|.*_(API_KEY|BASE_URL|PROXY)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle."""

    name: str
    """Its path in the archive."""
    read: Callable[[], bytes]
    """Raises `OSError` where it is gone, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the parts come from."""

    config: Config | None
    """`None`: it is wrong, and `errors` says how."""
    errors: str
    file: Path | None
    """The configuration's file, readable or not."""
    config_dir: Path
    data_dir: Path
    environ: Mapping[str, str]
    last: int
    """Rows of the ledger."""

    def plain(self, text: str, *, redacted: bool = False) -> bytes:
        """`text` without the secrets that are known, and without what looks like one, unless that was done."""
        text = without(text, known_secrets(self.config, self.environ))
        return (text if redacted else mask_secrets(text)).encode("utf-8", "replace")


def gather(source: Source, kinds: Iterable[str]) -> dict[str, list[Part]]:
    """The parts by type; a type of which there is nothing has none."""
    makers = {"diagnostics": _diagnostics, "config": _configuration, "captures": _captures, "stream-retry": _dumps}
    return {kind: makers[kind](source) for kind in kinds}


def pack(parts: Sequence[Part], output: Path, told: Callable[[Part, int | None], None], *, force: bool) -> None:
    """Write the archive (tar.gz, mode 0600), whole or not at all. `told` after each part: its size, or `None` where it could not be read.

    Raises `FileExistsError` where `output` is there and not `force`; `OSError` where it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=".penstock-logs-", dir=output.parent)  # mode 0600
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for part in parts:
                try:
                    content = part.read()
                except OSError:
                    told(part, None)
                    continue
                entry = tarfile.TarInfo(part.name)
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
                told(part, len(content))
        if force:
            scratch.replace(output)
        else:
            _place(scratch, output)
    finally:
        scratch.unlink(missing_ok=True)


def _place(scratch: Path, output: Path) -> None:
    """Under its name, unless somebody was quicker."""
    try:
        os.link(scratch, output)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if output.exists():
            raise FileExistsError(output) from None
        scratch.replace(output)


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


# -- diagnostics -----------------------------------------------------------------------------------------------------------------------


def _diagnostics(source: Source) -> list[Part]:
    parts = [Part("diagnostics/versions.json", lambda: _json(versions())), Part("diagnostics/spill.json", lambda: _json(_spill(source.data_dir)))]
    parts += [Part(f"diagnostics/{name}", lambda content=content: content) for name, content in _ledger(source)]
    log = source.config.log.file if source.config is not None else None
    if log is not None and log.is_file():
        parts.append(Part("diagnostics/log.txt", lambda: source.plain(_tail(log))))
    return parts


def versions() -> dict[str, Any]:
    """Penstock, Python, system, and what Penstock needs as it is installed here."""
    names = {re.split(r"[\s;<>=!~\[]", line, maxsplit=1)[0] for line in importlib.metadata.requires("penstock") or []}
    found: dict[str, str] = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "penstock": __version__, "python": sys.version, "implementation": platform.python_implementation(), "system": platform.platform(),
        "machine": platform.machine(), "cpus": os.cpu_count(), "sqlite": sqlite3.sqlite_version, "dependencies": found, "at": time.time(),
    }  # fmt: skip


def _ledger(source: Source) -> Iterator[tuple[str, bytes]]:
    """Rows and sums; where the ledger cannot be read, why."""
    from penstock.ledger import query
    from penstock.ledger.errors import LedgerError
    from penstock.ledger.settings import LedgerSettings

    url = source.config.ledger_url if source.config is not None else None
    settings = LedgerSettings(source.data_dir, url)
    about: dict[str, Any] = {"kind": "sqlite" if url is None else url.partition(":")[0]}
    try:
        engine = query.connect(settings)
        try:
            last, still_open = query.exchanges(engine, source.last), query.exchanges(engine, 1000, open_only=True)
            about |= {"notes": query.notes(engine), "outcomes": query.usage(engine, ("outcome",)), "instances": query.instances(engine)}
        finally:
            engine.dispose()
    except LedgerError as error:
        about["error"] = str(error)
    else:
        yield "exchanges.jsonl", source.plain(_lines(last))
        yield "open.jsonl", source.plain(_lines(still_open))
    if url is None:
        about["files"] = {path.name: path.stat().st_size for path in sorted(source.data_dir.glob("ledger.db*"))}
    yield "ledger.json", source.plain(_json(about).decode())


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)


def _spill(data_dir: Path) -> list[dict[str, Any]]:
    """What waits in files for the database, and what could not be read there."""
    found: list[dict[str, Any]] = []
    for path in sorted(data_dir.glob("spill-*.jsonl*")):
        try:
            with path.open("rb") as file:
                lines = sum(1 for _ in file)
            found.append({"file": path.name, "bytes": path.stat().st_size, "lines": lines, "changed": path.stat().st_mtime})
        except OSError as error:
            found.append({"file": path.name, "error": error.strerror})
    return found


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_TAIL))
        text = file.read().decode("utf-8", "replace")
    return text if size <= _LOG_TAIL else text.partition("\n")[2]  # the first line is a half one


# -- configuration ---------------------------------------------------------------------------------------------------------------------


def _configuration(source: Source) -> list[Part]:
    config, file = source.config, source.file
    parts = [Part("config/environment.txt", lambda: _names(source.environ))]
    if file is not None and file.is_file():
        parts.append(Part("config/penstock.yaml", lambda: _document(source, file)))
    if config is not None:
        parts.append(Part("config/settings.json", lambda: source.plain(_json(redact_settings(config)).decode(), redacted=True)))
    if source.errors:
        parts.append(Part("config/errors.txt", lambda: source.plain(source.errors + "\n")))
    return parts


def _document(source: Source, file: Path) -> bytes:
    try:
        return source.plain(redact_document(file.read_text("utf-8", "replace")), redacted=True)
    except ValueError as error:
        return f"# left out: {error}\n".encode()


def _names(environ: Mapping[str, str]) -> bytes:
    """The names of variables that may matter; never a value."""
    names = [name for name in sorted(environ) if _VARIABLES.match(name)]
    return "".join(f"{name}\n" for name in names).encode("utf-8", "replace")


# -- files -----------------------------------------------------------------------------------------------------------------------------


def _captures(source: Source) -> list[Part]:
    """As they lie there: secrets were taken out before they were written. Out of other files that lie there nobody took any."""
    found = [(name, path) for name, path in _files(source.data_dir / CAPTURES, "*") if is_capture_file(name)]
    return [Part(f"captures/{name}", lambda path=path: _capture(path)) for name, path in found]


def _capture(path: Path) -> bytes:
    try:
        return read_private(path)
    except StoreError as error:
        raise OSError(str(error)) from error


def _dumps(source: Source) -> list[Part]:
    found: list[Part] = []
    for place, directory in (("config", source.config_dir), ("data", source.data_dir)):
        for name, path in [*_files(directory / DUMPS, "retry_*.json"), *_files(directory / DUMPS, "retry_*.json.gz")]:
            found.append(Part(f"stream-retry/{place}/{name.removesuffix('.gz')}", lambda path=path: _dump(source, path)))
    return found


def _dump(source: Source, path: Path) -> bytes:
    """Unpacked, because nothing could be masked in it otherwise. Raises `OSError` where it is too large, or damaged."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_LARGEST_DUMP + 1)
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path} is damaged") from error
    if len(content) > _LARGEST_DUMP:
        raise OSError(f"{path} is larger than {_LARGEST_DUMP} bytes")
    secrets = [secret.encode("utf-8", "surrogateescape") for secret in known_secrets(source.config, source.environ)]
    plain, _, _ = redact_body(content, (), secrets, compile_patterns(()))  # JSON stays JSON
    return plain


def _files(directory: Path, pattern: str) -> list[tuple[str, Path]]:
    """Regular files below `directory`, by name; links are not followed."""
    if directory.is_symlink() or not directory.is_dir():
        return []
    found: list[tuple[str, Path]] = []
    for here, _, names in os.walk(directory):
        found += [(str((Path(here) / name).relative_to(directory)), Path(here) / name) for name in names if Path(name).match(pattern)]
    return sorted((name, path) for name, path in found if path.is_file() and not path.is_symlink())
