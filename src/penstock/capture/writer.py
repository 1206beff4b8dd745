"""The thread that brings recordings to the disk: redacts, writes, forgets the old. The loop only ever puts something into its line.

What it cannot keep is counted and told: once when it begins to fail, once when it works again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from penstock.capture.layout import lay_out
from penstock.capture.line import GOODBYE, Line
from penstock.capture.recording import Finished
from penstock.capture.redact import Pattern
from penstock.capture.settings import CaptureSettings
from penstock.capture.store import Store, StoreError, new_id

log = logging.getLogger("penstock.capture")

LINE = 64
"""Recordings that may wait."""


def _breathe() -> None:
    # A pattern holds the interpreter while it searches; asleep, it does not.
    time.sleep(0.0005)


class Writer:
    def __init__(self, store: Store, settings: CaptureSettings, patterns: Sequence[Pattern], give_back: Callable[[int], None]) -> None:
        """`give_back`: called from the thread with the bytes that a recording held."""
        self._store = store
        self._settings = settings
        self._patterns = patterns
        self._give_back = give_back
        self._line: Line[Finished] = Line("penstock-capture", self._keep, self._prune)
        self._failing = False
        self.kept = 0
        """Captures that were written."""
        self.dropped = 0
        """Recordings for which there was no place in the line."""
        self.failed = 0
        """Recordings that could not be written."""
        self.pruned = 0
        """Captures that were deleted because of their age, their number or their size."""

    def start(self) -> None:
        """Harmless where it runs."""
        self._line.start()

    def put(self, finished: Finished) -> bool:
        """Never waits; False where there is no place."""
        if len(self._line) >= LINE:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a capture was dropped: %d wait to be written already (told once; they are counted)", LINE)
            return False
        self._line.put(finished)
        return True

    def flush(self, timeout: float = GOODBYE) -> bool:
        """Wait until nothing waits; False where that took too long. For the end of a process and for tests."""
        return self._line.flush(timeout)

    def close(self) -> None:
        """Write what waits."""
        self._line.close()

    # -- in the thread -----------------------------------------------------------------------------------------------------------------

    def _keep(self, finished: Finished) -> None:
        try:
            id = new_id(finished.subject.began)
            _, files = lay_out(finished, id, self._patterns, _breathe)
            self._store.write(id, files)
            self.kept += 1
            if self._failing:
                self._failing = False
                log.warning("captures are written again; %d were lost", self.failed)
        except Exception as error:  # a full disk, a folder that is not ours, a mistake: nothing of it may reach an exchange
            self.failed += 1
            if not self._failing:
                self._failing = True
                log.warning("captures cannot be written (%s): they are lost and counted until it is right again", _reason(error))
        finally:
            self._give_back(finished.held)

    def _prune(self) -> None:
        try:
            self.pruned += self._store.prune(self._settings, time.time())
        except (OSError, StoreError) as error:
            log.warning("old captures cannot be deleted: %s", error)


def _reason(error: Exception) -> str:
    """Without the words of anything but the system: others may quote what was captured."""
    return error.strerror or "an error of the system" if isinstance(error, OSError) else type(error).__name__
