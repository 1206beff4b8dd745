"""Dialing: addresses, unix sockets and TLS, and what is said when there is no connection. Nothing leaves this machine."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import Do, ScriptedServer, head, whole
from penstock.providers.urls import Origin, parse_base
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind
from penstock.upstream.dial import AddressInfo, Dialer, make_tls_context
from penstock.upstream.settings import Settings
from tests.support.asking import GET, NAME, Taker, Trust, ask, black_hole, here, loss_of, nobody, secure
from tests.support.gateway import run

OK = whole(b"{}")


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
    with black_hole() as port:
        loss = run(loss_of(Origin("http", "127.0.0.1", port), settings=Settings(connect=0.05)))
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
        with black_hole() as hole:

            async def two(host: str, at: int) -> Sequence[AddressInfo]:
                return [*await here(host, hole), *await here(host, at)]

            client = Client(Settings(connect=5), Dialer(proxies={}, resolve=two))
            async with asyncio.timeout(4):
                assert (await ask(client, Origin("http", NAME, port))).body == b"{}"
            client.close()
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


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


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
        with pytest.raises(OSError, match=name):
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
        async with asyncio.timeout(2):
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
        async with asyncio.timeout(2):
            await left.wait()
        assert (client.open, client.dialing, taker.loss) == (0, 0, None)
        server.close()

    run(work())


# -- pinned addresses --------------------------------------------------------------------------------------------------------------------


def test_a_pinned_address_is_dialed_with_the_names_sni_and_certificate(trust: Trust) -> None:
    """As `curl --resolve`: nothing but the address is another one, and no name is looked up."""

    async def no_look_up(host: str, port: int) -> Sequence[AddressInfo]:
        assert host == "127.0.0.1", "only an address may be looked up"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    async def work() -> None:
        seen: list[str | None] = []
        context = trust.server()
        context.sni_callback = lambda sock, name, own: seen.append(name)  # pyright: ignore[reportUnknownLambdaType]
        async with secure(context) as (_, origin):
            pinned = {(NAME, origin.port): "127.0.0.1"}
            client = Client(Settings(), Dialer(make_tls_context(trust.file), {}, no_look_up, pinned))
            assert (await ask(client, Origin("https", NAME, origin.port))).body == b"{}"
            assert seen == [NAME]
            client.close()

    run(work())


def test_a_pinned_address_does_not_soften_the_check(trust: Trust) -> None:
    async def work() -> None:
        async with secure(trust.server("other.test")) as (_, origin):
            pinned = {(NAME, origin.port): "127.0.0.1"}
            loss = await loss_of(Origin("https", NAME, origin.port), Dialer(make_tls_context(trust.file), {}, pinned=pinned))
            assert loss == Loss(LossKind.TLS, "the provider's certificate is not trusted (it is for another host name)")

    run(work())


def test_a_pinned_address_is_of_one_port() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start()
        client = Client(Settings(resolve={("pinned.invalid", port): "127.0.0.1"}))
        taker = await ask(client, Origin("http", "pinned.invalid", port))
        assert taker.body == b"{}"
        loss = (await ask(client, Origin("http", "pinned.invalid", nobody()))).loss
        assert loss is not None
        assert loss.kind is LossKind.CONNECT
        client.close()
        server.close()

    run(work())


def test_a_pinned_ipv6_address() -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, OK])
        port = await server.start("::1")
        client = Client(Settings(resolve={("pinned.invalid", port): "::1"}))
        assert (await ask(client, Origin("http", "pinned.invalid", port))).body == b"{}"
        client.close()
        server.close()

    run(work())
