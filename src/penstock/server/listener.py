"""The listening sockets of the data plane."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from penstock.exchange.contract import Front
from penstock.server.connection import Connection
from penstock.server.settings import Settings

BACKLOG = 4096


class Listener:
    """`start` listens, `stop` stops accepting, `close` closes what is left."""

    def __init__(self, front: Front, settings: Settings) -> None:
        self._front = front
        self._settings = settings
        self._server: asyncio.Server | None = None
        self.connections: set[Connection] = set()
        self.port = settings.port
        """The port in use; after `start`, the real one where 0 was asked for."""

    async def start(self) -> None:
        """Raises `OSError` where the address cannot be had."""
        loop = asyncio.get_running_loop()
        path = self._settings.socket_path
        if path is not None:
            sock = _bind_unix(Path(path))
            self._server = await loop.create_unix_server(self._make, sock=sock, backlog=BACKLOG)
            return
        self._server = await loop.create_server(self._make, self._settings.host, self._settings.port, backlog=BACKLOG, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def _make(self) -> Connection:
        return Connection(self._front, self.connections, self._settings)

    @property
    def busy(self) -> int:
        return sum(1 for c in self.connections if c.busy)

    def stop(self) -> None:
        """Accept no more, and close connections that wait for a request."""
        if self._server is not None:
            self._server.close()
            self._server = None
            if self._settings.socket_path is not None:
                Path(self._settings.socket_path).unlink(missing_ok=True)
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()

    def close(self) -> None:
        self.stop()
        for connection in list(self.connections):
            connection.close()


def _bind_unix(path: Path) -> socket.socket:
    """A socket at `path` that only its owner may use, from the moment it exists. A stale one is replaced, a live one is not."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise OSError(98, f"{path} is in use by another process")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    try:
        # A fresh private name first: between bind and chmod the socket would be open to all.
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        sock.bind(str(fresh))
        fresh.chmod(0o600)
        fresh.rename(path)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
