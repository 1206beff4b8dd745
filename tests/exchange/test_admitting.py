"""Who may enter and how much, in every protocol: refusals before anything is asked, charges at the end, cuts on the way."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from penstock.admission.budget.spec import Budget, make_budget
from penstock.admission.issuers import KeySet, read_keys
from penstock.admission.limits.spec import Limit, make_limit
from penstock.admission.rules import All, Effect, Rule, make_test
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.attribution.bodies import clear
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Settings
from penstock.ledger.entry import Maker
from penstock.protocols import REGISTRY
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, sse
from tests.support.admitted import KEY, NOW, Admitted, key
from tests.support.exchanges import CHUNK, DONE, REQUESTS, SSE, STOP, USAGE, Asker, FakeReply, House, routes, told_whole
from tests.support.tokens import claims, issuer, jwk, jwks, sign

PROTOCOL = pytest.mark.parametrize("protocol", list(REGISTRY), ids=lambda p: p.value)
TALK = pytest.mark.parametrize("talk", DIALECTS, ids=lambda d: d.protocol.value)
BEARER: Headers = [(b"authorization", b"Bearer " + KEY.encode())]
PLACE: dict[ProtocolId, Headers] = {
    ProtocolId.OPENAI_CHAT: BEARER, ProtocolId.OPENAI_RESPONSES: BEARER, ProtocolId.ANTHROPIC_MESSAGES: [(b"x-api-key", KEY.encode())],
    ProtocolId.GEMINI: [(b"x-goog-api-key", KEY.encode())],
}  # fmt: skip
"""Where each maker's client puts its key."""
KEYS = {KEY: key(owner="ada", project="p")}


def ask(house: House, protocol: ProtocolId, headers: Headers | None = None, **more: Any) -> Asker:
    path, body = REQUESTS[protocol]
    stream = {} if protocol is ProtocolId.GEMINI else {"stream": True}
    return house.post(path, {**body, **stream, **more}, headers)


def refused(asker: Asker, status: int, cause: str, by: str | None = None, rule: str | None = None) -> FakeReply:
    """In the protocol's shape, with a row that says why, and nobody was asked."""
    house, reply = asker.house, asker.reply
    row = house.book.settled[-1]
    assert (reply.status, reply.over) == (status, "ended")
    assert (row.outcome, row.ended_by, row.status) == ("REFUSED", "gateway", status)
    assert cause in (row.cause or ""), row.cause
    assert cause not in reply.body.decode(), "the client is not told"
    assert row.provider is None or row.upstream_status is None
    assert row.charged_input is None
    if by is not None:
        assert (row.refused_by, row.rule) == (by, rule)
    return reply


def limited(*limits: Limit, **more: Any) -> AdmissionSettings:
    return AdmissionSettings(limits=limits, **more)


def budgeted(*budgets: Budget, **more: Any) -> AdmissionSettings:
    return AdmissionSettings(budgets=budgets, **more)


# Who.


@PROTOCOL
def test_without_a_key_nobody_enters(protocol: ProtocolId) -> None:
    with Admitted(keys=KEYS) as a:
        reply = refused(ask(a.house, protocol), 401, "no key and no token was shown", "mode", "strict")
        told_whole(protocol, reply)
        assert reply.header(b"www-authenticate") == b'Bearer realm="penstock"'
        refused(ask(a.house, protocol, [(b"authorization", b"Bearer sk-pst-wrong")]), 401, "the key is not known", "key", "strict")
        assert a.house.asks == []
        a.check()


@PROTOCOL
def test_a_key_lets_in_and_stays_here(protocol: ProtocolId) -> None:
    with Admitted(keys=KEYS) as a:
        ask(a.house, protocol, PLACE[protocol]).leave()
        assert KEY.encode() not in a.house.last.rest + a.house.last.target
        row = a.house.row()
        assert (row.key_id, row.user_id, row.project, row.key_fingerprint) == ("key_1", "ada", "p", "f" * 12)
        a.check()


def test_the_client_s_own_login_passes_beside_it() -> None:
    with Admitted(keys=KEYS) as a:
        login: Headers = [(b"authorization", b"Bearer sk-ant-oat01-mine"), (b"x-penstock-key", KEY.encode())]
        ask(a.house, ProtocolId.ANTHROPIC_MESSAGES, login).leave()
        assert a.house.last.header("authorization") == "Bearer sk-ant-oat01-mine"
        assert a.house.last.header("x-penstock-key") is None


def test_the_one_token_of_the_gateway_is_still_good() -> None:
    with Admitted(keys=KEYS, settings=None, house=House(Settings(token="secret"))) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, [(b"x-penstock-token", b"secret")]).leave()
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER).leave()
        assert len(a.house.asks) == 2
        refused(ask(a.house, ProtocolId.OPENAI_CHAT), 401, "no key")


def test_revoked_while_the_same_head_comes_again() -> None:
    """Heads are remembered; what was found out of them is not for ever."""
    with Admitted(keys=KEYS) as a:
        from penstock.exchange.contract import ClientRequest, HeadMemo

        memo, headers = HeadMemo(), [(b"host", b"127.0.0.1"), *BEARER]
        statuses: list[int | None] = []
        body = json.dumps({"model": "m"}).encode()

        def again() -> None:
            request = ClientRequest("POST", "/v1/chat/completions", "", headers, len(body), False, True, memo)
            reply = FakeReply()
            asker = Asker(a.house, reply, a.house.inside(lambda: a.house.front.open(request, reply)))
            asker.body(body).end()
            statuses.append(reply.status)
            asker.leave()

        from tests.support.admitted import ring_of

        again()
        plan = memo.plan
        again()
        assert memo.plan is plan, "looked at once"
        a.door.replace_ring(ring_of({KEY: key(revoked_at=NOW - 1)}))
        again()
        a.door.replace_ring(ring_of(KEYS))
        again()
        assert statuses == [None, None, 401, None]


def test_expires_while_the_same_head_comes_again() -> None:
    with Admitted(keys={KEY: key(expires_at=NOW + 5)}) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER).leave()
        a.house.loop.wait(6.0)
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER), 401, "has expired", "key", "key_1")


@pytest.mark.parametrize(("mode", "headers", "status"), [
    (Mode.STRICT, [], 401), (Mode.OPTIONAL, [], None), (Mode.OPTIONAL, [(b"authorization", b"Bearer sk-pst-x")], 401),
    (Mode.OPTIONAL, [(b"authorization", b"Bearer sk-own")], None), (Mode.PERMISSIVE, [(b"authorization", b"Bearer sk-pst-x")], None),
])  # fmt: skip
def test_modes(mode: Mode, headers: Headers, status: int | None) -> None:
    with Admitted(AdmissionSettings(mode=mode), KEYS, openai={"api_key": None}) as a:
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, headers)
        assert asker.reply.status == status
        if status is None:
            own = headers[0][1].decode() if headers and b"pst" not in headers[0][1] else None
            assert a.house.last.header("authorization") == own, "the client's own passes, ours does not"
            asker.leave()
        a.check()


def test_a_laxer_route() -> None:
    with Admitted(AdmissionSettings(route_modes=(Mode.PERMISSIVE, None)), KEYS, routes=routes(("free", "openai"), ("paid", "openai"))) as a:
        assert a.house.chat(model="free").reply.status is None
        refused(a.house.chat(model="paid"), 401, "no key")
        refused(a.house.get("/v1/models"), 401, "no key")
        assert len(a.house.asks) == 1
        a.house.asks[0].lose()


def test_a_stricter_route() -> None:
    settings = AdmissionSettings(mode=Mode.OPTIONAL, route_modes=(Mode.STRICT, None))
    with Admitted(settings, KEYS, routes=routes(("paid", "openai"), ("free", "openai"))) as a:
        refused(a.house.chat(model="paid"), 401, "no key")
        assert a.house.chat(model="free").reply.status is None
        assert a.house.post("/v1/chat/completions", {"model": "paid", "messages": []}, BEARER).reply.status is None
        for one in a.house.asks:
            one.lose()


# An answer that was made before.

OTHER = "sk-pst-other"
STORED = [
    ("GET", "/v1/responses/resp_1"), ("GET", "/v1/responses/resp_1?stream=true"), ("DELETE", "/v1/responses/resp_1"),
    ("HEAD", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"), ("GET", "/v1/responses/resp_1/input_items"), ("GET", "/responses/resp_1"),
    ("GET", "/openai/v1/responses/resp_1"), ("GET", "/v1/responses//resp_1"), ("GET", "/v1/responses/resp%5F1"), ("GET", "/v1/responses/resp_1/"),
]  # fmt: skip


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("method", "path"), STORED)
def test_a_response_of_another_key_is_not_there(method: str, path: str, stored: bool) -> None:
    with Admitted(keys={KEY: key(owner="ada"), OTHER: key("key_2")}) as a:
        made = a.house.book.stored if stored else a.house.book.known
        made["resp_1"] = Maker("openai", "key_1", "ada")
        shown: Headers = [(b"authorization", b"Bearer " + OTHER.encode())]
        asker = a.house.open(method, path, shown).end()
        a.house.loop.settle()
        reply = refused(asker, 404, "another key or user", "key", "key_2")
        if method != "HEAD":
            assert "resp_1" in told_whole(ProtocolId.OPENAI_RESPONSES, reply)["message"]
        assert a.house.asks == []
        a.house.open(method, path, BEARER).end()
        a.house.loop.settle()
        assert len(a.house.asks) == 1, "its own key has it"
        a.house.last.lose()
        a.check()


@pytest.mark.parametrize(("shown", "maker", "there"), [
    (KEY, Maker("openai", "key_2", "ada"), True), (KEY, Maker("openai", "key_2", None), False), (KEY, Maker("openai", None, None), True),
    (KEY, Maker("openai", None, "bob"), False), (KEY, None, True), ("token", Maker("openai", None, "ada"), True),
    ("token", Maker("openai", None, "bob"), False), ("token", Maker("openai", "key_2", "bob"), False),
    ("token", Maker("openai", "key_2", "ada"), True),
    ("", Maker("openai", "key_2", None), False), ("", Maker("openai", None, "bob"), True),
])  # fmt: skip
def test_whose_a_response_is(shown: str, maker: Maker | None, there: bool) -> None:
    good = read_keys(jwks(jwk("RSA", "k1")), issuer())
    settings = AdmissionSettings(issuers=(issuer(),), mode=Mode.OPTIONAL)
    with Admitted(settings, keys={KEY: key(owner="ada")}, issuers={issuer().issuer: good}) as a:
        if maker is not None:
            a.house.book.known["resp_1"] = maker
        said = sign(claims()) if shown == "token" else shown.encode()
        asker = a.house.open("GET", "/v1/responses/resp_1", [(b"authorization", b"Bearer " + said)] if shown else []).end()
        a.house.loop.settle()
        assert (asker.reply.status == 404, len(a.house.asks)) == (not there, int(there))
        if there:
            a.house.last.lose()
        a.check()


def test_a_long_name_is_known_again_as_rows_have_it() -> None:
    good = read_keys(jwks(jwk("RSA", "k1")), issuer())
    settings = AdmissionSettings(issuers=(issuer(),), mode=Mode.OPTIONAL)
    for name, there in (("spiffe://" + "a" * 120, True), ("spiffe://b" + "a" * 119, False)):
        with Admitted(settings, issuers={issuer().issuer: good}) as a:
            a.house.book.known["resp_1"] = Maker("openai", None, clear("spiffe://" + "a" * 120))
            asker = a.house.open("GET", "/v1/responses/resp_1", [(b"authorization", b"Bearer " + sign(claims(sub=name)))]).end()
            a.house.loop.settle()
            assert (asker.reply.status == 404, len(a.house.asks)) == (not there, int(there))
            if there:
                a.house.last.lose()
            a.check()


def test_without_issuers_a_user_is_what_somebody_said() -> None:
    with Admitted(keys=KEYS) as a:
        a.house.book.known["resp_1"] = Maker("openai", None, "bob")
        a.house.open("GET", "/v1/responses/resp_1", BEARER).end()
        a.house.loop.settle()
        assert len(a.house.asks) == 1
        a.house.last.lose()
        a.check()


def test_whose_it_is_is_known_while_it_is_made() -> None:
    with Admitted(keys={**KEYS, OTHER: key("key_2")}) as a:
        asker = ask(a.house, ProtocolId.OPENAI_RESPONSES, BEARER)
        a.house.last.answer(200, SSE).body(sse({"type": "response.created", "response": {"id": "resp_1"}}, "response.created"))
        late = a.house.open("GET", "/v1/responses/resp_1", [(b"authorization", b"Bearer " + OTHER.encode())]).end()
        a.house.loop.settle()
        refused(late, 404, "another key or user")
        asker.leave()
        a.check()


# Tokens whose key is not known yet.


@pytest.mark.parametrize(("rotated", "status"), [(True, None), (False, 401)])
def test_an_unknown_kid_waits_for_the_issuer(rotated: bool, status: int | None) -> None:
    with Admitted(AdmissionSettings(issuers=(issuer(),)), issuers={issuer().issuer: KeySet()}) as a:
        a.new_keys = read_keys(jwks(jwk("RSA", "k1")), issuer()) if rotated else None
        token = sign(claims())
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, [(b"authorization", b"Bearer " + token)])
        a.house.loop.settle()
        assert asker.reply.status == status
        assert a.refreshed == [issuer()]
        if rotated:
            assert token not in a.house.last.rest
            asker.leave()
            assert a.house.row().user_id == "ada"
        a.check()


def test_who_leaves_while_the_issuer_is_asked() -> None:
    with Admitted(AdmissionSettings(issuers=(issuer(),)), issuers={}) as a:
        a.new_keys, a.takes = read_keys(jwks(jwk("RSA", "k1")), issuer()), 1.0
        asker = a.house.open("POST", "/v1/files", [(b"authorization", b"Bearer " + sign(claims()))], chunked=True)
        asker.leave()
        a.house.loop.wait(2.0)
        assert a.house.row().outcome == "CLIENT_GONE"
        assert a.house.asks == []
        a.check()


def test_an_upload_that_waits_for_the_issuer_is_whole() -> None:
    with Admitted(AdmissionSettings(issuers=(issuer(),)), issuers={}) as a:
        a.new_keys = read_keys(jwks(jwk("RSA", "k1")), issuer())
        from penstock.exchange.contract import ClientRequest

        headers: Headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + sign(claims()))]
        request, reply = ClientRequest("POST", "/v1/files", "", headers, 6, False, True), FakeReply()

        def at_once() -> Any:
            handler = a.house.front.open(request, reply)
            handler.client_body(b"abc")
            handler.client_body(b"def")
            handler.client_end()
            return handler

        asker = Asker(a.house, reply, a.house.inside(at_once))
        assert reply.paused
        a.house.loop.settle()
        assert (a.house.last.uploaded, a.house.last.upload_ended, reply.paused) == (b"abcdef", True, False)
        asker.leave()
        a.check()


# Whether.


def a_rule(effect: str, **fields: str) -> Rule:
    return Rule("house-rule", Effect(effect), All(tuple(make_test(name.replace("_", "."), [value]) for name, value in fields.items())))


@PROTOCOL
@pytest.mark.parametrize("rule", [a_rule("deny", model="m"), a_rule("require", user="bob"), a_rule("require", address="10.0.0.0/8")])
def test_rules_refuse_in_every_protocol(protocol: ProtocolId, rule: Rule) -> None:
    with Admitted(AdmissionSettings(rules=(rule,)), KEYS) as a:
        reply = refused(ask(a.house, protocol, PLACE[protocol]), 403, "'house-rule'", "rule", "house-rule")
        told_whole(protocol, reply)
        assert a.house.asks == []
        a.check()


def test_an_allow_rule_that_allows_nothing_else() -> None:
    with Admitted(AdmissionSettings(rules=(a_rule("allow", user="ada", route="m*"),)), KEYS, routes=routes(("m*", "openai"))) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER).leave()
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, model="x"), 403, "no allow rule", "rule", "house-rule")


@PROTOCOL
def test_what_a_key_may_use(protocol: ProtocolId) -> None:
    scopes: list[tuple[dict[str, Any], int | None]] = [
        ({"models": ("m",)}, None), ({"models": ("n*",)}, 403), ({"protocols": (protocol.value,)}, None), ({"protocols": ("x",)}, 403)]
    for scope, status in scopes:
        with Admitted(keys={KEY: key(**scope)}) as a:
            asker = ask(a.house, protocol, PLACE[protocol])
            assert asker.reply.status == status
            if status is not None:
                refused(asker, 403, "key key_1 does not allow", "key", "key_1")
            asker.leave()


def test_a_key_with_models_gets_no_way_around_them() -> None:
    with Admitted(keys={KEY: key(models=("m",))}) as a:
        refused(a.house.post("/openai/v1/chat/completions", {"model": "other", "messages": []}, BEARER), 403, "model")
        refused(a.house.post("/openai/v1/whatever", {"model": "m"}, BEARER), 403, "model")
        refused(a.house.post("/v1/batches", {"input_file_id": "x"}, BEARER), 403, "model")
        a.house.get("/v1/models", BEARER)
        a.house.loop.settle()
        assert a.house.book.settled[-1].outcome == "COMPLETE", "it may see the list"


# How much: limits.

RPM = make_limit("requests", 2, "minute", ("key",))


@PROTOCOL
def test_the_limit_is_told_and_held(protocol: ProtocolId) -> None:
    with Admitted(limited(RPM), KEYS) as a:
        theirs: Headers = [*SSE, (b"x-ratelimit-limit-requests", b"99"), (b"anthropic-ratelimit-requests-limit", b"99")]
        prefix = "anthropic-ratelimit-requests-{}" if protocol is ProtocolId.ANTHROPIC_MESSAGES else "x-ratelimit-{}-requests"
        talk = next(d for d in DIALECTS if d.protocol is protocol)
        for left in (b"1", b"0"):
            asker = ask(a.house, protocol, PLACE[protocol])
            a.house.last.answer(200, theirs).body(talk.head() + talk.text())
            assert asker.reply.header(prefix.format("limit").encode()) == b"2", asker.reply.headers
            assert asker.reply.header(prefix.format("remaining").encode()) == left
            assert b"99" not in [value for _, value in asker.reply.headers], "the provider's are of the house's own account"
            asker.leave()
        reply = refused(ask(a.house, protocol, PLACE[protocol]), 429, "limit 'requests per minute by key'", "limit", RPM.name)
        told_whole(protocol, reply)
        assert 50 <= int(reply.header(b"retry-after") or 0) <= 62
        assert reply.header(prefix.format("remaining").encode()) == b"0"
        a.house.loop.now += 65
        ask(a.house, protocol, PLACE[protocol]).leave()
        assert len(a.house.asks) == 3
        a.check()


def test_what_is_refused_does_not_count() -> None:
    with Admitted(limited(make_limit("requests", 1, "minute")), KEYS, limits={"gateway": 0}) as a:
        for _ in range(3):
            assert ask(a.house, ProtocolId.OPENAI_CHAT, BEARER).reply.status == 503, "max_streams, not the limit"
        a.house.book.full = True
        a.check()
        assert a.limits.spent(a.door.settings.limits[0], (), a.house.loop.now) == 0


def test_open_streams_of_a_key() -> None:
    with Admitted(keys={KEY: key(limits=(make_limit("streams", 1, "", ("key",)),))}) as a:
        first = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER), 429, "limit 'streams by key'")
        first.leave()
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER).leave()
        assert len(a.house.asks) == 2
        a.check()


TPM = make_limit("tokens", 10_000, "minute")


def charged(a: Admitted) -> tuple[int | None, int | None, int]:
    row = a.house.book.settled[-1]
    return row.charged_input, row.charged_output, a.limits.spent(TPM, (), a.house.loop.now)


def test_a_stream_is_charged_what_its_provider_says() -> None:
    with Admitted(limited(TPM), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK + STOP + USAGE + DONE).end()
        assert charged(a) == (3, 2, 5)
        a.check()


def test_who_leaves_early_is_charged_what_was_made() -> None:
    with Admitted(limited(TPM), KEYS) as a:
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK * 40)
        size = asker.handler.exchange.entry.bytes_in
        asker.leave()
        assert charged(a) == (-(-size // 4), 40, -(-size // 4) + 40)
        row = a.house.row()
        assert (row.input_tokens, row.output_tokens, row.usage_source) == (None, None, "none"), "what the provider said is told as it was"
        a.check()


@pytest.mark.parametrize("what", ["status", "lost", "first error"])
def test_errors_cost_nothing(what: str) -> None:
    with Admitted(limited(TPM), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        one = a.house.last
        if what == "status":
            one.answer_json({"error": {"message": "m"}}, 500)
        elif what == "lost":
            one.lose()
        else:
            one.answer().body(sse({"error": {"message": "m", "code": 429}}))
        assert charged(a) == (0, 0, 0)
        a.check()


def test_a_debt_is_carried() -> None:
    with Admitted(limited(make_limit("output_tokens", 10, "minute")), KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=5)
        usage: dict[str, Any] = {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 35}}
        a.house.last.answer().body(CHUNK + STOP + sse(usage) + DONE).end()
        a.house.loop.now += 120
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=5), 429, "output_tokens")
        a.house.loop.now += 130
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=5).leave()
        a.check()


def test_counting_tokens_is_charged_none() -> None:
    with Admitted(limited(TPM), KEYS) as a:
        a.house.post("/v1/messages/count_tokens", {"model": "m", "messages": []}, PLACE[ProtocolId.ANTHROPIC_MESSAGES])
        a.house.last.answer_json({"input_tokens": 5000})
        assert charged(a) == (0, 0, 0)
        a.check()


# How much: budgets.


def a_budget(action: str = "block", amount: int = 100, per: str = "day", **more: Any) -> Budget:
    return make_budget("tokens", str(amount), per, action, ("key",), "purse", **more)


@PROTOCOL
def test_a_budget_that_is_spent_blocks(protocol: ProtocolId) -> None:
    with Admitted(budgeted(a_budget()), KEYS) as a:
        ask(a.house, protocol, PLACE[protocol])
        talk = next(d for d in DIALECTS if d.protocol is protocol)
        a.house.last.answer().body(talk.head() + talk.text() * 200).lose()
        assert a.keeper.total >= 100
        reply = refused(ask(a.house, protocol, PLACE[protocol]), 429, "budget 'purse'", "budget", "purse")
        told_whole(protocol, reply)
        assert 0 < int(reply.header(b"retry-after") or 0) <= 86_400
        assert reply.header(b"x-should-retry") == b"false"
        a.house.loop.now += 86_400
        ask(a.house, protocol, PLACE[protocol]).leave()
        a.check()


def test_the_answer_is_waited_for() -> None:
    with Admitted(budgeted(a_budget()), KEYS) as a:
        a.keeper.at_once = False
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        assert (a.house.asks, asker.reply.status) == ([], None)
        a.keeper.answer_all()
        assert len(a.house.asks) == 1
        asker.leave()
        a.check()


@pytest.mark.parametrize("what", ["leave", "shut down"])
def test_who_is_gone_before_the_answer_holds_nothing(what: str) -> None:
    with Admitted(budgeted(a_budget()), KEYS) as a:
        a.keeper.at_once = False
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        asker.leave() if what == "leave" else a.house.run(a.house.gateway.shut_down)
        a.keeper.answer_all()
        assert a.house.asks == []
        assert a.keeper.total == 0
        a.house.row()
        a.check()


@pytest.mark.parametrize(("action", "status"), [("block", 503), ("cut", 503), ("warn", None), ("audit", None)])
def test_budgets_that_cannot_be_read(action: str, status: int | None) -> None:
    with Admitted(budgeted(a_budget(action)), KEYS) as a:
        a.keeper.fails = True
        asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        assert asker.reply.status == status
        if status is None:
            a.house.last.answer().body(CHUNK + STOP + USAGE + DONE).end()
            assert a.keeper.total == 5, "it is booked all the same"
        else:
            refused(asker, 503, "the database does not answer", "budget", "purse")
        a.check()


@pytest.mark.parametrize("action", ["audit", "warn", "block", "cut"])
def test_what_is_told_of_budgets(action: str, caplog: pytest.LogCaptureFixture) -> None:
    with Admitted(budgeted(a_budget(action, 7)), KEYS) as a:
        for spent in (0, 5, 10):
            asker = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=2)
            if action in ("block", "cut") and spent == 10:
                assert asker.reply.status == 429
                return
            a.house.last.answer().body(CHUNK + STOP + USAGE + DONE).end()
            told = f'"purse"; spent={spent}; left={max(0, 7 - spent)}; action={action}'
            assert asker.reply.header(b"x-penstock-budget") == told.encode()
        assert [record.getMessage() for record in caplog.records if "budget" in record.name] == (
            ["budget 'purse' is spent (day 2027-01-15, key key_1)"] if action == "warn" else [])
        a.check()


def test_money() -> None:
    settings = budgeted(make_budget("money", "0.01", "month", "block", ("user",), "purse"))
    with Admitted(settings, KEYS, price=2000) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER, max_tokens=1)
        a.house.last.answer().body(CHUNK + STOP + USAGE + DONE).end()
        assert (a.house.row().charged_micros, a.keeper.total) == (10_000, 10_000)
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER), 429, "purse")
    with Admitted(settings, KEYS) as a:
        ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK + STOP + USAGE + DONE).end()
        assert (a.house.row().charged_micros, a.keeper.total) == (None, 0), "what has no price costs nothing"


def test_uploads_wait_too() -> None:
    with Admitted(budgeted(a_budget()), KEYS) as a:
        a.keeper.at_once = False
        asker = a.house.open("POST", "/v1/audio/transcriptions", BEARER, length=6)
        asker.body(b"abc", b"def").end()
        assert a.house.asks == []
        a.keeper.answer_all()
        assert (a.house.last.uploaded, a.house.last.upload_ended) == (b"abcdef", True)
        asker.leave()
        a.check()


# Cuts.


@PROTOCOL
def test_a_token_that_is_nested_too_deeply_is_one_that_is_not_good(protocol: ProtocolId) -> None:
    deep = urlsafe_b64encode(b'{"iss":"' + issuer().issuer.encode() + b'","x":' + b"[" * 5000 + b"]" * 5000 + b"}").rstrip(b"=")
    with Admitted(AdmissionSettings(issuers=(issuer(),)), issuers={issuer().issuer: read_keys(jwks(jwk("RSA", "k1")), issuer())}) as a:
        asker = ask(a.house, protocol, [(b"authorization", b"Bearer eyJhbGciOiJSUzI1NiJ9." + deep + b".x")])
        read = "signature" in str(a.house.book.settled[-1].cause)  # by newer Pythons, which nest more deeply
        refused(asker, 401, "its signature is not good" if read else "no key and no token")
        a.check()


def test_what_makes_no_output_sets_none_aside() -> None:
    """Else a handful of embeddings at a time would have a budget of thousands set aside, for tokens that never come."""
    limits = (make_limit("output_tokens", 600, "minute"), make_limit("tokens", 600, "minute"))
    with Admitted(AdmissionSettings(limits=limits, budgets=(a_budget(amount=600),)), KEYS) as a:
        askers = [a.house.post("/v1/embeddings", {"model": "m", "input": "some words"}, BEARER) for _ in range(5)]
        assert [asker.reply.status for asker in askers] == [None] * 5
        assert a.keeper.set_aside < 100
        for one in list(a.house.asks):
            one.answer_json({"object": "list", "model": "m", "data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        assert a.keeper.total == 15
        a.check()
