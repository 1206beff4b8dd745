"""The merged list: who is asked with what, how long anybody waits, what is remembered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from penstock.exchange import models as module
from penstock.exchange import models_fetch
from penstock.exchange.models import Catalog, Timing
from penstock.lab.scripted import Do, ScriptedServer, whole
from penstock.providers import Kind, Origin, Provider, ProviderSettings, build
from penstock.upstream.client import Client
from penstock.upstream.contract import Loss, LossKind, Receiver, ResponseHead
from penstock.upstream.settings import Settings
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import VirtualLoop

CHAT, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
SECOND = Timing(limit=0.5, grace=0.02)
"""Short enough for a test, long enough for a busy machine."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """One request that the catalog made. Implements `Ask`."""

    dialed_at = None

    def __init__(self, origin: Origin, request: tuple[bytes, bytes, bytes], receiver: Receiver) -> None:
        self.origin = origin
        self.method, target, self.rest = request
        self.target = target.decode()
        self.receiver = receiver
        self.cancelled = False

    def answer(self, *ids: str, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None, body: bytes | None = None) -> None:
        self.receiver.answer_began(ResponseHead(status, headers or []), 0.0)
        if body is None:
            body = msgspec.json.encode({"data": [{"id": name} for name in ids], "models": [{"name": f"models/{name}"} for name in ids]})
        self.receiver.answer_body(body, 0.0)
        self.receiver.answer_ended(0.0)

    def lose(self, kind: LossKind) -> None:
        self.receiver.answer_lost(Loss(kind, "lost on the way"), 0.0)

    def cancel(self) -> None:
        self.cancelled = True

    def pause(self) -> None: ...
    def hand_over(self, receiver: Receiver) -> bool:
        return False

    def resume(self) -> None: ...
    def upload(self, data: bytes) -> None: ...
    def upload_end(self) -> None: ...


class Upstream:
    """In the place of the client: writes requests down; `on_ask` may answer."""

    def __init__(self, on_ask: Callable[[Asked], None] | None = None) -> None:
        self.asked: list[Asked] = []
        self.on_ask = on_ask

    def ask(self, origin: Origin, request: tuple[bytes, bytes, bytes], receiver: Receiver, *, head_only: bool, uploading: bool, fresh: bool) -> Asked:
        assert not head_only
        assert not uploading
        asked = Asked(origin, request, receiver)
        self.asked.append(asked)
        if self.on_ask is not None:
            asyncio.get_running_loop().call_soon(self.on_ask, asked)
        return asked

    @property
    def hosts(self) -> list[str]:
        return [asked.origin.host for asked in self.asked]


def provider(name: str, kind: Kind = "openai", key: str | None = None, scheme: str = "https") -> Provider:
    return build(ProviderSettings(name=name, kind=kind, base_url=f"{scheme}://{name}.test", api_key=key))


def ids(body: bytes) -> list[str]:
    return [entry["id"] for entry in msgspec.json.decode(body, type=dict[str, Any])["data"]]


async def turns() -> None:
    """Whatever was begun behind an answer is done by then: it waits for nobody but the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(bounded())


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """Its time passes when it is told to."""
    made = VirtualLoop()
    yield made
    made.close()


# Who is asked, and with what.


def test_all_providers_with_keys_are_merged_and_the_house_comes_last() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer(f"of-{asked.origin.host[0]}"))
        providers = [provider("a", "gemini", "k1"), provider("b", "openai", "k2"), provider("c", "anthropic", "k3")]
        catalog = Catalog(upstream, providers, ["fast"], Clock())
        assert ids(await catalog.listing(CHAT, [], "")) == ["of-a", "of-b", "of-c", "fast", "demo"]
        assert [asked.target for asked in upstream.asked] == ["/v1beta/models?pageSize=1000", "/v1/models", "/v1/models?limit=1000"]
        assert all(asked.method == b"GET" for asked in upstream.asked)
        a, b, c = (asked.rest for asked in upstream.asked)
        assert b"x-goog-api-key: k1\r\n" in a
        assert b"Authorization: Bearer k2\r\n" in b
        assert b"x-api-key: k3\r\n" in c
        assert b"anthropic-version: 2023-06-01\r\n" in c
        assert all(rest.endswith(b"\r\n\r\n") and rest.count(b"\r\n\r\n") == 1 for rest in (a, b, c))
        assert all(rest.startswith(b"Host: ") for rest in (a, b, c))
        # From memory, in another shape.
        gemini = msgspec.json.decode(await catalog.listing(GEMINI, [], ""), type=dict[str, Any])
        assert [entry["name"] for entry in gemini["models"]] == [f"models/{name}" for name in ("of-a", "of-b", "of-c", "fast", "demo")]
        assert len(upstream.asked) == 3

    run(test)


def test_a_clients_credential_goes_to_the_provider_of_its_path_and_to_no_other() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer(f"of-{asked.origin.host[0]}"))
        providers = [provider("a"), provider("b", "anthropic"), provider("c", "gemini"), provider("d"), provider("e", key="k")]
        catalog = Catalog(upstream, providers, [], Clock())
        headers = [(b"Authorization", b"Bearer mine"), (b"OpenAI-Organization", b"org"), (b"Cookie", b"c=1"), (b"User-Agent", b"ua")]
        assert ids(await catalog.listing(CHAT, headers, "")) == ["of-a", "of-e", "demo"]
        assert upstream.hosts == ["a.test", "e.test"]
        assert b"Authorization: Bearer mine\r\nOpenAI-Organization: org\r\n" in upstream.asked[0].rest
        assert b"Cookie" not in upstream.asked[0].rest
        assert b"mine" not in upstream.asked[1].rest
        assert ids(await catalog.listing(MESSAGES, [(b"x-api-key", b"theirs")], "")) == ["of-b", "of-e", "demo"]
        assert upstream.hosts == ["a.test", "e.test", "b.test"]
        assert b"x-api-key: theirs\r\n" in upstream.asked[2].rest

    run(test)


def test_geminis_key_in_the_query_is_a_credential_too() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("g"))
        catalog = Catalog(upstream, [provider("c", "gemini")], [], Clock())
        await catalog.listing(GEMINI, [], "pageSize=5&key=mine&pageToken=t")
        assert [asked.target for asked in upstream.asked] == ["/v1beta/models?pageSize=1000&key=mine"]
        await catalog.listing(GEMINI, [], "key=mine")
        assert len(upstream.asked) == 1
        await catalog.listing(GEMINI, [], "key=other")
        assert len(upstream.asked) == 2

    run(test)


def test_where_the_path_has_a_provider_with_a_key_the_clients_credential_stays_in_the_house() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("m"))
        catalog = Catalog(upstream, [provider("a", "openai", "ours"), provider("d", "openai")], [], Clock())
        await catalog.listing(CHAT, [(b"authorization", b"Bearer sk-mine")], "")
        assert upstream.hosts == ["a.test"]
        assert b"mine" not in upstream.asked[0].rest

    run(test)


def test_without_any_credential_only_servers_of_ones_own_are_asked() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("m"))
        catalog = Catalog(upstream, [provider("a"), provider("b", "anthropic"), provider("d", scheme="http")], [], Clock())
        assert ids(await catalog.listing(CHAT, [], "")) == ["m", "demo"]
        assert upstream.hosts == ["d.test"]
        # And no other vendor's credential goes there.
        await catalog.listing(CHAT, [(b"authorization", b"Bearer mine")], "")
        assert upstream.hosts == ["d.test", "a.test"]

    run(test)


def test_what_one_credential_sees_no_other_does() -> None:
    async def test() -> None:
        def answer(asked: Asked) -> None:
            asked.answer("secret-tune" if b"Bearer one" in asked.rest else "common")

        upstream = Upstream(answer)
        catalog = Catalog(upstream, [provider("a")], [], Clock())
        assert ids(await catalog.listing(CHAT, [(b"authorization", b"Bearer one")], "")) == ["secret-tune", "demo"]
        assert ids(await catalog.listing(CHAT, [(b"authorization", b"Bearer two")], "")) == ["common", "demo"]
        assert ids(await catalog.listing(CHAT, [], "")) == ["demo"]
        assert ids(await catalog.listing(CHAT, [(b"Authorization", b"Bearer one")], "")) == ["secret-tune", "demo"]
        assert ids(await catalog.listing(CHAT, [(b"authorization", b"Bearer one"), (b"openai-project", b"p")], "")) == ["secret-tune", "demo"]
        assert len(upstream.asked) == 3

    run(test)


def test_each_caller_gets_what_they_may_use_of_what_is_remembered() -> None:
    """Two who wait for the same first list, and two who are answered from memory: nobody gets another's."""
    upstream = Upstream(lambda asked: asked.answer("common", "secret-tune"))

    async def main() -> None:
        catalog = Catalog(upstream, [provider("a", key="k")], ["secret-alias"], Clock())
        seen: list[tuple[str, str]] = []

        def few(model: str, owner: str) -> bool:
            seen.append((model, owner))
            return not model.startswith("secret")

        def none(model: str, owner: str) -> bool:
            return False

        for _ in range(2):
            one, two, all_ = await asyncio.gather(
                catalog.listing(CHAT, [], "", few), catalog.listing(CHAT, [], "", none), catalog.listing(CHAT, [], ""))
            assert (ids(one), ids(two)) == (["common", "demo"], [])
            assert ids(all_) == ["common", "secret-tune", "secret-alias", "demo"]
        assert upstream.hosts == ["a.test"]
        assert seen[:4] == [("common", "a"), ("secret-tune", "a"), ("secret-alias", "penstock"), ("demo", "penstock")]
        empty = msgspec.json.decode(await catalog.listing(MESSAGES, [], "", none))
        assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}

    asyncio.run(main())


def test_lists_of_many_credentials_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LENT_LISTS", 3)

    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("m"))
        catalog = Catalog(upstream, [provider("a")], [], Clock())
        for number in (1, 2, 3, 1, 4, 1, 2):
            await catalog.listing(CHAT, [(b"authorization", b"Bearer %d" % number)], "")
        # 1 was used again before 4 came, so 2 had to go and was asked for again.
        assert [asked.rest.partition(b"Bearer ")[2][:1] for asked in upstream.asked] == [b"1", b"2", b"3", b"4", b"2"]
        monkeypatch.setattr(module, "LENT_BYTES", 1)
        for number in (1, 5, 1):
            await catalog.listing(CHAT, [(b"authorization", b"Bearer %d" % number)], "")
        assert [asked.rest.partition(b"Bearer ")[2][:1] for asked in upstream.asked][5:] == [b"5", b"1"]

    run(test)


# How long anybody waits.


def test_a_dead_provider_costs_the_first_list_the_grace_and_later_ones_nothing(loop: VirtualLoop) -> None:
    upstream = Upstream(lambda asked: asked.answer("m") if asked.origin.host == "a.test" else None)
    catalog = Catalog(upstream, [provider("a", key="k"), provider("dead", key="k")], [], Clock(), Timing(limit=5, grace=0.5))
    first = loop.create_task(catalog.listing(CHAT, [], ""))
    loop.wait(0.4)
    assert not first.done()
    loop.wait(0.2)
    assert ids(first.result()) == ["m", "demo"]
    second = loop.create_task(catalog.listing(CHAT, [], ""))
    loop.settle()
    assert ids(second.result()) == ["m", "demo"], "no time has passed"
    assert len(upstream.asked) == 2
    loop.run_until_complete(catalog.close())


def test_the_second_provider_within_the_grace_is_in_the_first_list() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("m") if asked.origin.host == "a.test" else None)
        catalog = Catalog(upstream, [provider("a", key="k"), provider("b", key="k")], [], Clock(), Timing(limit=5, grace=3))
        listing = asyncio.create_task(catalog.listing(CHAT, [], ""))
        await asyncio.sleep(0.01)
        assert not listing.done()
        upstream.asked[1].answer("late")
        assert ids(await listing) == ["m", "late", "demo"]

    run(test)


def test_a_failure_is_an_answer_and_no_grace_begins_with_it() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer(status=500, body=b"x") if asked.origin.host == "a.test" else None)
        catalog = Catalog(upstream, [provider("a", key="k"), provider("b", key="k")], [], Clock(), Timing(limit=5, grace=0.001))
        listing = asyncio.create_task(catalog.listing(CHAT, [], ""))
        await asyncio.sleep(0.02)
        assert not listing.done()
        upstream.asked[1].answer("m")
        assert ids(await listing) == ["m", "demo"]
        assert catalog.notes() == {"a": "the provider answered 500"}

    run(test)


def test_when_all_are_dead_the_limit_ends_the_wait(loop: VirtualLoop) -> None:
    upstream = Upstream()
    catalog = Catalog(upstream, [provider("a", key="k"), provider("b", key="k")], ["fast"], Clock(), Timing(limit=3.0))
    listing = loop.create_task(catalog.listing(CHAT, [], ""))
    loop.wait(2.9)
    assert not listing.done()
    loop.wait(0.2)
    assert ids(listing.result()) == ["fast", "demo"]
    assert all(asked.cancelled for asked in upstream.asked)
    assert catalog.notes() == {"a": "no list within 3 s", "b": "no list within 3 s"}


def test_a_new_credential_gets_the_grace_although_other_lists_are_long_known() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("keyed") if asked.origin.host == "k.test" else None)
        catalog = Catalog(upstream, [provider("a"), provider("k", "gemini", "k")], [], Clock(), Timing(limit=5, grace=3))
        assert ids(await catalog.listing(CHAT, [], "")) == ["keyed", "demo"]
        await asyncio.sleep(0.01)
        listing = asyncio.create_task(catalog.listing(CHAT, [(b"authorization", b"Bearer x")], ""))
        await asyncio.sleep(0.01)
        assert not listing.done()
        upstream.asked[-1].answer("mine")
        assert ids(await listing) == ["mine", "keyed", "demo"]

    run(test)


def test_many_at_once_ask_once() -> None:
    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("m"))
        catalog = Catalog(upstream, [provider("a", key="k")], [], Clock())
        lists = await asyncio.gather(*(catalog.listing(CHAT, [], "") for _ in range(50)))
        assert {tuple(ids(body)) for body in lists} == {("m", "demo")}
        assert len(upstream.asked) == 1

    run(test)


def test_one_who_leaves_does_not_end_it_for_the_others() -> None:
    async def test() -> None:
        upstream = Upstream()
        catalog = Catalog(upstream, [provider("a", key="k")], [], Clock(), SECOND)
        leaver = asyncio.create_task(catalog.listing(CHAT, [], ""))
        other = asyncio.create_task(catalog.listing(CHAT, [], ""))
        await turns()
        leaver.cancel()
        upstream.asked[0].answer("m")
        assert ids(await other) == ["m", "demo"]

    run(test)


# What is remembered.


def test_an_old_list_is_answered_at_once_and_refreshed_behind() -> None:
    async def test() -> None:
        upstream = Upstream()
        clock = Clock()
        catalog = Catalog(upstream, [provider("a", key="k")], [], clock)
        first = asyncio.create_task(catalog.listing(CHAT, [], ""))
        await turns()
        upstream.asked[0].answer("old")
        assert ids(await first) == ["old", "demo"]
        clock.now += 59
        await catalog.listing(CHAT, [], "")
        assert len(upstream.asked) == 1
        clock.now += 2
        assert ids(await catalog.listing(CHAT, [], "")) == ["old", "demo"]
        await turns()
        assert ids(await catalog.listing(CHAT, [], "")) == ["old", "demo"]
        assert len(upstream.asked) == 2
        upstream.asked[1].answer("new")
        await turns()
        assert ids(await catalog.listing(CHAT, [], "")) == ["new", "demo"]

    run(test)


@pytest.mark.parametrize("how", ["status", "lost", "html", "too large", "coding", "bad gzip", "garbled", "an error with 200"])
def test_the_last_good_list_stays_and_a_failed_one_is_tried_again_soon(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_fetch, "BODY_LIMIT", 1 << 20)

    def fail(asked: Asked) -> None:
        match how:
            case "status":
                asked.answer(status=401, body=b"{}")
            case "lost":
                asked.lose(LossKind.CONNECT)
            case "html":
                asked.answer(body=b"<html>")
            case "an error with 200":
                asked.answer(body=b'{"detail":"try again"}')
            case "too large":
                asked.answer(body=b'{"data":[' + b" " * (1 << 20) + b"]}")
            case "coding":
                asked.answer("x", headers=[(b"content-encoding", b"br")])
            case "bad gzip":
                asked.answer("x", headers=[(b"content-encoding", b"gzip")])
            case _:
                asked.answer(body=b'{"data":[{"id":"\xc3("}]}')

    def improve(asked: Asked) -> None:
        asked.answer("better")

    async def test() -> None:
        upstream = Upstream(lambda asked: asked.answer("good"))
        clock = Clock()
        catalog = Catalog(upstream, [provider("a", key="k")], [], clock)
        await catalog.listing(CHAT, [], "")
        upstream.on_ask = fail
        clock.now += 61
        await catalog.listing(CHAT, [], "")
        await turns()
        assert ids(await catalog.listing(CHAT, [], "")) == ["good", "demo"]
        assert catalog.notes()["a"]
        assert len(upstream.asked) == 2
        upstream.on_ask = improve
        clock.now += 6
        await catalog.listing(CHAT, [], "")
        await turns()
        assert ids(await catalog.listing(CHAT, [], "")) == ["better", "demo"]
        assert catalog.notes() == {}

    run(test)


def test_a_gzipped_list_is_read() -> None:
    async def test() -> None:
        body = gzip.compress(b'{"data":[{"id":"m"}]}')
        upstream = Upstream(lambda asked: asked.answer(headers=[(b"content-encoding", b"gzip")], body=body))
        assert ids(await Catalog(upstream, [provider("a", key="k")], [], Clock()).listing(CHAT, [], "")) == ["m", "demo"]

    run(test)


def test_close_ends_what_is_under_way_and_whoever_waits() -> None:
    async def test() -> None:
        upstream = Upstream()
        catalog = Catalog(upstream, [provider("a", key="k")], [], Clock(), Timing(limit=5))
        listing = asyncio.create_task(catalog.listing(CHAT, [], ""))
        await turns()
        await catalog.close()
        assert upstream.asked[0].cancelled
        assert ids(await listing) == ["demo"]
        assert ids(await catalog.listing(CHAT, [], "")) == ["demo"]
        assert len(upstream.asked) == 1
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("penstock-models")]

    run(test)


# Over sockets.


def test_a_real_client_over_sockets_and_a_stale_connection_is_replaced() -> None:
    async def test() -> None:
        server = ScriptedServer(
            [whole(b'{"data":[{"id":"one"}]}')], [Do.READ, Do.CLOSE], [whole(b'{"data":[{"id":"two"}]}')],
        )  # fmt: skip
        port = await server.start()
        client = Client(Settings())
        clock = Clock()
        lone = build(ProviderSettings(name="p", kind="openai", base_url=f"http://127.0.0.1:{port}/v1", api_key="k"))
        catalog = Catalog(client, [lone], [], clock, Timing())
        try:
            assert ids(await catalog.listing(CHAT, [], "")) == ["one", "demo"]
            clock.now += 61
            await catalog.listing(CHAT, [], "")
            await server.asked(3)
            while ids(await catalog.listing(CHAT, [], "")) != ["two", "demo"]:  # noqa: ASYNC110 - nobody tells that a list was refreshed
                await asyncio.sleep(0.001)
            assert server.log[0].target == "/v1/models"
            assert server.log[0].header("host") == f"127.0.0.1:{port}"
            assert server.log[0].header("authorization") == "Bearer k"
            # The kept connection was closed unanswered, so the third request came on a new one.
            assert [asked.connection for asked in server.log] == [1, 1, 2]
        finally:
            await catalog.close()
            client.close()
            server.close()

    run(test)
