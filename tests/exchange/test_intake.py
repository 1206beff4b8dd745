"""A request on its way in: who is refused how, what is read, who is asked."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.pipeline.compose import Limits
from penstock.providers import ProviderSettings, build
from penstock.routing import Router
from penstock.vocabulary.ids import ProtocolId
from tests.support.exchanges import Asker, House, routes

CHAT: dict[str, Any] = {"model": "m", "messages": []}
TOKEN = [(b"x-penstock-token", b"secret")]


@contextmanager
def a_house(settings: Settings | None = None, **more: Any) -> Generator[House]:
    made = House(settings, **more)
    yield made
    made.close()


def refused(asker: Asker, status: int) -> Any:
    """The error's object; the row says REFUSED, and nobody was asked."""
    house = asker.house
    assert (asker.reply.status, asker.reply.over) == (status, "ended")
    assert house.asks == []
    row = house.row()
    assert (row.outcome, row.ended_by, row.status) == ("REFUSED", "gateway", status)
    assert row.provider is None or status == 503
    assert asker.reply.header(b"x-penstock-id") == row.id.encode()
    house.check_quiet()
    return asker.reply.json()["error"] if asker.reply.body else None


# Who may enter.


@pytest.mark.parametrize("host", [b"evil.example", b"", b"127.0.0.1.evil.example", b"[::2]:4270"])
def test_a_foreign_host(house: House, host: bytes) -> None:
    refused(house.post("/v1/messages", CHAT, [(b"host", host)]), 403)


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/v1/chat/completions", "openai_chat"), ("/v1/responses", "openai_responses"), ("/v1/messages", "anthropic_messages"),
        ("/anthropic/v1/messages", "anthropic_messages"), ("/v1beta/models/m:generateContent", "gemini"), ("/v1beta/nothing", "gemini"),
    ],
)  # fmt: skip
def test_a_foreign_host_is_told_in_the_shape_of_the_path(house: House, path: str, protocol: str) -> None:
    asker = house.post(path, CHAT, [(b"host", b"evil.example")])
    assert (asker.reply.status, house.row().client_protocol) == (403, protocol)
    told = asker.reply.json()
    assert (told.get("type"), told["error"].get("status")) == (
        "error" if protocol == "anthropic_messages" else None, "PERMISSION_DENIED" if protocol == "gemini" else None)  # fmt: skip


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null"])
def test_a_web_page_of_another_host(house: House, origin: bytes) -> None:
    """It could not read the answer, but have it made: what a browser sends without asking first needs no more than this."""
    browser = [(b"origin", origin), (b"content-type", b"text/plain"), (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")]
    error = refused(house.post("/v1/messages", CHAT, browser), 403)
    assert "Origin" in error["message"]
    assert house.row().cause == "the Origin header names somebody else"


@pytest.mark.parametrize(("origin", "site"), [
    (b"http://localhost:3000", b"cross-site"), (b"https://penstock.lan", b"cross-site"), (b"vscode-webview://abc", b"cross-site"),
    (b"https://evil.example", b"none"), (b"https://a-program.example", None),
])  # fmt: skip
def test_pages_of_our_own_hosts_and_what_is_no_page(origin: bytes, site: bytes | None) -> None:
    with a_house(Settings(hosts=("penstock.lan",))) as house:
        asked_by = [(b"sec-fetch-site", site)] if site is not None else []
        house.post("/v1/chat/completions", CHAT, [(b"host", b"localhost"), (b"origin", origin), *asked_by])
        assert len(house.asks) == 1


@pytest.mark.parametrize("host", [b"127.0.0.1:4270", b"localhost", b"[::1]:4270", b"penstock.lan"])
def test_our_own_hosts(host: bytes) -> None:
    with a_house(Settings(hosts=("penstock.lan",))) as house:
        house.post("/v1/chat/completions", CHAT, [(b"host", host)])
        assert len(house.asks) == 1


def test_a_token_is_asked_for_and_stays_here() -> None:
    with a_house(Settings(token="secret")) as house:
        error = refused(house.post("/v1/chat/completions", CHAT), 401)
        assert "token" in error["message"]
    for headers in (TOKEN, [(b"authorization", b"Bearer secret")], [(b"x-api-key", b"secret")]):
        with a_house(Settings(token="secret")) as house:
            house.post("/v1/chat/completions", CHAT, headers)
            assert b"secret" not in house.last.rest
    with a_house(Settings(token="secret")) as house:
        house.post("/v1beta/models/m:generateContent?key=secret&a=1", {})
        assert house.last.target == b"/v1beta/models/m:generateContent?a=1"


def test_a_401_says_how_to_log_in() -> None:
    with a_house(Settings(token="secret")) as house:
        assert house.post("/v1/messages", CHAT).reply.header(b"www-authenticate") == b"Bearer"


def test_while_draining_everybody_new_is_refused(house: House) -> None:
    house.gateway.draining = True
    asker = house.post("/v1/messages", CHAT)
    assert refused(asker, 503)["type"] == "overloaded_error"
    assert asker.reply.header(b"retry-after") == b"1"


# Paths.


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("PUT", "/v1/chat/completions", 405, b"OPTIONS, POST"),
        ("GET", "/v1/messages", 405, b"OPTIONS, POST"),
        ("GET", "/v1/../admin", 400, None),
    ],
)
def test_unknown_paths_and_methods(house: House, method: str, path: str, status: int, allow: bytes | None) -> None:
    asker = house.get(path, method=method)
    refused(asker, status)
    assert asker.reply.header(b"allow") == allow


@pytest.mark.parametrize(
    ("path", "shape"), [("/v1/x", "openai"), ("/v1/messages/x/y/z", "anthropic"), ("/v1beta/x", "gemini"), ("/v1/responses", "openai")]
)
def test_errors_have_the_shape_of_the_nearest_protocol(house: House, path: str, shape: str) -> None:
    error = refused(house.get(path), 405 if path == "/v1/responses" else 404)
    assert (
        set(error)
        >= {"openai": {"message", "type", "param", "code"}, "anthropic": {"message", "type"}, "gemini": {"message", "code", "status"}}[shape]
    )


def test_options(house: House) -> None:
    asker = house.get("/v1/chat/completions", method="OPTIONS")
    assert (asker.reply.status, asker.reply.header(b"allow"), asker.reply.body) == (204, b"OPTIONS, POST", b"")
    assert not any(name.startswith(b"access-control") for name, _ in asker.reply.headers)
    assert (house.row().outcome, house.row().cause) == ("COMPLETE", "OPTIONS")


@pytest.mark.parametrize("draining", [False, True])
def test_health_has_no_row_and_wants_no_token(draining: bool) -> None:
    with a_house(Settings(token="secret")) as house:
        house.gateway.draining = draining
        asker = house.get("/health")
        assert (asker.reply.status, asker.reply.over) == (503 if draining else 200, "ended")
        assert asker.reply.json() == {"status": "draining" if draining else "ok"}
        assert asker.reply.header(b"retry-after") == (b"1" if draining else None)
        assert house.book.opened == []
        house.run(asker.handler.client_body, b"x")
        house.run(asker.handler.client_end)
        house.run(asker.handler.client_gone)


# A refusal waits for a small body, so that the connection can go on.


@pytest.mark.parametrize(
    ("length", "chunked", "headers", "waits"),
    [(0, False, [], True), (None, False, [], True), (64 * 1024, False, [], True), (64 * 1024 + 1, False, [], False), (None, True, [], False)],
)
def test_a_refusal_waits_for_a_small_body(house: House, length: int | None, chunked: bool, headers: Headers, waits: bool) -> None:
    asker = house.open("POST", "/nowhere", headers, length=length, chunked=chunked)
    assert (asker.reply.over is None) is waits
    asker.body(b"x" * 10)
    assert (asker.reply.over is None) is waits
    asker.end()
    refused(asker, 404)


def test_who_leaves_while_a_refusal_waits_is_gone(house: House) -> None:
    house.open("POST", "/nowhere", length=10).leave()
    assert house.row().outcome == "CLIENT_GONE"


# Bodies that are read whole.


def test_a_body_in_pieces(house: House) -> None:
    data = json.dumps(CHAT).encode()
    asker = house.open("POST", "/v1/chat/completions", length=len(data))
    for i in range(0, len(data), 5):
        assert house.asks == []
        asker.body(data[i : i + 5])
        assert house.gateway.peeked.used == min(i + 5, len(data))
    asker.end()
    assert house.last.sent_body == data
    assert house.gateway.peeked.used == len(data), "it stands for what the exchange keeps until the provider answers"
    house.last.answer_json({"id": "x"})
    assert house.row().bytes_in == len(data)
    house.check_quiet()


def test_a_body_over_the_limit_by_its_own_account() -> None:
    with a_house(Settings(body_bytes=100)) as house:
        asker = house.open("POST", "/v1/chat/completions", length=101)
        assert asker.reply.over == "ended", "nothing of it is waited for"
        asker.end()
        assert "100 bytes" in refused(asker, 413)["message"]


def test_a_body_over_the_limit_that_does_not_say_so() -> None:
    with a_house(Settings(body_bytes=100)) as house:
        asker = house.open("POST", "/v1/messages", chunked=True)
        asker.body(b"x" * 60, b"x" * 40)
        assert asker.reply.over is None
        asker.body(b"x")
        assert refused(asker, 413)["type"] == "request_too_large"


def test_all_bodies_together_have_a_limit() -> None:
    with a_house(peeked=100) as house:
        first = house.open("POST", "/v1/chat/completions", length=90)
        first.body(b"x" * 90)
        second = house.open("POST", "/v1/chat/completions", length=90)
        second.body(b"x" * 90)
        assert (second.reply.status, second.reply.header(b"retry-after")) == (503, b"1")
        first.leave()
        third = house.post("/v1/chat/completions", CHAT)
        assert third.reply.over is None
        assert len(house.asks) == 1


@pytest.mark.parametrize(
    ("body", "words"), [(b"", "JSON"), (b"{", "JSON"), (b"[]", "object"), (b'{"messages":[]}', "model"), (b'{"model":7}', "model")]
)
def test_what_cannot_be_routed_is_refused_in_words(house: House, body: bytes, words: str) -> None:
    assert words in refused(house.post("/v1/chat/completions", body), 400)["message"]


def test_a_stream_flag_that_is_no_boolean_is_the_providers_business(house: House) -> None:
    house.post("/v1/chat/completions", {**CHAT, "stream": "true"})
    assert json.loads(house.last.sent_body) == {**CHAT, "stream": "true"}


# Bodies that are passed on as they come.


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload(house: House, chunked: bool) -> None:
    asker = house.open("POST", "/v1/files", length=None if chunked else 11, chunked=chunked)
    ask = house.last
    assert ask.uploading
    assert ask.fresh is False
    asker.body(b"hello ", b"world")
    assert ask.uploaded == (b"6\r\nhello \r\n5\r\nworld\r\n" if chunked else b"hello world")
    assert not ask.upload_ended
    asker.end()
    assert ask.upload_ended
    assert ask.uploaded.endswith(b"0\r\n\r\n") is chunked
    assert house.gateway.peeked.used == 0
    ask.answer_json({"id": "file-1"})
    assert (house.row().outcome, house.row().bytes_in) == ("COMPLETE", 11)


def test_an_upload_to_nobody(house: House) -> None:
    asker = house.open("POST", "/v1/files", [(b"x-penstock-provider", b"nobody")], length=1 << 30)
    refused(asker, 404)
    asker.body(b"more")


def test_a_slow_provider_pauses_an_upload(house: House) -> None:
    asker = house.open("POST", "/v1/files", length=9)
    house.run(house.last.to.upload_paused)
    assert asker.reply.paused
    house.run(house.last.to.upload_resumed)
    assert not asker.reply.paused


# Below a provider's name.


def test_verbatim(house: House) -> None:
    """Path and query as they are, a body that nobody here understands, and no route looked at."""
    house.gateway.router = House(routes=routes(("*", "anthropic"))).gateway.router
    house.post("/openai/v1/chat/completions?x=%2F", b"not json at all")
    assert (house.last.target, house.last.sent_body) == (b"/v1/chat/completions?x=%2F", b"not json at all")
    house.get("/gemini/v1beta/operations/a%3Ab")
    assert house.last.target == b"/v1beta/operations/a%3Ab"
    assert house.last.header("host") == "generativelanguage.googleapis.com"


def test_a_providers_name_alone_is_its_main_endpoint(house: House) -> None:
    house.post("/openai", CHAT)
    assert house.last.target == b"/v1/chat/completions"
    house.post("/anthropic", CHAT)
    assert house.last.target == b"/v1/messages"


def test_the_logins_of_claude_code(house: House) -> None:
    house.get("/api/oauth/profile", [(b"authorization", b"Bearer sk-ant-oat01-x")])
    assert house.last.target == b"/api/oauth/profile"
    assert house.last.header("authorization") == "Bearer sk-ant-oat01-x"


# Routes.


def test_routes_rename_and_mismatch() -> None:
    with a_house(routes=routes(("fast", "openai", "gpt-4o-mini"), ("claude-*", "anthropic"))) as house:
        house.post("/v1/chat/completions", {"messages": [], "model": "fast"})
        assert house.last.sent_body == b'{"messages": [], "model": "gpt-4o-mini"}'
        asked = len(house.asks)
        asker = house.post("/v1/chat/completions", {"model": "claude-sonnet-4-5"})
        assert asker.reply.status == 400
        assert len(house.asks) == asked, "no provider was asked"
        assert asker.reply.json()["error"]["message"].startswith(
            "model 'claude-sonnet-4-5' is served by provider 'anthropic' (anthropic_messages); this path speaks openai_chat. "
            "Use /v1/messages, or route the model to"
        )
        assert house.book.opened[0].requested_model == "fast"


def test_the_demo(house: House) -> None:
    house.post("/v1/messages", {"model": "demo", "stream": True})
    assert house.last.origin is None
    assert house.book.opened[0].provider == "demo"


@pytest.mark.parametrize("path", ["/demo", "/demo/v1/chat/completions", "/demo/v1/messages"])
def test_the_demo_by_its_own_path(house: House, path: str) -> None:
    """Paths may name the built-in provider as they may name the others."""
    asker = house.post(path, {"model": "demo", "stream": True})
    assert asker.reply.status is None, asker.reply.body
    assert house.last.origin is None


# Without a model.


@pytest.mark.parametrize(("response_id", "provider"), [("resp_known", "second"), ("resp_stored", "second"), ("resp_new", "openai")])
def test_a_response_is_asked_of_who_made_it(response_id: str, provider: str) -> None:
    with a_house() as house:
        house.gateway.router = _with_second(house)
        house.book.known["resp_known"] = house.book.stored["resp_stored"] = "second"
        house.get(f"/v1/responses/{response_id}?include=x")
        assert house.book.opened[0].provider == provider
        assert house.last.target == f"/v1/responses/{response_id}?include=x".encode()


@pytest.mark.parametrize(("id", "provider"), [("known", "second"), ("stored", "second"), ("new", "openai")])
def test_so_is_a_batch_whose_request_has_a_body(id: str, provider: str) -> None:
    """It is sent as it comes, once it is known to whom."""
    with a_house() as house:
        house.gateway.router = _with_second(house)
        house.book.known["known"] = house.book.stored["stored"] = "second"
        asker = house.open("POST", f"/v1/batches/{id}/cancel", chunked=True).body(b"{").body(b"}").end()
        house.loop.settle()
        assert house.book.opened[0].provider == provider
        assert (house.last.uploaded, house.last.upload_ended) == (b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", True)
        asker.leave()


def _with_second(house: House) -> Any:
    second = build(ProviderSettings("second", "openai", "http://127.0.0.1:9/v1"))
    return Router([], [*house.providers.values(), second])


def test_who_leaves_during_a_look_up_is_answered_by_nobody(house: House) -> None:
    asker = house.open("GET", "/v1/responses/resp_1")
    held: list[Any] = []
    house.gateway.spawn = lambda work, name: held.append(work)
    asker.end()
    assert held
    assert house.asks == []
    asker.leave()
    house._spawn(held[0], "later")  # pyright: ignore[reportPrivateUsage]
    house.loop.settle()
    assert house.asks == []
    assert house.row().outcome == "CLIENT_GONE"
    house.check_quiet()


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches", "/v1/responses/resp_x"])
def test_the_client_may_name_the_provider(house: House, path: str) -> None:
    house.get(path, [(b"x-penstock-provider", b"openai")])
    assert house.book.opened[0].provider == "openai"
    assert b"x-penstock" not in house.last.rest
    assert house.get(path, [(b"x-penstock-provider", b"nobody")]).reply.status == 404


# The list of models.


@pytest.mark.parametrize(
    ("path", "headers", "protocol"),
    [
        ("/v1/models", [], ProtocolId.OPENAI_CHAT),
        ("/v1/models", [(b"anthropic-version", b"2023-06-01")], ProtocolId.ANTHROPIC_MESSAGES),
        ("/v1beta/models", [], ProtocolId.GEMINI),
        ("/models", [], ProtocolId.OPENAI_CHAT),
    ],
)
def test_models(house: House, path: str, headers: Headers, protocol: ProtocolId) -> None:
    asker = house.get(path, headers)
    assert asker.reply.json() == {"protocol": protocol}
    assert (asker.reply.status, asker.reply.length) == (200, len(asker.reply.body))
    row = house.row()
    assert (row.outcome, row.operation, row.bytes_out) == ("COMPLETE", "models", len(asker.reply.body))
    assert house.asks == []
    house.check_quiet()


def test_one_model_is_asked_for(house: House) -> None:
    house.get("/v1/models/gpt-4o")
    assert house.last.target == b"/v1/models/gpt-4o"
    asked = len(house.asks)
    assert house.get("/v1/models/demo").reply.json() == {"id": "demo"}
    assert len(house.asks) == asked, "nobody else knows of it"


def test_a_list_that_fails_is_our_mistake_and_is_told(house: House) -> None:
    house.catalog.fails = True
    asker = house.get("/v1/models")
    assert (asker.reply.status, asker.reply.over) == (500, "ended")
    assert (house.row().outcome, house.row().ended_by) == ("REFUSED", "gateway")
    assert house.told == [house.row()], "and the log is told of it like of every other"
    house.check_quiet()


# The ledger.


def test_a_full_ledger_asks_nobody(house: House) -> None:
    house.book.full = True
    for asker in (
        house.chat(),
        house.get("/nowhere"),
        house.get("/v1/models"),
        house.get("/v1/x", method="OPTIONS"),
        house.open("POST", "/v1/files", length=3),
    ):
        assert asker.reply.status == 503
    assert house.asks == []
    assert house.book.opened == []
    house.check_quiet()


def test_the_row_says_who_asked_for_what(house: House) -> None:
    house.chat()
    house.post("/v1/chat/completions", CHAT, [(b"User-Agent", b"test/1"), (b"Authorization", b"Bearer sk-theirs")])
    row = house.book.opened[1]
    assert (row.method, row.path, row.user_agent, row.client_protocol, row.upstream_protocol) == (
        "POST",
        "/v1/chat/completions",
        "test/1",
        "openai_chat",
        "openai_chat",
    )
    assert (row.operation, row.requested_model, row.provider, row.instance) == ("chat", "m", "openai", "i1")
    assert row.key_fingerprint
    assert "theirs" not in repr([getattr(row, name) for name in ("key_fingerprint", "path", "user_agent")])
    assert house.book.opened[0].key_fingerprint is None
    assert row.id != house.book.opened[0].id


# The listener's own refusals.


def test_a_request_whose_body_breaks_its_framing(house: House) -> None:
    asker = house.open("POST", "/v1/chat/completions", chunked=True)
    asker.body(b"x" * 10)
    asker.stumble(400, "a chunk has no size")
    assert (house.row().outcome, house.row().cause, house.row().status) == ("REFUSED", "a chunk has no size", 400)
    assert asker.reply.status is None, "the listener says it"
    assert asker.said is not None
    assert json.loads(asker.said[1])["error"]["message"] == "a chunk has no size"
    assert dict(asker.said[0])[b"x-penstock-id"] == house.row().id.encode()
    house.check_quiet()


@pytest.mark.parametrize(
    ("path", "key"), [("/v1/messages", "type"), ("/v1beta/models/m:generateContent", "code"), ("", "param"), ("/nowhere", "param")]
)
def test_a_head_that_is_refused_has_a_row_and_a_shape(house: House, path: str, key: str) -> None:
    headers, body = house.front.refuse(path, 431, "The head is too long.")
    error = json.loads(body)["error"]
    assert error["message"] == "The head is too long."
    assert key in error
    row = house.row()
    assert (row.outcome, row.status, row.cause) == ("REFUSED", 431, "The head is too long.")
    assert dict(headers)[b"x-penstock-id"] == row.id.encode()


@pytest.mark.parametrize(("path", "allow"), [
    ("/v1/messages", b"OPTIONS, POST"), ("/v1/models", b"GET, HEAD, OPTIONS"), ("/openai", b"OPTIONS, POST"), ("/health", b"GET, HEAD, OPTIONS"),
    ("/nowhere", None), ("/openai/v1/anything", None), ("", None),
])  # fmt: skip
def test_a_method_that_nobody_knows_is_told_which_are_taken(house: House, path: str, allow: bytes | None) -> None:
    headers, _ = house.front.refuse(path, 405, "This method is not known here.")
    assert dict(headers).get(b"allow") == allow
    assert house.row().status == 405


def test_limits_are_those_of_the_settings() -> None:
    with a_house(Settings(limits=Limits(frame=10))) as house:
        asker = house.chat()
        house.last.answer().body(b"data: a long frame, longer than ten bytes\n\n").end()
        assert asker.reply.body == b"data: a long frame, longer than ten bytes\n\n"
        assert house.row().outcome == "UNVERIFIED"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1beta/models/m:generateContent"])
def test_a_compressed_request_is_refused_where_it_is_read(house: House, path: str) -> None:
    asker = house.post(path, b"\x28\xb5\x2f\xfd", [(b"Content-Encoding", b"zstd")])
    assert (asker.reply.status, asker.reply.header(b"accept-encoding")) == (415, b"identity")
    assert "Content-Encoding" in asker.reply.json()["error"]["message"]
    assert house.row().outcome == "REFUSED"
    assert not house.asks
    house.check_quiet()


def test_a_compressed_request_below_a_providers_name_is_the_providers_affair(house: House) -> None:
    house.post("/openai/v1/chat/completions", b"\x28\xb5\x2f\xfd", [(b"Content-Encoding", b"zstd")])
    assert house.last.sent_body == b"\x28\xb5\x2f\xfd"
    assert house.last.header("content-encoding") == "zstd"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("POST", 405), ("DELETE", 405)])
def test_health(house: House, method: str, status: int) -> None:
    asker = house.open(method, "/health")
    assert asker.reply.status == status
    assert asker.reply.over == "ended"
    if status != 200:
        assert asker.reply.header(b"allow") == b"GET, HEAD, OPTIONS"
    assert not house.book.opened, "no row"


@pytest.mark.parametrize("path", [
    "/openai/v1/sk-proj-abcdefgh123", "/openai/v1/tools;key=sk-proj-abcdefgh123", "/v1/files/sk-proj-abcdefgh123", "/v1/nothing/sk-proj-abcdefgh123",
    "/v1/responses/sk-proj-abcdefgh123", "/sk-proj-abcdefgh123/gemini:generateContent", "/v1beta/models/sk-proj-abcdefgh123:streamGenerateContent",
    "/v1beta/models/gemini/AIzaSyA-abcdefgh123:generateContent", "/v1beta/models/gemini-AIzaSyA-abcdefgh123:generateContent",
])  # fmt: skip
def test_a_key_in_a_path_stays_out_of_the_row_also_of_a_head_that_is_known(path: str) -> None:
    with a_house() as house:
        for _ in range(2):
            house.post(path, {}) if path.endswith("Content") else house.get(path)
    assert [row.path for row in house.book.opened if row.path and "abcdefgh123" in row.path] == []
    assert len(house.book.opened) == 2
