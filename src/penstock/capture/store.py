"""The folders of captures below the data directory: written whole or not at all, found by the beginning of a name, forgotten in time.

Used by the writer's thread of a running gateway, and by commands beside it. A name that somebody gives is only ever compared with the names
that are there; links are not followed, and what is no capture of ours is not touched.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.capture.layout import BODY, HEAD, META, TIMES, Files, Meta, PartMeta, read_times
from penstock.capture.settings import LARGEST as LARGEST_CAPTURE
from penstock.capture.settings import MIB, CaptureSettings

FOLDER = "captures"
RESERVE = 64 * MIB
"""Bytes that captures leave free on the disk: the ledger lives there too."""
LARGEST = 4 * LARGEST_CAPTURE
"""Bytes of one file that is read: no capture's are more."""
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_FRESH = re.compile(r"\.new-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_STALE = 3600.0
"""Seconds after which an unfinished folder has no writer any more."""
_PART = re.compile(r"[a-z_]+(?:\.[0-9]{1,3})?")
_FILE = re.compile(rf"{_ID.pattern}/(?:{re.escape(META)}|{_PART.pattern}(?:{'|'.join(map(re.escape, (HEAD, BODY, TIMES)))}))")

_decode = msgspec.json.Decoder(Meta).decode


class StoreError(Exception):
    """A capture that is not there or cannot be read. Its text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Item:
    """One capture's folder. `meta` is `None` where its `capture.json` cannot be read."""

    id: str
    path: Path
    meta: Meta | None


@dataclass(frozen=True, slots=True)
class Content:
    """The files of one part; empty where there is none."""

    head: bytes
    body: bytes
    times: list[tuple[float, int]]


def new_id(began: float) -> str:
    """Sorts by time; no other capture has it."""
    return f"{_stamp(began)}-{secrets.token_hex(3)}"


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d-%H%M%S")


class Store:
    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / FOLDER

    # -- for the writer --------------------------------------------------------------------------------------------------------------

    def write(self, id: str, files: Files) -> None:
        """Make the capture's folder. Raises `OSError`, and then there is none."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.directory.stat().st_mode & 0o077:
            with suppress(OSError):  # somebody else's: its owner has to do it
                self.directory.chmod(0o700)
        size = sum(map(len, files.values()))
        if shutil.disk_usage(self.directory).free < RESERVE + size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))
        fresh = self.directory / f".new-{id}"
        fresh.mkdir(mode=0o700)
        try:
            for name, content in files.items():
                write_private(fresh / name, content)
            fresh.rename(self.directory / id)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def prune(self, settings: CaptureSettings, now: float) -> int:
        """Delete what is too old, and the oldest of what is too many or too much; returns how many. `now`: seconds since the epoch."""
        gone = 0
        names = self._names()
        oldest = None if settings.keep_days is None else _stamp(max(0.0, now - settings.keep_days * 86400))
        total = 0
        for number, name in enumerate(reversed(names)):
            path = self.directory / name
            total += _measure(path)
            if number >= settings.most or total > settings.total_bytes or (oldest is not None and name[: len(oldest)] < oldest):
                gone += _remove(path)
        for path in self._entries():
            if _FRESH.fullmatch(path.name):
                with suppress(OSError):
                    if now - path.lstat().st_mtime > _STALE:
                        _remove(path)
        return gone

    # -- for people ------------------------------------------------------------------------------------------------------------------

    def items(self) -> list[Item]:
        """All captures, the newest first. Raises `StoreError`."""
        items = [Item(name, self.directory / name, self._meta(name)) for name in self._names()]
        # Ids tell seconds; of one second the moment says more.
        return sorted(items, key=lambda item: (item.id.rpartition("-")[0], item.meta.began if item.meta is not None else 0.0, item.id), reverse=True)

    def find(self, wanted: str) -> Item:
        """The capture whose id, or whose exchange's id, is or begins with `wanted`. Raises `StoreError`, also where several are meant."""
        items = self.items()
        if not items:
            raise StoreError("there is no capture")
        by_id = [item for item in items if item.id.startswith(wanted)] if wanted else []
        of_exchange = [item for item in items if item.meta is not None and item.meta.exchange.startswith(wanted)] if wanted else []
        whole = [item for item in of_exchange if item.meta is not None and item.meta.exchange == wanted]
        found = by_id or whole or of_exchange
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"no capture, and no captured exchange, has an id that begins with {wanted!r}; the newest capture is {items[0].id}")
        raise StoreError(f"{wanted!r} could be any of {len(found)} captures: {', '.join(item.id for item in found[:5])}")

    def read(self, item: Item, part: PartMeta) -> Content:
        """What was kept of one part. Raises `StoreError`."""
        head, body, times = (_read(item.path / name) or b"" for name in _names_of(item, part))
        return Content(head, body, read_times(times))

    def files(self, item: Item) -> Iterator[tuple[str, bytes]]:
        """Every file of a capture that is there: its name and its bytes. Raises `StoreError`."""
        parts = item.meta.parts if item.meta is not None else ()
        for name in (META, *(name for part in parts for name in _names_of(item, part))):
            content = _read(item.path / name)
            if content is not None:
                yield name, content

    def delete(self, items: Sequence[Item]) -> int:
        """Returns how many are gone."""
        return sum(_remove(item.path) for item in items)

    def _meta(self, name: str) -> Meta | None:
        try:
            return _decode(_read(self.directory / name / META) or b"")
        except (msgspec.MsgspecError, UnicodeError, RecursionError, StoreError):
            return None

    def _names(self) -> list[str]:
        """The ids that are there, the oldest first."""
        return sorted(path.name for path in self._entries() if _ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink())

    def _entries(self) -> list[Path]:
        try:
            return list(self.directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.directory} cannot be read: {error.strerror or error}") from error


def write_private(path: Path, content: bytes) -> None:
    """A new file, 0600 from its first moment. Raises `OSError`, also where there is one of that name."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _names_of(item: Item, part: PartMeta) -> list[str]:
    if not _PART.fullmatch(part.file):
        raise StoreError(f"{item.id} is damaged: it names a file {part.file!r}")
    return [part.file + ending for ending in (HEAD, BODY, TIMES)]


def is_capture_file(name: str) -> bool:
    """Is this, below the folder of captures, the name of a file that captures have?"""
    return _FILE.fullmatch(name) is not None


def read_private(path: Path) -> bytes:
    """The whole of one file of a capture. Raises `StoreError`, also where it is gone."""
    content = _read(path)
    if content is None:
        raise StoreError(f"{path} is gone")
    return content


def _read(path: Path) -> bytes | None:
    """`None` where there is no such file. Raises `StoreError`."""
    try:
        # Not through a link, and not waiting for a pipe: these folders may have come from elsewhere.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path} is no file")
        if status.st_size > LARGEST:
            raise StoreError(f"{path} is larger than any file of a capture ({status.st_size:,} bytes)")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


def _measure(path: Path) -> int:
    total = 0
    with suppress(OSError):
        for entry in os.scandir(path):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _remove(path: Path) -> bool:
    """Is it gone now?"""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()
