"""From one scalar to one value. Each reader says what it takes, by `Unfit`, and never repeats a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from penstock.capture.redact import BadPattern, compile_patterns
from penstock.capture.settings import LARGEST
from penstock.config.document import Scalar
from penstock.config.errors import Unfit
from penstock.config.settings import Address
from penstock.providers.urls import BadUrl, parse_base
from penstock.routing.globs import BadGlob, Glob

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOSTNAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?\Z")
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|KB|MB|GB|K|M|G)?\Z", re.IGNORECASE | re.ASCII)
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30,
          "kb": 10**3, "mb": 10**6, "gb": 10**9}
_DURATION = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 366 * 86_400.0
_MONEY = re.compile(r"\$?[0-9]{1,6}(?:\.[0-9]{1,12})?\Z")
_PART = re.compile(r"(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)\s*(%?)\Z")
_COUNT = re.compile(r"[0-9]{1,12}\Z")
_MOST_RETRIES = 10
_MILLISECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
_LONGEST_PIECE = 10_000
"""Milliseconds between two pieces: far below every timer."""
_LONGEST_USER = 256
_SHORTEST_NOTICE = 12
_OFF = frozenset({"off", "false", "no"})
"""YAML 1.1 takes all three for the same thing, and people write it so."""


def _taken_for(value: Scalar) -> str:
    return {"int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a date"}.get(value.tag, "something else")


def read_text(value: Scalar) -> str:
    """A word or more; numbers and the like must stand in quotes, so that nobody wonders what `1.10` became."""
    if value.tag == "null" or not value.text.strip():
        raise Unfit("is empty; write a value or leave the key out")
    if value.tag != "str":
        raise Unfit(f"YAML takes this for {_taken_for(value)}; put it into quotes: \"{value.text}\"")
    return value.text


def choice(words: tuple[str, ...]) -> Callable[[Scalar], str]:
    """A reader of one of `words`."""

    def read(value: Scalar) -> str:
        if "off" in words and _is_off(value):
            return "off"
        text = read_text(value).strip()
        if text not in words:
            close = get_close_matches(text.lower(), words, n=1, cutoff=0.6)
            raise Unfit(f"{value.shown} is none of {', '.join(words)}" + (f"; did you mean {close[0]!r}?" if close else ""))
        return text

    return read


def read_address(value: Scalar) -> Address:
    text = value.text.strip() if value.tag == "int" else read_text(value).strip()
    example = "write HOST:PORT, like 127.0.0.1:4270 or '[::1]:4270'"
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = "127.0.0.1", text
    if not re.match(r"[0-9]{1,5}\Z", port) or int(port) > 65535:
        raise Unfit(f"{value.shown} has no port from 0 to 65535; {example}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Unfit(f"{value.shown}: an IPv6 address stands in brackets; {example}")
    if not host:
        raise Unfit(f"{value.shown} names no host; write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for everybody")
    if not _HOSTNAME.match(host) or host.startswith("*"):
        raise Unfit(f"{value.shown} is no address; {example}")
    return Address(host.lower(), int(port))


def read_size(value: Scalar) -> int:
    found = _SIZE.match(value.text.strip())
    size = int(found.group(1)) * _SIZES[(found.group(2) or "").lower()] if found else 0
    if size <= 0:
        raise Unfit(f"{value.shown} is no size; write bytes, or a number with KiB, MiB or GiB, like 64MiB")
    return size


def read_capture_size(value: Scalar) -> int:
    size = read_size(value)
    if size > LARGEST:
        raise Unfit(f"{value.shown} is more than one capture may hold; write at most {LARGEST >> 20}MiB")
    return size


def read_pattern(value: Scalar) -> str:
    """A regular expression that finds something; as text, for it is used elsewhere."""
    text = read_text(value)
    try:
        compile_patterns([text], mask_keys=False)
    except BadPattern as error:
        raise Unfit(str(error).replace(repr(text), value.shown)) from None  # it may hold what it is to find
    return text


def read_seconds(value: Scalar) -> float:
    """Seconds above 0, at most a year: nothing here can be off."""
    if _is_off(value):
        raise Unfit(f"{value.shown}: this cannot be off; write seconds, or a number with ms, s, m or h, like 10s")
    return _seconds(value, "")


def read_seconds_or_off(value: Scalar) -> float | None:
    """Seconds above 0, at most a year; `None` for `off`. A 0 is refused, for it may be meant as `off` or as `at once`."""
    return None if _is_off(value) else _seconds(value, ", or off")


def _stated(value: Scalar) -> str:
    text = value.text.strip()
    if not text or value.tag == "null":
        raise Unfit("is empty; write a value or leave the key out")
    return text


def _is_off(value: Scalar) -> bool:
    return value.text.strip().lower() in _OFF


def _seconds(value: Scalar, or_off: str) -> float:
    found = _DURATION.match(_stated(value))
    if found is None:
        raise Unfit(f"{value.shown} is no duration; write seconds, or a number with ms, s, m or h, like 10s{or_off}")
    seconds = float(found.group(2)) * _SECONDS[found.group(3) or ""]
    if found.group(1) or not seconds:
        raise Unfit(f"{value.shown} is not above 0; write seconds, or a number with ms, s, m or h, like 10s{or_off}")
    if seconds > _LONGEST:
        raise Unfit(f"{value.shown} is more than a year; write a shorter time{or_off}")
    return seconds


def read_days(value: Scalar) -> int | None:
    """Days; `None` for `forever`."""
    text = value.text.strip().lower()
    if text == "forever":
        return None
    found = re.match(r"(\d{1,6})\s*(?:d|days?)?\Z", text)
    if found is None or int(found.group(1)) == 0:
        raise Unfit(f"{value.shown} is no number of days; write one, like 90, or forever")
    return int(found.group(1))


def read_count(value: Scalar) -> int:
    text = value.text.strip()
    if not _COUNT.match(text) or int(text) == 0:
        raise Unfit(f"{value.shown} is no whole number above 0")
    return int(text)


def read_count_or_off(value: Scalar) -> int | None:
    """A whole number above 0; `None` for `off`."""
    if _is_off(value):
        return None
    text = _stated(value)
    if not _COUNT.match(text) or int(text) == 0:
        raise Unfit(f"{value.shown} is no whole number above 0; write one, or off for no limit")
    return int(text)


def read_retries(value: Scalar) -> int:
    """How many further tries; 0 (and `off`) for none."""
    if _is_off(value):
        return 0
    text = _stated(value)
    if not _COUNT.match(text) or int(text) > _MOST_RETRIES:
        raise Unfit(f"{value.shown} is no number of further tries; write one from 0 to {_MOST_RETRIES}")
    return int(text)


def read_chars(value: Scalar) -> int | None:
    """How many characters a piece has; `None`: a word each."""
    text = _stated(value)
    if text.lower() == "words":
        return None
    if not _COUNT.match(text) or int(text) == 0:
        raise Unfit(f"{value.shown} is no whole number above 0; write one, or words")
    return int(text)


def read_milliseconds(value: Scalar) -> float:
    """Milliseconds, 0 and more, at most ten seconds; in seconds."""
    text = _stated(value)
    if not _MILLISECONDS.match(text) or float(text) > _LONGEST_PIECE:
        raise Unfit(f"{value.shown} is no number of milliseconds from 0 to {_LONGEST_PIECE}; write one, like 20")
    return float(text) / 1e3


def only_off(instead: str) -> Callable[[Scalar], str]:
    """A reader of `off`, for keys whose other form is a mapping."""

    def read(value: Scalar) -> str:
        if not _is_off(value):
            raise Unfit(f"{value.shown} does not fit; write off, or {instead}")
        return "off"

    return read


def read_flag(value: Scalar) -> bool:
    text = value.text.strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise Unfit(f"{value.shown} is neither true nor false")


def read_switch(value: Scalar) -> str:
    """`on` or `off`, which YAML 1.1 takes for true and false."""
    text = value.text.strip().lower()
    if text not in ("on", "off", "true", "false", "yes", "no"):
        raise Unfit(f"{value.shown} is neither on nor off")
    return "on" if text in ("on", "true", "yes") else "off"


def read_usd(value: Scalar) -> Decimal:
    """US dollars, at most a million; exact."""
    if value.tag == "null" or not _MONEY.match(value.text.strip()):
        raise Unfit(f"{value.shown} is no price; write US dollars per million tokens, like 0.25")
    return Decimal(value.text.strip().removeprefix("$"))


def read_discount(value: Scalar) -> Decimal:
    """What is left of a price: `15%` and `0.15` are 0.85. A surcharge is a discount below 0."""
    found = _PART.match(value.text.strip())
    if found is None:
        raise Unfit(f"{value.shown} is no discount; write a part of the price, like 15%")
    part = Decimal(found.group(1)) / (100 if found.group(2) else 1)
    if not -10 <= part <= 1:
        raise Unfit(f"{value.shown} is no discount; write a part of the price of at most 100%, like 15%")
    return 1 - part


def read_path(value: Scalar) -> Path:
    """As written; `load` makes it absolute."""
    text = read_text(value)
    if "\0" in text:
        raise Unfit("a path holds no NUL")
    return Path(text)


def read_secret(value: Scalar) -> str:
    """A key or token as it goes into a header."""
    if value.tag == "null" or not value.text.strip():
        source = f"{value.shown} is empty" if value.raw is not None else "is empty"
        raise Unfit(f"{source}; write the key, or leave the line out")
    text = value.text.strip()
    if value.tag not in ("str", "int"):
        raise Unfit(f"YAML takes this for {_taken_for(value)}; put it into quotes")
    if not all("!" <= char <= "~" for char in text):
        raise Unfit("holds a blank, a line break or another character that no key has; is it the right value?")
    return text


def read_user(value: Scalar) -> str:
    """A user's name as it goes into a header and a body. One of digits alone needs no quotes."""
    text = value.text.strip() if value.tag == "int" else read_text(value).strip()
    if len(text) > _LONGEST_USER or not all("!" <= char <= "~" for char in text):
        raise Unfit("holds a blank or another character that no user's name has, or is too long; write the name alone")
    return text


def read_notice(value: Scalar) -> str:
    """Some words by which a notice is known, in one line."""
    text = " ".join(read_text(value).split())
    if sum(char.isascii() and char.isalnum() for char in text) < _SHORTEST_NOTICE:
        raise Unfit(f"{value.shown} is too short to tell a notice from an answer; write its first words")
    if not (text[0].isascii() and text[0].isalnum()):
        raise Unfit(f"{value.shown} begins with a sign; leave out what stands before its first letter, for that is not looked at")
    return text


def read_glob(value: Scalar) -> Glob:
    try:
        return Glob(read_text(value))
    except BadGlob as error:
        raise Unfit(str(error)) from None


def read_model(value: Scalar) -> str:
    text = read_text(value)
    if any(char < " " or char == "\x7f" for char in text):
        raise Unfit("holds a control character")
    if "*" in text:
        raise Unfit(f"{value.shown} is what the provider is told, so it must be one name, without '*'")
    return text


def read_base_url(value: Scalar) -> str:
    text = read_text(value).strip()
    try:
        parse_base(text)
    except BadUrl as error:
        raise Unfit(str(error)) from None
    return text


def read_database_url(value: Scalar) -> str:
    text = read_text(value).strip()
    try:
        scheme = urlsplit(text).scheme.partition("+")[0]
    except ValueError:
        scheme = ""  # half an IPv6 address
    if scheme not in ("postgresql", "sqlite"):
        raise Unfit("is no database that the ledger knows; write postgresql://USER:PASSWORD@HOST/NAME or sqlite:////absolute/path.db")
    return text


def read_header_name(value: Scalar) -> str:
    text = read_text(value).strip()
    if not _TOKEN.match(text):
        raise Unfit(f"{value.shown} is no name that a header can have")
    return text.lower()


def read_header_value(value: Scalar) -> str:
    text = read_text(value) if value.tag in ("str", "null") else value.text
    if not all(char == "\t" or " " <= char <= "~" or "\xa0" <= char <= "\xff" for char in text):
        raise Unfit("holds a line break or another character that no header may carry")
    return text.strip()


def read_host(value: Scalar) -> str:
    text = read_text(value).strip()
    if not _HOSTNAME.match(text):
        raise Unfit(f"{value.shown} is no host name; write a name without scheme and port, like gateway.example.com or *.example.com")
    return text.lower()
