"""Base URLs, and how a client's path is put behind one.

A *version* is a path segment such as `v1`, `v1beta` or `v1alpha`. The official clients differ in who writes it: OpenAI's has it in the
base URL, Anthropic's and Google's put it behind the base URL (`https://api.deepseek.com/anthropic` + `/v1/messages`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import unquote, urlsplit

import msgspec

_VERSION = re.compile(r"v\d+(?:(?:alpha|beta|p)\d*)*\Z")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*\Z")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class BadUrl(ValueError):
    """A base URL that cannot be used. Its text says what to write; it never repeats the URL, which may hold a secret."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where to dial; the key of a connection pool. With a `socket_path`, `host` and `port` are only names."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    socket_path: str | None = None

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL, taken apart. `path` has no slash at its end and is empty for a bare host."""

    origin: Origin
    path: str
    prefix: str
    """`path` without a version at its end."""
    versioned: bool
    """A version stands somewhere in `path`."""


def split_version(path: str) -> tuple[str, str]:
    """`/v1/models` is (`v1`, `/models`); `/models` is (``, `/models`)."""
    head, slash, rest = path[1:].partition("/")
    if _VERSION.match(head):
        return head, slash + rest
    return "", path


def first_segment(path: str) -> str:
    """The first segment without a custom method: `/models:batch` is `models`."""
    return path[1:].partition("/")[0].partition(":")[0]


def parse_base(url: str) -> BaseUrl:
    """Take `url` apart. Raises `BadUrl`.

    `http://` and `https://` as usual; `unix:/run/x.sock`, `http+unix:///run/x.sock` and `http+unix://%2Frun%2Fx.sock/v1` for unix
    sockets, where `unix:/run/x.sock:/v1` puts a path behind the socket's.
    """
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in ("http", "https", "unix", "http+unix"):
        raise BadUrl("a base URL begins with https:// or http:// (or unix: for a socket)")
    origin, path = _socket(url) if "unix" in scheme else _network(url)
    path = path.rstrip("/")
    if not _PATH.match(path) or any(unquote(part) in (".", "..") for part in path.split("/")):
        raise BadUrl("the path of the base URL holds characters or '..' that no path may have")
    prefix, _, last = path.rpartition("/")
    return BaseUrl(
        origin=origin,
        path=path,
        prefix=prefix if _VERSION.match(last) else path,
        versioned=any(_VERSION.match(part) for part in path.split("/")),
    )


def _network(url: str) -> tuple[Origin, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadUrl("the base URL's host or port is not valid; write it like https://api.example.com or http://127.0.0.1:8000") from None
    if parts.username is not None or parts.password is not None:
        raise BadUrl("a base URL holds no user name or password; put the key into api_key")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise BadUrl("a base URL has no query and no fragment; leave out everything from '?' or '#' on")
    if any(char <= " " or char == "\x7f" for char in url):
        raise BadUrl("the base URL holds a blank or a control character")
    if not parts.hostname:
        raise BadUrl("the base URL has no host; write it like https://api.example.com")
    if port == 0:
        raise BadUrl("port 0 is no port to dial")
    return Origin(scheme=parts.scheme, host=_host(parts.hostname), port=port or _DEFAULT_PORTS[parts.scheme]), parts.path


def _host(host: str) -> str:
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise BadUrl("the base URL's host is not a valid IPv6 address") from None
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise BadUrl("the base URL's host is not a valid name") from None
    if not _HOST.match(name) or len(name) > 253:
        raise BadUrl("the base URL's host is not a valid name")
    return name.lower()


def _socket(url: str) -> tuple[Origin, str]:
    rest = url.partition(":")[2]
    rest = rest[2:] if rest.startswith("//") else rest
    if rest[:3].upper() == "%2F":
        encoded, slash, path = rest.partition("/")
        socket_path, path = unquote(encoded), slash + path
    else:
        socket_path, _, path = rest.partition(":")
    if not socket_path.startswith("/") or "\0" in socket_path or (path and not path.startswith("/")):
        raise BadUrl("write a unix socket with its absolute path: unix:/run/server.sock, or unix:/run/server.sock:/v1 with a base path")
    return Origin(scheme="http", host="localhost", port=80, socket_path=socket_path), path
