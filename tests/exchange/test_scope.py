"""Lists of models hold what their caller may use, and nothing else; what may not be used is not there."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.admission.issuers import read_keys
from penstock.admission.limits.spec import make_limit
from penstock.admission.rules import All, Effect, Rule, make_test
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.exchange.contract import Headers
from penstock.exchange.scope import model_named
from penstock.vocabulary.ids import ProtocolId
from tests.support.admitted import KEY, Admitted, key
from tests.support.exchanges import FakeReply, House, routes, told_whole
from tests.support.tokens import claims, issuer, jwk, jwks, sign

BEARER: Headers = [(b"authorization", b"Bearer " + KEY.encode())]
ALL = (("m", "openai"), ("m-large", "openai"), ("claude-x", "anthropic"), ("gemini-x", "gemini"), ("demo", "penstock"))
NAMES = [name for name, _ in ALL]
SHAPES = pytest.mark.parametrize(("path", "headers"), [
    ("/v1/models", BEARER), ("/v1/models", [*BEARER, (b"anthropic-version", b"2023-06-01")]), ("/v1beta/models", [(b"x-goog-api-key", KEY.encode())]),
])  # fmt: skip


def listed(house: House, path: str = "/v1/models", headers: Headers = BEARER) -> list[str]:
    house.catalog.names = ALL
    asker = house.get(path, headers)
    house.loop.settle()
    assert asker.reply.status == 200, asker.reply.body
    return asker.reply.json()["names"]


def a_rule(effect: str, **fields: str) -> Rule:
    return Rule("house-rule", Effect(effect), All(tuple(make_test(name.replace("_", "."), [value]) for name, value in fields.items())))


@SHAPES
@pytest.mark.parametrize(("scope", "names"), [
    ({}, NAMES), ({"models": ("m*",)}, ["m", "m-large"]), ({"models": ("claude-x", "demo")}, ["claude-x", "demo"]), ({"models": ("none",)}, []),
])
def test_what_a_key_names(path: str, headers: Headers, scope: dict[str, Any], names: list[str]) -> None:
    with Admitted(keys={KEY: key(**scope)}) as a:
        assert listed(a.house, path, headers) == names
        assert a.house.book.settled[-1].outcome == "COMPLETE"


def test_the_routes_and_protocols_that_a_key_names() -> None:
    to = routes(("m", "openai"), ("claude-*", "anthropic"))
    with Admitted(keys={KEY: key(routes=("claude-*",))}, routes=to) as a:
        assert listed(a.house) == ["claude-x"]
    with Admitted(keys={KEY: key(protocols=("openai_chat",))}, routes=to) as a:
        assert listed(a.house) == ["m", "m-large", "demo"], "by Chat the others cannot be asked for"


@SHAPES
@pytest.mark.parametrize(("rule", "names"), [
    (a_rule("require", model="m*"), ["m", "m-large"]), (a_rule("allow", model="m*"), ["m", "m-large"]),
    (Rule("house-rule", Effect.DENY, All((make_test("!model", ["m*"]),))), ["m", "m-large"]),
    (a_rule("require", provider="anthropic"), ["claude-x"]), (a_rule("allow", key_tag="staff", model="m"), []),
])  # fmt: skip
def test_a_rule_about_models_is_one_about_what_is_listed(path: str, headers: Headers, rule: Rule, names: list[str]) -> None:
    """The list itself is of no model: it is there, with what may be asked for. A provider's own list passes as it is, so it is held to the rule."""
    with Admitted(AdmissionSettings(rules=(rule,), limits=(make_limit("requests", 9, "minute", ("model",)),)), {KEY: key(tags=("trial",))}) as a:
        assert listed(a.house, path, headers) == names
        a.house.get("/openai/v1/models", BEARER)
        assert (a.house.book.settled[-1].outcome, a.house.asks) == ("REFUSED", [])
        asker = a.house.get("/v1/models/m", BEARER)
        assert asker.reply.status == (None if "m" in names else 403 if rule.when == a_rule("require", provider="anthropic").when else 404)
        a.check()


@SHAPES
@pytest.mark.parametrize(("rule", "names"), [
    (a_rule("deny", model="claude-*"), ["m", "m-large", "gemini-x", "demo"]),
    (a_rule("deny", provider="anthropic"), ["m", "m-large", "gemini-x", "demo"]),
    (a_rule("deny", key_tag="trial", model="m-large"), ["m", "claude-x", "gemini-x", "demo"]),
    (a_rule("deny", operation="chat"), NAMES),
    (a_rule("require", operation="embeddings"), ["m", "m-large", "gemini-x", "demo"]),
    (a_rule("deny", key_tag="staff"), NAMES),
])  # fmt: skip
def test_what_the_rules_say(path: str, headers: Headers, rule: Rule, names: list[str]) -> None:
    """A model is there as long as anything may be asked of it."""
    settings = AdmissionSettings(rules=(rule,))
    with Admitted(settings, {KEY: key(tags=("trial",))}) as a:
        if rule.effect is Effect.REQUIRE:
            a.house.catalog.names = ALL
            assert a.house.get(path, headers).reply.status == 403, "the list itself is held to the rules as well"
            return
        assert listed(a.house, path, headers) == names


def test_what_a_token_says() -> None:
    rules = (a_rule("deny", claim_tier="free", model="m-large"),)
    with Admitted(AdmissionSettings(issuers=(issuer(),), rules=rules), issuers={issuer().issuer: read_keys(jwks(jwk("RSA", "k1")), issuer())}) as a:
        seen = [listed(a.house, headers=[(b"authorization", b"Bearer " + sign(claims(tier=tier)))]) for tier in ("free", "paid")]
        assert seen == [["m", "claude-x", "gemini-x", "demo"], NAMES]


def test_routes_that_ask_for_a_credential_are_not_shown_without_one() -> None:
    settings = AdmissionSettings(mode=Mode.OPTIONAL, route_modes=(Mode.STRICT, None))
    with Admitted(settings, {KEY: key()}, routes=routes(("m", "openai"), ("*", "openai"))) as a:
        assert "m" not in listed(a.house, headers=[])
        assert "m" in listed(a.house)


def refused(house: House, path: str, headers: Headers = BEARER, status: int = 404) -> FakeReply:
    before = len(house.asks)
    asker = house.get(path, headers)
    house.loop.settle()
    row = house.book.settled[-1]
    assert (asker.reply.status, row.outcome, len(house.asks)) == (status, "REFUSED", before)
    return asker.reply


def test_one_that_may_not_be_used_is_not_there() -> None:
    with Admitted(keys={KEY: key(models=("m", "org/*"))}) as a:
        for protocol, path, headers in (
            (ProtocolId.OPENAI_CHAT, "/v1/models/m-large", BEARER), (ProtocolId.OPENAI_CHAT, "/models/demo", BEARER),
            (ProtocolId.ANTHROPIC_MESSAGES, "/v1/models/claude-x", [*BEARER, (b"anthropic-version", b"2023-06-01")]),
            (ProtocolId.GEMINI, "/v1beta/models/gemini-x", [(b"x-goog-api-key", KEY.encode())]), (ProtocolId.OPENAI_CHAT, "/v1/models/", BEARER),
            (ProtocolId.OPENAI_CHAT, "/openai/v1/models/m-large", BEARER),
        ):  # fmt: skip
            reply = refused(a.house, path, headers)
            told_whole(protocol, reply)
            assert b"key_1" not in reply.body
            if not path.endswith("/"):  # no path at all
                assert (a.house.book.settled[-1].rule, a.house.book.settled[-1].refused_by) == ("key_1", "key")
        for path in ("/v1/models/m", "/v1/models/org%2Fname", "/openai/v1/models/m"):
            a.house.get(path, BEARER)
            assert a.house.last.target.decode() == path.removeprefix("/openai")
            a.house.last.lose()


def test_a_model_of_the_house_is_there_for_those_who_may_use_it() -> None:
    with Admitted(keys={KEY: key(models=("demo",))}) as a:
        assert a.house.get("/v1/models/demo", BEARER).reply.json() == {"id": "demo"}
    with Admitted(AdmissionSettings(rules=(a_rule("deny", model="demo"),)), {KEY: key()}) as a:
        refused(a.house, "/v1/models/demo")
        assert a.house.book.settled[-1].rule == "house-rule"


def test_a_provider_s_own_list() -> None:
    """It passes as it is, so it is nothing for a key that names models."""
    with Admitted(keys={KEY: key(models=("m",)), "sk-pst-all": key("key_2")}) as a:
        refused(a.house, "/openai/v1/models", status=403)
        a.house.get("/openai/v1/models", [(b"authorization", b"Bearer sk-pst-all")])
        assert a.house.last.target == b"/v1/models"
        a.house.last.lose()


@pytest.mark.parametrize(("path", "name"), [
    ("/v1/models", None), ("/models", None), ("/v1beta/models", None), ("/v1/models/a", "a"), ("/v1/models/a%2Fb", "a/b"), ("/v1/models/a/b", "a/b"),
    ("/v1/models/", ""), ("/v1beta/models/a", "a"),
])  # fmt: skip
def test_model_named(path: str, name: str | None) -> None:
    assert model_named(path) == name
