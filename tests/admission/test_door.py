"""Keys, modes, scope, rules and addresses: what a head shows, who that is, and whether it may."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from ipaddress import ip_network
from typing import Any

import pytest

from penstock.admission.address import client_address, read_network
from penstock.admission.door import Door, Found, Refused
from penstock.admission.facts import BadField, Facts
from penstock.admission.issuers import read_keys
from penstock.admission.keys import Ring, hash_of, seal
from penstock.admission.limits.spec import make_limit
from penstock.admission.rules import All, BadRule, Effect, Rule, make_test
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.admission.subject import ANONYMOUS, Kind, Subject
from tests.support.admitted import key
from tests.support.tokens import NOW, claims, issuer, jwk, jwks, private, sign

SECRET = b"s" * 32
GOOD, OLD, GONE, LATE = b"sk-pst-good", b"sk-pst-old", b"sk-pst-gone", b"sk-pst-late"
FOREIGN = b"an imported key of any form"
Header = tuple[bytes, bytes]


def ring() -> Ring:
    keys = {
        GOOD: key(owner="ada", project="p", tags=("staff", "eu"), previous_until=NOW + 60), GONE: key("key_2", revoked_at=NOW - 1),
        LATE: key("key_3", expires_at=NOW), FOREIGN: key("key_4"),
    }  # fmt: skip
    return Ring(SECRET, [(seal(hash_of(text), SECRET), one) for text, one in keys.items()], {seal(hash_of(OLD), SECRET): keys[GOOD]})


def door(mode: Mode | None = None, rules: tuple[Rule, ...] = (), **more: Any) -> Door:
    settings = AdmissionSettings(mode=mode, rules=rules, issuers=(issuer(),), **more)
    return Door(settings, ring(), {issuer().issuer: read_keys(jwks(jwk("RSA", "k1")), issuer())})


def look(headers: list[Header], query: str = "", now: float = NOW) -> Found:
    return door().look(headers, query, now)


TOKEN = sign(claims())


@pytest.mark.parametrize("place", [
    (b"Authorization", b"Bearer %b"), (b"authorization", b"bearer  %b"), (b"X-Api-Key", b"%b"), (b"x-goog-api-key", b" %b "), (b"api-key", b"%b"),
    (b"x-penstock-key", b"%b"), (b"X-Penstock-Key", b"Bearer %b"),
])
@pytest.mark.parametrize("credential", [GOOD, FOREIGN, TOKEN])
def test_wherever_it_stands_it_lets_in_and_goes_no_further(place: Header, credential: bytes) -> None:
    found = look([(b"a", b"1"), (place[0], place[1] % credential), (b"b", b"2")])
    assert found.subject is not None
    assert found.headers == [(b"a", b"1"), (b"b", b"2")]


def test_in_gemini_s_query_too() -> None:
    found = look([], "alt=sse&key=sk-pst-good&b=%20")
    assert found.subject is not None
    assert found.query == "alt=sse&b=%20"
    assert look([], "key=AIza-own").query == "key=AIza-own"


def test_beside_the_client_s_own_login_at_the_provider() -> None:
    own: list[Header] = [(b"authorization", b"Bearer sk-ant-oat01-login"), (b"chatgpt-account-id", b"x")]
    found = look([*own, (b"x-penstock-key", GOOD)], "key=own")
    assert found.subject is not None
    assert (found.headers, found.query, found.subject.kind) == (own, "key=own", Kind.KEY)


@pytest.mark.parametrize(("credential", "why"), [
    (GONE, "revoked"), (LATE, "expired"), (b"sk-pst-nobody", "not known"), (sign(claims(exp=NOW - 100)), "expired"),
    (sign(claims(aud="x")), "somebody"),
])
def test_what_is_ours_and_not_good_is_taken_out_as_well(credential: bytes, why: str) -> None:
    found = look([(b"authorization", b"Bearer " + credential), (b"x-api-key", b"own")])
    assert found.subject is None
    assert why in found.why
    assert found.headers == [(b"x-api-key", b"own")]
    assert found.until == 0.0, "it is not remembered"


@pytest.mark.parametrize(("header", "query"), [
    ((b"authorization", b"Token sk-pst-good"), ""), ((b"x-auth-token", b"sk-pst-good"), ""), ((b"openai-api-key", b" sk-pst-good"), ""),
    ((b"a", b"1"), "alt=sse&api_key=sk-pst-good&b=%20"), ((b"a", b"1"), "alt=sse&access_token=sk%2Dpst-good&b=%20"),
])  # fmt: skip
def test_where_no_key_belongs_it_lets_nobody_in_and_goes_no_further(header: Header, query: str) -> None:
    found = look([header, (b"b", b"2")], query)
    assert found.subject is None
    assert b"sk-pst-" not in b"".join(value for _, value in found.headers)
    assert (b"b", b"2") in found.headers
    assert found.query == ("alt=sse&b=%20" if query else "")


@pytest.mark.parametrize("header", [
    (b"authorization", b"Token %s"), (b"authorization", b"Bearer\t%s"), (b"x-auth-token", b"%s"), (b"cookie", b'a=1; session="%s"; b=2'),
    (b"cookie", b"a=1;session=%s;b=2"),
])  # fmt: skip
def test_where_no_token_belongs_it_goes_no_further(header: Header) -> None:
    ours = sign(claims())
    found = look([(header[0], header[1].replace(b"%s", ours)), (b"b", b"2")], f"alt=sse&api_key={ours.decode()}&b=%20")
    assert (found.subject, found.headers, found.query) == (None, [(b"b", b"2")], "alt=sse&b=%20")
    other: Header = (header[0], header[1].replace(b"%s", sign(claims(iss="https://elsewhere.example"))))
    assert look([other, (b"b", b"1.2.3")]).headers == [other, (b"b", b"1.2.3")], "somebody else's is the client's own login"


@pytest.mark.parametrize("pair", [b"%s:", b"x:%s", b"%s"])
@pytest.mark.parametrize("ours", [b"sk-pst-good", b"sk-pst-nobody", None])
def test_a_key_in_basic_goes_no_further(pair: bytes, ours: bytes | None) -> None:
    ours = ours or sign(claims())
    found = look([(b"authorization", b"basic " + b64encode(pair.replace(b"%s", ours)))])
    assert (found.subject, found.headers) == (None, [])
    for other in (b"Basic " + b64encode(b"me:word"), b"Basic ?", b"Basic "):
        assert look([(b"authorization", other)]).headers == [(b"authorization", other)], "somebody else's is the client's own login"


def test_a_token_that_is_too_long_is_one_that_is_not_good() -> None:
    """And goes to no provider."""
    found = look([(b"authorization", b"Bearer " + sign(claims(x="x" * 20_000)))])
    assert (found.subject, found.headers) == (None, [])
    assert "too long" in found.why


def test_a_token_whose_header_is_written_with_space_is_a_token() -> None:
    from jwt import PyJWS

    def spaced(text: str) -> bytes:
        header = urlsafe_b64encode(b'{ "alg": "RS256", "kid": "k1" }').rstrip(b"=")
        signed = header + b"." + urlsafe_b64encode(text.encode()).rstrip(b"=")
        return signed + b"." + urlsafe_b64encode(PyJWS().get_algorithm_by_name("RS256").sign(signed, private("RSA"))).rstrip(b"=")

    found = look([(b"authorization", b"Bearer " + spaced(json.dumps(claims())))])
    assert found.subject is not None, found.why
    assert found.headers == []


def test_the_second_does_not_let_in_where_the_first_is_bad() -> None:
    assert look([(b"x-penstock-key", GONE), (b"authorization", b"Bearer " + GOOD)]).subject is None
    assert look([(b"authorization", b"Bearer " + GONE), (b"x-api-key", GOOD)]).subject is None


def test_a_key_before_its_rotation() -> None:
    header = [(b"x-api-key", OLD)]
    found = look(header)
    assert found.subject is not None
    assert found.until == NOW + 60
    assert look(header, now=NOW + 60).why == "key key_1 was rotated"
    assert look([(b"x-api-key", GOOD)], now=NOW + 60).subject is not None


def test_an_unknown_kid_is_no_refusal_yet() -> None:
    found = look([(b"authorization", b"Bearer " + sign(claims(), kid="k2"))])
    assert (found.subject, found.unsure_of, found.until) == (None, issuer(), 0.0)


OWN: list[Header] = [(b"authorization", b"Bearer sk-own")]
BAD: list[Header] = [(b"x-api-key", GONE)]
NICE: list[Header] = [(b"x-api-key", GOOD)]


@pytest.mark.parametrize(("mode", "shown", "who"), [
    (None, OWN, Kind.ANONYMOUS), (None, BAD, Kind.ANONYMOUS), (None, NICE, Kind.KEY),
    (Mode.STRICT, OWN, None), (Mode.STRICT, [], None), (Mode.STRICT, BAD, None), (Mode.STRICT, NICE, Kind.KEY),
    (Mode.OPTIONAL, OWN, Kind.ANONYMOUS), (Mode.OPTIONAL, [], Kind.ANONYMOUS), (Mode.OPTIONAL, BAD, None), (Mode.OPTIONAL, NICE, Kind.KEY),
    (Mode.PERMISSIVE, OWN, Kind.ANONYMOUS), (Mode.PERMISSIVE, BAD, Kind.ANONYMOUS), (Mode.PERMISSIVE, NICE, Kind.KEY),
])
def test_modes(mode: Mode | None, shown: list[Header], who: Kind | None) -> None:
    entered = door().enter(look(shown), mode)
    if who is None:
        assert isinstance(entered, Refused)
        assert (entered.status, [name for name, _ in entered.headers]) == (401, [b"www-authenticate"])
        assert "revoked" not in entered.message, "the client is told the same, whatever it is"
    else:
        assert isinstance(entered, Subject)
        assert entered.kind is who


def test_strict_as_soon_as_there_is_a_key_or_an_issuer() -> None:
    assert Door(AdmissionSettings(), Ring(SECRET)).mode is None
    assert Door(AdmissionSettings(), ring()).mode is Mode.STRICT
    assert Door(AdmissionSettings(issuers=(issuer(),)), Ring(SECRET)).mode is Mode.STRICT
    assert Door(AdmissionSettings(mode=Mode.OPTIONAL), ring()).mode is Mode.OPTIONAL
    revoked = Ring(SECRET, [(b"x", key(revoked_at=1.0))])
    assert Door(AdmissionSettings(), revoked).mode is Mode.STRICT, "revoking the last key does not open the door"
    routes = Door(AdmissionSettings(route_modes=(None, Mode.PERMISSIVE)), ring())
    assert [routes.mode_of(None), routes.mode_of(0), routes.mode_of(1), routes.mode_of(7)] == [Mode.STRICT, Mode.STRICT, Mode.PERMISSIVE, Mode.STRICT]


# Scope and rules.


def facts(subject: Subject = ANONYMOUS, model: str | None = "gpt-4o", address: str | None = "10.1.2.3", headers: list[Header] | None = None) -> Facts:
    return Facts(subject, "openai_chat", "chat", model, "gpt-*", "openai", headers or [], lambda: address)


def rule(effect: str, name: str = "r", **fields: str | list[str]) -> Rule:
    tests = [make_test(field.replace("_", "."), [value] if isinstance(value, str) else value) for field, value in fields.items()]
    return Rule(name, Effect(effect), All(tuple(tests)))


STAFF = Subject(Kind.KEY, key(owner="ada", project="p", tags=("staff", "eu")), user="ada", project="p")
_CLAIMS: dict[str, Any] = {"groups": ["dev", "ops"], "plan": "free", "realm": {"roles": ["admin"]}, "odd": {"a": 1}, "n": 5, "b": True}
JWT = Subject(Kind.JWT, claims=_CLAIMS, user="bob")


@pytest.mark.parametrize(("rules", "subject", "why"), [
    ([], ANONYMOUS, None),
    ([rule("deny", model="gpt-4*")], ANONYMOUS, "rule 'r' denies it"),
    ([rule("deny", model="claude-*")], ANONYMOUS, None),
    ([rule("deny", model=["claude-*", "gpt-4o"])], ANONYMOUS, "rule 'r' denies it"),
    ([rule("deny", model="gpt-*", key_tag="staff")], STAFF, "rule 'r' denies it"),
    ([rule("deny", model="gpt-*", key_tag="staff")], ANONYMOUS, None),
    ([rule("require", key_tag="staff")], STAFF, None),
    ([rule("require", key_tag="staff")], ANONYMOUS, "rule 'r' is not met"),
    ([rule("require", key_owner="ada", project="p", route="gpt-*", provider="openai", protocol="openai_chat", operation="chat")], STAFF, None),
    ([rule("allow", claim_groups="ops")], JWT, None),
    ([rule("allow", claim_groups="qa")], JWT, "no allow rule allows it"),
    ([rule("allow", claim_groups="qa"), rule("allow", claim_plan="f*")], JWT, None),
    ([rule("allow", claim_groups="ops"), rule("deny", claim_plan="free")], JWT, "rule 'r' denies it"),
    ([rule("allow", claim_groups="ops"), rule("require", "q", claim_plan="paid")], JWT, "rule 'q' is not met"),
    ([rule("require", claim_realm_roles="admin", claim_n="5", claim_b="true")], JWT, None),
    ([rule("require", address="10.0.0.0/8")], ANONYMOUS, None),
    ([rule("require", address=["192.168.0.0/16", "::1"])], ANONYMOUS, "rule 'r' is not met"),
    ([rule("deny", **{"!address": "10.0.0.0/8"})], ANONYMOUS, None),
    ([rule("deny", **{"!claim_plan": "paid"})], JWT, "rule 'r' denies it"),
    ([rule("deny", **{"!claim_plan": "*"})], ANONYMOUS, "rule 'r' denies it"),
    ([rule("require", kind=["key", "jwt"])], ANONYMOUS, "rule 'r' is not met"),
    # What cannot be evaluated denies.
    ([rule("deny", claim_odd="x")], JWT, "rule 'r' could not be evaluated (claim odd is no text and no list of texts)"),
    ([rule("require", claim_odd="x")], JWT, "rule 'r' could not be evaluated (claim odd is no text and no list of texts)"),
    ([rule("allow", claim_odd="x")], JWT, "no allow rule allows it"),
    ([rule("allow", claim_odd="x"), rule("allow", model="*")], JWT, None),
    ([rule("deny", model="never", claim_odd="x")], JWT, "rule 'r' could not be evaluated (claim odd is no text and no list of texts)"),
])  # fmt: skip
def test_rules(rules: list[Rule], subject: Subject, why: str | None) -> None:
    refused = door(rules=tuple(rules)).allow(facts(subject))
    assert (refused.cause if refused is not None else None) == why
    if refused is not None:
        assert (refused.status, refused.message) == (403, "this request is not allowed here"), "it tells nothing of the rule"


def test_rules_over_headers_and_unknown_addresses() -> None:
    staff = door(rules=(rule("require", header_x_team="a*"),))
    named = Rule("r", Effect.REQUIRE, All((make_test("header.X-Team", ["a*"]),)))
    staff = door(rules=(named,))
    assert staff.allow(facts(headers=[(b"X-TEAM", b"alpha")])) is None
    assert staff.allow(facts(headers=[(b"X-TEAM", b"beta")])) is not None
    twice = staff.allow(facts(headers=[(b"x-team", b"alpha"), (b"x-team", b"beta")]))
    assert twice is not None
    assert "could not be evaluated" in twice.cause
    nowhere = door(rules=(rule("deny", address="10.0.0.0/8"),)).allow(facts(address=None))
    assert nowhere is not None
    assert "could not be evaluated" in nowhere.cause


@pytest.mark.parametrize(("scope", "model", "why"), [
    ({"models": ("gpt-*",)}, "gpt-4o", None), ({"models": ("gpt-*",)}, "claude", "model"), ({"models": ("gpt-*",)}, None, "model"),
    ({"routes": ("gpt-*",)}, "x", None), ({"routes": ("claude-*",)}, "x", "route"), ({"protocols": ("openai_chat",)}, "x", None),
    ({"protocols": ("gemini",)}, "x", "protocol"), ({"models": ("gemini-[12]*",)}, "gemini-2", None), ({}, None, None),
])  # fmt: skip
def test_what_a_key_allows(scope: dict[str, Any], model: str | None, why: str | None) -> None:
    subject = Subject(Kind.KEY, key(**scope))
    refused = door().allow(facts(subject, model))
    assert (refused is None) if why is None else (refused is not None and refused.cause == f"key key_1 does not allow this {why}")


def test_a_list_of_models_belongs_to_no_model() -> None:
    assert door().allow(facts(Subject(Kind.KEY, key(models=("gpt-*",))), None), listing=True) is None
    assert door().allow(facts(Subject(Kind.KEY, key(protocols=("gemini",))), None), listing=True) is not None


@pytest.mark.parametrize("field", ["modle", "claim.", "header.", "keys", "", "key.secret"])
def test_fields_that_there_are_not(field: str) -> None:
    with pytest.raises(BadField, match="there is no"):
        make_test(field, ["x"])
    with pytest.raises(ValueError):
        make_limit("requests", 5, "minute", (field,))


def test_conditions_that_are_none() -> None:
    with pytest.raises(BadRule, match="an address is written"):
        make_test("address", ["10.0.0.0/99"])
    with pytest.raises(BadRule, match="names no value"):
        make_test("model", [])


# Addresses.

PROXIES = ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(("peer", "forwarded", "trusted", "client"), [
    ("1.2.3.4", [], [], "1.2.3.4"), ("1.2.3.4", ["9.9.9.9"], [], "1.2.3.4"), ("1.2.3.4", ["9.9.9.9"], PROXIES, "1.2.3.4"),
    ("10.0.0.1", ["9.9.9.9"], PROXIES, "9.9.9.9"), ("10.0.0.1", ["6.6.6.6, 9.9.9.9"], PROXIES, "9.9.9.9"),
    ("10.0.0.1", ["6.6.6.6, 9.9.9.9, 10.0.0.2"], PROXIES, "9.9.9.9"), ("10.0.0.1", ["6.6.6.6", "9.9.9.9"], PROXIES, "9.9.9.9"),
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], PROXIES, "10.0.0.3"), ("10.0.0.1", [], PROXIES, "10.0.0.1"),
    ("10.0.0.1", ["unknown"], PROXIES, None), ("10.0.0.1", ["9.9.9.9, _hidden"], PROXIES, None), ("10.0.0.1", ["9.9.9.9:443"], PROXIES, "9.9.9.9"),
    ("::ffff:10.0.0.1", ["[2001:db8::1]:99"], PROXIES, "2001:db8::1"), ("fd00::1", ["::ffff:9.9.9.9"], PROXIES, "9.9.9.9"),
    ("fe80::1%eth0", [], [], "fe80::1"), (None, [], [], "127.0.0.1"), ("10.0.0.1", [" "], PROXIES, "10.0.0.1"),
])  # fmt: skip
def test_whose_address(peer: str | None, forwarded: list[str], trusted: list[str], client: str | None) -> None:

    headers = [(b"X-Forwarded-For", one.encode()) for one in forwarded]
    assert client_address(peer, headers, [ip_network(one) for one in trusted]) == client


def test_the_project_of_a_key_is_no_token_s() -> None:
    """`key.` is asked of keys alone: what an issuer says of somebody does not stand for it."""
    token = Subject(Kind.JWT, user="bob", project="p")
    assert (facts(token).get("project"), facts(token).get("key.project"), facts(STAFF).get("key.project")) == (("p",), (), ("p",))
    wanted = door(rules=(rule("require", key_project="p"),))
    assert (wanted.allow(facts(token)) is None, wanted.allow(facts(STAFF)) is None) == (False, True)


def test_counts_are_kept_by_no_long_values() -> None:
    """A client may name a model as long as its request may be, and a hundred thousand of them."""
    kept = [facts(model=model, headers=[(b"x", b"1")]).kept_by(("model", "header.x")) for model in ("m" * 256, "m" * 10**6, "m" * 10**6 + "n")]
    assert kept[0] == ("m" * 256, "1")
    assert len(set(kept)) == 3
    assert all(len(text) <= 256 for texts in kept for text in texts)


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "cookie", "x-auth-token", "proxy-authorization"])
@pytest.mark.parametrize("length", [10, 1000])
def test_counts_are_kept_by_no_secrets(name: str, length: int) -> None:
    """`by: [header.authorization]` tells clients apart by their own logins; budgets lie in the database, and are shown."""
    secrets = [f"Bearer sk-hunter2-{letter * length}" for letter in "ab"]
    kept = [facts(headers=[(name.encode(), text.encode())]).kept_by((f"header.{name}",)) for text in secrets]
    assert kept[0] != kept[1]
    assert "hunter2" not in repr(kept)
    assert facts().kept_by((f"header.{name}",)) == ("",)


@pytest.mark.parametrize(("text", "network"), [
    ("::ffff:10.1.2.3", "10.1.2.3/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::FFFF:0:0/96", "0.0.0.0/0"), ("10.1.2.3/8", "10.0.0.0/8"),
    ("::/0", "::/0"), ("::ffff:0:0/95", "::fffe:0:0/95"), ("2001:db8::1/32", "2001:db8::/32"),
])  # fmt: skip
def test_a_range_of_ipv4_that_is_written_as_ipv6(text: str, network: str) -> None:
    """Addresses are compared as IPv4: a rule for what a log shows as `::ffff:10.1.2.3` holds for it."""
    assert read_network(text) == ip_network(network)


def test_a_rule_for_an_address_of_ipv4_that_is_written_as_ipv6() -> None:
    closed = door(rules=(rule("deny", address="::ffff:10.0.0.0/104"),))
    assert (closed.allow(facts()) is None, closed.allow(facts(address="11.1.2.3")) is None) == (False, True)


def test_of_two_keys_in_the_header_of_ours_the_first_counts() -> None:
    bad, good = (b"x-penstock-key", GONE), (b"x-penstock-key", GOOD)
    found = look([(b"authorization", b"Bearer " + GOOD), bad, good])
    assert (found.subject, found.headers) == (None, [])
    assert "revoked" in found.why
    assert look([(b"authorization", b"Bearer " + GONE), good, bad]).subject is not None
