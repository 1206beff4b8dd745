"""Guards that are asked outside: each question one request, bounded in time and in number.

Whoever asks is told once, on the loop, unless it cancels. No answer in time, no connection, a status other than 200, an answer that cannot be
understood, more questions than may wait: all are the verdict ERROR, and the guard's `on_error` decides. What was asked is never logged, nor what
came back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.policy.outside import Question, Said, Verdict
from penstock.providers.contract import Origin
from penstock.providers.urls import parse_base
from penstock.stores.guard_formats import About, Service, path_of, read, write

log = logging.getLogger("penstock.guards")
LARGEST = 64 << 20
"""Bytes of an answer."""


class PostError(Exception):
    """There was no answer. Its text is a clause for people, without addresses and secrets."""


Post = Callable[[Origin, tuple[bytes, bytes, bytes], int], Awaitable[tuple[int, bytes]]]
"""Send a request (method, target, the rest), and give status and body, of at most so many bytes. Raises `PostError`. Cancelled, it lets go."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    at_once: int = 64
    """Questions under way, of all guards together."""
    waiting: int = 512
    """That may wait for their turn."""


class Judges(Protocol):
    """As exchanges see it."""

    def ask(self, question: Question, about: About, answered: Callable[[Verdict], None]) -> Callable[[], None]: ...


class Nobody:
    """Where nobody can be asked: every question is answered so."""

    def ask(self, question: Question, about: About, answered: Callable[[Verdict], None]) -> Callable[[], None]:
        del question, about
        return asyncio.get_running_loop().call_soon(answered, Verdict(Said.ERROR, why="it cannot be asked here")).cancel


class GuardCalls:
    """All questions of one process. On one loop."""

    def __init__(self, post: Post, limits: CallLimits = CallLimits(), agent: str = "penstock") -> None:
        self._post = post
        self._limits = limits
        self._agent = agent
        self._turns = asyncio.Semaphore(limits.at_once)
        self._own_turns: dict[Service, asyncio.Semaphore] = {}
        self._targets: dict[Service, tuple[Origin, str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Questions that are not answered."""
        return len(self._tasks)

    def ask(self, question: Question, about: About, answered: Callable[[Verdict], None]) -> Callable[[], None]:
        """Ask; `answered` is called later, from the loop. What comes back gives the question up."""
        if len(self._tasks) >= self._limits.at_once + self._limits.waiting:
            handle = asyncio.get_running_loop().call_soon(answered, Verdict(Said.ERROR, why="too many questions wait for guards"))
            return handle.cancel
        # In no task group: a question lives as long as whoever asked wants to know. It is held here, has a deadline, and `close` cancels it.
        task = self._spawn(self._run(question, about, answered))
        return lambda: self._give_up(task)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="penstock-guard")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _give_up(self, task: asyncio.Task[None]) -> None:
        if task is not asyncio.current_task():  # whoever is told may end what it asked for
            task.cancel()

    async def _run(self, question: Question, about: About, answered: Callable[[Verdict], None]) -> None:
        service = question.outside.service
        assert isinstance(service, Service)
        try:
            async with asyncio.timeout(service.timeout):
                verdict = await self._judge(service, question, about)
        except TimeoutError:
            verdict = Verdict(Said.ERROR, why=f"it gave no answer within {service.timeout:g} s")
        except PostError as error:
            verdict = Verdict(Said.ERROR, why=f"it could not be asked: {error}")
        except Exception as error:  # a mistake of ours must not leave a stream waiting
            log.error("guard %r could not be asked (%s)", question.outside.guard, type(error).__name__, exc_info=error)
            verdict = Verdict(Said.ERROR, why="it could not be asked, by a mistake of the gateway")
        answered(verdict)

    async def _judge(self, service: Service, question: Question, about: About) -> Verdict:
        own = self._own_turns.get(service)
        if own is None:
            own = self._own_turns[service] = asyncio.Semaphore(service.at_once)
        async with own, self._turns:
            origin, request = self._request(service, question, about)
            status, body = await self._post(origin, request, LARGEST)
        return read(service, question, body) if status == 200 else Verdict(Said.ERROR, why=f"it answered {status}")

    def _request(self, service: Service, question: Question, about: About) -> tuple[Origin, tuple[bytes, bytes, bytes]]:
        target = self._targets.get(service)
        if target is None:
            base = parse_base(service.url)
            target = self._targets[service] = base.origin, base.path
        origin, path = target
        body = write(service, question, about)
        headers: dict[bytes, bytes] = {name.lower(): value for name, value in about.headers if name.lower().decode("latin-1") in service.forward}
        headers |= {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in service.headers}
        if service.key is not None:
            headers[b"authorization"] = b"Bearer " + service.key.encode("latin-1")
        headers |= {
            b"host": origin.host_header.encode("latin-1"), b"content-type": b"application/json", b"accept": b"application/json",
            b"accept-encoding": b"identity", b"user-agent": self._agent.encode(), b"content-length": str(len(body)).encode(),
        }  # fmt: skip
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers.items()])
        return origin, (b"POST", ((path + path_of(service, question)) or "/").encode("ascii"), lines + b"\r\n" + body)

    def close(self) -> None:
        """Give every question up."""
        for task in list(self._tasks):
            task.cancel()
