"""Dialing: addresses, TLS, proxies and unix sockets, and what is said when there is no connection. Nothing leaves this machine."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from penstock.lab.scripted import Do, ScriptedServer, chunk, head, whole
from penstock.providers.urls import Origin, parse_base
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind, ResponseHead
from penstock.upstream.dial import AddressInfo, Dialer, DialError, make_tls_context
from penstock.upstream.proxies import BadProxy, Proxy, is_exempt, proxy_for
from penstock.upstream.settings import Settings
from tests.support.gateway import run

GET = (b"GET", b"/v1/models", b"Host: provider.test\r\n\r\n")
OK = whole(b"{}")
NAME = "provider.test"
MIB = 1 << 20


class Taker:
    """A receiver."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.loss: Loss | None = None
        self.over = asyncio.Event()
        self.on_body: Callable[[], None] | None = None

    def answer_began(self, head: ResponseHead, now: float) -> None:
        self.head = head

    def answer_body(self, data: bytes, now: float) -> None:
        self.body += data
        if self.on_body is not None:
            self.on_body()

    def answer_ended(self, now: float) -> None:
        self.over.set()

    def answer_lost(self, loss: Loss, now: float) -> None:
        self.loss = loss
        self.over.set()

    def upload_paused(self) -> None: ...

    def upload_resumed(self) -> None: ...


async def here(host: str, port: int) -> Sequence[AddressInfo]:
    """Every name is this machine."""
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]


def nobody() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def ask(client: Client, origin: Origin, *, fresh: bool = True) -> Taker:
    """One request, and then nothing is left open that is not kept."""
    taker = Taker()
    client.ask(origin, GET, taker, head_only=False, uploading=False, fresh=fresh)
    async with asyncio.timeout(5):
        await taker.over.wait()
        while client.dialing or client.open > client.idle:  # noqa: ASYNC110  # nobody tells; the wait is bounded
            await asyncio.sleep(0.001)
    return taker


async def loss_of(origin: Origin, dialer: Dialer | None = None, settings: Settings = Settings()) -> Loss:  # noqa: B008
    client = Client(settings, dialer or Dialer(proxies={}))
    taker = await ask(client, origin)
    client.close()
    assert taker.loss is not None, "a loss was expected"
    assert client.open == 0
    for address in ("127.0.0.1", "::1", NAME, str(origin.port)):
        assert address not in taker.loss.cause
    return taker.loss


# -- addresses ---------------------------------------------------------------------------------------------------------------------------


def test_refused() -> None:
    assert run(loss_of(Origin("http", "127.0.0.1", nobody()))) == Loss(LossKind.CONNECT, "the provider refused the connection")


def test_refused_by_all_addresses() -> None:
    async def both(host: str, port: int) -> Sequence[AddressInfo]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)), *await here(host, port)]

    loss = run(loss_of(Origin("http", NAME, nobody()), Dialer(proxies={}, resolve=both)))
    assert loss == Loss(LossKind.CONNECT, "the provider refused the connection")


def test_no_such_name() -> None:
    async def unknown(host: str, port: int) -> Sequence[AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    loss = run(loss_of(Origin("http", NAME, 80), Dialer(proxies={}, resolve=unknown)))
    assert loss == Loss(LossKind.CONNECT, "the provider's host name was not found")


def test_a_name_that_is_none() -> None:
    assert run(loss_of(Origin("http", "a..b", 80))).kind is LossKind.CONNECT


def test_no_address() -> None:
    async def none(host: str, port: int) -> Sequence[AddressInfo]:
        return []

    assert run(loss_of(Origin("http", NAME, 80), Dialer(proxies={}, resolve=none))) == Loss(LossKind.CONNECT, "no connection to the provider")


def test_unreachable() -> None:
    async def elsewhere(host: str, port: int) -> Sequence[AddressInfo]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("255.255.255.255", port))]

    assert run(loss_of(Origin("http", NAME, 80), Dialer(proxies={}, resolve=elsewhere))).kind is LossKind.CONNECT


def test_a_black_hole() -> None:
    # The kernel drops every SYN to a full backlog (Linux).
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        loss = run(loss_of(Origin("http", *listener.getsockname()), settings=Settings(connect=0.05)))
        for filler in fillers:
            filler.close()
    assert loss == Loss(LossKind.CONNECT_TIMEOUT, "no connection to the provider within 0.05 s")


def test_a_name_server_that_is_silent() -> None:
    async def silent(host: str, port: int) -> Sequence[AddressInfo]:
        await asyncio.Event().wait()
        raise AssertionError

    assert run(loss_of(Origin("http", NAME, 80), Dialer(proxies={}, resolve=silent), Settings(connect=0.02))).kind is LossKind.CONNECT_TIMEOUT


def test_a_mistake_of_ours_is_told_too() -> None:
    """Else whoever waits would wait for ever."""

    async def work() -> None:
        async def broken(host: str, port: int) -> Sequence[AddressInfo]:
            raise KeyError("ours")

        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
        client = Client(Settings(), Dialer(proxies={}, resolve=broken))
        taker = await ask(client, Origin("http", NAME, 80))
        assert taker.loss == Loss(LossKind.CONNECT, "the connection was not made, by a mistake of the gateway")
        gc.collect()  # a task's unread exception is told when the task goes
        assert any(isinstance(context.get("exception"), KeyError) for context in seen)

    run(work())


def test_a_dead_address_before_a_good_one() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start()
        dead = nobody()

        async def two(host: str, at: int) -> Sequence[AddressInfo]:
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", dead, 0, 0)), *await here(host, at)]

        client = Client(Settings(), Dialer(proxies={}, resolve=two))
        assert (await ask(client, Origin("http", NAME, port))).body == b"{}"
        client.close()
        server.close()

    run(work())


def test_a_silent_address_before_a_good_one() -> None:
    """Happy eyeballs: the second is tried after a quarter of a second, not after the first one's timeout."""

    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start()
        with socket.create_server(("127.0.0.1", 0), backlog=0) as hole:
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())

            async def two(host: str, at: int) -> Sequence[AddressInfo]:
                return [*await here(host, hole.getsockname()[1]), *await here(host, at)]

            client = Client(Settings(connect=5), Dialer(proxies={}, resolve=two))
            async with asyncio.timeout(2):
                assert (await ask(client, Origin("http", NAME, port))).body == b"{}"
            client.close()
            for filler in fillers:
                filler.close()
        server.close()

    run(work())


def test_ipv6() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start("::1")
        client = Client(Settings())
        assert (await ask(client, parse_base(f"http://[::1]:{port}").origin)).body == b"{}"
        client.close()
        server.close()

    run(work())


@pytest.mark.parametrize("form", ["unix:{}", "unix:{}:/v1", "http+unix://{}"])
def test_unix_sockets(tmp_path: Path, form: str) -> None:
    path = tmp_path / "s"

    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        await server.start_unix(str(path))
        client = Client(Settings())
        origin = parse_base(form.format(path)).origin
        for _ in range(2):
            assert (await ask(client, origin, fresh=False)).body == b"{}"
        assert server.connections == 1
        client.close()
        server.close()

    run(work())


def test_no_unix_socket(tmp_path: Path) -> None:
    loss = run(loss_of(Origin("http", "localhost", 80, str(tmp_path / "none"))))
    assert loss == Loss(LossKind.CONNECT, "no connection to the provider (no such file or directory)")


# -- TLS ---------------------------------------------------------------------------------------------------------------------------------


class Trust:
    """An authority of our own, the file that names it, and servers' contexts with its certificates."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.file = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def server(self, *names: str, **how: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or (NAME, "127.0.0.1", "localhost")), **how).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # it takes pyOpenSSL's too
        return context

    def dialer(self, proxies: Mapping[str, str] | None = None) -> Dialer:
        return Dialer(make_tls_context(self.file), proxies or {}, here)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


@asynccontextmanager
async def secure(tls: ssl.SSLContext, *scripts: Any) -> AsyncGenerator[tuple[ScriptedServer, Origin]]:
    server = ScriptedServer(*(scripts or ([Do.READ, OK],)))
    port = await server.start(tls=tls)
    try:
        yield server, Origin("https", NAME, port)
    finally:
        server.close()


def test_the_settings_authority_is_trusted(trust: Trust) -> None:
    async def work() -> None:
        async with secure(trust.server()) as (server, origin):
            client = Client(Settings(ca_file=trust.file))
            for _ in range(3):
                assert (await ask(client, Origin("https", "localhost", origin.port), fresh=False)).body == b"{}"
            assert server.connections == 1
            client.close()

    run(work())


def test_a_ca_file_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    for name in ("bad.pem", "missing.pem"):
        with pytest.raises(OSError):
            Client(Settings(ca_file=str(tmp_path / name)))


def test_certificates_that_are_not_trusted(trust: Trust, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)

    async def work() -> None:
        async def cause(tls: ssl.SSLContext) -> str:
            async with secure(tls) as (_, origin):
                loss = await loss_of(origin, trust.dialer())
                assert loss.kind is LossKind.TLS
                return loss.cause

        assert "it is for another host name" in await cause(trust.server("other.test"))
        assert "expired" in await cause(trust.server(NAME, not_before=past - timedelta(days=9), not_after=past))
        assert "unable to get local issuer certificate" in await cause(Trust(tmp_path).server())
        async with secure(trust.server("other.test")) as (_, origin):
            loss = await loss_of(Origin("https", "127.0.0.1", origin.port), trust.dialer())
            assert loss == Loss(LossKind.TLS, "the provider's certificate is not trusted (it is for another address)")

    run(work())


def test_the_systems_authorities_do_not_know_ours(trust: Trust) -> None:
    async def work() -> None:
        async with secure(trust.server()) as (_, origin):
            assert (await loss_of(origin, Dialer(proxies={}, resolve=here))).kind is LossKind.TLS

    run(work())


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["http", "close", "silence"])
def test_a_handshake_that_is_none(trust: Trust, words: bytes | None) -> None:
    async def work() -> None:
        left = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            if words is not None:
                writer.write(words)
                writer.close()
            else:
                await reader.read()
            left.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = Origin("https", NAME, server.sockets[0].getsockname()[1])
        loss = await loss_of(origin, trust.dialer(), Settings(connect=5 if words is not None else 0.05))
        assert loss.kind is (LossKind.TLS if words is not None else LossKind.CONNECT_TIMEOUT)
        async with asyncio.timeout(0.2):
            await left.wait()
        server.close()

    run(work())


class RawTls:
    """A TLS server that does each step when it is told, on an `SSLObject` of its own: it can close without `close_notify`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.reader, self.writer = reader, writer

    async def _do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.writer.write(self.outgoing.read())
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError from None
                self.incoming.write(data)

    async def request(self) -> bytes:
        await self._do(self.tls.do_handshake)
        return await self._do(lambda: self.tls.read(65536))

    def send(self, data: bytes, *, goodbye: bool = False) -> None:
        self.tls.write(data)
        if goodbye:
            with suppress(ssl.SSLWantReadError):  # the other side's goodbye is not waited for
                self.tls.unwrap()
        self.writer.write(self.outgoing.read())


Act = Callable[[RawTls], Coroutine[Any, Any, None]]
Then = Callable[[Client, Origin], Coroutine[Any, Any, None]]


async def with_raw_tls(trust: Trust, act: Act, then: Then) -> None:
    context = trust.server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await act(RawTls(reader, writer, context))
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(Settings(), trust.dialer())
    try:
        await then(client, Origin("https", NAME, server.sockets[0].getsockname()[1]))
    finally:
        client.close()
        server.close()
        await asyncio.sleep(0.01)
        assert client.open == 0


@pytest.mark.parametrize(
    ("framing", "goodbye", "whole"),
    [
        ("content-length: 100", False, False),
        ("content-length: 100", True, False),
        ("content-length: 4", False, True),
        ("x: y", True, True),
        ("x: y", False, False),
    ],
)
def test_the_end_of_tls(trust: Trust, framing: str, goodbye: bool, whole: bool) -> None:
    """Without `close_notify` an answer that only its end delimits is not whole (RFC 9112, 9.8)."""

    async def act(peer: RawTls) -> None:
        await peer.request()
        peer.send(head(200, framing) + b"part", goodbye=goodbye)

    async def then(client: Client, origin: Origin) -> None:
        taker = await ask(client, origin)
        assert bytes(taker.body) == b"part"
        if whole:
            assert taker.loss is None
        else:
            assert taker.loss == Loss(LossKind.EOF, "the provider closed the connection inside its answer")

    run(with_raw_tls(trust, act, then))


@pytest.mark.parametrize("goodbye", [True, False])
def test_what_came_before_the_end_of_tls_is_read_though_the_receiver_was_slow(trust: Trust, goodbye: bool) -> None:
    """The end of a connection must not overtake bytes that wait, encrypted, while reading is paused."""
    body = b"x" * 40_000  # less than what the TLS layer reads ahead (256 KiB)

    async def act(peer: RawTls) -> None:
        await peer.request()
        peer.send(head(200, f"content-length: {2 * len(body)}") + body)
        await peer.writer.drain()
        await asyncio.sleep(0.02)
        peer.send(body, goodbye=goodbye)

    async def then(client: Client, origin: Origin) -> None:
        taker = Taker()
        paused = asyncio.Event()

        def pause() -> None:
            asked.pause()
            paused.set()

        taker.on_body = pause
        asked = client.ask(origin, GET, taker, head_only=False, uploading=False, fresh=True)
        await paused.wait()
        await asyncio.sleep(0.1)
        had = len(taker.body)
        assert had < 2 * len(body)
        taker.on_body = None
        asked.resume()
        async with asyncio.timeout(5):
            await taker.over.wait()
        assert (len(taker.body), taker.loss) == (2 * len(body), None)

    run(with_raw_tls(trust, act, then))


def test_cancelled_in_the_handshake(trust: Trust) -> None:
    async def work() -> None:
        began, left = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            began.set()
            await reader.read()
            left.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client, taker = Client(Settings(), trust.dialer()), Taker()
        origin = Origin("https", NAME, server.sockets[0].getsockname()[1])
        asked = client.ask(origin, GET, taker, head_only=False, uploading=False, fresh=False)
        await began.wait()
        asked.cancel()
        async with asyncio.timeout(0.1):
            await left.wait()
        assert (client.open, client.dialing, taker.loss) == (0, 0, None)
        server.close()

    run(work())


@pytest.mark.parametrize("way", ["direct", "http proxy", "https proxy"])
def test_cancelled_at_every_turn_of_a_tls_dial_nothing_leaks(trust: Trust, way: str) -> None:
    async def work() -> None:
        async with secure(trust.server()) as (server, origin), proxy(tls=trust.server() if way == "https proxy" else None) as it:
            it.real = origin.port
            client = Client(Settings(), trust.dialer({} if way == "direct" else {"https": it.url("s" if "https" in way else "")}))
            for turns in range(60):
                taker = Taker()
                asked = client.ask(origin, GET, taker, head_only=False, uploading=False, fresh=True)
                for _ in range(turns):
                    await asyncio.sleep(0)
                asked.cancel()
            client.close()
            async with asyncio.timeout(1):
                while client.dialing or client.open or server.links:  # noqa: ASYNC110  # nobody tells; the wait is bounded
                    await asyncio.sleep(0.001)

    run(work())


# -- proxies -----------------------------------------------------------------------------------------------------------------------------


class FakeProxy:
    """A proxy that sends every CONNECT to one port of this machine."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
        self.real: int | None = None
        self.port = 0

    def url(self, s: str = "", credentials: str = "") -> str:
        return f"http{s}://{credentials}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if self.real is None or not self.answer.startswith(b"HTTP/1.1 2"):
                return
            other, out = await asyncio.open_connection("127.0.0.1", self.real)
            await asyncio.gather(pump(reader, out), pump(other, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxy(tls: ssl.SSLContext | None = None) -> AsyncGenerator[FakeProxy]:
    fake = FakeProxy()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=tls)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("proxy_tls", [False, True])
def test_through_a_tunnel(trust: Trust, proxy_tls: bool) -> None:
    large = b"y" * (4 * MIB)

    async def work() -> None:
        scripts = ([Do.READ, head(200, "transfer-encoding: chunked"), chunk(b"a"), chunk(b"b"), b"0\r\n\r\n"], [Do.READ, whole(large)])
        async with secure(trust.server(), *scripts) as (server, origin), proxy(trust.server() if proxy_tls else None) as it:
            it.real = origin.port
            client = Client(Settings(), trust.dialer({"https": it.url("s" if proxy_tls else "", "us%20er:p%40ss@")}))
            assert bytes((await ask(client, origin, fresh=False)).body) == b"ab"
            assert bytes((await ask(client, origin, fresh=False)).body) == large, "the same tunnel, and no byte lost"
            assert len(it.heads) == server.connections == 1
            authority = f"{NAME}:{origin.port}".encode()
            credentials = b64encode(b"us er:p@ss")
            assert it.heads == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic %b\r\n\r\n" % (authority, authority, credentials)]
            assert server.log[0].header("proxy-authorization") is None, "the provider never sees it"
            client.close()

    run(work())


@pytest.mark.parametrize(
    ("said", "kind", "cause"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", LossKind.CONNECT, "the proxy answered 407 to CONNECT"),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nforbidden", LossKind.CONNECT, "the proxy answered 403 to CONNECT"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", LossKind.CONNECT, "the proxy's answer to CONNECT is not HTTP"),
        (b"HTTP/1.1 2x0 what\r\n\r\n", LossKind.CONNECT, "the proxy's answer to CONNECT is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", LossKind.CONNECT, "the proxy's answer to CONNECT is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, LossKind.CONNECT, "the proxy's answer to CONNECT is not HTTP"),
        (b"", LossKind.CONNECT, "the proxy closed the connection"),
        (b"HTTP/1.1 200 OK\r\n\r\n", LossKind.TLS, "the connection was closed in the TLS handshake with the provider"),
    ],
    ids=["407", "403", "ssh", "status", "more", "long", "closed", "closed behind 200"],
)
def test_a_proxy_that_does_not_let_through(trust: Trust, said: bytes, kind: LossKind, cause: str) -> None:
    async def work() -> None:
        async with proxy() as it:
            it.answer = said
            loss = await loss_of(Origin("https", NAME, 443), trust.dialer({"https": it.url()}))
            assert loss == Loss(kind, cause)

    run(work())


def test_a_proxy_that_is_not_there(trust: Trust) -> None:
    dialer = trust.dialer({"all": f"http://127.0.0.1:{nobody()}"})
    assert run(loss_of(Origin("https", NAME, 443), dialer)) == Loss(LossKind.CONNECT, "the proxy refused the connection")


def test_a_provider_behind_the_proxy_that_is_not_trusted(trust: Trust) -> None:
    async def work() -> None:
        async with secure(trust.server("other.test")) as (_, origin), proxy() as it:
            it.real = origin.port
            loss = await loss_of(origin, trust.dialer({"https": it.url()}))
            assert loss == Loss(LossKind.TLS, "the provider's certificate is not trusted (it is for another host name)")

    run(work())


def test_a_proxy_that_is_not_trusted(trust: Trust) -> None:
    async def work() -> None:
        async with proxy(trust.server("other.test")) as it:
            loss = await loss_of(Origin("https", NAME, 443), trust.dialer({"https": it.url("s")}))
            assert loss == Loss(LossKind.TLS, "the proxy's certificate is not trusted (it is for another address)")

    run(work())


def test_a_plain_origin_is_asked_by_its_whole_url_and_the_proxy_gets_its_credentials_each_time() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start()
        client = Client(Settings(), Dialer(proxies={"http": f"http://me:secret@127.0.0.1:{port}"}))
        for _ in range(2):
            assert (await ask(client, Origin("http", NAME, 8080), fresh=False)).body == b"{}"
        assert server.connections == 1
        for asked in server.log:
            assert asked.target == f"http://{NAME}:8080/v1/models"
            assert asked.header("proxy-authorization") == "Basic " + b64encode(b"me:secret").decode()
            assert asked.header("host") == NAME
        client.close()
        server.close()

    run(work())


def test_exceptions_go_directly() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start()
        proxies = {"http": f"http://127.0.0.1:{nobody()}", "no": NAME}
        client = Client(Settings(), Dialer(proxies=proxies, resolve=here))
        assert (await ask(client, Origin("http", NAME, port))).body == b"{}"
        assert (await ask(client, Origin("http", "127.0.0.1", port))).body == b"{}", "loopback is never asked through a proxy"
        assert [asked.target for asked in server.log] == ["/v1/models"] * 2
        client.close()
        server.close()

    run(work())


def test_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with proxy() as it:
            it.answer = b"HTTP/1.1 407 No\r\n\r\n"
            monkeypatch.setenv("HTTPS_PROXY", it.url())
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("https_proxy", raising=False)
            loss = await loss_of(Origin("https", NAME, 443), Dialer(make_tls_context()))
            assert loss.cause == "the proxy answered 407 to CONNECT"

    run(work())


@pytest.mark.parametrize(
    ("host", "port", "exceptions", "exempt"),
    [
        ("api.openai.com", 443, "openai.com", True),
        ("api.openai.com", 443, ".openai.com", True),
        ("api.openai.com", 443, "*.openai.com", True),
        ("openai.com", 443, ".openai.com", True),
        ("api.openai.com", 443, "OpenAI.com , x", True),
        ("notopenai.com", 443, "openai.com", False),
        ("api.openai.com", 443, "", False),
        ("api.openai.com", 443, "*", True),
        ("api.openai.com", 443, "api.openai.com:443", True),
        ("api.openai.com", 443, "api.openai.com:8443", False),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3", True),
        ("10.1.2.3", 80, "2.3", False),
        ("10.1.2.3", 80, "10.1.2.3:81", False),
        ("fd00::1", 80, "fd00::/8", True),
        ("fd00::1", 80, "[fd00::1]:80", True),
        ("fd00::1", 80, "[fd00::1]:81", False),
        ("fd00::1", 80, "fd00::1", True),
        ("a.b", 80, ", ,.", False),
    ],
)
def test_no_proxy(host: str, port: int, exceptions: str, exempt: bool) -> None:
    assert is_exempt(exceptions, host, port) is exempt


def test_which_proxy() -> None:
    proxies = {"https": "http://u:p@proxy.test:3128", "all": "other.test"}
    assert proxy_for(proxies, "https", "a.test", 443) == Proxy("proxy.test", 3128, False, b"u:p")
    assert proxy_for(proxies, "http", "a.test", 80) == Proxy("other.test", 80, False)
    assert "p" not in repr(Proxy("h", 1, False, b"p")).replace("Proxy(host='h', port=1, tls=False)", "")
    for host in ("localhost", "x.localhost", "127.3.2.1", "::1"):
        assert proxy_for(proxies, "https", host, 443) is None
    for url in ("socks5://proxy.test:1080", "http://", "http://proxy.test:port"):
        with pytest.raises(BadProxy):
            proxy_for({"all": url}, "https", "a.test", 443)


def test_a_proxy_that_cannot_be_used_is_not_gone_around() -> None:
    dialer = Dialer(proxies={"all": "socks5://127.0.0.1:1080"}, resolve=here)
    loss = run(loss_of(Origin("http", NAME, nobody()), dialer))
    assert loss == Loss(LossKind.CONNECT, "the environment names a proxy that is no HTTP proxy")


def test_dial_error_is_a_clause() -> None:
    assert str(DialError(LossKind.CONNECT, "no")) == "no"
