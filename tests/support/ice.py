"""A wire to a server that can be frozen: the peer's kernel still acknowledges, new connections are taken, and nothing is ever answered. So is a
server that was stopped, or whose disk hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress


class Ice:
    """Between a client and the server at that address. Make it with `freezable`."""

    def __init__(self, host: str, port: int) -> None:
        self._at = host, port
        self._flows = threading.Event()
        self._flows.set()
        self._over = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        """What was sent meanwhile arrives."""
        self._flows.set()

    def close(self) -> None:
        self._over = True
        self.thaw()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _listen(self) -> None:
        while not self._over:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._at)
            except OSError:
                return
            self._sockets += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65_536):
                self._flows.wait()
                other.sendall(data)
            self._flows.wait()
            other.shutdown(socket.SHUT_WR)


@contextmanager
def freezable(host: str, port: int) -> Generator[Ice]:
    ice = Ice(host, port)
    try:
        yield ice
    finally:
        ice.close()
