"""Where programs keep their histories, and which format a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.ledger.histories import claude_code, codex, tokencost
from penstock.ledger.histories.found import Found

Reader = Callable[[Path, Callable[[int], None]], Iterator[Found]]
_HEAD = 4096
_SQLITE = b"SQLite format 3\0"


class BadSource(ValueError):
    """Nothing that can be read. Its text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file."""

    path: Path
    read: Reader
    size: int
    """In bytes."""
    modified: float
    """Seconds since the epoch."""


def find_sources(what: str, environ: Mapping[str, str]) -> list[Source]:
    """The files of `claude-code` or `codex`, or of a file or directory; the oldest first. Raises `BadSource`."""
    match what:
        case claude_code.ORIGIN:
            return _all(_claude_places(environ), "**/*.jsonl", claude_code.read, "Claude Code")
        case codex.ORIGIN:
            home = Path(environ.get("CODEX_HOME") or _home(environ) / ".codex")
            return _all([home / "sessions", home / "archived_sessions"], "**/rollout-*.jsonl", codex.read, "Codex")
        case _:
            path = Path(what).expanduser()
            if path.is_dir():
                files = [file for file in sorted(path.rglob("*.jsonl")) if _is_file(file)]
                found = [source for file in files if (source := _source_or_why(file)) is not None]
                if not found:
                    raise BadSource(f"there is no session of Claude Code's or Codex's in {path}")
                return sorted(found, key=_order)
            if not path.is_file():
                raise BadSource(f"{what} is neither claude-code nor codex, and there is no such file")
            source = _source(path)
            if source is None:
                raise BadSource(f"{path} is no session of Claude Code's or Codex's, and no tracker.db of TokenCost's")
            return [source]


def _claude_places(environ: Mapping[str, str]) -> list[Path]:
    stated = environ.get("CLAUDE_CONFIG_DIR")
    if stated:
        return [Path(one.strip()) / "projects" for one in stated.split(",")]
    home = _home(environ)
    return [Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "claude" / "projects", home / ".claude" / "projects"]


def _all(places: Sequence[Path], pattern: str, read: Reader, program: str) -> list[Source]:
    found = [_stat(path, read) for place in places for path in place.glob(pattern) if path.is_file()]
    if not found:
        raise BadSource(f"there is no history of {program}'s in {' or '.join(str(place) for place in places)}")
    return sorted(found, key=_order)


def _order(source: Source) -> tuple[str, float]:
    """The oldest first, because a later file may repeat an earlier one: by the time in a rollout's name, as one that is gone on with is modified."""
    return source.path.name if source.read is codex.read else "", source.modified


def _source(path: Path) -> Source | None:
    """By what stands at the beginning of a file; `None`: it is of no format that is known."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise BadSource(f"{path} cannot be read: {error.strerror}") from error
    if head.startswith(_SQLITE):
        return _stat(path, tokencost.read)
    if b'"session_meta"' in head or b'"payload"' in head:
        return _stat(path, codex.read)
    if b'"sessionId"' in head or b'"leafUuid"' in head:
        return _stat(path, claude_code.read)
    return None


def _is_file(path: Path) -> bool:
    """Not a directory, and no pipe, from which nothing may ever come."""
    try:
        return path.is_file()
    except OSError:
        return False


def _source_or_why(path: Path) -> Source | None:
    """One of many files: where it cannot be read, whoever reads it says why, and reads the others."""
    try:
        return _source(path)
    except BadSource:
        return Source(path, claude_code.read, 0, 0.0)


def _stat(path: Path, read: Reader) -> Source:
    found = path.stat()
    return Source(path, read, found.st_size, found.st_mtime)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
