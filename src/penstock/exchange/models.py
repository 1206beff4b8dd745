"""The merged list of models, from a memory that is refreshed behind it.

Who is asked, and with what:
- a provider with a configured key: with that key, for everybody;
- the first provider that speaks the protocol of the client's path, where it has no key: with the client's own credential (that is where
  the client's requests go, so it is who the credential is for), and what it lists is shown to that credential alone;
- any other provider without a key: without a credential, where its URL is plain `http` or a socket (a server of one's own, which mostly
  wants none), else not at all. One vendor's credential is never shown to another.

The first list waits for the first answers, `Timing.limit` at most, and once one has come only `Timing.grace` more. Afterwards what is known
is answered at once; a list older than `Timing.fresh` is fetched again meanwhile, and the last good one stays until a better one comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Lists
from penstock.exchange.models_fetch import Asker, FetchError, Request, fetch, list_request
from penstock.exchange.models_shape import SHAPES, BadListing, Model, house_models, merge, parse
from penstock.providers import ArgoLegacyProvider, Provider, credential
from penstock.providers.argo_names import BadNames, read_directory
from penstock.providers.credentials import ACCOUNT_HEADER, CREDENTIAL_HEADERS, strip_query
from penstock.routing.routes import DEMO
from penstock.vocabulary.ids import ProtocolId

LENT_LISTS: Final = 256
LENT_BYTES: Final = 64 << 20
"""Lists fetched with clients' own credentials that are kept, and the bytes of all of them; the one unused for longest goes first."""

# Beside the credential itself: whose account, and what a login needs to be taken (`anthropic-beta: oauth-...`).
_LENT_HEADERS = CREDENTIAL_HEADERS | {
    ACCOUNT_HEADER, b"openai-organization", b"openai-project", b"anthropic-version", b"anthropic-beta", b"x-goog-user-project",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds."""

    limit: float = 2.0
    """For one provider's answer."""
    grace: float = 0.25
    """What a first list waits for the others, once one has come."""
    fresh: float = 60.0
    retry: float = 5.0
    """After a failure."""


class _Source:
    """What one provider lists to one credential."""

    __slots__ = ("began", "good_at", "models", "note", "provider", "size", "task", "tried_at")

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.models: tuple[Model, ...] = tuple(Model(name, provider.name) for name in provider.known_models)
        self.size = 0
        self.note = ""
        """Why the last try failed; empty where it did not."""
        self.tried_at: float | None = None
        """When the last try ended, by the catalog's clock; `None`: none has."""
        self.good_at: float | None = None
        """When the first good list came, by the loop's clock, as `began`."""
        self.began = 0.0
        self.task: asyncio.Task[None] | None = None


class Catalog:
    """Implements `gateway.Lister`. On one loop; `clock` gives seconds that never run backwards."""

    def __init__(
        self, client: Asker, providers: Sequence[Provider], aliases: Sequence[str], clock: Callable[[], float], timing: Timing = Timing()
    ) -> None:
        self._client = client
        self._providers = tuple(providers)
        self._house = house_models([*aliases, DEMO])
        self._clock = clock
        self._timing = timing
        self._own: dict[str, _Source] = {}
        self._lent: OrderedDict[str, _Source] = OrderedDict()
        self._lent_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def listing(self, protocol: ProtocolId, client_headers: Headers, query: str, shown: Lists | None = None) -> bytes:
        """The models of all providers as one JSON body, in the shape of the client's protocol. Never raises for what providers do.

        `shown`: which models may stand in it; `None`: all. What is remembered is what providers list; each answer is
        cut to what its caller may use."""
        sources = self._look_up(protocol, client_headers, query)
        await self._wait(sources)
        return merge(SHAPES[protocol], [*(source.models for source in sources), self._house], shown)

    def house(self, protocol: ProtocolId, name: str) -> bytes | None:
        """The entry of a model that is the gateway's own, in the shape of the client's protocol."""
        return next((model.shaped(SHAPES[protocol]) for model in self._house if model.id == name), None)

    def notes(self) -> dict[str, str]:
        """Why the lists of providers asked with the house's own keys could not be had, by provider; those that were are left out."""
        return {name: source.note for name, source in self._own.items() if source.note}

    async def close(self) -> None:
        """End what is under way. Lists are answered from memory afterwards."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- whom to ask -----------------------------------------------------------------------------------------------------------------

    def _look_up(self, protocol: ProtocolId, client_headers: Headers, query: str) -> list[_Source]:
        """The sources of one list, in the file's order, those that are due being fetched."""
        sources: list[_Source] = []
        main = next((provider for provider in self._providers if protocol in provider.protocols), None)
        for provider in self._providers:
            if provider is main and not provider.has_key and not provider.lists_to_all and credential(client_headers, query) is not None:
                headers = [pair for pair in client_headers if pair[0].lower() in _LENT_HEADERS]
                others = set(strip_query(query).split("&"))
                lent = "&".join(part for part in query.split("&") if part not in others)
                source = self._borrow(provider, headers, lent)
            elif provider.has_key or provider.lists_to_all or provider.origin.scheme == "http":
                headers, lent = [], ""
                source = self._own.setdefault(provider.name, _Source(provider))
            else:
                continue
            self._freshen(source, headers, lent)
            sources.append(source)
        return sources

    def _borrow(self, provider: Provider, headers: Headers, query: str) -> _Source:
        """The source of one client's credential. Whoever may not see its list has another key."""
        said = sha256(repr((provider.name, sorted((name.lower(), value) for name, value in headers), query)).encode()).hexdigest()
        source = self._lent.get(said)
        if source is None:
            source = self._lent[said] = _Source(provider)
            self._trim()
        else:
            self._lent.move_to_end(said)
        return source

    def _trim(self) -> None:
        self._lent_bytes = sum(source.size for source in self._lent.values())
        while len(self._lent) > LENT_LISTS or (self._lent_bytes > LENT_BYTES and len(self._lent) > 1):
            _, gone = self._lent.popitem(last=False)
            self._lent_bytes -= gone.size

    # -- waiting ---------------------------------------------------------------------------------------------------------------------

    async def _wait(self, sources: Sequence[_Source]) -> None:
        """Until every source has answered once or may not be waited for any longer."""
        loop = asyncio.get_running_loop()
        while pending := [(source, source.task) for source in sources if source.tried_at is None and source.task is not None]:
            good = min((source.good_at for source in sources if source.good_at is not None), default=None)
            until = max(self._deadline(source, good) for source, _ in pending)
            if until <= loop.time():
                return
            await asyncio.wait([task for _, task in pending], timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)

    def _deadline(self, source: _Source, good: float | None) -> float:
        latest = source.began + self._timing.limit
        # A list that was there before this source was asked gives it the grace from its own beginning.
        return latest if good is None else min(latest, max(good, source.began) + self._timing.grace)

    # -- fetching --------------------------------------------------------------------------------------------------------------------

    def _freshen(self, source: _Source, headers: Headers, query: str) -> None:
        if source.task is not None or self._closed:
            return
        age = self._timing.retry if source.note else self._timing.fresh
        if source.tried_at is not None and self._clock() - source.tried_at < age:
            return
        source.began = asyncio.get_running_loop().time()
        request = list_request(source.provider, headers, query)
        task = asyncio.get_running_loop().create_task(self._refresh(source, request), name=f"penstock-models-{source.provider.name}")
        source.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _read(self, provider: Provider, body: bytes) -> tuple[Model, ...]:
        if not isinstance(provider, ArgoLegacyProvider) and not provider.settings.argo_names:
            return parse(provider.kind, provider.name, body)
        # Argo's entries are in nobody's shape. Its models are listed as its users know them, by the names that are looked up.
        try:
            directory = read_directory(body)
        except BadNames as error:
            raise BadListing(str(error)) from None
        if isinstance(provider, ArgoLegacyProvider):
            provider.names.learn(directory)
            directory = provider.names
        return tuple(Model(name, provider.name) for name in directory.aliases)

    async def _refresh(self, source: _Source, request: Request) -> None:
        provider = source.provider
        try:
            async with asyncio.timeout(self._timing.limit):
                body = await fetch(self._client, provider.origin, request)
            source.models = self._read(provider, body)
        except TimeoutError:
            source.note = f"no list within {self._timing.limit:g} s"
        except (FetchError, BadListing) as error:
            source.note = str(error)
        else:
            source.note = ""
            source.size = len(body)
            if source.good_at is None:
                source.good_at = asyncio.get_running_loop().time()
            self._trim()
        finally:
            source.tried_at = self._clock()
            source.task = None
