"""Dumps of requests that a provider refused to answer without streaming: what was asked, and what the refusal said, one file each.

They lie in `stream_retry_dumps` beside the configuration's file, or in the data directory where there is none or its folder takes no files:
`retry_<UTC time>_<exchange>.json`, their owner's alone. The loop puts them in a line, a thread writes them and forgets the old; an exchange
never notices. No credential is in them: heads are not kept, and URL, error and body are redacted as captures are.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.capture.line import GOODBYE, Line
from penstock.capture.redact import compile_patterns, redact_body, redact_target, spellings
from penstock.capture.store import RESERVE, write_private

log = logging.getLogger("penstock.dumps")

FOLDER = "stream_retry_dumps"
LARGEST = 64 << 20
"""Bytes of a body that is dumped: beyond it there is no dump."""
ERROR = 64 * 1024
"""Bytes of an error's text that are kept."""
LINE = 16
"""Dumps that may wait."""
WAITING = 2 * LARGEST
"""Bytes of all that wait."""
_NAME = re.compile(r"retry_[0-9]{8}_[0-9]{6}_[0-9]{6}_[A-Za-z0-9_-]+\.json")


@dataclass(frozen=True, slots=True)
class DumpSettings:
    most: int = 100
    """Dumps on the disk, in each folder."""
    keep_days: float | None = 7.0
    """`None`: age alone deletes nothing."""
    total_bytes: int = 256 << 20
    """Of all of them."""


@dataclass(frozen=True, slots=True)
class Dump:
    """One refusal. Nothing in it has been redacted yet."""

    exchange: str
    at: float
    """Seconds since the epoch."""
    url: str
    """Whom we asked."""
    status: int
    error: bytes
    """Its body, coding taken off."""
    body: bytes
    """The request's, as the provider got it."""


class _File(msgspec.Struct):
    timestamp: str
    exchange: str
    upstream_url: str
    error_status: int
    error_text: str
    request_body: msgspec.Raw | str
    """As JSON; as text where it is none."""


class Dumps:
    def __init__(self, folders: Sequence[Path], settings: DumpSettings, secrets: Iterable[str] = ()) -> None:
        """`folders`: in which `stream_retry_dumps` is to lie, the best first. `secrets`: keys and tokens of the house, looked for by their
        letters. Opens nothing."""
        self._folders = [folder / FOLDER for folder in dict.fromkeys(folders)]
        self._settings = settings
        self._literals = sorted({form for s in secrets for form in spellings(s.encode())})
        self._patterns = compile_patterns(())
        self._line: Line[Dump] = Line("penstock-dumps", self._keep, self._prune)
        self._lock = threading.Lock()
        self._held = 0
        self._failing = False
        self.kept = 0
        self.dropped = 0
        """There was no place in the line, or the body was too large."""
        self.failed = 0
        """Could not be written."""

    def start(self) -> None:
        """Look after dumps that are there already: their time runs also while nothing is dumped."""
        if any(folder.is_dir() for folder in self._folders):
            self._line.start()

    def put(self, dump: Dump) -> bool:
        """Never waits, never raises; False where there is no place."""
        size = len(dump.body)
        with self._lock:
            full = size > LARGEST or len(self._line) >= LINE or self._held + size > WAITING
            if not full:
                self._held += size
        if full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a refused request was not dumped: it is too large, or too much waits to be written (told once; they are counted)")
            return False
        self._line.put(dump)
        return True

    def flush(self, timeout: float = GOODBYE) -> bool:
        """Wait until nothing waits; False where that took too long. For the end of a process and for tests."""
        return self._line.flush(timeout)

    def close(self) -> None:
        """Write what waits."""
        self._line.close()

    # -- in the thread -----------------------------------------------------------------------------------------------------------------

    def _keep(self, dump: Dump) -> None:
        try:
            path = self._write(dump, self._lay_out(dump))
        except Exception as error:  # a full disk, a folder that is not ours, a mistake: nothing of it may reach an exchange
            self.failed += 1
            if not self._failing:
                self._failing = True
                reason = error.strerror or "an error of the system" if isinstance(error, OSError) else type(error).__name__
                log.warning("a refused request cannot be dumped (%s): such dumps are lost and counted until it is right again", reason)
        else:
            self.kept += 1
            self._failing = False
            log.info("exchange %s was refused without streaming and asked again as a stream; the request is in %s", dump.exchange, path)
        finally:
            with self._lock:
                self._held -= len(dump.body)

    def _lay_out(self, dump: Dump) -> bytes:
        body, _, _ = redact_body(dump.body, (), self._literals, self._patterns, _breathe)
        error, _, _ = redact_body(dump.error[:ERROR], (), self._literals, self._patterns)
        file = _File(
            datetime.fromtimestamp(dump.at, UTC).isoformat(timespec="microseconds"), dump.exchange,
            redact_target(dump.url, self._literals, self._patterns), dump.status, error.decode("utf-8", "replace"), _json(body),
        )  # fmt: skip
        return msgspec.json.encode(file) + b"\n"

    def _write(self, dump: Dump, content: bytes) -> Path:
        stamp = datetime.fromtimestamp(dump.at, UTC).strftime("%Y%m%d_%H%M%S_%f")
        name = f"retry_{stamp}_{re.sub('[^A-Za-z0-9-]', '-', dump.exchange)}.json"
        last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        for folder in self._folders:
            try:
                if folder.is_symlink():  # what lies there is never pruned, for it need not be ours
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if shutil.disk_usage(folder).free < RESERVE + len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
                fresh = folder / f".new-{name}"
                try:
                    write_private(fresh, content)
                    fresh.rename(folder / name)
                except BaseException:
                    fresh.unlink(missing_ok=True)
                    raise
            except OSError as error:
                last = error
            else:
                return folder / name
        raise last

    def _prune(self) -> None:
        for folder in self._folders:
            with suppress(OSError):
                _prune(folder, self._settings, time.time())


def _prune(folder: Path, settings: DumpSettings, now: float) -> None:
    """Delete what is too old, and the oldest of what is too many or too much. What is no dump of ours is not touched. Raises `OSError`."""
    if folder.is_symlink() or not folder.is_dir():
        return
    total = 0
    oldest = None if settings.keep_days is None else datetime.fromtimestamp(max(0.0, now - settings.keep_days * 86400), UTC).strftime("%Y%m%d_%H%M%S")
    for number, name in enumerate(sorted((path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)):
        path = folder / name
        total += path.lstat().st_size
        stamp = name.removeprefix("retry_")
        if number >= settings.most or total > settings.total_bytes or (oldest is not None and stamp[: len(oldest)] < oldest):
            path.unlink(missing_ok=True)


def _json(body: bytes) -> msgspec.Raw | str:
    """The body as it stands, where it is JSON."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return msgspec.Raw(body)


def _breathe() -> None:
    # A pattern holds the interpreter while it searches; asleep, it does not.
    time.sleep(0.0005)
