"""A provider's own names for its models, looked up in its list (`providers.argo_names`), which is fetched when it is first needed.

A list counts for `Timing.fresh`; a name that it does not have is reason to ask again, though not before `Timing.again` has passed. An old list
is better than none. What one user's list holds is told to that user alone.

Legacy Argo has one list for all, some of it is known before, and it judges itself what is in none: there nothing is refused (`LegacyNames`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from penstock.exchange.contract import Headers
from penstock.exchange.models_fetch import Asker, FetchError, fetch, list_request
from penstock.providers import ArgoLegacyProvider, Provider
from penstock.providers.argo_names import PREFIX, BadNames, Directory, read_directory
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.wire.secrets import mask_name

USERS: Final = 256
"""Users whose lists are kept; the one unused for longest goes first."""
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds."""

    limit: float = 5.0
    """For the provider's answer."""
    fresh: float = 3600.0
    again: float = 30.0
    """Between two tries, whatever became of the first."""


class Refused(Exception):
    """The request is not sent to the provider, and the client gets `fault`."""

    def __init__(self, fault: Fault, cause: str) -> None:
        super().__init__(cause)
        self.fault = fault
        self.cause = cause
        """One clause for the ledger."""


class _List:
    """What the provider lists to one user."""

    __slots__ = ("directory", "good_at", "note", "task", "tried_at")

    def __init__(self) -> None:
        self.directory: Directory | None = None
        self.good_at = 0.0
        self.note = ""
        """Why the last try failed."""
        self.tried_at: float | None = None
        self.task: asyncio.Task[None] | None = None


class Names:
    """Of one provider. On one loop; `clock` gives seconds that never run backwards."""

    def __init__(self, client: Asker, provider: Provider, clock: Callable[[], float], timing: Timing = Timing()) -> None:
        self._client = client
        self._provider = provider
        self._clock = clock
        self._timing = timing
        self._lists: OrderedDict[str | None, _List] = OrderedDict()

    def find(self, model: str, user: str | None) -> str | None:
        """The provider's name of `model`, if it can be told without asking."""
        known = self._lists.get(user)
        if known is None or known.directory is None or self._clock() - known.good_at > self._timing.fresh:
            return None
        return known.directory.resolve(model)

    async def look_up(self, model: str, user: str | None) -> str:
        """The provider's name of `model`. Without a list, a name that is none of `argo:...` goes as it is written, and the provider judges it.

        Raises `Refused`: 404 where the list has no such model, 502 where there is no list to look into.
        """
        listed = self._of(user)
        if self._may_ask(listed):
            await self._refresh(listed, user)
        if listed.directory is None:
            if not model.lower().replace("/", ":").startswith(PREFIX):
                return model
            cause = f"the list of models could not be had: {listed.note}"
            message = f"The model {_shown(model)} cannot be looked up at provider {self._provider.name!r}: {cause}."
            raise Refused(Fault(FaultKind.UPSTREAM_BROKEN, 502, message), cause)
        found = listed.directory.resolve(model)
        if found is None:
            message = f"Provider {self._provider.name!r} has no model {_shown(model)}{_suggest(model, listed.directory)}"
            raise Refused(Fault(FaultKind.NOT_FOUND, 404, message), "the provider has no such model")
        return found

    async def close(self) -> None:
        """End what is under way."""
        tasks = [listed.task for listed in self._lists.values() if listed.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of(self, user: str | None) -> _List:
        listed = self._lists.get(user)
        if listed is None:
            listed = self._lists[user] = _List()
            while len(self._lists) > USERS:
                self._lists.popitem(last=False)
        else:
            self._lists.move_to_end(user)
        return listed

    def _may_ask(self, listed: _List) -> bool:
        """Has enough time passed since the last try, or is one under way?"""
        return listed.task is not None or listed.tried_at is None or self._clock() - listed.tried_at >= self._timing.again

    async def _refresh(self, listed: _List, user: str | None) -> None:
        """Ask, once for all who wait."""
        if listed.task is None:
            loop = asyncio.get_running_loop()
            listed.task = loop.create_task(self._fetch(listed, user), name=f"penstock-names-{self._provider.name}")
        await asyncio.shield(listed.task)

    async def _fetch(self, listed: _List, user: str | None) -> None:
        provider = self._provider
        stated: Headers = [(b"Authorization", b"Bearer " + user.encode("latin-1"))] if user is not None and not provider.has_key else []
        try:
            async with asyncio.timeout(self._timing.limit):
                body = await fetch(self._client, provider.origin, list_request(provider, stated, ""))
            directory = read_directory(body)
            if directory.is_empty:  # by it, every name would be unknown
                raise BadNames("it is empty")
            listed.directory = directory
        except TimeoutError:
            listed.note = f"no list within {self._timing.limit:g} s"
        except (FetchError, BadNames) as error:
            listed.note = str(error)
        else:
            listed.good_at = self._clock()
        finally:
            listed.tried_at = self._clock()
            listed.task = None


class LegacyNames(Names):
    """Of one legacy Argo. What its list says is learned for all who look at `provider.names`; where it cannot be had, the last good one stays."""

    def __init__(self, client: Asker, provider: ArgoLegacyProvider, clock: Callable[[], float], timing: Timing = Timing()) -> None:
        super().__init__(client, provider, clock, timing)
        self._known = provider.names

    def find(self, model: str, user: str | None) -> str | None:
        """The name to send, unless it is unknown and may be asked for."""
        found = self._known.resolve(model)
        return self._known.id_of(model) if found is None and not self._may_ask(self._of(None)) else found

    async def look_up(self, model: str, user: str | None) -> str:
        """The name to send, by the list as it is now; one that is not in it as it is written. Never raises."""
        listed = self._of(None)
        if self._may_ask(listed):
            before = listed.directory
            await self._refresh(listed, None)
            if listed.directory is not None and listed.directory is not before:
                self._known.learn(listed.directory)
        return self._known.id_of(model)


def _suggest(model: str, directory: Directory) -> str:
    """What is near it, and where to find the others."""
    names = [alias for named in directory.models() for alias in named.aliases]
    close = get_close_matches(PREFIX + model.lower().replace("/", ":").removeprefix(PREFIX), names, n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else f"; it lists {len(directory)} (penstock models shows them)."


def _shown(model: str) -> str:
    model = mask_name(model)
    return repr(model if len(model) <= _SHOWN else model[:_SHOWN] + "...")
