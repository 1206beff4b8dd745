"""The admin plane's socket, and uvicorn on it in the loop that is running."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from penstock.admin.protocol import AdminProtocol

log = logging.getLogger("penstock.admin")

BACKLOG: Final = 128
MOST: Final = 200
"""Connections and requests at once; beyond it uvicorn answers 503."""
STOP: Final = 2
"""Seconds that running answers have when it stops."""


class _Server(uvicorn.Server):
    """A guest in the gateway's loop: signals are the gateway's, it says when it is up, and wakes once a second and when it is told to leave, where
    uvicorn would look ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Stop, as `should_exit` asks for it, now and not at the next look."""
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # 0: with the new date, which it makes once a second
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
        else:  # nobody to wait for, and it would wait all the same
            for server in self.servers:
                server.close()


class AdminListener:
    """`bind` takes the address, `start` answers there, `stop` ends what runs and closes. A failure of the admin plane later on is logged and
    leaves the data plane alone."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self.port = port
        """The port in use; after `bind`, the real one where 0 was asked for."""
        self._sockets: list[socket.socket] = []
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def bind(self) -> int:
        """Take the address; returns the port. Who connects waits for `start`. Raises `OSError`, with host and port as its `filename`, where the
        address cannot be had."""
        if not self._sockets:
            self._sockets = await _bind(self._host, self.port)
            self.port = self._sockets[0].getsockname()[1]
        return self.port

    async def start(self, app: ASGIApp) -> int:
        """Answer with `app`; returns the port. Raises `OSError` as `bind` does."""
        await self.bind()
        sockets = self._sockets
        server = self._server = _Server(uvicorn.Config(
            app, loop="none", http=AdminProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, log_level="warning",
            access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG, limit_concurrency=MOST, timeout_graceful_shutdown=STOP,
        ))  # fmt: skip
        task = self._task = asyncio.create_task(server.serve(sockets), name="penstock-admin")
        up = asyncio.create_task(server.up.wait(), name="penstock-admin-up")
        try:
            await asyncio.wait([task, up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if task.done():
            self._close()
            task.result()
            raise OSError(errno.EIO, "the admin plane ended as it began", _name(self._host, self.port))
        task.add_done_callback(self._ended)
        return self.port

    async def stop(self) -> None:
        """Accept no more, let running answers end (`STOP` seconds at most), close. Harmless where it does not run."""
        self._stopping = True
        server, task = self._server, self._task
        self._server = self._task = None
        if server is None or task is None:
            self._close()
            return
        server.leave()
        # Twice its own limit: it is waited for, and not for ever.
        _, late = await asyncio.wait([task], timeout=2 * STOP + 1)
        if late:
            server.force_exit = True
            task.cancel()
            await asyncio.wait([task], timeout=1)
        self._close()

    def _close(self) -> None:
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the admin plane ended: %s", error, exc_info=error)
        elif not self._stopping:
            log.error("the admin plane ended by itself")


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Sockets on every address of `host` (for port 0 on the first: the others would have other ports). Raises `OSError`."""
    name = _name(host, port)
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OSError(error.errno, error.strerror or "no such host", name) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(infos[:1] if port == 0 else infos):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            continue  # a family that this kernel lacks
        try:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            # Here, because a port may be taken by one who has bound it and not yet listened: then only this fails.
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRNOTAVAIL and len(infos) > 1:
                continue  # `localhost` names ::1 also where there is no IPv6
            for other in sockets:
                other.close()
            raise OSError(error.errno, error.strerror, name) from error
        sock.setblocking(False)
        sockets.append(sock)
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL), name)
    return sockets


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
