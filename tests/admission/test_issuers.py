"""Tokens: which algorithms, keys, times and audiences are good, and the attacks that make one key pass for another."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.admission.issuers import BadKeys, BadToken, KeySet, UnknownKey, issuer_named, read_keys, subject_of, verify
from tests.support.tokens import AUD, ISS, NOW, SHARED, claims, issuer, jwk, jwks, pem, sign

KEYS = jwks(jwk("RSA", "k1"), jwk("P-256", "k2"), jwk("P-384", "k3"), jwk("OKP", "k4"))
KID = {"RS256": "k1", "PS256": "k1", "ES256": "k2", "ES384": "k3", "EdDSA": "k4"}


def b64(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=")


def keys(**more: Any) -> KeySet:
    return read_keys(KEYS, issuer(**more))


@pytest.mark.parametrize("algorithm", list(KID))
def test_a_good_token_of_each_algorithm(algorithm: str) -> None:
    token = sign(claims(), algorithm, KID[algorithm])
    assert issuer_named(token) == ISS
    found = verify(token, issuer(), keys(), NOW)
    assert subject_of(found, issuer()).user == "ada"


@pytest.mark.parametrize("algorithm", list(KID))
def test_only_the_issuer_s_algorithms(algorithm: str) -> None:
    """The same good token, where its algorithm is not configured."""
    others = tuple(one for one in KID if one != algorithm)
    with pytest.raises(BadToken, match="algorithm is not one"):
        verify(sign(claims(), algorithm, KID[algorithm]), issuer(algorithms=others), read_keys(KEYS, issuer(algorithms=others)), NOW)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 5, ["RS256"]])
@pytest.mark.parametrize("signature", [b"", b"x", b64(b"x" * 256)])
def test_no_none(alg: Any, signature: bytes) -> None:
    token = b".".join([b64({"alg": alg, "kid": "k1"}), b64(claims()), signature])
    with pytest.raises(BadToken):
        verify(token, issuer(), keys(), NOW)


@pytest.mark.parametrize("secret", ["pem", "pem without its end", "jwk", "der"])
def test_a_public_key_is_no_secret_of_an_hmac(secret: str) -> None:
    """The attack of CVE-2015-9235: what is public is taken for a shared secret."""
    public = pem("RSA")
    taken = {"pem": public, "pem without its end": public.strip(), "jwk": json.dumps(jwk("RSA", "k1")).encode(), "der": public[27:]}[secret]
    head = b64({"alg": "HS256", "kid": "k1"}) + b"." + b64(claims())
    token = head + b"." + b64(hmac.new(taken, head, sha256).digest())
    with pytest.raises(BadToken, match="algorithm is not one"):
        verify(token, issuer(), keys(), NOW)
    both = issuer(algorithms=("RS256", "HS256"))  # the configuration refuses it; the check does not rely on that
    with pytest.raises(BadToken, match="another algorithm"):
        verify(token, both, read_keys(KEYS, both), NOW)


def test_a_shared_secret_serves_hmac_alone() -> None:
    import jwt

    shared = issuer(algorithms=("HS256",))
    found = read_keys(jwks(jwk("oct", "s"), jwk("RSA", "k1")), shared)
    token = jwt.encode(claims(), SHARED, algorithm="HS256", headers={"kid": "s"}).encode()
    assert verify(token, shared, found, NOW)["sub"] == "ada"
    with pytest.raises(BadToken):
        verify(sign(claims(), "RS256", "k1"), shared, found, NOW)
    wrong = jwt.encode(claims(), SHARED + "!", algorithm="HS256", headers={"kid": "s"}).encode()
    with pytest.raises(BadToken, match="signature"):
        verify(wrong, shared, found, NOW)


def test_a_key_that_names_its_algorithm_serves_no_other() -> None:
    only = read_keys(jwks(jwk("RSA", "k1", alg="RS256")), issuer())
    assert verify(sign(claims(), "RS256"), issuer(), only, NOW)
    with pytest.raises(BadToken, match="another algorithm"):
        verify(sign(claims(), "PS256"), issuer(), only, NOW)


def test_a_curve_serves_its_algorithm_alone() -> None:
    with pytest.raises(BadToken):
        verify(sign(claims(), "ES256", "k2"), issuer(), read_keys(jwks(jwk("P-384", "k2")), issuer()), NOW)


@pytest.mark.parametrize("extra", [
    {"crit": ["b64"]}, {"crit": ["exp"], "exp": 1}, {"crit": []},
])  # fmt: skip
def test_what_must_be_understood_and_is_not(extra: dict[str, Any]) -> None:
    with pytest.raises(BadToken, match="must be understood"):
        verify(sign(claims(), **extra), issuer(), keys(), NOW)


def test_a_key_that_the_token_brings_along_is_not_looked_at() -> None:
    """`jwk`, `jku` and `x5c` in a header are the sender's own word."""
    mine = sign(claims(), "ES256", "mine", jwk=jwk("P-256", "mine"), jku="https://evil.example/keys")
    with pytest.raises(UnknownKey):
        verify(mine, issuer(), read_keys(jwks(jwk("RSA", "k1")), issuer()), NOW)


def test_kids() -> None:
    with pytest.raises(UnknownKey):
        verify(sign(claims(), kid="k9"), issuer(), keys(), NOW)
    with pytest.raises(BadToken, match="kid is no text"):
        verify(b".".join([b64({"alg": "RS256", "kid": {"a": 1}}), b64(claims()), b64(b"x" * 256)]), issuer(), keys(), NOW)
    with pytest.raises(BadToken, match="signature"):
        verify(sign(claims(), "ES256", "k2", kind="P-256"), issuer(), read_keys(jwks({**jwk("P-256", "k2"), **_other_point()}), issuer()), NOW)
    # Without a kid only where one key can be meant.
    one = read_keys(jwks(jwk("RSA", None)), issuer())
    assert verify(sign(claims(), kid=None), issuer(), one, NOW)
    two = read_keys(jwks(jwk("RSA", "a"), jwk("RSA", "b")), issuer())
    with pytest.raises(BadToken, match="which key"):
        verify(sign(claims(), kid=None), issuer(), two, NOW)
    with pytest.raises(UnknownKey):
        verify(sign(claims()), issuer(), KeySet(), NOW)


def _other_point() -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    other: dict[str, str] = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    return {"x": other["x"], "y": other["y"]}


@pytest.mark.parametrize(("said", "why"), [
    ({"exp": NOW - 31}, "expired"), ({"exp": NOW - 30}, "expired"), ({"exp": NOW - 29}, None), ({"exp": None}, "has no exp"),
    ({"exp": "2100-01-01"}, "no time"), ({"exp": True}, "no time"), ({"exp": -1}, "expired"),
    ({"nbf": NOW + 31}, "does not hold yet"), ({"nbf": NOW + 30}, None), ({"nbf": "x"}, "no time"),
    ({"iss": "https://id.example.com/"}, "another issuer"), ({"iss": None}, "another issuer"), ({"iss": [ISS]}, "another issuer"),
    ({"aud": "other"}, "somebody else"), ({"aud": ["other", AUD]}, None), ({"aud": []}, "somebody else"), ({"aud": None}, "somebody else"),
    ({"aud": {"a": AUD}}, "somebody else"), ({"aud": "penstock2"}, "somebody else"), ({"sub": None}, None),
])  # fmt: skip
def test_claims(said: dict[str, Any], why: str | None) -> None:
    token = sign(claims(**said))
    if why is None:
        assert verify(token, issuer(), keys(), NOW)
    else:
        with pytest.raises(BadToken, match=why):
            verify(token, issuer(), keys(), NOW)


def test_required_claims_and_any_audience() -> None:
    strict = issuer(required=("exp", "sub", "team"))
    with pytest.raises(BadToken, match="has no team"):
        verify(sign(claims()), strict, keys(), NOW)
    assert verify(sign(claims(team="x")), strict, keys(), NOW)
    assert verify(sign(claims(aud=None)), issuer(audiences=("*",)), keys(), NOW)


def test_who_it_is() -> None:
    who = issuer(user_claim="email", project_claim="org.project", limits_claim="tier")
    found = verify(sign(claims(email="a@b.c", org={"project": "p1"}, tier=3)), who, keys(), NOW)
    subject = subject_of(found, who)
    assert (subject.user, subject.project, subject.limits_key, subject.until) == ("a@b.c", "p1", "3", NOW + 630)
    assert subject_of(claims(exp=None), who).user is None
    spoilt: list[dict[str, Any]] = [{"email": {"a": 1}}, {"email": ["a", "b"]}, {"tier": [[]]}]
    for bad in spoilt:
        with pytest.raises(BadToken):
            subject_of({**claims(), **bad}, who)


@given(at=st.integers(0, 2000), by=st.integers(1, 255))
def test_a_token_with_any_byte_changed(at: int, by: int) -> None:
    token = sign(claims())
    at %= len(token)
    spoilt = token[:at] + bytes([token[at] ^ by]) + token[at + 1 :]
    try:
        found = verify(spoilt, issuer(), keys(), NOW)
    except BadToken:
        return
    assert found == claims(), "the last character of a part has bits that mean nothing"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_token(data: bytes) -> None:
    issuer_named(data)
    issuer_named(b"eyJ" + data)
    with pytest.raises(BadToken):
        verify(data, issuer(), keys(), NOW)


@pytest.mark.parametrize(("text", "why"), [
    ("nonsense", "no JSON"), ("[]", "no JWK Set"), ('{"keys": {}}', "no JWK Set"), ('{"keys": []}', "no key for"),
    ('{"keys": [1, {}]}', "no key for"), (jwks(jwk("RSA", "k", use="enc")), "no key for"), (jwks(jwk("oct", "k")), "no key for"),
    (jwks({"kty": "RSA", "n": "!", "e": "AQAB"}), "no key for"),
])  # fmt: skip
def test_sets_that_hold_no_key(text: str, why: str) -> None:
    with pytest.raises(BadKeys, match=why):
        read_keys(text, issuer())


def rsa_set(size: int, **more: Any) -> tuple[str, bytes]:
    """A set with one key, its private half in it, and a token that it signed."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from jwt import PyJWS
    from jwt.algorithms import RSAAlgorithm

    key = rsa.generate_private_key(65537, size)
    token = PyJWS().encode(json.dumps(claims()).encode(), key, algorithm="RS256", headers={"kid": "k1"}).encode()
    return json.dumps({"keys": [{**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "k1", **more}]}), token


def test_a_set_with_private_keys_is_as_good_as_one_without() -> None:
    text, token = rsa_set(2048, key_ops=["sign", "verify"])
    assert verify(token, issuer(), read_keys(text, issuer()), NOW)["sub"] == "ada"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("size", "more"), [(1024, {}), (2048, {"key_ops": ["sign"]}), (2048, {"key_ops": ["encrypt"]})])
def test_short_keys_and_those_for_something_else_are_none(size: int, more: dict[str, Any]) -> None:
    with pytest.raises(BadKeys, match="no key for"):
        read_keys(rsa_set(size, **more)[0], issuer())


@pytest.mark.parametrize(("length", "algorithm", "good"), [
    (31, "HS256", False), (32, "HS256", True), (47, "HS384", False), (48, "HS384", True), (63, "HS512", False), (64, "HS512", True),
    (0, "HS256", False),
])  # fmt: skip
def test_a_secret_is_as_long_as_its_hash(length: int, algorithm: str, good: bool) -> None:
    shared = issuer(algorithms=(algorithm,))
    text = jwks({"kty": "oct", "kid": "s", "k": b64(b"s" * length).decode()})
    if good:
        assert read_keys(text, shared).find("s", algorithm) is not None
    else:
        with pytest.raises(BadKeys, match="no key for"):
            read_keys(text, shared)


def test_a_secret_that_is_long_enough_for_one_hash_serves_no_longer_one() -> None:
    shared = issuer(algorithms=("HS256", "HS512"))
    found = read_keys(jwks({"kty": "oct", "kid": "s", "k": b64(b"s" * 32).decode()}), shared)
    assert found.find("s", "HS256") is not None
    with pytest.raises(BadToken, match="another algorithm"):
        found.find("s", "HS512")


def test_a_key_that_cannot_be_read_does_not_spoil_the_others() -> None:
    assert len(read_keys(jwks({"kty": "EC", "crv": "P-256", "x": "A", "y": "A"}, jwk("RSA", "k1"), {"kty": "XYZ"}), issuer())) == 1


@pytest.mark.parametrize("depth", [900, 1100, 3000, 9000])
def test_what_is_nested_too_deeply_is_no_good_token(depth: int) -> None:
    """Anybody may send one: nothing is raised but what says so."""
    deep = b64(b'{"alg":"RS256","kid":"k1","iss":"' + ISS.encode() + b'","x":' + b"[" * depth + b"]" * depth + b"}")
    assert issuer_named(b"ey" + deep[2:] + b"." + deep + b".x") in (ISS, None)
    for token in (b".".join([deep, b64(claims()), b"x"]), b".".join([b64({"alg": "RS256", "kid": "k1"}), deep, b"x"])):
        with pytest.raises(BadToken):
            verify(token, issuer(), keys(), NOW)


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("value", [10**400, -(10**400), 10**30, -(10**30)], ids=["huge", "as far back", "large", "as large below 0"])
def test_what_no_clock_shows_is_no_time(name: str, value: int) -> None:
    with pytest.raises(BadToken, match=f"its {name} is no time"):
        verify(sign(claims(**{name: value})), issuer(), keys(), NOW)


@pytest.mark.parametrize("kty", [["RSA"], {"RSA": 1}, None, 5, True])
def test_a_key_of_no_kind_at_all_is_passed_over(kty: Any) -> None:
    """The others of the set are used."""
    odd = {**jwk("RSA", "k9"), "kty": kty}
    assert len(read_keys(jwks(odd, jwk("RSA", "k1")), issuer())) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"keys":' + "[" * 100_000])
def test_a_set_that_is_nested_too_deeply_is_none(text: str) -> None:
    with pytest.raises(BadKeys, match="no JSON"):
        read_keys(text, issuer())
