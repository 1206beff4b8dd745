"""What is taken out of a capture before it is kept. Pure.

Heads and URLs: every value that is a credential by its header's or parameter's name, whatever it looks like; in all other values what looks
like one (`wire.secrets`). Bodies: what the configured patterns match, and what looks like a key in the text of JSON, where a backslash or a
quote ends a value, so that JSON stays JSON. Everywhere: the secrets that are known by their letters.

A body is looked at as a whole, never chunk by chunk; marks (the ends of its chunks) move with what is taken out before them. What a model
spells over several events is not one text in these bytes and is not found.

A pattern is tried window by window, so that other threads are let in between: it sees everything before a place, and `AHEAD` characters
behind the window; a match that reaches the end of those is tried again with all that follows. Source of the forms: `wire.secrets`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote, unquote_plus

from penstock.providers.credentials import CREDENTIAL_HEADERS
from penstock.wire.secrets import MASK, mask_secrets

Headers = Sequence[tuple[bytes, bytes]]
Pattern = re.Pattern[str]
Span = tuple[int, int]

WINDOW = 32 * 1024
AHEAD = 8 * 1024
SHORTEST_LITERAL = 8
"""Letters of a secret that is looked for everywhere: shorter ones (`none`, `test`) are words."""

_SECRET_HEADERS = CREDENTIAL_HEADERS | {b"cookie", b"cookie2", b"set-cookie", b"set-cookie2", b"proxy-authorization"}
_SECRET_WORDS = frozenset((
    b"token", b"secret", b"password", b"passwd", b"apikey", b"xapikey", b"credential", b"credentials", b"signature", b"authorization", b"auth",
    b"authentication", b"jwt", b"assertion",
))  # fmt: skip
_SCHEME = re.compile(rb"(?i)(bearer|basic|token|digest)[ \t]")
_NAMES = (
    r"(?:x[-_])?(?:api[-_]?|access[-_]?|client[-_]?|refresh[-_]?|id[-_]?|auth[-_]?|subscription[-_]?|x-amz-|x-goog-)?"
    r"(?:key|token|secret|password|passwd|signature|credential|sig|code|upload_id|security-token|auth|authorization|jwt|assertion|bearer)"
)
_QUERY_NAME = re.compile(rf"{_NAMES}\]?\Z", re.IGNORECASE)
_QUERY_VALUE = re.compile(rf"(?<=[?&;])({_NAMES}=)[^&;\s\"'#]+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@?#]{1,1024}(?=@)")

# A word's beginning: JSON writes a line end before it as the letter n.
_START = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4}))"
_ESCAPED = r"(?:\\{1,15}(?:[nrtbf]|u[0-9A-Fa-f]{4})|\\\\)"
_VALUE = r"[^\s\"'`,;&\\{}\[\]()<>]"
# Of a key or a token a digit is wanted (`"key": "source_url"` names a field); of a password any sign, as `wire.secrets` has it.
_KEYISH = (
    (r"(?i:key|token)", rf"(?={_VALUE}{{0,512}}[0-9]|[A-Za-z]{{24}})"),
    (r"(?i:secret|password|passwd|credentials?|authorization)", rf"(?={_VALUE}{{0,512}}[0-9_*+/=-]|[A-Za-z]{{24}})"),
)

KEY_PATTERNS: tuple[str, ...] = (
    r"(?<=://)(?P<secret>[^\s/@:\"\\]{1,256}:[^\s/@\"\\]{1,512})(?=@)",
    rf"{_START}eyJ(?P<secret>[A-Za-z0-9_-]{{8,}}(?:\.[A-Za-z0-9_-]*){{0,4}})",
    rf"{_START}(?:sk-(?:ant-|proj-|or-|svcacct-)?+|rk-|pk-)(?P<secret>[A-Za-z0-9_*-]{{5,}})",
    rf"{_START}(?:gsk_|xai-|hf_|r8_|pplx-|fw_|nvapi-|csk-|tgp_v1_|gh[pos]_|github_pat_|glpat-|ya29\.|1//)(?P<secret>[A-Za-z0-9_*./-]{{8,}})",
    rf"{_START}AIza(?P<secret>[A-Za-z0-9_*-]{{8,}})",
    rf"{_START}A(?:KIA|SIA)(?P<secret>[A-Z0-9]{{12,}})",
    rf"(?i:{_START}(?:Bearer|Basic|Token))[ \t]+(?={_VALUE}{{0,512}}[0-9_=.*-])(?P<secret>{_VALUE}{{6,}})",
    r"(?i:(?:[?&;]|\\u0026)(?:api[-_]?|x-amz-|x-goog-)?(?:key|access_token|token|sig|signature|secret|password|code)=)(?P<secret>[^&\s\"'#\\]+)",
    # A quoted name has a quoted value: a bare number behind it is a count, and to mask it would break the JSON.
    *(rf"{name}\\{{0,15}}[\"']\s{{0,4}}[:=]\s{{0,4}}\\{{0,15}}[\"'`](?!:){look}(?P<secret>{_VALUE}{{6,}})" for name, look in _KEYISH),
    # A backslash before the value belongs to a quote, or to a letter that JSON writes so: it may not lose what it stands before.
    *(rf"{name}\s{{0,4}}[:=]\s{{0,4}}{_ESCAPED}{{0,4}}(?:\\{{0,15}}[\"'`])?(?!:){look}(?P<secret>{_VALUE}{{6,}})" for name, look in _KEYISH),
    # A long token or a UUID behind such a word, in the same string.
    r"(?i:key|token|secret|password|passwd|credentials?|authorization)\b(?:[^\n\"{}\[\]\\]|\\.){0,40}?[\s\"'`:=(]"
    r"(?P<secret>(?=[A-Za-z+/_]{0,64}[0-9*])[A-Za-z0-9*+/_=]{16,}(?![A-Za-z0-9*+/_=-])|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
)
"""What `wire.secrets` masks in a sentence, for bodies."""


class BadPattern(ValueError):
    """A pattern that is none. Its text is a sentence for people."""


def compile_patterns(texts: Iterable[str], *, mask_keys: bool = True) -> tuple[Pattern, ...]:
    """The configured patterns, and those for keys. Raises `BadPattern`."""
    found: list[Pattern] = []
    for text in texts:
        try:
            found.append(re.compile(text))
        except (re.error, RecursionError, OverflowError) as error:
            raise BadPattern(f"{text!r} is no regular expression: {error}") from None
        if found[-1].fullmatch(""):
            raise BadPattern(f"{text!r} matches nothing at all, and so it matches everywhere")
    return (*found, *(_KEYS if mask_keys else ()))


_KEYS = tuple(re.compile(text) for text in KEY_PATTERNS)
_HINTS: dict[Pattern, tuple[str, ...]] = dict(zip(_KEYS, (
    ("://",), ("eyJ",), ("sk-", "rk-", "pk-"),
    ("gsk_", "xai-", "hf_", "r8_", "pplx-", "fw_", "nvapi-", "csk-", "tgp_v1_", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "ya29.", "1//"),
    ("AIza",), ("AKIA", "ASIA"),
), strict=False))  # fmt: skip
"""One of these stands in every match: looking for them first costs next to nothing, and mostly there are none."""


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """How a secret may be written: as it is, in JSON of those who escape its slashes, in URLs. What is too short to be looked for has none."""
    if len(secret) < SHORTEST_LITERAL:
        return ()
    return tuple(dict.fromkeys((secret, secret.replace(b"/", b"\\/"), quote(secret, safe="").encode(), quote(secret).encode())))


def redact_headers(headers: Headers, literals: Sequence[bytes] = (), patterns: Sequence[Pattern] = ()) -> list[tuple[bytes, bytes]]:
    """The headers in their order and spelling, with no secret in a value."""
    return [(name, redact_value(name, value, literals, patterns)) for name, value in headers]


def redact_value(name: bytes, value: bytes, literals: Sequence[bytes] = (), patterns: Sequence[Pattern] = ()) -> bytes:
    if is_secret_header(name):
        scheme = _SCHEME.match(value)
        return (scheme[0] if scheme else b"") + MASK.encode()
    text = _QUERY_VALUE.sub(rf"\1{MASK}", value.decode("latin-1"))
    return redact_text(mask_secrets(text), literals, patterns).encode("latin-1", "replace")


def is_secret_header(name: bytes) -> bool:
    """Is the value of this header a secret whatever it looks like? Of headers that nobody knows, those that are called so."""
    low = name.lower()
    if low in _SECRET_HEADERS or low.startswith(b"x-penstock-"):
        return True
    words = re.split(rb"[-_]", low)
    return not _SECRET_WORDS.isdisjoint(words) or (words[-1] == b"key" and words[0] not in (b"idempotency", b"sec"))


def redact_target(target: str, literals: Sequence[bytes] = (), patterns: Sequence[Pattern] = ()) -> str:
    """A request target or URL: no credential in its query, no password before its host, no key in its path."""
    path, mark, query = target.partition("?")
    if mark:
        query = re.sub(r"[^&;]+", lambda found: _redact_parameter(found[0]), query)
    return redact_text(_USER.sub(MASK, mask_secrets(path)) + mark + query, literals, patterns)


def redact_text(text: str, literals: Sequence[bytes] = (), patterns: Sequence[Pattern] = ()) -> str:
    """A short text, without the literals and what the patterns match."""
    body, _, _ = redact_body(text.encode("utf-8", "surrogateescape"), (), literals, patterns)
    return body.decode("utf-8", "surrogateescape")


def _redact_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    plain = unquote_plus(name)
    return f"{name}={MASK}" if equals and value and _QUERY_NAME.search(plain) else mask_secrets(part)


def redact_body(
    body: bytes, marks: Sequence[int], literals: Sequence[bytes] = (), patterns: Sequence[Pattern] = (), breathe: Callable[[], None] = lambda: None
) -> tuple[bytes, list[int], int]:
    """The body without its secrets, the marks where they are now, and how many places were masked.

    `marks`: offsets into the body, ascending; one inside of a secret comes to stand behind its mask. `breathe` is called between windows.
    """
    spans = [span for literal in literals if len(literal) >= SHORTEST_LITERAL for span in _find(body, literal)]
    text = body.decode("utf-8", "surrogateescape")
    found = [span for pattern in patterns for span in search(pattern, text, breathe)]
    spans += found if len(text) == len(body) else _in_bytes(text, found)
    merged = _merge(spans)
    return (*_cut(body, marks, merged), len(merged)) if merged else (body, list(marks), 0)


def search(pattern: Pattern, text: str, breathe: Callable[[], None] = lambda: None) -> list[Span]:
    """Where the pattern matches, in order; nothing empty, nothing twice."""
    group = "secret" if "secret" in pattern.groupindex else 0
    spans: list[Span] = []
    if not any(hint in text for hint in _HINTS.get(pattern, ("",))):
        return spans
    at, size = 0, len(text)
    while at < size:
        edge = min(at + WINDOW, size)
        end = min(edge + AHEAD, size)
        while at < edge:
            found = pattern.search(text, at, end)
            if found is None or found.start() >= edge:
                at = edge
                break
            if found.end() == end < size:
                found = pattern.match(text, found.start()) or found
            start, stop = found.span(group)
            if start < stop and text[start:stop] != MASK:
                spans.append((start, stop))
            at = max(found.end(), at + 1)
        breathe()
    return spans


def _find(body: bytes, literal: bytes) -> Iterable[Span]:
    at = body.find(literal)
    while at >= 0:
        yield at, at + len(literal)
        at = body.find(literal, at + len(literal))


def _in_bytes(text: str, spans: Iterable[Span]) -> list[Span]:
    """Places in the text as places in its bytes."""
    places = sorted({place for span in spans for place in span})
    offsets: dict[int, int] = {}
    before = size = 0
    for place in places:
        size += len(text[before:place].encode("utf-8", "surrogateescape"))
        offsets[place] = size
        before = place
    return [(offsets[start], offsets[stop]) for start, stop in spans]


def _merge(spans: Iterable[Span]) -> list[Span]:
    """In order; what overlaps is one."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _cut(body: bytes, marks: Sequence[int], spans: Sequence[Span]) -> tuple[bytes, list[int]]:
    mask = MASK.encode()
    pieces: list[bytes] = []
    moved: list[int] = []
    waiting = iter(marks)
    mark = next(waiting, None)
    at = shift = 0
    for start, stop in spans:
        while mark is not None and mark <= start:
            moved.append(mark + shift)
            mark = next(waiting, None)
        while mark is not None and mark <= stop:
            moved.append(start + shift + len(mask))
            mark = next(waiting, None)
        pieces += (body[at:start], mask)
        shift += len(mask) - (stop - start)
        at = stop
    while mark is not None:
        moved.append(mark + shift)
        mark = next(waiting, None)
    return b"".join((*pieces, body[at:])), moved
