"""The listening sockets of the data plane."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from penstock.admission import is_loopback
from penstock.exchange.contract import Front
from penstock.exchange.looks import Looks
from penstock.server.crowd import Crowd
from penstock.server.guest import Guest
from penstock.server.heads import KnownHeads
from penstock.server.patience import period
from penstock.server.settings import Settings

BACKLOG = 4096
NOTSENT_LOWAT = 16384
"""Bytes that the kernel takes before it says that a client is slow; else it takes megabytes, and back-pressure is felt too late."""


class Listener:
    """`start` listens, `stop` stops accepting, `close` closes what is left."""

    def __init__(self, front: Front, settings: Settings) -> None:
        self._front = front
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._own: tuple[int, int] | None = None  # device and inode of our unix socket
        self._local = settings.socket_path is not None or is_loopback(settings.host)
        self._heads = KnownHeads()
        self._crowd = Crowd(settings.client_connections) if settings.client_connections is not None and settings.socket_path is None else None
        self._period = period(settings)
        self._timer: asyncio.TimerHandle | None = None
        self._looks = Looks()
        self.connections: set[Guest] = set()
        self.port = settings.port
        """The port in use; after `start`, the real one where 0 was asked for."""

    async def start(self) -> None:
        """Raises `OSError` where the address cannot be had."""
        loop = asyncio.get_running_loop()
        path = self._settings.socket_path
        if path is not None:
            sock, self._own = _bind_unix(Path(path))
            self._server = await loop.create_unix_server(self._make, sock=sock, backlog=BACKLOG)
            return
        server = await loop.create_server(
            self._make, self._settings.host, self._settings.port, backlog=BACKLOG, reuse_address=True, start_serving=False)
        _feel_slow_readers(server.sockets)
        await server.start_serving()
        self._server = server
        self.port = server.sockets[0].getsockname()[1]

    def _make(self) -> Guest:
        if self._timer is None:
            self._look_later(asyncio.get_running_loop())
        return Guest(self._front, self.connections, self._settings, local=self._local, heads=self._heads, crowd=self._crowd)

    def _look(self) -> None:
        """One timer for all connections, and none for a request; it stands still where there are none."""
        self._timer = None
        if self.connections:
            loop = asyncio.get_running_loop()
            now = loop.time()
            missed = self._looks.missed(now)
            self._look_later(loop)
            if missed:
                return
            for connection in list(self.connections):
                connection.look(now)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looks.plan(loop.time() + self._period)
        self._timer = loop.call_later(self._period, self._look)

    @property
    def busy(self) -> int:
        return sum(1 for c in self.connections if c.busy)

    def stop(self) -> None:
        """Accept no more, and close connections that wait for a request."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._settings.socket_path is not None:
                _unlink(Path(self._settings.socket_path), self._own)
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()

    def close(self) -> None:
        self.stop()
        for connection in list(self.connections):
            connection.close()


def _feel_slow_readers(sockets: Sequence[socket.socket]) -> None:
    """Accepted sockets inherit this from the listening one, so it costs nothing per connection."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        for sock in sockets:
            sock.setsockopt(socket.IPPROTO_TCP, option, NOTSENT_LOWAT)


def _bind_unix(path: Path) -> tuple[socket.socket, tuple[int, int]]:
    """A socket at `path` that only its owner may use, from the moment it exists, with its device and inode. A stale one is replaced; a live
    one, or anything that is no socket, is not."""
    taken = OSError(errno.EADDRINUSE, "is in use by another process", str(path))
    if path.is_socket():
        if _answers(path):
            raise taken
    elif os.path.lexists(path):
        raise OSError(errno.EEXIST, "exists and is no socket", str(path))
    sock = socket.socket(socket.AF_UNIX)
    # A private name first: between bind and chmod the socket would be open to all.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        found = fresh.stat()
        fresh.rename(path)
    except OSError as error:
        sock.close()
        fresh.unlink(missing_ok=True)
        # bind() and a name that is too long tell neither path nor number.
        raise OSError(error.errno or errno.ENAMETOOLONG, error.strerror or str(error), str(path)) from None
    sock.setblocking(False)
    return sock, (found.st_dev, found.st_ino)


def _answers(path: Path) -> bool:
    """Does somebody listen there? Raises `OSError` where it cannot be known."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog would block
        found = probe.connect_ex(str(path))
    if found in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    if found in (0, errno.EAGAIN, errno.EINPROGRESS):
        return True
    raise OSError(found, os.strerror(found), str(path))


def _unlink(path: Path, own: tuple[int, int] | None) -> None:
    """Take our socket away, not one that has been put in its place."""
    try:
        found = path.stat()
        if (found.st_dev, found.st_ino) == own:
            path.unlink()
    except OSError:
        pass  # somebody else did
