"""Whether anything is captured now, and of which exchanges. On the event loop; the disk is the writer's.

How an exchange uses it: where `recorder.active` (a plain attribute; False costs nothing more), `begin` is asked once, when it is routed;
a `Recording` comes back where the exchange is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from penstock.capture.recording import Finished, Recording, Room, Subject
from penstock.capture.redact import compile_patterns, spellings
from penstock.capture.settings import BadOrder, CaptureSettings, Order, Phase
from penstock.capture.store import FOLDER, Store
from penstock.capture.writer import Writer
from penstock.routing import Glob

_OURS = frozenset({Phase.INBOUND_REQUEST, Phase.OUTBOUND_RESPONSE})
_DIGITS = 9
"""Of a route's number: more are none, and Python refuses to read thousands."""
_SHOWN = 200
"""Characters of a route that there is not."""


class Recorder:
    def __init__(
        self, data_dir: Path, settings: CaptureSettings, *, routes: Sequence[tuple[str, str]] = (), providers: Iterable[str] = (),
        secrets: Iterable[str] = (), clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        """`routes`: pattern and provider of each, in the file's order. `secrets`: keys and tokens of the house, looked for by their letters.
        `clock`: the monotonic clock that exchanges are on. Opens nothing. Raises `BadPattern`."""
        self.active = False
        """Something may be captured now."""
        self._settings = settings
        self._routes = routes
        self._providers = frozenset(providers)
        self._literals = sorted({form for s in secrets for form in spellings(s.encode())})
        self._clock = clock
        self._room = Room(max(1, settings.total_bytes // 4))
        self._writer = Writer(Store(data_dir), settings, compile_patterns(settings.patterns, mask_keys=settings.mask_keys), self._room.give)
        self._directory = data_dir / FOLDER
        self._order: Order | None = None
        self._until: float | None = None
        self._left = 0
        self._model: Glob | None = None
        self._route: tuple[str, str | None] | None = None
        self.begun = 0
        """Recordings so far."""
        self.open = 0
        """Recordings of exchanges that run."""
        self.spoilt = 0
        """Recordings that a mistake of ours ended."""

    # -- the process -----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look after captures that are there already: their time runs also while nothing is captured."""
        if self._directory.is_dir():
            self._writer.start()

    def close(self) -> None:
        """Write what is over. Recordings that still run are lost."""
        self.turn_off()
        self._writer.close()

    def flush(self) -> bool:
        """Wait until everything that is over is on the disk; for tests."""
        return self._writer.flush()

    # -- orders ----------------------------------------------------------------------------------------------------------------------

    def turn_on(self, order: Order) -> None:
        """Follow this order, in place of any other. Raises `BadOrder` where no exchange could ever match."""
        if order.provider is not None and self._providers and order.provider not in self._providers:
            raise BadOrder(f"there is no provider {order.provider!r}; there are {', '.join(sorted(self._providers))}")
        self._route = self._find_route(order.route)
        self._model = Glob(order.model) if order.model is not None else None
        self._order = order
        self._left = order.count
        self._until = None if order.seconds is None else self._clock() + order.seconds
        self.active = True
        self._writer.start()

    def turn_off(self) -> None:
        """What is being recorded goes on to its end."""
        self.active = False
        self._order = None

    def state(self) -> dict[str, Any]:
        """As the admin plane and the command tell it."""
        self._expire(self._clock())
        order, writer = self._order, self._writer
        return {
            "on": self.active,
            "order": msgspec.to_builtins(order) if order is not None else None,
            "left": self._left if self.active else 0,
            "seconds_left": max(0.0, round(self._until - self._clock(), 1)) if self.active and self._until is not None else None,
            "running": self.open, "begun": self.begun, "kept": writer.kept, "dropped": writer.dropped, "failed": writer.failed + self.spoilt,
            "pruned": writer.pruned,
        }  # fmt: skip

    # -- exchanges -------------------------------------------------------------------------------------------------------------------

    def wants(self, subject: Subject) -> bool:
        """Would this exchange be recorded now?"""
        order = self._order
        if not self.active or order is None:
            return False
        if self._until is not None and self._expire(self._clock()):
            return False
        if order.provider is not None and order.provider != subject.provider:
            return False
        if subject.provider is None and _OURS.isdisjoint(order.phases):
            return False  # nobody is asked
        if order.key is not None and not (subject.fingerprint or "").startswith(order.key):
            return False
        if self._route is not None:
            route, provider = self._route
            if route != subject.route or (provider is not None and provider != subject.provider):
                return False
        return self._model is None or any(self._model.matches(name) for name in (subject.model, subject.sent_model) if name is not None)

    def begin(self, subject: Subject) -> Recording | None:
        """The recording of an exchange that is wanted, counted; else `None`. Never raises."""
        try:
            order = self._order
            if order is None or not self.wants(subject):
                return None
            self._left -= 1
            if self._left <= 0:
                self.turn_off()
            size = min(order.max_bytes or self._settings.max_bytes, self._settings.total_bytes)
            phases = tuple(dict.fromkeys(order.phases))
            recording = Recording(subject, phases, size, self._room, self._literals, self._ended)
            self.begun += 1
            self.open += 1
        except Exception:  # diagnostics never end an exchange
            self.spoilt += 1
            return None
        return recording

    def _ended(self, finished: Finished | None) -> None:
        self.open -= 1
        if finished is None:
            self.spoilt += 1
        elif not self._writer.put(finished):
            self._room.give(finished.held)

    def _expire(self, now: float) -> bool:
        """Has the order's time run out?"""
        if self.active and self._until is not None and now >= self._until:
            self.turn_off()
        return not self.active

    def _find_route(self, wanted: str | None) -> tuple[str, str | None] | None:
        if wanted is None:
            return None
        if any(pattern == wanted for pattern, _ in self._routes):
            return wanted, None
        if wanted.isascii() and wanted.isdigit() and len(wanted) <= _DIGITS and int(wanted) < len(self._routes):
            return self._routes[int(wanted)]
        if not self._routes:
            raise BadOrder("the configuration has no routes; name a model or a provider")
        known = ", ".join(f"{number} ({pattern})" for number, (pattern, _) in enumerate(self._routes))
        raise BadOrder(f"there is no route {wanted[:_SHOWN]!r}; there are {known}")
