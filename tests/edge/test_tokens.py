"""Tokens over real sockets, in every protocol: each algorithm and each way to pass off a token as good, modes of the listener and of routes, rules by
who asks and from where; keys that an issuer publishes, rotates and takes with it."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hmac import digest
from pathlib import Path
from time import time
from typing import Any

import pytest

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, ScriptedServer, Visit, chunk, whole
from penstock.vocabulary.ids import ProtocolId
from tests.edge.test_admission import BODIES, PROTOCOL
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.guards import frames_saying
from tests.support.http import Answer, ask
from tests.support.tokens import ISS, jwk, jwks, pem, sign

OTHER = "https://other.example.com"
KID = {"RS256": "rsa", "PS256": "rsa", "ES256": "p256", "ES384": "p384", "EdDSA": "okp"}
PUBLISHED = (jwk("RSA", "rsa"), jwk("P-256", "p256"), jwk("P-384", "p384"), jwk("OKP", "okp"))
ALGORITHMS = list(KID)
PATHS = {
    "/chat/": ProtocolId.OPENAI_CHAT, "/responses": ProtocolId.OPENAI_RESPONSES, "/messages": ProtocolId.ANTHROPIC_MESSAGES,
    "enerateContent": ProtocolId.GEMINI,
}  # fmt: skip
DENIED: dict[int, dict[str, tuple[Any, ...]]] = {
    401: {"chat": ("authentication_error", "invalid_api_key"), "responses": ("authentication_error", "invalid_api_key"),
          "messages": ("error", "authentication_error"), "gemini": (401, "UNAUTHENTICATED")},
    403: {"chat": ("permission_error", None), "responses": ("permission_error", None), "messages": ("error", "permission_error"),
          "gemini": (403, "PERMISSION_DENIED")},
}  # fmt: skip


def shape_of(protocol: str, body: Any) -> tuple[Any, ...]:
    match protocol:
        case "messages":
            return body["type"], body["error"]["type"]
        case "gemini":
            return body["error"]["code"], body["error"]["status"]
        case _:
            return body["error"]["type"], body["error"]["code"]


def said(**more: Any) -> dict[str, Any]:
    """Claims of a good token; `None` takes one away."""
    claims = {"iss": ISS, "aud": "penstock", "sub": "ada", "exp": int(time()) + 600, "dept": "search", **more}
    return {name: value for name, value in claims.items() if value is not None}


def by(algorithm: str, claims: dict[str, Any] | None = None, **header: Any) -> str:
    return sign(said() if claims is None else claims, algorithm, header.pop("kid", KID[algorithm]), **header).decode()


def part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(alg: str, kid: str = "rsa", secret: bytes | None = None) -> str:
    """Signed by an HMAC with whatever is given, or not at all: PyJWT does neither."""
    text = ".".join(part(json.dumps(one).encode()) for one in ({"alg": alg, "kid": kid}, said()))
    return f"{text}.{'' if secret is None else part(digest(secret, text.encode(), 'sha256'))}"


def bad() -> dict[str, tuple[str, str]]:
    """Tokens that let nobody in, and a word of why."""
    now = int(time())
    good = by("RS256")
    mallory = {**jwk("RSA", "rsa"), "kid": "rsa"}
    return {
        "none": (by_hand("none"), "algorithm"), "None, signed": (by_hand("NONE", secret=b"x"), "algorithm"),
        "hmac by the public key": (by_hand("HS256", secret=pem("RSA")), "algorithm"),
        "hmac by the key as it is published": (by_hand("HS256", secret=json.dumps(jwk("RSA", "rsa")).encode()), "algorithm"),
        "hmac by the public key, called RS256": (by_hand("RS256", secret=pem("RSA")), "signature"),
        "not of this issuer": (sign(said(), "RS384", "rsa").decode(), "algorithm"),
        "a key of another kind": (sign(said(), "RS256", "p256").decode(), "another algorithm"),
        "a curve of another kind": (sign(said(), "ES256", "p384").decode(), "another algorithm"),
        "an unknown kid": (sign(said(), "RS256", "nobody's").decode(), "kid"),
        "another's signature": (good.rsplit(".", 1)[0] + "." + by("RS256", said(sub="eve")).rsplit(".", 1)[1], "signature"),
        "no signature": (good.rsplit(".", 1)[0] + ".", "signature"),
        "a key that it brings along": (by("RS256", jwk=mallory, jku="http://127.0.0.1:1/keys", kid="gone"), "kid"),
        "what must be understood": (by("RS256", crit=["exp"]), "understood"),
        "expired": (by("RS256", said(exp=now - 31)), "expired"),
        "not yet": (by("RS256", said(nbf=now + 60)), "not hold yet"),
        "no exp": (by("RS256", said(exp=None)), "no exp"),
        "a required claim": (by("RS256", said(dept=None)), "no dept"),
        "an exp that is none": (by("RS256", said(exp="tomorrow")), "no time"),
        "for somebody else": (by("RS256", said(aud="elsewhere")), "somebody else"),
        "for several others": (by("RS256", said(aud=["a", "b"])), "somebody else"),
        "for nobody": (by("RS256", said(aud=None)), "somebody else"),
        "an issuer nobody knows": (by("RS256", said(iss="https://evil.example.com")), "no key and no token"),
        "the other issuer's name": (by("RS256", said(iss=OTHER)), "algorithm"),
    }


def admission(**more: Any) -> dict[str, Any]:
    one = {"issuer": ISS, "audiences": ["penstock", "second"], "jwks": jwks(*PUBLISHED), "algorithms": ALGORITHMS, "required": ["exp", "dept"]}
    two = {"issuer": OTHER, "audiences": ["*"], "jwks": jwks(jwk("OKP", "okp")), "algorithms": ["EdDSA"]}
    return {"admission": {"issuers": [one, two], **more}}


@asynccontextmanager
async def site(directory: Path, more: dict[str, Any]) -> AsyncGenerator[tuple[Running, ScriptedServer]]:
    """A gateway before a provider of all protocols, which answers at once."""

    async def answer(visit: Visit) -> None:
        await visit.body()
        path = visit.asked.path
        protocol = next(found for piece, found in PATHS.items() if piece in path)
        await visit.send(SSE_HEAD)
        for frame in frames_saying(protocol, ["Yes."]):
            await visit.send(chunk(frame))
        await visit.send(LAST_CHUNK)

    server = ScriptedServer(answer)
    port = await server.start("127.0.0.1", 0)
    try:
        async with gateway(directory, providers_at(port), more) as running:
            yield running, server
    finally:
        server.close()


def request_of(protocol: str, model: str = "m") -> tuple[str, dict[str, Any], str]:
    path, body, header = BODIES[protocol]
    return path.replace("demo", model), {**body, "model": model} if "model" in body else body, header


async def tell(port: int, protocol: str, token: str | None, model: str = "m", **headers: str) -> Answer:
    path, body, header = request_of(protocol, model)
    shown = {} if token is None else {header: f"Bearer {token}" if header == "authorization" else token}
    return await ask(port, "POST", path, body, {**shown, **headers})


def check_refusal(answer: Answer, protocol: str, status: int) -> None:
    assert answer.status == status
    assert shape_of(protocol, answer.json()) == DENIED[status][protocol]
    assert (answer.header("www-authenticate") is not None) == (status == 401)
    id = answer.header("x-penstock-id")
    assert id
    said = answer.body.decode().replace(id, "")  # whose digits may spell anything
    for word in (ISS, "ada", "kid", "signature", "audience", "expired", "rule", "house"):
        assert word not in said


@PROTOCOL
def test_each_algorithm_lets_in_and_nothing_that_only_looks_good(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        async with site(tmp_path, admission()) as (running, server):
            for algorithm in ALGORITHMS:
                assert (await tell(running.port, protocol, by(algorithm))).status == 200, algorithm
            now = int(time())
            for claims in (said(exp=now - 20), said(nbf=now + 20), said(aud=["a", "second"])):  # clocks may differ by 30 s
                assert (await tell(running.port, protocol, by("ES256", claims))).status == 200
            second = sign({"iss": OTHER, "exp": now + 60}, "EdDSA", "okp").decode()
            assert (await tell(running.port, protocol, second)).status == 200
            let_in = len(await running.rows())
            assert let_in == len(ALGORITHMS) + 4
            for name, (token, why) in bad().items():
                answer = await tell(running.port, protocol, token)
                check_refusal(answer, protocol, 401)
                row = await running.last_row()
                assert (row["outcome"], row["status"], row["upstream_status"]) == ("REFUSED", 401, None), name
                assert why in row["cause"], (name, row["cause"])
                assert token not in json.dumps(row)
            assert len(server.log) == let_in, "no provider was asked"
            assert not any("eyJ" in json.dumps(dict(asked.headers)) for asked in server.log), "a token goes to no provider"

    run(main())


@PROTOCOL
@pytest.mark.parametrize(("mode", "by_nobody", "by_a_bad_one"), [
    (None, 401, 401), ("strict", 401, 401), ("optional", 200, 401), ("permissive", 200, 200),
])  # fmt: skip
def test_modes_of_the_listener_and_of_a_route(tmp_path: Path, protocol: str, mode: str | None, by_nobody: int, by_a_bad_one: int) -> None:
    """A route that says otherwise is another door, whichever of both is the laxer."""
    routed = "strict" if mode == "permissive" else "permissive"

    async def main() -> None:
        provider = {"messages": "anthropic", "gemini": "gemini"}.get(protocol, "openai")
        routes = [{"model": "other", "provider": provider, "admission": routed}]
        more: dict[str, Any] = {**admission(**({} if mode is None else {"mode": mode})), "routes": routes}
        async with site(tmp_path, more) as (running, server):
            bad_one = by("RS256", said(exp=1))

            async def seen(model: str) -> tuple[int, int, int, int]:
                answers = [await tell(running.port, protocol, token, model) for token in (None, bad_one, "sk-pst-nobody", by("RS256"))]
                for answer in answers:
                    if answer.status != 200:
                        check_refusal(answer, protocol, 401)
                one, two, three, four = (answer.status for answer in answers)
                return one, two, three, four

            assert await seen("m") == (by_nobody, by_a_bad_one, by_a_bad_one, 200)
            assert await seen("other") == ((401, 401, 401, 200) if routed == "strict" else (200,) * 4)
            rows = await running.rows()
            assert len(server.log) == sum(row["outcome"] == "COMPLETE" for row in rows)
            assert not any(word in json.dumps([dict(asked.headers) for asked in server.log]) for word in ("eyJ", "sk-pst")), "bad ones neither"
            assert all(row["user_id"] in (None, "ada") for row in rows)

    run(main())


@PROTOCOL
def test_rules_by_who_asks_and_from_where(tmp_path: Path, protocol: str) -> None:
    rules: list[dict[str, Any]] = [
        {"name": "house: no interns", "deny": {"claim.roles": ["intern"]}},
        {"name": "house: the office", "require": {"address": ["10.0.0.0/8", "2001:db8::/32"]}},
        {"name": "house: teams", "allow": {"project": "search"}},
        {"name": "house: guests", "allow": {"header.x-guest": "yes"}},
    ]

    async def main() -> None:
        more = admission(rules=rules, trusted_proxies=["127.0.0.0/8", "192.0.2.1"])
        more["admission"]["issuers"][0]["project_claim"] = "dept"
        async with site(tmp_path, more) as (running, server):
            office = {"x-forwarded-for": "10.1.2.3"}
            cases: list[tuple[dict[str, Any], dict[str, str], str | None]] = [
                ({}, office, None),
                ({}, {"x-forwarded-for": "10.9.9.9, 203.0.113.9"}, "'house: the office' is not met"),  # what a client wrote itself
                ({}, {"x-forwarded-for": "203.0.113.9, 2001:db8::7, 192.0.2.1"}, None),
                ({}, {"x-forwarded-for": "10.1.2.3, unknown"}, "'house: the office' could not be evaluated"),
                ({}, {}, "'house: the office' is not met"),
                ({"roles": ["staff", "intern"]}, office, "'house: no interns' denies it"),
                ({"roles": {"intern": True}}, office, "'house: no interns' could not be evaluated"),
                ({"dept": "sales"}, office, "no allow rule allows it"),
                ({"dept": "sales"}, {**office, "x-guest": "yes"}, None),
                ({"roles": ["intern"]}, {**office, "x-guest": "yes"}, "'house: no interns' denies it"),
            ]  # fmt: skip
            for claims, headers, why in cases:
                asked = len(server.log)
                answer = await tell(running.port, protocol, by("ES256", said(**claims)), **headers)
                row = await running.last_row()
                if why is None:
                    assert (answer.status, row["outcome"], len(server.log)) == (200, "COMPLETE", asked + 1), headers
                    continue
                check_refusal(answer, protocol, 403)
                assert (row["outcome"], row["upstream_status"], len(server.log)) == ("REFUSED", None, asked)
                assert why in row["cause"]
                assert row["rule"].startswith("house: ")

    run(main())


@PROTOCOL
def test_an_issuer_rotates_its_keys_and_goes_away(tmp_path: Path, protocol: str) -> None:
    published: list[dict[str, Any]] = [jwk("RSA", "first")]
    asked: list[int] = []

    async def keys(visit: Visit) -> None:
        asked.append(len(published))
        await visit.send(whole(jwks(*published).encode()) if published else whole(b"gone", 503))

    def token(kind: str, kid: str) -> str:
        return sign(said(), kind, kid).decode()

    async def main() -> None:
        server = ScriptedServer(keys)
        url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}/keys"
        one = {"issuer": ISS, "audiences": ["penstock"], "jwks_url": url, "algorithms": ALGORITHMS}
        async with site(tmp_path, {"admission": {"issuers": [one]}}) as (running, _):

            async def status(kind: str, kid: str) -> int:
                return (await tell(running.port, protocol, token(kind, kid))).status

            assert await status("RS256", "first") == 200
            published[:] = [jwk("P-256", "second"), jwk("OKP", "third")]
            seen = await asyncio.gather(*(status("ES256", "second") for _ in range(8)))
            assert seen == [200] * 8, "whoever comes while it is asked waits for the same answer"
            assert asked == [1, 2]
            assert (await status("EdDSA", "third"), await status("RS256", "first")) == (200, 401)
            published.clear()
            assert [await status("RS256", f"made up {number}") for number in range(5)] == [401] * 5
            assert asked == [1, 2], "strangers do not make it ask the issuer again"
            assert await status("ES256", "second") == 200, "the last good ones"
        server.close()

    run(main())
