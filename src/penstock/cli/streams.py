"""Standard input, output and error as supervisors leave them: closed, full, or read by nobody."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import cast

UNWRITABLE = frozenset({errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF})
"""What the system says of a standard stream that takes nothing."""


def open_missing() -> None:
    """Where one of them is closed, the next socket would get its number, and what is printed would go to a client."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w"))  # noqa: PTH123, SIM115  # a descriptor; open to the end


def spell_all() -> None:
    """What standard output cannot spell in its encoding (an old locale's, or half a character in a file's name) is escaped, as on standard error."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        cast("io.TextIOWrapper", out).reconfigure(errors="backslashreplace")


def flush_or_drop() -> None:
    """Write what waits in their buffers; drop it where it cannot be written: at the end it would fail once more, and turn the exit code into 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
