"""Requests to providers: a kept connection where there is one, else a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import monotonic

from penstock.providers.contract import Origin
from penstock.upstream.connection import Connection
from penstock.upstream.contract import Loss, LossKind, Receiver
from penstock.upstream.dial import Dialer, DialError, make_tls_context
from penstock.upstream.pool import Pool
from penstock.upstream.settings import Settings

SWEEP = 5.0
"""Seconds between two looks for connections that have been kept too long."""
Parts = tuple[bytes, bytes, bytes]
"""Of a request: method, target, and the rest from the first header line to the end of the body, or of the head."""


class Request:
    """One request under way: an `Ask`. Made by `Client.ask`. It is itself the asker that its connection knows."""

    __slots__ = ("_client", "_connection", "_early", "_early_end", "_head_only", "_parts", "_paused", "_receiver", "_task", "_uploading",
                 "dialed_at", "origin")

    def __init__(self, client: Client, origin: Origin, receiver: Receiver, head_only: bool, uploading: bool) -> None:
        self.origin = origin
        self._client = client
        self._receiver: Receiver | None = receiver  # until it has been handed to a connection, or told
        self._head_only = head_only
        self._uploading = uploading
        self._connection: Connection | None = None
        self._parts: Parts | None = None  # while a connection is made
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] | None = None  # upload that came before the connection
        self._early_end = False
        self._paused = False
        self.dialed_at: float | None = None

    def send(self, connection: Connection, parts: Parts) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            self._client.keep(connection)
            return
        early, self._early = self._early, None
        self._connection = connection
        connection.send(self, receiver, parts, head_only=self._head_only, uploading=self._uploading, held=early is not None)
        if self._paused:
            connection.pause(self)
        if early is not None:
            for piece in early:
                connection.upload(self, piece)
            connection.ease(self)
        if self._early_end:
            connection.upload_end(self)

    def send_at_once(self, connection: Connection, parts: Parts) -> None:
        """As `send`, where nothing has been asked of this since it was made, and nothing is uploaded."""
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        self._connection = connection
        connection.send(self, receiver, parts, head_only=self._head_only, uploading=False)

    def dial(self, parts: Parts, connect: float | None) -> None:
        self._parts = parts
        # In no task group: a dial lives as long as its request, which ends in callbacks, and no dial's fault may end another's. It is held
        # here and by the client, `cancel` and the client's end cancel it, and its waits have the dial's deadline.
        self._task = self._client.spawn(self._dial(connect))

    async def _dial(self, connect: float | None) -> None:
        try:
            connection = await self._client.dial(self.origin, connect)
        except DialError as error:
            self._lose(Loss(error.kind, str(error)))
        except Exception:
            # A mistake of ours goes on to the loop's handler; but who waits must be told.
            self._lose(Loss(LossKind.CONNECT, "the connection was not made, by a mistake of the gateway"))
            raise
        else:
            self.dialed_at = monotonic()
            parts, self._parts, self._task = self._parts, None, None
            if parts is not None:
                self.send(connection, parts)

    def _lose(self, loss: Loss) -> None:
        receiver, self._receiver = self._receiver, None
        early, self._early = self._early, None
        self._parts = self._task = None
        if receiver is not None:
            if early is not None:
                receiver.upload_resumed()
            receiver.answer_lost(loss, monotonic())

    def pause(self) -> None:
        self._paused = True
        if self._connection is not None:
            self._connection.pause(self)

    def resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume(self)

    def hand_over(self, receiver: Receiver) -> bool:
        return self._connection is not None and self._connection.hand_over(self, receiver)

    def upload(self, data: bytes) -> None:
        receiver = self._receiver
        if self._connection is not None:
            self._connection.upload(self, data)
        elif receiver is not None:
            if self._early is None:
                self._early = [data]
                receiver.upload_paused()
            else:
                self._early.append(data)

    def upload_end(self) -> None:
        self._early_end = True
        if self._connection is not None:
            self._connection.upload_end(self)

    def cancel(self) -> None:
        self._receiver = self._parts = self._early = None
        task, self._task = self._task, None
        connection, self._connection = self._connection, None
        if task is not None:
            task.cancel()
        if connection is not None:
            connection.cancel(self)


class Client:
    """All connections of one process to its providers. On one loop. Implements `connection.Keeper`."""

    def __init__(self, settings: Settings, dialer: Dialer | None = None) -> None:
        """Raises `OSError` (`ssl.SSLError` is one) where `settings.ca_file` cannot be read."""
        self.settings = settings
        self._dialer = dialer or Dialer(make_tls_context(settings.ca_file) if settings.ca_file else None, pinned=settings.resolve)
        self._pool: Pool[Connection] = Pool(settings.idle, settings.most_idle)
        self._all: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Those of them that nobody uses."""
        return len(self._pool)

    @property
    def dialing(self) -> int:
        """Connections that are being made."""
        return len(self._dials)

    def ask(
        self, origin: Origin, request: Parts, receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool, connect: float | None = None
    ) -> Request:
        """Send `request`, whose body comes later by `upload` where `uploading`. `head_only`: its method is HEAD. `fresh`: on a new
        connection. `connect`: seconds for making one, where it is not as the settings say. Nothing is called on `receiver` before this
        has returned."""
        asked = Request(self, origin, receiver, head_only, uploading)
        connection = None if fresh or uploading else self.take(origin)
        if connection is not None:
            asked.send_at_once(connection, request)
        else:
            asked.dial(request, connect)
        return asked

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection that can be used."""
        now = monotonic()
        while (connection := self._pool.take(origin, now)) is not None:
            if connection.ready():
                return connection
            connection.drop()
        return None

    async def dial(self, origin: Origin, connect: float | None = None) -> Connection:
        """A new connection, which nobody uses yet. Raises `DialError`."""
        connection = Connection(self, origin)
        try:
            connection.via = await self._dialer.dial(origin, connection, connect or self.settings.connect)
        except BaseException:
            connection.drop()  # it may have been connected when the dial was given up
            raise
        if not connection.is_open:
            raise DialError(LossKind.EOF, "the provider closed the connection before the request")
        self._all.add(connection)
        return connection

    def spawn(self, dial: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run a dial."""
        task = asyncio.get_running_loop().create_task(dial, name="penstock-dial")
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return task

    def keep(self, connection: Connection) -> None:
        """Back into the pool, or the first time there."""
        surplus = self._pool.put(connection.origin, connection, monotonic())
        if surplus is not None:
            surplus.drop()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._expire)

    def gone(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._pool.drop(connection.origin, connection)

    def _expire(self) -> None:
        self._sweep = None
        for connection in self._pool.expired(monotonic()):
            connection.drop()
        if len(self._pool):
            self._sweep = asyncio.get_running_loop().call_later(SWEEP, self._expire)

    def close(self) -> None:
        """Close every connection, and give up those that are being made; nothing is called on receivers any more."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for task in list(self._dials):
            task.cancel()
        for connection in list(self._all):
            connection.drop()
        self._pool.clear()
