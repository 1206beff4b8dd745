"""What must never be shown: secrets masked in text, and fingerprints in their place.

Pure. Masking errs towards too much: a word that looks like a key is masked, a sentence around it stays readable. Every pattern is
linear in the text's length (no nested repetition), because the text comes from outsiders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

MASK = "***"
CUT = "\u2026"
"""At the end of a text that was cut."""
SHORTEST = 6
"""Letters of a secret that is looked for by its letters; in a shorter one hides no secret, and it may be any word."""

_KEYISH = r"(?:key|token|secret|password|passwd|credentials?|authorization)"

# A word's beginning. In a string of JSON a line end before it is written as the letter n; providers quote whole JSON documents in their messages.
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"

# Order matters: what names itself by its form first, then what only its surroundings betray.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A URL's user and password.
    (re.compile(r"(?<=://)[^\s/@:]{1,256}:[^\s/@]{1,512}(?=@)"), MASK),
    # JSON Web Tokens: base64url of `{"`; the parts behind the first may be missing where a text was cut.
    (re.compile(_START + r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"), f"eyJ{MASK}"),
    # Keys that begin with their maker's name. OpenAI's own errors show keys with asterisks in the middle.
    # (`?+` keeps what it took: `sk-ant-***` is not read as `sk-` and a key.)
    (re.compile(_START + r"(sk-(?:ant-|proj-|or-|svcacct-)?+|rk-|pk-)[A-Za-z0-9_*-]{5,}"), rf"\1{MASK}"),
    (
        re.compile(_START + r"(gsk_|xai-|hf_|r8_|pplx-|fw_|nvapi-|csk-|tgp_v1_|gh[pos]_|github_pat_|glpat-|ya29\.|1//)[A-Za-z0-9_*./-]{8,}"),
        rf"\1{MASK}",
    ),
    (re.compile(_START + r"AIza[A-Za-z0-9_*-]{8,}"), f"AIza{MASK}"),
    (re.compile(_START + r"A(KIA|SIA)[A-Z0-9]{12,}"), rf"A\1{MASK}"),
    # `Authorization` values of any scheme that carries a secret.
    (re.compile(_START + r"(Bearer|Basic|Token)(\s+)(?=[^\s\"',;]*[0-9_=.*-])[^\s\"',;]{6,}", re.IGNORECASE), rf"\1\2{MASK}"),
    # Query values: `?key=`, `&access_token=`, `&sig=`, `&X-Amz-Signature=`.
    (
        re.compile(
            r"((?:[?&;]|\\u0026)(?:api[-_]?|x-amz-|x-goog-)?(?:key|access_token|token|sig|signature|secret|password|code)=)[^&\s\"'#]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # `api_key: value`, `"token" = "value"`, `secret=value`: whatever the value looks like, a word of prose excepted.
    (
        re.compile(
            rf"({_KEYISH}\\{{0,15}}[\"']?\s{{0,4}}[:=]\s{{0,4}}\\{{0,15}}[\"'`]?)(?!{re.escape(MASK)})"
            r"(?=[^\s\"'`,;]{0,512}[0-9_*=+/-]|[A-Za-z]{24})[^\s\"'`,;&]{6,}",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # A long token, or a UUID, behind a key-ish word: `API key provided: 5f2a...`, `token 'abc...' is not valid`. Names of models have hyphens.
    (
        re.compile(
            rf"({_KEYISH}\b[^\n]{{0,40}}?[\s\"'`:=(])"
            r"(?:(?=[A-Za-z+/_]{0,64}[0-9*])[A-Za-z0-9*+/_=]{16,}(?![A-Za-z0-9*+/_=-])|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)


def mask_secrets(text: str) -> str:
    """`text` with everything that looks like a secret replaced by `***`; the maker's prefix (`sk-ant-`, `AIza`) stays.

    Idempotent on its own output. Linear in the length of `text`.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


# Some makers of models begin their names as they begin their keys (`pplx-embed-v1-4b`): of what begins so, or only its surroundings betray, a
# name is what has no long run of letters.
_NO_NAME = re.compile(
    r"[A-Za-z0-9]{16}|[\s=]|" + _START + r"(?:sk-|rk-|pk-|gsk_|xai-|nvapi-|csk-|tgp_v1_|gh[pos]_|github_pat_|glpat-|ya29\.|eyJ|AIza|A(?:KIA|SIA))")


def mask_name(name: str) -> str:
    """As `mask_secrets`, for what should be a model's name: those that are stay."""
    shown = mask_secrets(name)
    return shown if shown == name or _NO_NAME.search(name) is not None else name


_MAKERS = re.compile(r"(?:sk-(?:ant-|proj-|or-|svcacct-)?+|rk-|pk-|gsk_|xai-|hf_|r8_|pplx-|fw_|nvapi-|csk-|AIza|eyJ)(?=.{5})")


def mask_known(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets` replaced by `***`, whatever it looks like, as it is or as JSON and URLs spell it; what of one stands before
    the `CUT` at the text's end, too. The maker's prefix stays. Those of fewer than `SHORTEST` letters are not looked for."""
    forms = {form: secret for secret in secrets if len(secret) >= SHORTEST for form in _spellings(secret)}
    for form in sorted(forms, key=len, reverse=True):
        maker = _MAKERS.match(forms[form])
        mask = (maker[0] if maker is not None else "") + MASK
        text = text.replace(form, mask)
        if text.endswith(CUT):
            longest = min(len(form), len(text)) - 1
            half = next((n for n in range(longest, SHORTEST - 1, -1) if text.endswith(form[:n] + CUT)), 0)
            text = f"{text[: -half - len(CUT)]}{mask}{CUT}" if half else text
    return text


def _spellings(secret: str) -> tuple[str, ...]:
    return secret, secret.replace("/", "\\/"), quote(secret, safe=""), quote(secret)


@lru_cache(maxsize=256)
def fingerprint(secret: bytes) -> str:
    """The first 12 hex digits of the SHA-256: tells keys apart and leads back to none (keys are long and random)."""
    return sha256(secret).hexdigest()[:12]
