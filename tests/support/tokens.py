"""Keys and JSON Web Tokens for tests."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from penstock.admission.issuers import Issuer

ISS = "https://id.example.com"
AUD = "penstock"
NOW = 1_800_000_000.0
SHARED = "a shared secret of more than thirty-two bytes"


@cache
def private(kind: str) -> Any:
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "OKP":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            raise KeyError(kind)


def jwk(kind: str, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half, as it is published."""
    if kind == "oct":
        from base64 import urlsafe_b64encode

        found: dict[str, Any] = {"kty": "oct", "k": urlsafe_b64encode(SHARED.encode()).rstrip(b"=").decode()}
    else:
        public = private(kind).public_key()
        algorithm = {"RSA": RSAAlgorithm, "P-256": ECAlgorithm, "P-384": ECAlgorithm, "OKP": OKPAlgorithm}[kind]
        found = algorithm.to_jwk(public, as_dict=True)
    return {**found, **({"kid": kid} if kid is not None else {}), **more}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": list(keys)})


def pem(kind: str) -> bytes:
    return private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**more: Any) -> dict[str, Any]:
    """Good ones; `None` takes one away."""
    said = {"iss": ISS, "aud": AUD, "sub": "ada", "exp": NOW + 600, "iat": NOW, **more}
    return {name: value for name, value in said.items() if value is not None}


def sign(payload: dict[str, Any], algorithm: str = "RS256", kid: str | None = "k1", kind: str | None = None, **header: Any) -> bytes:
    kind = kind or {"ES256": "P-256", "ES384": "P-384", "EdDSA": "OKP"}.get(algorithm, "RSA")
    named = {**({"kid": kid} if kid is not None else {}), **header}
    # Below PyJWT's own checks of claims: some of these are meant to be wrong.
    return PyJWS().encode(json.dumps(payload).encode(), private(kind), algorithm=algorithm, headers=named).encode()


def issuer(**more: Any) -> Issuer:
    said: dict[str, Any] = {"issuer": ISS, "audiences": (AUD,), "algorithms": ("RS256", "PS256", "ES256", "ES384", "EdDSA"), **more}
    return Issuer(**said)
