"""Proxies of the environment: which one, the tunnel through it, and what is said when it does not let through."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from penstock.lab.scripted import Do, ScriptedServer, chunk, head, whole
from penstock.providers.urls import Origin
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind
from penstock.upstream.dial import Dialer, make_tls_context
from penstock.upstream.proxies import BadProxy, Proxy, is_exempt, proxy_for
from penstock.upstream.settings import Settings
from tests.support.asking import GET, MIB, NAME, Taker, Trust, ask, here, loss_of, nobody, secure, until
from tests.support.gateway import run

OK = whole(b"{}")


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


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
            await until(lambda: not client.dialing and not client.open and not server.links)

    run(work())
