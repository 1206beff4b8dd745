"""The one composition root: builds every room from its settings, starts, drains, stops. It decides nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, time

import sqlalchemy as sa

from penstock import __version__
from penstock.admin import AdminListener, Deps, Readings, load_token, make_app
from penstock.capture import Dumps, Recorder
from penstock.config.settings import AUTO_TOKEN, Config
from penstock.dedup import Desk, make_desk
from penstock.exchange.conduct import Conduct
from penstock.exchange.costing import Costs
from penstock.exchange.front import Front
from penstock.exchange.gatehouse import Gatehouse
from penstock.exchange.gateway import Demo, Gateway, Settings
from penstock.exchange.models import Catalog
from penstock.exchange.permits import GATEWAY, Permits, permit_names
from penstock.exchange.probe import ask_models, judge
from penstock.exchange.quirks import find_quirks
from penstock.ledger import query
from penstock.ledger.ascribe import Ascriber
from penstock.ledger.engine import open_engine
from penstock.ledger.entry import Entry, Maker
from penstock.ledger.errors import LedgerFull
from penstock.ledger.patience import end_by
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.pipeline.compose import Limits
from penstock.pricing import Place, Prices
from penstock.protocols import REGISTRY
from penstock.providers import Origin, Provider, build
from penstock.routing import Face, Router
from penstock.server.listener import Listener
from penstock.server.settings import Settings as ServerSettings
from penstock.stores.guard_calls import GuardCalls, PostError
from penstock.stores.jwks import fetcher
from penstock.stores.keys import SECRET_FILE
from penstock.telemetry.log import Handler, Log
from penstock.telemetry.metrics import Metrics
from penstock.upstream.client import Client
from penstock.upstream.collect import CollectError, collect
from penstock.upstream.local import ask_demo
from penstock.upstream.settings import Settings as UpstreamSettings
from penstock.wire.budget import Budget

log = logging.getLogger("penstock")
LAST_WORDS, LAST_SECONDS = 1.0, 5.0
"""Seconds that clients have at least to take what they were told last, and the database to take what is not in it yet."""


@dataclass(frozen=True, slots=True)
class Started:
    """What `serve` found and where it listens, for the banner."""

    data_port: int
    admin_port: int | None
    notes: tuple[str, ...]
    key_asked: bool = False
    """Clients have to show a key or a token of this gateway's own."""


class App:
    """One gateway. `start`, then `run` until a signal; `stop` ends it in good order."""

    def __init__(self, config: Config) -> None:
        """Opens nothing but the tokens' files. Raises `TokenError`, with a sentence for the operator."""
        self.config = config
        self.instance = secrets.token_hex(6)
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._token = load_token(config.data_dir, "token") if config.token == AUTO_TOKEN else config.token
        self._admin_token = load_token(config.data_dir)
        self.metrics = Metrics((*(p.name for p in config.providers), Demo.name), guard_names(config))
        self.log = Log(sys.stderr, config.log, self.metrics)
        self._handler = Handler(self.log)
        self._ledger_settings = LedgerSettings(config.data_dir, config.ledger_url, config.retention_days, config.ledger_queue)
        self._prices = prices_of(config)
        self._ledger: Ledger | None = None
        self._reader: sa.Engine | None = None
        self._gatehouse: Gatehouse | None = None
        self.client = Client(upstream_settings(config))
        self.judges = GuardCalls(self._post, config.guard_calls, f"penstock/{__version__}")
        self._stopping = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        providers = {p.name: build(replace(p, ask_usage=False) if config.transparent else p) for p in config.providers}
        aliases = [r.model.text for r in config.routes if not set("*?[") & set(r.model.text)]
        self.catalog = Catalog(self.client, list(providers.values()), aliases, monotonic)
        own = [token for token in (self._token, self._admin_token) if token]
        keys = [key for p in config.providers for key in (p.api_key, *(value for _, value in p.headers)) if key] + [*config.guard_keys]
        self.recorder = Recorder(
            config.data_dir, config.capture, routes=[(r.model.text, r.provider) for r in config.routes], providers=[*providers, Demo.name],
            secrets=[*own, *keys],
        )  # fmt: skip
        beside = config.file.parent if config.file is not None else config.data_dir
        self.dumps = Dumps((beside, config.data_dir), config.dumps, [*own, *keys])
        self._quirks = find_quirks(self.client, providers, monotonic)
        self._testing: asyncio.Task[None] | None = None
        self.gateway = self._gateway(providers)
        front = Front(self.gateway)
        listening = config.listening
        server = ServerSettings(
            config.listen.host,
            config.listen.port,
            str(config.socket) if config.socket else None,
            listening.head_bytes,
            listening.head_fields,
            listening.head_seconds,
            listening.body_seconds,
            listening.idle_seconds,
            listening.client_connections,
            draining=lambda: self.gateway.draining,
            refusal=front.refuse,
        )
        self.listener = Listener(front, server)
        self.admin = AdminListener(config.admin.host, config.admin.port)

    @property
    def ledger(self) -> Ledger:
        """Open from `start` on."""
        assert self._ledger is not None
        return self._ledger

    def _gateway(self, providers: Mapping[str, Provider]) -> Gateway:
        config = self.config
        demo = Demo()
        faces: dict[str, Face] = {**providers, demo.name: demo}
        limits = config.limits
        return Gateway(
            settings=Settings(
                listen_host=None if config.socket else config.listen.host,
                hosts=config.hosts,
                token=self._token,
                limits=Limits(frame=limits.max_frame, body=limits.max_frame, assembly=limits.assembly),
                body_bytes=limits.body,
                noted_bytes=limits.noted,
                previews=config.preview is not None,
                drop_response_headers=frozenset(name.encode() for name in config.drop_response_headers),
            ),
            instance=self.instance,
            specs=REGISTRY,
            providers=providers,
            faces=faces,
            router=Router(config.routes, list(providers.values()), demo),
            client=self.client,
            ask_demo=ask_demo,
            ledger=_Unopened(),
            catalog=self.catalog,
            held=Budget(limits.held_total),
            peeked=Budget(limits.peeked_total),
            spawn=self._spawn,
            on_settled=self.log.note,
            conduct=self._conduct(config.conduct),
            provider_conduct={name: self._conduct(conduct) for name, conduct in config.provider_conduct.items()},
            route_conduct=[self._conduct(conduct) for conduct in config.route_conduct],
            desk=_desk(config),
            permits=Permits(_permits(config)),
            quirks=self._quirks,
            recorder=self.recorder,
            dumps=self.dumps,
            judges=self.judges,
        )

    async def _post(self, origin: Origin, request: tuple[bytes, bytes, bytes], limit: int) -> tuple[int, bytes]:
        """How guards outside are asked."""
        try:
            return await collect(self.client, origin, request, limit)
        except CollectError as error:
            raise PostError(str(error).replace("the provider", "the guard")) from None

    def _open_gatehouse(self) -> Gatehouse:
        admission = self.config.admission
        secret = admission.keys_secret or load_token(self.config.data_dir, SECRET_FILE)
        engine, reader = open_engine(self._ledger_settings), open_engine(self._ledger_settings, read_only=True)
        ca_file = str(self.config.ca_file) if self.config.ca_file else None
        costs = Costs(prices_of(self.config), time)  # of its own: the other belongs to the ledger's thread
        return Gatehouse(admission, self.gateway, engine, reader, secret.encode(), lambda: fetcher(ca_file), costs)

    def _conduct(self, conduct: Conduct) -> Conduct:
        return replace(conduct, transparent=self.config.transparent)

    def _admin_deps(self, ledger: Ledger, reader: sa.Engine) -> Deps:
        return Deps(
            version=__version__,
            instance=self.instance,
            token=self._admin_token,
            exchanges=partial(query.exchanges, reader),
            exchange=partial(query.exchange, reader),
            usage=partial(query.usage, reader),
            draining=lambda: self.gateway.draining,
            ledger_failing=lambda: ledger.failing,
            listen_host=self.config.admin.host,
            hosts=self.config.hosts,
            capture=self.recorder,
            keys=self._gatehouse,
            families=self.metrics.families,
            readings=Readings(
                exchanges_open=lambda: len(self.gateway.live),
                client_connections=lambda: len(self.listener.connections),
                upstream_open=lambda: self.client.open,
                upstream_idle=lambda: self.client.idle,
                upstream_dialing=lambda: self.client.dialing,
                ledger_queued=lambda: ledger.queued,
                ledger_torn=lambda: ledger.torn,
                ledger_counters=lambda: ledger.counters,
                log_dropped=lambda: self.log.dropped,
            ),
        )

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        if self._tasks is None:
            raise RuntimeError("the gateway does not run")
        self._tasks.create_task(_guarded(work), name=name)

    async def start(self) -> Started:
        """Listen, then open the ledger: a start that finds its address taken leaves no trace there.

        Raises `OSError` where an address or the log's file cannot be had, and `LedgerError`.
        """
        self.log.start()
        self._handler.attach()
        try:
            await self.admin.bind()
            await self.listener.start()
            # No await from here on until it is open: whoever has connected by now is heard after that.
            ledger = self._ledger = self.gateway.ledger = Ledger.start(
                self._ledger_settings, self.instance, Ascriber(self._prices, self.config.preview))
            reader = self._reader = query.connect(self._ledger_settings)
            self._gatehouse = self._open_gatehouse()
            ledger.ahead = self._gatehouse.start()
            self.recorder.start()
            self.dumps.start()
            admin_port = await self.admin.start(make_app(self._admin_deps(ledger, reader)))
        except BaseException:
            self.listener.close()
            await self.admin.stop()
            raise
        return Started(self.listener.port, admin_port, tuple(ledger.notes), self._gatehouse.strict)

    async def run(self) -> None:
        """Serve until `stop` is called; then drain."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self.config.connection_test is not None:
                self._testing = tasks.create_task(_guarded(self._test_connections(self.config.connection_test)), name="penstock-connection-test")
            assert self._gatehouse is not None
            looking = tasks.create_task(_guarded(self._gatehouse.run()), name="penstock-gatehouse")
            await self._stopping.wait()
            await self._drain()
            looking.cancel()

    async def _test_connections(self, limit: float) -> None:
        """Ask every provider whether it is there. Serving has begun meanwhile, and goes on whatever it says."""
        providers = list(self.gateway.providers.values())
        for listed, provider in zip(await ask_models(self.client, providers, limit), providers, strict=True):
            finding = judge(listed, provider)
            if not finding.well:
                log.warning("provider %r is not well: %s", provider.name, finding.told)

    def stop(self) -> None:
        """Once: stop accepting and let answers finish. Twice: end them now."""
        if self._stopping.is_set():
            self.gateway.shut_down()
        self.gateway.drain()
        self._stopping.set()

    async def _drain(self) -> None:
        self.listener.stop()
        if self._testing is not None:
            self._testing.cancel()
        while self.gateway.live:  # noqa: ASYNC110  # nobody would tell; this is the end of the process. Each exchange ends by its own `drain`
            await asyncio.sleep(0.02)
        await asyncio.sleep(0)  # what was said last leaves
        self.listener.close()
        least = self.gateway.clock() + LAST_WORDS
        while self.listener.connections and self.gateway.clock() < max(least, self.gateway.drained_by):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.02)  # whoever reads gets all that it was told
        await self.catalog.close()
        for quirks in self._quirks.values():
            await quirks.close()
        self.judges.close()
        self.client.close()
        await self.admin.stop()

    def close(self) -> int:
        """Flush and close what outlives the loop, all of it at the same time; returns how many rows neither the database nor the spill file took."""
        if self._reader is not None:
            end_by(self._reader, monotonic() + LAST_SECONDS)
            self._reader.dispose()
        for one in filter(None, (self._ledger, self._gatehouse)):
            one.stop_soon(LAST_SECONDS)
        self.recorder.close()
        self.dumps.close()
        unbooked = self._gatehouse.close() if self._gatehouse is not None else 0
        if unbooked:
            log.error("%d charges of budgets could not be booked: the database does not take them; they are lost", unbooked)
        left = self._ledger.close() if self._ledger is not None else 0
        if left:
            log.error("%d rows could be saved nowhere: neither the ledger nor %s takes them; they are lost", left, self.config.data_dir)
        self._handler.detach()
        self.log.close()
        return left


def upstream_settings(config: Config) -> UpstreamSettings:
    return UpstreamSettings(connect=config.connect_timeout, ca_file=str(config.ca_file) if config.ca_file else None, resolve=config.resolve)


def prices_of(config: Config) -> Prices:
    """The prices that a configuration comes to: its own, and the installed lists for its providers."""
    return Prices(config.prices, {p.name: Place(p.kind, p.base_url) for p in config.providers})


def _desk(config: Config) -> Desk | None:
    """For the answers that are told again, where any may be."""
    rules = [conduct.dedup for conduct in (config.conduct, *config.provider_conduct.values(), *config.route_conduct) if conduct.dedup is not None]
    if config.transparent or not rules:
        return None
    limits, longest = config.limits, max([one.tool_ttl for one in rules])
    return make_desk(config.data_dir if limits.noted_on_disk else None, limits.noted_total, limits.noted_answers, longest, log.warning)


def guard_names(config: Config) -> set[str]:
    """Of all guards that hold anywhere."""
    conducts = (config.conduct, *config.provider_conduct.values(), *config.route_conduct)
    return {name for conduct in conducts if conduct.guards is not None for name in conduct.guards.names}


def _permits(config: Config) -> dict[str, int]:
    """The limits on exchanges under way, by what they are of."""
    limits = {GATEWAY: config.max_streams}
    limits |= {permit_names(name, None)[1]: config.conduct_of(name).max_streams for name in (*config.provider_conduct, Demo.name)}
    limits |= {permit_names("", index)[2]: conduct.max_streams for index, conduct in enumerate(config.route_conduct)}
    return {name: limit for name, limit in limits.items() if limit is not None}


class _Unopened:
    """The ledger before it is open: nothing may begin."""

    def open(self, entry: Entry) -> None:
        raise LedgerFull("the ledger is not open yet")

    def find_response(self, response_id: str) -> Maker | None:
        return None

    def remember(self, response_id: str, maker: Maker) -> None: ...

    async def maker_of(self, response_id: str) -> Maker | None:
        return None


async def _guarded(work: Awaitable[None]) -> None:
    """A task's failure is told, and takes nothing else with it."""
    try:
        await work
    except Exception:
        log.exception("a task failed")


def _stop_signals() -> list[signal.Signals]:
    """A terminal that is closed ends the gateway as SIGTERM does, unless somebody (nohup) had it ignored."""
    hang_up = getattr(signal, "SIGHUP", None)
    return [signal.SIGTERM, signal.SIGINT, *([] if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN else [hang_up])]


async def _serve(config: Config, on_ready: Callable[[Started], None]) -> int:
    app = App(config)
    lost = 0
    try:
        loop = asyncio.get_running_loop()
        for sig in _stop_signals():
            loop.add_signal_handler(sig, app.stop)
        started = await app.start()
        on_ready(started)
        gc.collect()
        gc.freeze()
        await app.run()
    finally:
        lost = app.close()
    return 1 if lost else 0


def serve(config: Config, on_ready: Callable[[Started], None]) -> int:
    """Serve until a signal; the process's exit code. Raises `OSError` (an address in use) and `LedgerError`."""
    if sys.platform == "win32":
        return asyncio.run(_serve(config, on_ready))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, on_ready))
