"""What every provider offers: its settings, and the base class that each kind's file fills in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from penstock.providers.credentials import ACCOUNT_HEADER, CREDENTIAL_HEADERS, is_login, strip_query
from penstock.providers.headers import CONNECTION, KEEP, REQUEST_DROP_PREFIXES, REQUEST_DROPS, Header, Verdicts, listed_names, without
from penstock.providers.urls import BadUrl, Origin, first_segment, parse_base, split_version
from penstock.providers.users import user_of, without_credentials
from penstock.vocabulary.ids import Operation, ProtocolId

__all__ = ["Auth", "BadUrl", "Header", "Kind", "Origin", "Provider", "ProviderSettings"]

Kind = Literal["openai", "anthropic", "gemini", "argo_legacy"]
Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key"]

_CREDENTIAL = 3
_ACCOUNT = 4
_DEFAULTED = 5


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider, as configured. Its `repr` shows no secret."""

    name: str
    kind: Kind
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    auth: Auth | None = None
    """How `api_key` is sent; `None`: the kind's own way."""
    ask_usage: bool = True
    """Whether usage may be asked for where a Chat client did not ask."""
    protocols: frozenset[ProtocolId] | None = None
    """A part of what the kind speaks; `None`: all of it."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every request, in place of the client's of the same name."""
    drop_headers: tuple[str, ...] = ()
    """Further names of request headers that stay in the house."""
    user: str | None = None
    """Who is named in each request's body; also the credential, where `api_key` is none."""
    user_from_key: bool = False
    """Each client's own credential is the user, in the body and as the credential; never beside `user` or `api_key`."""
    argo_names: bool = False
    """Clients' names of models are looked up in the provider's list, as argo-proxy does it (`argo_names`)."""
    notices: tuple[str, ...] = ()
    """How an answer of 200 begins that is none; not empty, nor any of them."""
    real_stream: bool | None = None
    """Whether legacy Argo is asked for its stream of raw text, else for whole answers, which are told as streams; `None`: not said, which is yes."""


class Provider:
    """One provider, ready to be asked. Pure: it says where to dial and what to send, and does neither."""

    kind: Kind
    speaks: ClassVar[frozenset[ProtocolId]]
    main_protocol: ProtocolId
    main_operation: Operation
    """What `POST /{provider}` alone does."""
    default_base_url: ClassVar[str]
    default_auth: ClassVar[Auth]
    version: ClassVar[str]
    """The API version that a bare host gets."""
    version_in_base: ClassVar[bool]
    """The kind's official client expects the version in its base URL, so any base path is complete as it is given; otherwise a base
    path that names no version gets it."""
    resources: ClassVar[frozenset[str]]
    """First segments behind the version; elsewhere on the host (`/tokenize`, `/api/oauth`) no version is put in."""
    roots: ClassVar[frozenset[str]] = frozenset()
    """First segments that stand before the version, where others stand behind it."""
    default_headers: ClassVar[tuple[Header, ...]] = ()
    """Added where the client did not send them."""
    lists_to_all: ClassVar[bool] = False
    """Its list of models is given without any credential."""

    __slots__ = (
        "_added", "_base", "_complete", "_defaults", "_first", "_key", "_named", "_verdicts", "host_header", "name", "origin", "protocols",
        "settings",
    )  # fmt: skip

    def __init__(self, settings: ProviderSettings) -> None:
        """Raises `BadUrl`."""
        self.settings = settings
        self.name = settings.name
        self._base = parse_base(settings.base_url)
        self.origin: Origin = self._base.origin
        self.host_header = self.origin.host_header
        self.protocols = self.speaks if settings.protocols is None else self.speaks & settings.protocols
        self._complete = bool(self._base.path) if self.version_in_base else self._base.versioned
        self._named = settings.user is not None or settings.user_from_key
        self._first = "authorization" if self.default_auth == "bearer" else self.default_auth
        key = settings.api_key or settings.user
        self._key = self._key_header(key) if key is not None else None
        self._added: list[Header] = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in settings.headers]
        names = frozenset(name.lower() for name, _ in self._added) | {name.lower().encode("latin-1") for name in settings.drop_headers}
        self._defaults = {name: (name, value) for name, value in self.default_headers if name not in names}
        marks = dict.fromkeys(CREDENTIAL_HEADERS, _CREDENTIAL) | {ACCOUNT_HEADER: _ACCOUNT} | dict.fromkeys(self._defaults, _DEFAULTED)
        self._verdicts = Verdicts(REQUEST_DROPS | names, REQUEST_DROP_PREFIXES, marks)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.settings.base_url!r})"

    @property
    def has_key(self) -> bool:
        return self._key is not None

    def user(self, client_headers: Sequence[Header], query: str) -> str | None:
        """Who is named in the body; `None`: nobody, or the client names nobody although it has to."""
        return user_of(client_headers, query, self._first) if self.settings.user_from_key else self.settings.user

    @property
    def known_models(self) -> tuple[str, ...]:
        """Models that it is known to have before it was asked."""
        return ()

    def target(self, path: str, query: str) -> str:
        """The request target for one of the protocol's own paths, with or without its version: `/v1/messages`, `/chat/completions`."""
        version, rest = split_version(path)
        root = first_segment(path) if not version else ""
        if root and root in self.roots:
            return self.verbatim(path, query)
        if not self._complete:
            rest = f"/{version or self.version}{rest}"
        return _with_query(self._base.path + rest, query)

    def verbatim(self, path: str, query: str) -> str:
        """The request target for what stands behind `/{provider}`: base path and path, no byte changed, no version twice.

        Only a path that begins with one of the protocol's resources gets a version that neither side wrote.
        """
        base = self._base
        version, _ = split_version(path)
        segment = first_segment(path)
        if base.prefix != base.path and (version or segment in self.roots):
            joined = base.prefix + path
        elif not version and not self._complete and segment in self.resources:
            joined = f"{base.path}/{self.version}{path}"
        else:
            joined = base.path + path
        return _with_query(joined or "/", query)

    def headers(self, client_headers: Sequence[Header], query: str) -> tuple[list[Header], str]:
        """What goes upstream of a client's headers and query, in the client's order and spelling, with the credentials put right.

        The caller adds `host`, `accept-encoding` and the framing.
        """
        verdicts = self._verdicts
        known = verdicts.known
        key = self._key
        if self._named:
            user = user_of(client_headers, query, self._first) if self.settings.user_from_key else None
            key = self._key_header(user) if user is not None else key
            client_headers, query = without_credentials(client_headers), strip_query(query)
        sent: list[Header] = []
        withheld: list[tuple[int, Header]] = []
        listed: frozenset[bytes] = frozenset()
        login = account = False
        stated: list[bytes] = []
        for pair in client_headers:
            verdict = known.get(pair[0])
            if verdict is None:
                verdict = verdicts.judge(pair[0])
            if verdict == KEEP:
                sent.append(pair)
            elif verdict == _CREDENTIAL:
                if key is None:
                    sent.append(pair)
                elif is_login(pair[1]):
                    login = True
                    sent.append(pair)
                else:
                    withheld.append((len(sent), pair))
            elif verdict == CONNECTION:
                listed |= listed_names(pair[1])
            elif verdict == _DEFAULTED:
                stated.append(pair[0].lower())
                sent.append(pair)
            elif verdict == _ACCOUNT:
                account = True
                sent.append(pair)
        if account and withheld and not login:
            login = _put_back_login(sent, withheld)
        if listed:
            sent = without(sent, listed)
        if self._defaults:
            sent += [pair for name, pair in self._defaults.items() if name not in stated or name in listed]
        if self._added:
            sent += self._added
        if key is None:
            return sent, query
        if not login:
            sent.append(key)
        return sent, strip_query(query) if query else query

    def _key_header(self, key: str) -> Header:
        auth = self.settings.auth or self.default_auth
        if auth == "bearer":
            return b"Authorization", b"Bearer " + key.encode("latin-1")
        return auth.encode(), key.encode("latin-1")


def _put_back_login(sent: list[Header], withheld: list[tuple[int, Header]]) -> bool:
    """A ChatGPT account is named: the `authorization` beside it is its login, whatever its form."""
    for index, pair in withheld:
        if pair[0].lower() == b"authorization":
            sent.insert(index, pair)
            return True
    return False


def _with_query(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
