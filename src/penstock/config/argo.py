"""argo-proxy's configuration (YAML, versions 1 to 3) -> ours, and what became of each of its keys.

What the old file says is carried over where we have the same; where we have it otherwise, that is written and told; what nobody needs any
more is told with its reason; and an unknown key is told as one. No key is passed over in silence, and none is invented: keys that stand for
argo-proxy's own defaults (its port, its base URL) are written because clients and people count on them.

Two things are not taken over as they are. argo-proxy listens on every address and lends its user to whoever connects; ours listens on loopback
then. And an unknown model was quietly another one there; here it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from penstock.config.argo_keys import LEGACY_URLS, NOT_NEEDED, VARIABLES
from penstock.config.argo_text import Written, write
from penstock.config.document import Node, Scalar, Section, parse
from penstock.config.errors import Place, Problems, Unfit
from penstock.config.resolve import read_resolve
from penstock.config.settings import Address
from penstock.config.values import read_address, read_base_url, read_seconds, read_user
from penstock.wire.secrets import mask_secrets

DEFAULT_BASE = "https://apps-dev.inside.anl.gov/argoapi"
DEFAULT_PORT = 44497
DEFAULT_TEST = "5s"
MODES = ("force", "retry", "passthrough")
_DIGITS = 20
"""Of a number; what is longer is none that anything here counts to."""
_NO_HOST = re.compile(r"(?i)https?://v[0-9]+(?:[:/]|\Z)")
"""What is left of a URL whose host was an empty variable's."""
_TRUE = frozenset({"true", "1", "t", "yes", "on"})


class Fate(StrEnum):
    KEPT = "kept"
    CHANGED = "changed"
    NOT_NEEDED = "not needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one key."""

    line: int | None
    """In the old file; `None`: it is not there."""
    key: str
    value: str
    """As it was written, in short."""
    fate: Fate
    words: str


@dataclass(frozen=True, slots=True)
class Imported:
    text: str
    """Of our file."""
    told: tuple[Told, ...]
    """In the old file's order, then what is not in it."""


def translate(text: str, file: str, environ: Mapping[str, str]) -> Imported:
    """`text`, which is the file `file`, as ours. `environ` is only looked into for variables that argo-proxy would have read.

    Raises `ConfigErrors` where the file cannot be read, has no user, or says what cannot be said here.
    """
    problems = Problems()
    section = parse(text.replace("${", "$${"), {}, file, problems)
    problems.raise_any()
    return _Translation(section, file, environ, problems).run()


class _Translation:
    def __init__(self, section: Section, file: str, environ: Mapping[str, str], problems: Problems) -> None:
        self._nodes = {key.text: (node, Place(file, key.line, mask_secrets(key.text))) for key, node in section.items}
        self._top = Place(file, None, "")
        self._file = Path(file)
        self._environ = environ
        self._problems = problems
        self._told: list[Told] = []
        self._written = Written(file)

    def run(self) -> Imported:
        legacy = self._flag("use_legacy_argo")
        self._users()
        self._listener()
        self._urls(legacy)
        self._modes(legacy)
        self._network()
        self._logs()
        for key, (node, place) in self._nodes.items():
            if key in NOT_NEEDED:
                self._tell(key, Fate.NOT_NEEDED, NOT_NEEDED[key])
            elif all(told.key != key for told in self._told):
                self._told.append(Told(place.line, place.path, _shown(node), Fate.UNKNOWN, "no key of argo-proxy's; it is left out"))
        for variable in sorted(VARIABLES):
            if self._environ.get(variable, "").strip():
                self._told.append(Told(None, variable, "(set in the environment)", Fate.CHANGED,
                                       f"argo-proxy reads this variable and Penstock does not; here it is {VARIABLES[variable]}"))
        self._problems.raise_any()
        order = sorted(self._told, key=lambda told: told.line if told.line is not None else 1 << 30)
        return Imported(write(self._written), tuple(order))

    # -- who ---------------------------------------------------------------------------------------------------------------------------

    def _users(self) -> None:
        passed_through = self._flag("username_passthrough")
        if passed_through:
            self._written.user_from_key = True
            self._tell("username_passthrough", Fate.KEPT, "user_from: api_key on each provider: the client's key is the user, and no other is sent")
        elif "username_passthrough" in self._nodes:
            self._tell("username_passthrough", Fate.NOT_NEEDED, "off is the default")
        if "user" not in self._nodes:
            if not passed_through:
                self._problems.add(self._top, "has no user; write user: NAME into it, or username_passthrough: true if each client names its own")
            return
        if passed_through:
            self._tell("user", Fate.NOT_NEEDED, "with username_passthrough each client names its own user, so no other may be sent")
            return
        node, place = self._nodes["user"]
        try:
            if not isinstance(node, Scalar):
                raise Unfit("must be one name")
            user = read_user(node)
            if user == "cels":
                raise Unfit("'cels' is nobody's name at Argo; write your own")
        except Unfit as error:
            self._problems.add(place, str(error))
            return
        self._written.user = user
        self._tell("user", Fate.KEPT, "user of each provider: in the body, and in the place of a key")

    # -- where clients connect -----------------------------------------------------------------------------------------------------------

    def _listener(self) -> None:
        port = self._number("port", DEFAULT_PORT)
        host = self._text("host") or "0.0.0.0"
        socket = self._text("socket")
        if socket:
            self._written.socket = socket
            self._tell("socket", Fate.KEPT, "socket (mode 0600), in the place of listen")
            for key in ("host", "port"):
                self._tell(key, Fate.NOT_NEEDED, "clients come by the socket")
            return
        self._tell("socket", Fate.NOT_NEEDED, "it is empty")
        try:
            address = read_address(Scalar(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "str"))
        except Unfit as error:
            self._problems.add(self._place("host" if "host" in self._nodes else "port"), str(error))
            return
        if not address.loopback:
            kept = Address("127.0.0.1", address.port)
            if self._written.user_from_key:
                whose, remedy = "everybody could connect", "admission: {open: true}"
            else:
                whose, remedy = "whoever connects would ask Argo under your name", "token: auto"
            words = f"listen: {kept}: on {address.host} {whose}. For others: listen: {address} together with {remedy}"
            self._tell("host", Fate.CHANGED, words, f"(not in the file: {address.host})")
            address = kept
        else:
            self._tell("host", Fate.KEPT, f"listen: {address}")
        self._written.listen = address
        self._tell("port", Fate.KEPT, f"listen: {address}, so that clients find it where it was", f"(not in the file: {DEFAULT_PORT})")

    # -- who is asked --------------------------------------------------------------------------------------------------------------------

    def _urls(self, legacy: bool) -> None:
        self._written.legacy = legacy
        base = self._base()
        self._written.base = base
        self._written.openai_base = self._url("native_openai_base_url", base + "/v1", "base_url of the provider argo")
        anthropic = self._url("native_anthropic_base_url", base, "base_url of the provider argo-anthropic")
        self._written.anthropic_base = _bare(anthropic)
        if legacy:
            self._tell("use_legacy_argo", Fate.KEPT, "the provider argo-legacy takes everything but Anthropic's protocol")
            self._tell("native_openai_base_url", Fate.NOT_NEEDED, "with use_legacy_argo that endpoint is not asked")
        else:
            self._tell("use_legacy_argo", Fate.NOT_NEEDED, "off is the default")

    def _base(self) -> str:
        inferred, by = "", ""
        for key, tail in LEGACY_URLS.items():
            url = self._text(key).rstrip("/")
            if url.endswith(tail) and not inferred:
                inferred, by = url.removesuffix(tail), key
        own = self._text("argo_base_url")
        base = own or inferred or DEFAULT_BASE
        read = _bare(self._checked(base, "argo_base_url" if own else by))
        if own:
            self._tell("argo_base_url", Fate.KEPT, "base_url of each provider")
        elif not inferred:
            self._tell("argo_base_url", Fate.KEPT, "base_url of each provider", f"(not in the file: {DEFAULT_BASE})")
        for key, tail in LEGACY_URLS.items():
            url = self._text(key).rstrip("/")
            if not url:
                self._tell(key, Fate.NOT_NEEDED, "it is empty")
            elif url == read + tail:
                told = "it is where the base URL leads" if own or key != by else f"base_url of each provider is told from it: {base}"
                self._tell(key, Fate.NOT_NEEDED if own or key != by else Fate.KEPT, told)
            else:
                self._tell(key, Fate.CHANGED, f"all endpoints are below one base URL here, {base}; this one was elsewhere and is not asked")
        return read

    def _url(self, key: str, default: str, words: str) -> str:
        own = self._text(key)
        if key in self._nodes:
            self._tell(key, Fate.KEPT if own else Fate.NOT_NEEDED, words if own else "it is empty")
        return self._checked(own, key) if own else default

    def _checked(self, url: str, key: str) -> str:
        try:
            read = read_base_url(Scalar(url, "str")).rstrip("/")
            if _NO_HOST.match(read):
                raise Unfit("has a version where its host should be; write it like https://argo.example.com/v1")
            return read
        except Unfit as error:
            self._problems.add(self._place(key), str(error))
            return DEFAULT_BASE

    # -- how ---------------------------------------------------------------------------------------------------------------------------

    def _modes(self, legacy: bool) -> None:
        mode = self._text("anthropic_stream_mode").lower()
        if mode in MODES:
            self._written.mode = mode
            self._tell("anthropic_stream_mode", Fate.KEPT, "force is the default here too" if mode == "force" else "of the provider argo-anthropic")
        else:
            self._tell("anthropic_stream_mode", Fate.CHANGED, f"it is none of {', '.join(MODES)}; argo-proxy takes force then, the default here")
        real = self._flag("real_stream", default=True)
        if not legacy:
            self._tell("real_stream", Fate.NOT_NEEDED,
                       "it is about the legacy gateway alone; for streams made of whole bodies there is pseudo_stream: true")
        else:
            self._written.real_stream = real
            self._tell("real_stream", Fate.KEPT, "real_stream of the provider argo-legacy")
        self._tell("tool_prompting", Fate.NOT_NEEDED, "tools are prompted for where a model has none of its own")

    def _network(self) -> None:
        timeout = self._text("connection_test_timeout")
        if self._flag("skip_url_validation"):
            self._tell("skip_url_validation", Fate.KEPT, "connection_test_timeout is left out: nobody is asked at the start")
            self._tell("connection_test_timeout", Fate.NOT_NEEDED, "skip_url_validation is on")
        else:
            self._tell("skip_url_validation", Fate.NOT_NEEDED, "off is the default")
            self._written.test = DEFAULT_TEST
            if timeout:
                self._written.test = self._seconds("connection_test_timeout", DEFAULT_TEST)
            self._tell("connection_test_timeout", Fate.KEPT, "the same key: each provider is tried at the start, and a failure is a warning",
                       f"(not in the file: {DEFAULT_TEST})")
        if self._text("timeout"):
            self._written.first_content = self._seconds("timeout", "")
            self._tell("timeout", Fate.CHANGED, "timers.first_content: it bounds the wait for an answer to begin; a healthy one may take any time")
        if "resolve_overrides" in self._nodes:
            self._resolve(*self._nodes["resolve_overrides"])

    def _resolve(self, node: Node, place: Place) -> None:
        problems = Problems()
        found = read_resolve(node, place, problems)
        self._written.resolve = {(f"[{host}]" if ":" in host else host) + f":{port}": at for (host, port), (at, _) in found.items()}
        left = "; ".join(f"left out: {error.path.partition('.')[2] or error.path} {error.message}" for error in problems.found)
        if left:
            self._tell("resolve_overrides", Fate.CHANGED, f"resolve, but {left}")
        else:
            self._tell("resolve_overrides", Fate.KEPT if found else Fate.NOT_NEEDED, "resolve" if found else "it is empty")

    def _logs(self) -> None:
        self._tell("verbose", Fate.NOT_NEEDED, "one line an exchange is logged in any case (log.level); " + NOT_NEEDED["dump_requests"])
        if self._flag("log_to_file"):
            self._written.log_file = str(self._file.with_suffix(".log"))
            self._tell("log_to_file", Fate.KEPT, f"log.file: {self._written.log_file} (not cut into pieces: leave that to logrotate)")
        else:
            self._tell("log_to_file", Fate.NOT_NEEDED, "off is the default")

    # -- reading -----------------------------------------------------------------------------------------------------------------------

    def _tell(self, key: str, fate: Fate, words: str, absent: str = "") -> None:
        """Once for each key. `absent`: how to tell it where the file does not have it; else it is not told then."""
        if any(told.key == key for told in self._told):
            return
        if key in self._nodes:
            node, place = self._nodes[key]
            self._told.append(Told(place.line, key, _shown(node), fate, words))
        elif absent:
            self._told.append(Told(None, key, absent, fate, words))

    def _place(self, key: str) -> Place:
        return self._nodes[key][1] if key in self._nodes else self._top

    def _text(self, key: str) -> str:
        """The one value of `key`; empty where it is not there or empty, and where it is no single value, which is an error then."""
        if key not in self._nodes:
            return ""
        node, place = self._nodes[key]
        if not isinstance(node, Scalar):
            self._problems.add(place, "must be one value")
            return ""
        return "" if node.tag == "null" else node.text.strip()

    def _flag(self, key: str, *, default: bool = False) -> bool:
        text = self._text(key).lower()
        return default if not text else text in _TRUE

    def _number(self, key: str, default: int) -> int:
        text = self._text(key)
        number = text.isdecimal() and len(text) < _DIGITS
        if text and not number:
            self._problems.add(self._place(key), f"{mask_secrets(text[:60])!r} is no number")
        return int(text) if number else default

    def _seconds(self, key: str, default: str) -> str:
        node, place = self._nodes[key]
        try:
            return f"{read_seconds(node if isinstance(node, Scalar) else Scalar('', 'null')):g}s"
        except Unfit as error:
            self._problems.add(place, str(error))
            return default


def _bare(url: str) -> str:
    """A base URL without what clients put behind it, and so do we; its host stays, whatever it is called."""
    start = url.find("://") + 3
    host, slash, path = url[start:].partition("/")
    return (url[:start] + host + f"{slash}{path}".removesuffix("/messages").removesuffix("/v1")).rstrip("/")


def _shown(node: Node) -> str:
    if not isinstance(node, Scalar):
        return "..."
    text = mask_secrets(node.text)
    return text if len(text) <= 60 else text[:60] + "..."
