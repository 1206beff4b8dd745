"""Who holds a port: read from /proc where there is one, so that "in use" can name the culprit."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
"""TCP_LISTEN in /proc/net/tcp (Linux, include/net/tcp_states.h)."""


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    """Its command line, at most 80 characters."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def is_taken(host: str, port: int) -> bool:
    """Would binding fail because somebody else listens there?"""
    with suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            with closing(socket.socket(family, kind, protocol)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: sockets in TIME_WAIT are in nobody's way
                try:
                    probe.bind(address)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        return True
    return False


def find_holder(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """A process that listens on `port`; `None` where that cannot be known (another user's process, or no /proc)."""
    inodes = set(_listening_inodes(port, proc))
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):  # it ended, or is not ours to look at
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        return Holder(int(process.name), _command(process))
    return None


def explain(option: str, host: str, port: int, holder: Holder | None) -> str:
    """The sentence for a port that cannot be had."""
    who = str(holder) if holder else "another program"
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    other = shown.removesuffix(str(port)) + str(port + 10 if port < 65526 else 0)
    hint = " That is a gateway already: use it, or stop it first." if holder and "penstock" in holder.command and "serve" in holder.command else ""
    return f"{shown} is in use by {who}.{hint} To listen elsewhere: penstock serve {option} {other}"


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    shown = words or (process / "comm").read_text().strip()
    return shown if len(shown) <= 80 else shown[:79] + "…"
