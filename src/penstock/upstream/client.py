"""Requests to providers: a kept connection where there is one, else a new one."""

from __future__ import annotations

import asyncio
from time import monotonic

from penstock.providers.contract import Origin
from penstock.upstream.connection import Connection
from penstock.upstream.contract import Loss, LossKind, Receiver
from penstock.upstream.dial import Dialer, DialError, make_tls_context
from penstock.upstream.pool import Pool
from penstock.upstream.settings import Settings

SWEEP = 5.0
"""Seconds between two looks for connections that have been kept too long."""


class Request:
    """One request under way: an `Ask`. Made by `Client.ask`."""

    __slots__ = ("_client", "_connection", "_early", "_early_end", "_head_only", "_paused", "_receiver", "_request", "_task", "_uploading", "origin")

    def __init__(self, client: Client, origin: Origin, request: tuple[bytes, bytes, bytes], receiver: Receiver, *, head_only: bool, uploading: bool) -> None:
        self._client = client
        self.origin = origin
        self._request: tuple[bytes, bytes, bytes] | None = request  # let go once sent
        self._receiver: Receiver | None = receiver
        self._head_only = head_only
        self._uploading = uploading
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # upload that came before the connection
        self._early_end = False
        self._paused = False

    def begin(self, *, fresh: bool) -> None:
        connection = None if fresh else self._client.take(self.origin)
        if connection is not None:
            self._send(connection)
            return
        # Held by the attribute and ended by `cancel` or by itself; its only waits are the dial's, under its deadline.
        self._task = asyncio.get_running_loop().create_task(self._dial(), name="penstock-dial")

    async def _dial(self) -> None:
        loss: Loss
        try:
            connection = await self._client.dial(self.origin)
        except TimeoutError:
            loss = Loss(LossKind.CONNECT_TIMEOUT, f"no connection to the provider within {self._client.settings.connect:g} s")
        except DialError as error:
            loss = Loss(LossKind.TLS if error.tls else LossKind.CONNECT, str(error))
        else:
            self._task = None
            if self._receiver is None:
                self._client.keep(connection)
            else:
                self._send(connection)
            return
        self._task = None
        receiver = self._receiver
        if receiver is not None:
            self._receiver = None
            receiver.answer_lost(loss, monotonic())

    def _send(self, connection: Connection) -> None:
        receiver, request = self._receiver, self._request
        if receiver is None or request is None:
            return
        self._connection = connection
        self._request = None
        method, target, rest = request
        connection.send(receiver, b"%b %b%b HTTP/1.1\r\n%b" % (method, connection.absolute, target, rest), head_only=self._head_only, uploading=self._uploading)
        if self._paused:
            connection.pause()
        if self._uploading:
            for piece in self._early:
                connection.upload(piece)
            self._early.clear()
            if self._early_end:
                connection.upload_end()
            receiver.upload_resumed()

    def pause(self) -> None:
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def upload(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.upload(data)
            return
        self._early.append(data)
        if self._receiver is not None:
            self._receiver.upload_paused()

    def upload_end(self) -> None:
        self._early_end = True
        if self._connection is not None:
            self._connection.upload_end()

    def cancel(self) -> None:
        receiver = self._receiver
        self._receiver = self._request = None
        self._early.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._connection is not None:
            if receiver is not None:
                self._connection.cancel(receiver)
            self._connection = None


class Client:
    """All connections of one process to its providers. On one loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._dialer = Dialer(make_tls_context(settings.ca_file) if settings.ca_file else None)
        self._pool: Pool[Connection] = Pool(settings.idle, settings.most_idle)
        self._all: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._all)

    def ask(self, origin: Origin, request: tuple[bytes, bytes, bytes], receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool) -> Request:
        """Send `request`: method, target, and the rest from the first header line to the end of the body (or of the head, where
        `uploading`). `fresh`: on a new connection. Returns before anything is called on `receiver`, unless a kept connection is gone."""
        asked = Request(self, origin, request, receiver, head_only=head_only, uploading=uploading)
        asked.begin(fresh=fresh or uploading)
        return asked

    def take(self, origin: Origin) -> Connection | None:
        while (connection := self._pool.take(origin, monotonic())) is not None:
            if connection.idle:
                return connection
        return None

    async def dial(self, origin: Origin) -> Connection:
        connection, absolute = await self._dialer.dial(origin, self._make, self.settings.connect)
        connection.origin = origin
        connection.absolute = absolute
        self._all.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        """Back into the pool, or the first time there."""
        surplus = self._pool.put(connection.origin, connection, monotonic())
        if surplus is not None:
            surplus.close()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._expire)

    def _make(self) -> Connection:
        return Connection(self.keep, self._gone)

    def _gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._pool.drop(connection.origin, connection)

    def _expire(self) -> None:
        self._sweep = None
        for connection in self._pool.expired(monotonic()):
            connection.close()
        if len(self._pool):
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._expire)

    def close(self) -> None:
        """Close every connection; nothing is called on receivers."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._all):
            connection.close()
        self._pool.clear()
