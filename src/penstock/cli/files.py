"""Files that commands write for people: readable by their owner alone, and nothing of the old one lost by half a write."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from penstock.cli.setup import fail


def write_private(target: Path, text: str, *, overwrite: bool) -> None:
    """Write `text` to `target`, mode 0600, and replace what is there only as a whole. What stands in the way is told, with exit code 1.

    Without `overwrite` a file that is there stays as it is, also one that came a moment ago.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}") if overwrite else target
    made = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        with os.fdopen(os.open(beside, flags, 0o600), "w", encoding="utf-8") as file:
            made = True
            file.write(text)
        if overwrite:
            beside.replace(target)
    except OSError as error:
        if made:
            with suppress(OSError):
                beside.unlink()
        if isinstance(error, FileExistsError) and target.is_file():
            fail(f"{target} is there already; --force overwrites it")
        fail(f"{target} cannot be written: {error.strerror or error}")
