"""The built-in recognisers: what is looked for, how it looks, what it must be beyond its looks, and what stands in its place.

Each pattern can be judged on a stream (`syntax`), and its longest match is short: of what may be long (a token, a private key) the pattern is only
the beginning that cannot be anything else, and `run` says which characters then belong to it; they are masked as they come, and nothing is held
for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock.policy import checks
from penstock.policy.tree import BEGIN, END, UNSPACED


@dataclass(frozen=True, slots=True)
class Recogniser:
    pattern: str
    mask: str
    means: str
    check: Callable[[str], int] | None = None
    """How many characters of a match are the thing (`checks`)."""
    run: re.Pattern[str] | None = None
    """All that belongs to a match behind its pattern; matches the empty text too. A full stop at its end does not belong to it."""
    until: re.Pattern[str] | None = None
    """Where, inside of `run`, it ends."""
    most: int = 0
    """Characters of `run` at most."""


_WORD_RUN = re.compile(r"[A-Za-z0-9_-]*")
_TOKEN_RUN = re.compile(r"[A-Za-z0-9_.+/=-]*")
_PEM_RUN = re.compile(r"[^`\[\]{}\x80-\U0010ffff]*")
"""Headers too (`Version: GnuPG v2 (GNU/Linux)`, `Comment: Ada <ada@example.com>`), and what quotes a line (`> `)."""
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----")
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
"""Of a domain, in any script; some write `_` there."""
_TOP = (
    rf"(?:xn--[A-Za-z0-9-]{{1,58}}[A-Za-z0-9]|[^\W\d_{UNSPACED}]{{2,24}}"
    "|中国|中國|香港|澳门|澳門|台湾|台灣|新加坡|公司|网络|網絡|网站|网址|在线|みんな|コム|한국|닷컴|닷넷|ไทย|คอม|ລາວ)"
)
"""The last label. Of scripts without spaces only those that are given out (IANA's root zone), for anything may stand right behind them."""
_LONGEST_TOKEN = 8192
_SPACE = " \u00a0\u2007\u2009\u202f"
_DASH = "\u2010-\u2013-"
_HYPHEN = "\u2010\u2011-"
"""What stands between the groups of a number, as a member of a class: models set them with spaces and hyphens at which no line breaks, too. A
hyphen before them says that the number is longer; a dash may be the sentence's."""

RECOGNISERS: Mapping[str, Recogniser] = {
    "email": Recogniser(
        rf"[\w.+%-]{{1,64}}@(?:{_LABEL}\.){{1,4}}{_TOP}", "[EMAIL]", "E-mail addresses"),
    "phone": Recogniser(
        BEGIN + rf"(?<![+.{_HYPHEN}])(?:\+[0-9](?:[{_SPACE}.()/{_DASH}]{{0,2}}[0-9]){{7,14}}"
        rf"|(?:1[{_SPACE}.{_DASH}]?\(|\()[0-9]{{3}}\)[{_SPACE}]?[0-9]{{3}}[{_SPACE}.{_DASH}][0-9]{{4}}"
        rf"|(?:1[{_SPACE}.{_DASH}]?[0-9]{{3}}|[0-9]{{3}})[{_SPACE}.{_DASH}][0-9]{{3}}[{_SPACE}.{_DASH}][0-9]{{4}})" + END,
        "[PHONE]", "Telephone numbers: international with +, and those of North America in groups", checks.phone),
    "card": Recogniser(
        BEGIN + rf"(?<![0-9]\.)[0-9](?:[{_SPACE}{_DASH}]?[0-9]){{11,18}}" + END, "[CARD]", "Payment cards, with their check digit", checks.card),
    "ssn": Recogniser(
        BEGIN + rf"(?<![{_HYPHEN}])(?:[0-9]{{3}}[{_DASH}][0-9]{{2}}[{_DASH}][0-9]{{4}}|[0-9]{{3}}[{_SPACE}][0-9]{{2}}[{_SPACE}][0-9]{{4}})" + END,
        "[SSN]", "US Social Security numbers", checks.ssn),
    "sin": Recogniser(
        BEGIN + rf"(?<![{_HYPHEN}])(?:[0-9]{{3}}[{_DASH}][0-9]{{3}}[{_DASH}][0-9]{{3}}|[0-9]{{3}}[{_SPACE}][0-9]{{3}}[{_SPACE}][0-9]{{3}})" + END,
        "[SIN]", "Canadian Social Insurance Numbers, with their check", checks.sin),
    "iban": Recogniser(
        BEGIN + rf"[A-Z]{{2}}[0-9]{{2}}(?:[{_SPACE}]?[A-Z0-9]){{11,30}}" + END, "[IBAN]",
        "International bank account numbers, with their check digits", checks.iban),
    "ip_v4": Recogniser(
        BEGIN + r"(?<![0-9]\.)[0-9]{1,3}(?:\.[0-9]{1,3}){3,5}" + END, "[IP]", "IPv4 addresses", checks.ip_v4),
    "ip_v6": Recogniser(
        BEGIN + r"(?<![:.])(?:[0-9A-Fa-f]{1,4}:|::)(?:[0-9A-Fa-f]{0,4}:){0,7}[0-9A-Fa-f]{0,4}(?:(?:\.[0-9]{1,3}){3})?", "[IP]", "IPv6 addresses",
        checks.ip_v6),
    "cloud_key": Recogniser(
        r"(?<![A-Za-z0-9])(?:A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}" + END + r"|AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20}|GOCSPX-[0-9A-Za-z_-]{20}"
        r"|(?i:(?:aws.{0,20}?(?:secret|key)|secret[_ ]?access[_ ]?key).{0,20}?[\s=:\"']{1,4})(?P<secret>[A-Za-z0-9/+]{40})"
        r"|AccountKey=(?P<account>[A-Za-z0-9+/]{40}))",
        "[CLOUD_KEY]", "Keys of AWS, Google Cloud and Azure", run=_TOKEN_RUN, most=_LONGEST_TOKEN),
    "api_token": Recogniser(
        r"(?<![A-Za-z0-9])(?:sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{16}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16}"
        r"|gh[pousr]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20}|glpat-[A-Za-z0-9_-]{16}|xox[abeoprs]-[A-Za-z0-9-]{10}|hf_[A-Za-z0-9]{20}"
        r"|gsk_[A-Za-z0-9]{20}|xai-[A-Za-z0-9]{20}|r8_[A-Za-z0-9]{20}|nvapi-[A-Za-z0-9_-]{20}|npm_[A-Za-z0-9]{20}|pypi-[A-Za-z0-9_-]{20}"
        r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16}|dop_v1_[a-f0-9]{20}|shpat_[a-fA-F0-9]{20})",
        "[TOKEN]", "Tokens that begin with their maker's sign: OpenAI, Anthropic, GitHub, GitLab, Slack, Stripe and others",
        run=_WORD_RUN, most=_LONGEST_TOKEN),
    "jwt": Recogniser(
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{6}", "[JWT]", "JSON Web Tokens", run=_TOKEN_RUN, most=_LONGEST_TOKEN),
    "private_key": Recogniser(
        r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----", "[PRIVATE_KEY]", "Private keys in PEM and PGP form",
        run=_PEM_RUN, until=_PEM_END, most=4 * _LONGEST_TOKEN),
}  # fmt: skip

GROUPS: Mapping[str, tuple[str, ...]] = {
    "ip": ("ip_v4", "ip_v6"),
    "secrets": ("cloud_key", "api_token", "jwt", "private_key"),
    "pii": ("email", "phone", "card", "ssn", "sin", "iban"),
}
"""Several by one word."""


def names_of(word: str) -> tuple[str, ...]:
    """The recognisers that `word` means; empty where it is none."""
    return GROUPS.get(word) or ((word,) if word in RECOGNISERS else ())
