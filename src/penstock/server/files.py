"""How many sockets this process may have open, and the kernel's room for them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

MOST = 65_536
"""Files that are asked for; a stream takes two."""
ROOM = 8_192
"""Files for which there is room from the start: 64 KiB of the kernel's memory."""


def make_room() -> None:
    """Raise the soft limit of open files (1024 on many systems: some 500 streams) to the hard one, MOST at most, and have the kernel make room for
    the first ROOM of them.

    Linux doubles its table of a process's files when it is full, and where the process has threads, it waits for all processors before it goes on
    (`expand_fdtable` and `synchronize_rcu` in fs/file.c): 10 to 30 ms in which no token moves, at the 256th file, the 512th and the 1024th. A process
    without threads does not wait; so it is to be called before there are any. Never raises: what may not be done is left as it is.
    """
    if sys.platform == "win32":
        return
    import fcntl
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # ValueError: more than the system has for any process (macOS)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    last = (ROOM if soft == resource.RLIM_INFINITY else min(ROOM, soft)) - 1
    with suppress(OSError):
        some = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, last))
        finally:
            os.close(some)
