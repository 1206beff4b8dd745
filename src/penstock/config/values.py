"""From one scalar to one value. Each reader says what it takes, by `Unfit`, and never repeats a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from penstock.config.document import Scalar
from penstock.config.errors import Unfit
from penstock.config.settings import Address
from penstock.providers.urls import BadUrl, parse_base
from penstock.routing.globs import BadGlob, Glob

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_HOSTNAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?\Z")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|KB|MB|GB|K|M|G)?\Z", re.IGNORECASE)
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30,
          "kb": 10**3, "mb": 10**6, "gb": 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


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
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
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


def read_seconds(value: Scalar) -> float:
    found = _DURATION.match(value.text.strip())
    seconds = float(found.group(1)) * _SECONDS[found.group(2) or ""] if found else 0.0
    if seconds <= 0:
        raise Unfit(f"{value.shown} is no duration; write seconds, or a number with ms, s, m or h, like 10s")
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
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise Unfit(f"{value.shown} is no whole number above 0")
    return int(text)


def read_flag(value: Scalar) -> bool:
    text = value.text.strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise Unfit(f"{value.shown} is neither true nor false")


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
    scheme = urlsplit(text).scheme.partition("+")[0]
    if scheme not in ("postgresql", "sqlite"):
        raise Unfit("is no database that the ledger knows; write postgresql://USER:PASSWORD@HOST/NAME or sqlite:////absolute/path.db")
    return text


def read_header_name(value: Scalar) -> str:
    text = read_text(value).strip()
    if not _TOKEN.match(text):
        raise Unfit(f"{value.shown} is no name that a header can have")
    return text.lower()


def read_header_value(value: Scalar) -> str:
    text = read_text(value) if value.tag == "str" else value.text
    if not all(char == "\t" or " " <= char <= "~" or "\xa0" <= char <= "\xff" for char in text):
        raise Unfit("holds a line break or another character that no header may carry")
    return text.strip()


def read_host(value: Scalar) -> str:
    text = read_text(value).strip()
    if not _HOSTNAME.match(text):
        raise Unfit(f"{value.shown} is no host name; write a name without scheme and port, like gateway.example.com or *.example.com")
    return text.lower()
