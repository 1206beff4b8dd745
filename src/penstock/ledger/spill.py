"""Where rows wait when the database does not take them: append-only JSON lines in the data directory.

Promises
- `append` returns when the rows are on the disk (one write and one fsync per batch); when it raises, nothing of the batch is left in the file.
- Rows come back in the order in which they were appended, and stay in the file until `done` says that the database has them. After a crash in
  between they come twice, which the database does not mind.
- Each process writes its own file, under flock as long as it lives; `adopt` takes over the files of the dead.
- A torn last line (a power cut) is counted and skipped. A line that cannot be read anywhere else is counted too, and then the file is kept as
  `*.damaged` for people to look at.

Used by the writer's thread alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from penstock.ledger.rows import Row, read, spell

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: the lease alone tells the dead
    fcntl = None

PREFIX, SUFFIX = "spill-", ".jsonl"
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""What file systems say that sync no directories (FUSE, CIFS)."""


class Spill:
    """All spill files that this process drains: those that it adopted, oldest first, and its own."""

    def __init__(self, directory: Path, instance: str) -> None:
        self.directory = directory
        self.torn = 0
        """Lines that could not be read."""
        self._instance = instance
        self._files: list[_File] = []
        self._own: _File | None = None
        self._serial = 0

    @property
    def pending(self) -> bool:
        """Are there rows (or may there be) that the database does not have yet?"""
        return bool(self._files)

    def append(self, rows: list[Row]) -> None:
        """Keep the rows. Raises `OSError`, and then has kept none of them."""
        if self._own is not None and self._own.unlinked:
            self._own = None  # what is in it is still drained; nobody else will ever find it
        if self._own is None:
            self._own = _File(self._next_path(), new=True)
            self._files.append(self._own)
        self._own.append(spell(rows))

    def peek(self, limit: int) -> list[Row]:
        """The next rows, up to `limit`; empty when there are none (files that are at their end are removed). Raises `OSError`."""
        while self._files:
            rows, torn = self._files[0].peek(limit)
            self.torn += torn
            if rows:
                return rows
            file = self._files.pop(0)
            if file is self._own:
                self._own = None
            file.remove()
        return []

    def done(self) -> None:
        """What `peek` gave last is in the database."""
        self._files[0].done()

    def adopt(self, alive: Collection[str]) -> int:
        """Take over the files of processes that live no more; returns how many. `alive`: instances whose lease holds."""
        taken = 0
        for path in sorted(self.directory.glob(f"{PREFIX}*{SUFFIX}"), key=_age):
            owner = path.name[len(PREFIX) : -len(SUFFIX)].rpartition("-")[0]
            if owner == self._instance or owner in alive:
                continue
            try:
                file = _File(path, new=False)
            except OSError:
                continue  # Locked by its owner, or another process was quicker.
            try:
                file.rename(self._next_path())
            except OSError:
                file.close()
                continue
            # Before our own: they are older.
            self._files.insert(len(self._files) - (self._own is not None), file)
            taken += 1
        return taken

    def close(self) -> None:
        """Leave what is there for the next start."""
        for file in self._files:
            file.close()
        self._files.clear()
        self._own = None

    def _next_path(self) -> Path:
        self._serial += 1
        return self.directory / f"{PREFIX}{self._instance}-{self._serial}{SUFFIX}"


class _File:
    """One spill file, open and locked."""

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if new else 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "no file", str(path))
            if new:
                _sync_directory(path.parent)
            elif os.stat(path).st_ino != os.fstat(descriptor).st_ino:  # noqa: PTH116
                raise FileNotFoundError(path)  # Renamed between open and lock.
        except OSError:
            os.close(descriptor)
            if new:  # each try takes a new name: none is left behind
                with suppress(OSError):
                    path.unlink()
            raise
        self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        self._taken = 0
        self._next = 0
        self._ragged = False
        self._damaged = False

    @property
    def unlinked(self) -> bool:
        """Was it removed, so that it goes with us?"""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def append(self, data: bytes) -> None:
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        try:
            if self._ragged:
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError:
            try:
                os.ftruncate(descriptor, size)
            except OSError:
                self._ragged = True
            raise
        self._ragged = False

    def peek(self, limit: int) -> tuple[list[Row], int]:
        """`(rows, lines that could not be read)`, from where `done` left off. Lines passed over are counted once."""
        rows: list[Row] = []
        torn = 0
        at = self._taken
        with open(self._file.fileno(), "rb", closefd=False) as reader:
            reader.seek(at)
            while len(rows) < limit:
                line = reader.readline()
                if not line:
                    break
                at += len(line)
                if line == b"\n":
                    continue
                row = read(line)
                if row is None:
                    torn += 1
                    self._damaged = self._damaged or line.endswith(b"\n")
                    if not rows:
                        self._taken = at  # Nothing before it waits for `done`.
                    else:
                        at -= len(line)  # Left for the next look, so that it is counted once.
                        torn -= 1
                        break
                else:
                    rows.append(row)
        self._next = at
        return rows, torn

    def done(self) -> None:
        self._taken = self._next

    def rename(self, path: Path) -> None:
        self.path = self.path.rename(path)

    def remove(self) -> None:
        if self._damaged and not self.unlinked:
            self.path.rename(self.path.with_suffix(SUFFIX + ".damaged"))
        else:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        self._file.close()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sync_directory(directory: Path) -> None:
    """Makes the new file's name durable; where directories cannot be synced, the file alone must do."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
