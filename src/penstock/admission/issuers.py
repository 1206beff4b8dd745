"""JSON Web Tokens: whose they are, and whether they are good (RFC 7519, RFC 8725).

The issuer's configuration names its algorithms; the token's header only chooses among them, and a key serves only the algorithms of its own kind.
So `none` does not exist, and a public key is never taken for the secret of an HMAC. A `crit` header is refused: we know no extension that
must be understood. The clock is the caller's: PyJWT checks the signature and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, cast

import msgspec

from penstock.admission.facts import Unreadable, claim_values
from penstock.admission.subject import Kind, Subject

if TYPE_CHECKING:
    from jwt import PyJWK

_LONGEST = 16 * 1024
_FARTHEST = 1e15
"""Seconds from the epoch: no moment lies beyond it, and a whole number may be larger than any float."""
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"), **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP", **dict.fromkeys(("HS256", "HS384", "HS512"), "oct"),
}  # fmt: skip
"""Algorithms, and the kind of key (`kty`) that each takes."""
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
"""Members of a key that nobody but its issuer should have."""
_SHORTEST_RSA = 2048
"""Bits."""
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
DEFAULT_ALGORITHMS: tuple[str, ...] = ("RS256", "ES256", "EdDSA")


class BadKeys(ValueError):
    """What was read is no set of keys, or holds none that can be used. Its text is a sentence."""


class BadToken(Exception):
    """The token is not good. Its text says why, for the ledger: it is never told to the client."""


class UnknownKey(BadToken):
    """It may be good: no key of its `kid` is known, and the issuer may have rotated its keys."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Exactly one of `jwks_url`, `jwks_file` and `jwks` says where its keys are."""

    issuer: str
    """The claim `iss`, to the letter."""
    audiences: tuple[str, ...]
    """One of them must be in `aud`; `*` alone: any token of this issuer is meant for us."""
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    jwks_url: str | None = None
    jwks_file: str | None = None
    jwks: str | None = field(default=None, repr=False)
    required: tuple[str, ...] = ("exp",)
    skew: float = 30.0
    """Seconds by which clocks may differ."""
    user_claim: str = "sub"
    project_claim: str | None = None
    limits_claim: str | None = None


class KeySet:
    """The keys of one issuer, by `kid`."""

    __slots__ = ("_keys",)

    def __init__(self, keys: list[tuple[str | None, PyJWK, str | None]] | None = None) -> None:
        """`kid`, key, and the one algorithm that it is for, where it says so."""
        self._keys = keys or []

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, algorithm: str) -> PyJWK:
        """The key for a token's header. Raises `UnknownKey`, and `BadToken` where the key is for something else."""
        fits = [one for one in self._keys if one[0] == kid] if kid is not None else self._keys
        if not fits:
            raise UnknownKey("no key of this kid is known" if kid is not None else "no key is known")
        able = [key for _, key, only in fits if key.key_type == KINDS[algorithm] and only in (None, algorithm) and _fits(key, algorithm)]
        if not able:
            raise BadToken("the key is for another algorithm")
        if len(able) > 1:
            raise BadToken("the token does not say which key it was signed with")
        return able[0]


def read_keys(text: str | bytes, issuer: Issuer) -> KeySet:
    """A JWK Set (RFC 7517). Keys that cannot be used here (encryption, unknown kinds, shorter than RFC 7518 wants them) are passed over; of a private
    key the public half is taken. Raises `BadKeys`."""
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        found: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadKeys("is no JSON") from None
    listed: object = cast("dict[str, Any]", found).get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise BadKeys("is no JWK Set: it has no list of keys")
    keys: list[tuple[str | None, PyJWK, str | None]] = []
    kinds = {KINDS[algorithm] for algorithm in issuer.algorithms}
    for one in cast("list[Any]", listed):
        if not isinstance(one, dict):
            continue
        fields = cast("dict[str, Any]", one)
        kid, only, kind = fields.get("kid"), fields.get("alg"), fields.get("kty")
        if not isinstance(kind, str) or kind not in kinds or fields.get("use") not in (None, "sig"):
            continue
        if only is not None and only not in issuer.algorithms:
            continue
        meant: object = fields.get("key_ops")
        if isinstance(meant, list) and "verify" not in meant:
            continue
        if kind != "oct":
            fields = {name: value for name, value in fields.items() if name not in _PRIVATE}
        curve = fields.get("crv")
        fitting = only or next((a for a in issuer.algorithms if KINDS[a] == kind and _CURVES.get(a) in (None, curve)), None)
        if fitting is None:
            continue
        try:
            key = PyJWK(fields, fitting)
        except (PyJWTError, ValueError, TypeError, KeyError):
            continue
        if any(KINDS[algorithm] == kind and _is_long_enough(key, algorithm) for algorithm in issuer.algorithms):
            keys.append((kid if isinstance(kid, str) else None, key, only))
    if not keys:
        raise BadKeys(f"holds no key for {', '.join(issuer.algorithms)} (of RSA, 2048 bits at least; of a shared secret, as many as the hash has)")
    return KeySet(keys)


def issuer_named(token: bytes) -> str | None:
    """The issuer that a token claims, unverified; `None` where the value is no token of this kind (`{` and what may follow it, in base64)."""
    if not token.startswith((b"ey", b"ew")) or token.count(b".") != 2:
        return None
    try:
        claims = _decode_part(token.split(b".")[1])
    except BadToken:
        return None
    found = claims.get("iss")
    return found if isinstance(found, str) else None


def verify(token: bytes, issuer: Issuer, keys: KeySet, now: float) -> Mapping[str, Any]:
    """The claims of a good token. `now` in seconds since the epoch. Raises `BadToken`."""
    from jwt import PyJWS
    from jwt.exceptions import PyJWTError

    parts = token.split(b".")
    if len(parts) != 3 or len(token) > _LONGEST:
        raise BadToken("no token of three parts" if len(parts) != 3 else "it is too long")
    header = _decode_part(parts[0])
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise BadToken("its algorithm is not one of this issuer")
    if "crit" in header:
        raise BadToken("it has a header that must be understood and is not")
    if kid is not None and not isinstance(kid, str):
        raise BadToken("its kid is no text")
    key = keys.find(kid, algorithm)
    try:
        PyJWS().decode_complete(token, key.key, algorithms=[algorithm])
    except (PyJWTError, ValueError, TypeError, RecursionError):
        raise BadToken("its signature is not good") from None
    claims = _decode_part(parts[1])
    _check_claims(claims, issuer, now)
    return claims


def _check_claims(claims: Mapping[str, Any], issuer: Issuer, now: float) -> None:
    if claims.get("iss") != issuer.issuer:
        raise BadToken("it is of another issuer")
    missing = [name for name in issuer.required if claims.get(name) is None]
    if missing:
        raise BadToken(f"it has no {', '.join(missing)}")
    expires, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    if expires is not None and now >= expires + issuer.skew:
        raise BadToken("it has expired")
    if begins is not None and now < begins - issuer.skew:
        raise BadToken("it does not hold yet")
    if issuer.audiences != ("*",):
        said = claims.get("aud")
        listed: list[Any] = cast("list[Any]", said) if isinstance(said, list) else [said]
        if not any(one in issuer.audiences for one in listed if isinstance(one, str)):
            raise BadToken("it is meant for somebody else")


def subject_of(claims: Mapping[str, Any], issuer: Issuer) -> Subject:
    """Who holds a good token. Raises `BadToken` where a claim that names the user, the project or the limits key cannot be read."""
    expires = _moment(claims, "exp")
    until = inf if expires is None else expires + issuer.skew
    user, project = _named(claims, issuer.user_claim), _named(claims, issuer.project_claim)
    return Subject(Kind.JWT, claims=claims, user=user, project=project, limits_key=_named(claims, issuer.limits_claim), until=until)


def _named(claims: Mapping[str, Any], path: str | None) -> str | None:
    if path is None:
        return None
    try:
        values = claim_values(claims, path)
    except Unreadable as error:
        raise BadToken(str(error)) from None
    if len(values) > 1:
        raise BadToken(f"claim {path} has several values")
    return values[0][:256] if values else None


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FARTHEST < value < _FARTHEST:
        raise BadToken(f"its {name} is no time")
    return float(value)


def _decode_part(part: bytes) -> dict[str, Any]:
    from base64 import urlsafe_b64decode

    try:
        found: object = msgspec.json.decode(urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise BadToken("it cannot be read") from None
    if not isinstance(found, dict):
        raise BadToken("it cannot be read")
    return cast("dict[str, Any]", found)


def _fits(key: PyJWK, algorithm: str) -> bool:
    curve = _CURVES.get(algorithm)
    if not _is_long_enough(key, algorithm):
        return False
    return curve is None or getattr(getattr(key.key, "curve", None), "name", None) == _SECP[curve]


def _is_long_enough(key: PyJWK, algorithm: str) -> bool:
    """RFC 7518, 3.2, 3.3 and 3.5: anything shorter must not be used."""
    value: object = key.key
    if isinstance(value, bytes):
        return algorithm[:2] == "HS" and 8 * len(value) >= int(algorithm[2:])
    return KINDS[algorithm] != "RSA" or getattr(value, "key_size", 0) >= _SHORTEST_RSA


_SECP = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}
