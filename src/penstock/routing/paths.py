"""From method and path to an endpoint.

In this order: the fixed paths; paths with an id; Gemini's; `/api/oauth/...`; `/{provider}` and what is below it; Argo's own two. Methods are not
guessed: a known path with another method is 405, anything else 404, and the sentence says how to reach a provider all the same.

Below `/{provider}` a path goes on as it is spelled, but is recognised in every spelling in which a server may take it for a known one
(`//v1/chat/completions/`, `/v1/ch%61t/completions`): what rules, limits and guards hold for is not to be gone around by a slash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote

from penstock.routing.endpoints import (
    ARGO_PATHS,
    FIXED,
    GEMINI_METHODS,
    GEMINI_RESOURCES,
    GEMINI_VERSIONS,
    ITEMS,
    PROTOCOL_PATHS,
    SHARED,
    Allowed,
    Body,
    Endpoint,
    Face,
    Refusal,
)
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import Operation, ProtocolId

_SUSPECT = re.compile(r"[\\%;]|/\.|[^!-~]")
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_ANY = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_BY_ID = frozenset({Operation.RESPONSE_ITEM, Operation.FILES, Operation.BATCHES})
_COLON = re.compile(r"%3a", re.IGNORECASE)
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"/{2,}")
_PROJECT = re.compile(r"/(?:v1(?:beta1|beta|alpha)?/)?(?:projects/(?:[^/]+/)+(?:models|endpoints)|publishers/[^/]+/models)/[^/]+")
"""Vertex AI puts a project in front: `/v1/projects/p/locations/l/publishers/google/models/m:generateContent`, `.../endpoints/123:generateContent`;
or, where a key says it (express mode), only the publisher."""
_VERSION = re.compile(r"/v[0-9]+[a-z0-9]*(?=/)", re.IGNORECASE)
"""Some providers have another than we know: `https://open.bigmodel.cn/api/paas/v4`."""
_ENDS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")
"""Below a provider's name, whatever stands in front: `/openai/deployments/NAME/chat/completions` (Azure), `/beta/completions` (DeepSeek)."""
_STORED: tuple[tuple[re.Pattern[str], ProtocolId], ...] = (
    (re.compile(r"(?:/v[0-9][^/]*)?/chat/completions(?:/[^/]+)?", re.IGNORECASE), ProtocolId.OPENAI_CHAT),
    (re.compile(r"(?:/v[0-9][^/]*)?/conversations/[^/]+/items(?:/[^/]+)?", re.IGNORECASE), ProtocolId.OPENAI_RESPONSES),
)
"""Where OpenAI tells answers again that it has stored (`store`), besides `/responses/ID`."""
_KEPT = re.compile(r"/(responses|files|uploads|batches)/([^/]+)", re.IGNORECASE)
"""What is asked for by its id, whatever stands in front: `/openai/v1/responses/ID` (Azure), `/vector_stores/ID/files/ID`."""
_SPOKEN = re.compile(
    r"(?::(?:generateAnswer|(?:direct|stream)?RawPredict|directPredict|serverStreamingPredict)|/endpoints/[^/]+:predict)$", re.IGNORECASE)
"""Custom methods of Google's by which a model speaks, in an answer of another form: its own, or (Vertex AI) that of the model's maker. `:predict` of
a publisher's model is for pictures and vectors, and some of Google's speak there; behind an endpoint stands whatever its owner has deployed there,
most often a model that speaks."""
_PREDICTED = re.compile(r":predict$", re.IGNORECASE)
_INTERACTIONS = re.compile(r"/interactions(?:/|$)", re.IGNORECASE)


def resolve(
    method: str, path: str, has_anthropic_version: bool, providers: Mapping[str, Face], googles: bool = False
) -> Endpoint | Refusal | Allowed:
    """What `method path` asks for. `path` is the raw path of the request target, without its query.

    `googles`: the request has a header that only Google's clients send (`x-goog-api-client`, `x-goog-api-key`); google-genai writes `/v1`
    by default, so `/v1/models` is Gemini's then.
    `providers` in the order of the file. `HEAD` is served where `GET` is; the caller sends it upstream as HEAD.
    """
    if _SUSPECT.search(path) and not is_plain(path):
        return _refuse(400, f"the path {_shown(path)} holds '.' or '..' segments or characters that no path may have", path, has_anthropic_version)
    if path == "*" and method == "OPTIONS":
        return Allowed(_ANY)
    methods = (_gemini(path, googles) if googles else None) or FIXED.get(path) or _item(path) or _gemini(path)
    if methods is not None:
        return _pick(methods, method, path, has_anthropic_version)
    if path.startswith("/api/oauth/"):
        return _oauth(method, path, providers)
    name, slash, rest = path[1:].partition("/")
    provider = providers.get(name)
    if provider is None and path in ARGO_PATHS:
        return _argo(method, path, has_anthropic_version, providers)
    if provider is None:
        return _unknown(path, has_anthropic_version, providers)
    if not rest:
        return _main(method, provider)
    return _below(method, slash + rest, has_anthropic_version, provider)


def is_plain(path: str) -> bool:
    """Does every segment stay where it is, however often a server decodes it, and whatever it takes for a separator?

    A provider's base path is a border: `/team-a/v1` must not become `/team-b` by `..`, `%2e%2e`, `..%2f`, `..\\` or `..;x`.
    """
    if any(not "!" <= char <= "~" for char in path):
        return False
    decoded = path
    for _ in range(3):
        if any(segment.partition(";")[0] in (".", "..") for segment in re.split(r"[/\\]", decoded)):
            return False
        if any(char < " " or char == "\x7f" for char in decoded):
            return False
        further = unquote(decoded)
        if further == decoded:
            return True
        decoded = further
    return False


def _pick(methods: Mapping[str, Endpoint], method: str, path: str, has_anthropic_version: bool) -> Endpoint | Refusal | Allowed:
    endpoint = methods.get("GET" if method == "HEAD" else method)
    if endpoint is not None:
        if has_anthropic_version and endpoint.operation in SHARED and endpoint.protocol is ProtocolId.OPENAI_CHAT:
            return replace(endpoint, protocol=ProtocolId.ANTHROPIC_MESSAGES)
        return endpoint
    allow = tuple(sorted({*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
    if method == "OPTIONS":
        return Allowed(allow)
    protocol = next(iter(methods.values())).protocol
    if has_anthropic_version and protocol is ProtocolId.OPENAI_CHAT:
        protocol = ProtocolId.ANTHROPIC_MESSAGES
    return Refusal(
        Fault(FaultKind.METHOD_NOT_ALLOWED, 405, f"{_shown(method)} is not a method of {_shown(path)}; it takes {', '.join(allow)}"), protocol, allow)


def _plainly(path: str) -> str:
    """The path as the most lenient of servers reads it: decoded, without parameters, doubled slashes, backslashes and one slash at its end."""
    return _SLASHES.sub("/", _PARAMETERS.sub("", unquote(path).replace("\\", "/"))).rstrip("/")


def _item(path: str) -> dict[str, Endpoint] | None:
    bare = path[3:] if path.startswith("/v1/") else path
    for prefix, protocol, operation, methods in ITEMS:
        if bare.startswith(prefix) and len(bare) > len(prefix):
            rest = bare[len(prefix):]
            if _plainly(path).lower() in FIXED:
                return None  # no id, but a fixed path with more slashes than it has
            if operation is Operation.MODELS and _method_of(rest) in GEMINI_METHODS:
                return None
            response_id = _plainly(rest).lstrip("/").partition("/")[0] if operation in _BY_ID else None
            content = operation in (Operation.FILES, Operation.BATCHES) and rest.endswith(("/content", "/results"))
            return {method: Endpoint(protocol, operation, path, body, response_id=response_id, content=content) for method, body in methods.items()}
    return None


def _gemini(path: str, googles: bool = False) -> dict[str, Endpoint] | None:
    """`/v1beta/...` and `/v1alpha/...` wholly; `/v1/...`, no version, and what stands behind a project only where a model's custom method stands at
    the end."""
    if _PROJECT.fullmatch(path) is not None:
        known = GEMINI_METHODS.get(_method_of(path))
        return None if known is None else {"POST": Endpoint(ProtocolId.GEMINI, known[0], path, known[1])}
    version, _, rest = path[1:].partition("/")
    upload = version in ("upload", "download")
    if upload:
        version, _, rest = rest.partition("/")
    own = version in GEMINI_VERSIONS or (googles and version == "v1")
    if not own and version != "v1":
        rest = path[1:]
    resource, slash, item = rest.partition("/")
    if resource in ("models", "tunedModels") and slash and not upload:
        known = GEMINI_METHODS.get(_method_of(item))
        if known is not None:
            return {"POST": Endpoint(ProtocolId.GEMINI, known[0], path, known[1])}
    if not own:
        return None
    resource = _COLON.sub(":", resource).partition(":")[0]
    if resource not in GEMINI_RESOURCES:
        return None
    if resource == "models" and not upload and ":" not in _COLON.sub(":", item) and item.count("/") == 0:
        return {"GET": Endpoint(ProtocolId.GEMINI, Operation.MODELS, path, "none")}
    cached = resource == "cachedContents" and not item.strip("/") and not upload  # what models will be told
    bodies: dict[str, Body] = {"GET": "none", "POST": "peek" if cached else "stream", "PATCH": "stream", "PUT": "stream", "DELETE": "none"}
    return {method: Endpoint(ProtocolId.GEMINI, GEMINI_RESOURCES[resource], path, body) for method, body in bodies.items()}


def _method_of(item: str) -> str:
    return unquote(item).rstrip("/").rpartition(":")[2]


def _oauth(method: str, path: str, providers: Mapping[str, Face]) -> Endpoint | Refusal | Allowed:
    """Anthropic's login endpoints, which Claude Code asks for at its base URL."""
    for provider in providers.values():
        if provider.kind == "anthropic":
            if method == "OPTIONS":
                return Allowed(_ANY)
            return Endpoint(ProtocolId.ANTHROPIC_MESSAGES, Operation.OTHER, path, _body(method), provider=provider.name, verbatim=True)
    return Refusal(
        Fault(FaultKind.NOT_FOUND, 404, "/api/oauth/ belongs to Anthropic, and no anthropic provider is configured"), ProtocolId.ANTHROPIC_MESSAGES)


def _argo(method: str, path: str, has_anthropic_version: bool, providers: Mapping[str, Face]) -> Endpoint | Refusal | Allowed:
    """The paths of legacy Argo's own proxy: its own bodies, for the first such provider."""
    provider = next((provider for provider in providers.values() if provider.kind == "argo_legacy"), None)
    if provider is None:
        return _unknown(path, has_anthropic_version, providers)
    endpoint = Endpoint(ProtocolId.OPENAI_CHAT, Operation.OTHER, path, "peek", provider=provider.name)
    return _pick({"POST": endpoint}, method, path, has_anthropic_version)


def _main(method: str, provider: Face) -> Endpoint | Refusal | Allowed:
    """A provider's name and nothing after it: its main endpoint."""
    protocol, operation = provider.main_protocol, provider.main_operation
    if protocol is ProtocolId.OPENAI_CHAT and protocol not in provider.protocols and ProtocolId.OPENAI_RESPONSES in provider.protocols:
        protocol, operation = ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES
    path = PROTOCOL_PATHS[protocol]
    if "{model}" in path:
        return Refusal(
            Fault(FaultKind.NOT_FOUND, 404, f"/{provider.name} alone names no model; use /{provider.name}{path}"), protocol)
    if method == "POST":
        return Endpoint(protocol, operation, path, "peek", provider=provider.name)
    if method == "OPTIONS":
        return Allowed(("OPTIONS", "POST"))
    return Refusal(
        Fault(FaultKind.METHOD_NOT_ALLOWED, 405, f"{_shown(method)} is not a method of /{provider.name}; it takes POST, for {path}"),
        protocol, ("OPTIONS", "POST"))


def _below(method: str, rest: str, has_anthropic_version: bool, provider: Face) -> Endpoint | Allowed:
    """Anything goes to the provider as it is; what it is, is recognised so that it is observed and accounted."""
    if method == "OPTIONS":
        return Allowed(_ANY)
    if provider.kind == "argo_legacy" and rest in ARGO_PATHS and method == "POST":
        return Endpoint(ProtocolId.OPENAI_CHAT, Operation.OTHER, rest, "peek", provider=provider.name)
    methods = FIXED.get(rest) or _item(rest) or _gemini(rest)
    if methods is None:
        plain = _plainly(rest)
        bare = _VERSION.sub("", plain, 1) if _VERSION.match(plain) else plain
        methods = FIXED.get(plain.lower()) or _item(plain) or _gemini(plain) or FIXED.get(bare.lower()) or _item(bare) or _gemini(bare)
        if methods is None:
            methods = next((FIXED[end] for end in _ENDS if plain.lower().endswith(end)), None)
    # What the two share is the provider's, whatever the header says; it may add that header by itself.
    of_anthropic = ProtocolId.ANTHROPIC_MESSAGES in provider.protocols and (has_anthropic_version or ProtocolId.OPENAI_CHAT not in provider.protocols)
    found = _pick(methods, method, rest, of_anthropic) if methods is not None else None
    if not isinstance(found, Endpoint) or found.protocol not in provider.protocols:
        found = _stored(method, rest, provider)
    return replace(found, path=rest, provider=provider.name, verbatim=True)


def _stored(method: str, rest: str, provider: Face) -> Endpoint:
    """Perhaps an answer that was made before, or a list of such: what a guard kept from the client must not be had there. Else it is whatever the
    provider knows; an id in it is told, because what has it may be another's."""
    plain = _plainly(rest)
    kept = _KEPT.search(plain)
    kind, id = (kept[1].lower(), kept[2]) if kept is not None else (None, None)
    protocol = next((protocol for pattern, protocol in _STORED if protocol in provider.protocols and pattern.fullmatch(plain)), None)
    if protocol is None and kind == "responses" and method in ("GET", "HEAD", "DELETE") and ProtocolId.OPENAI_RESPONSES in provider.protocols:
        protocol = ProtocolId.OPENAI_RESPONSES
    if protocol is not None:
        return Endpoint(protocol, Operation.RESPONSE_ITEM, rest, _body(method), response_id=id)
    return Endpoint(provider.main_protocol, Operation.OTHER, rest, _body(method), response_id=id)


def speaks_unread(method: str, endpoint: Endpoint) -> bool:
    """Does a model speak in its answer, in a form that nobody here reads?"""
    if endpoint.operation is not Operation.OTHER or method == "DELETE":
        return False
    plain = _plainly(endpoint.path)
    if endpoint.protocol is not ProtocolId.GEMINI and _PREDICTED.search(plain) is not None:
        return True
    return _SPOKEN.search(plain) is not None or (endpoint.protocol is ProtocolId.GEMINI and _INTERACTIONS.search(plain) is not None)


def predicts(endpoint: Endpoint) -> bool:
    """Does it ask one of Google's own models by `:predict`? Some of these speak, and all say why they do not."""
    named = endpoint.operation is Operation.OTHER and endpoint.protocol is ProtocolId.GEMINI
    return named and _PREDICTED.search(_plainly(endpoint.path)) is not None


def _body(method: str) -> Body:
    return "none" if method in _BODILESS else "stream"


def _unknown(path: str, has_anthropic_version: bool, providers: Mapping[str, Face]) -> Refusal:
    example, meant = next(iter(providers), None), _meant(path)
    hint = f" If {_shown(meant)} is meant, look at what the client's base URL ends with." if meant is not None else ""
    hint += f" Anything below /{example}/ goes to the provider {example!r} as it is." if example is not None else ""
    return _refuse(404, f"there is nothing at {_shown(path)}.{hint}", path, has_anthropic_version)


def _meant(path: str) -> str | None:
    """The path that was most likely meant: this one without a slash too many, or what a base URL put in front of it (`/v1/v1/messages`)."""
    plain = _plainly(path)
    end = next((f"/v1{end}" for end in _ENDS if plain.lower().endswith(end)), None)
    rest = plain[plain.find("/", 1):] if plain.find("/", 1) > 0 else ""
    known = (FIXED.get(plain) or _gemini(plain), plain), (end, end), (FIXED.get(rest) or _gemini(rest), rest)
    return next((what for found, what in known if found), None)


def _refuse(status: int, message: str, path: str, has_anthropic_version: bool) -> Refusal:
    kind = FaultKind.NOT_FOUND if status == 404 else FaultKind.BAD_REQUEST
    return Refusal(Fault(kind, status, message), _nearest(path, has_anthropic_version))


def _nearest(path: str, has_anthropic_version: bool) -> ProtocolId:
    """The protocol whose client most likely wrote this path."""
    segments = path.strip("/").split("/")
    if has_anthropic_version or "messages" in segments[:3] or segments[0] in ("api", "anthropic"):
        return ProtocolId.ANTHROPIC_MESSAGES
    if any(version in segments[:2] for version in GEMINI_VERSIONS) or _method_of(path) in GEMINI_METHODS:
        return ProtocolId.GEMINI
    return ProtocolId.OPENAI_RESPONSES if "responses" in segments[:3] else ProtocolId.OPENAI_CHAT


def _shown(text: str) -> str:
    """A client's own text in a sentence: printable and short."""
    short = text if len(text) <= 100 else text[:100] + "..."
    return "".join(char if "!" <= char <= "~" else "?" for char in short)
