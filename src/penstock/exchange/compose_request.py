"""The bytes that go to a provider."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from penstock.capture.redact import is_secret_header
from penstock.exchange.contract import ClientRequest
from penstock.exchange.plan import Plan, SentHead, target_of
from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.providers import Header, Provider, credential
from penstock.routing import Endpoint
from penstock.vocabulary.errors import UpstreamError
from penstock.wire.secrets import mask_known

_BODILESS = frozenset({"GET", "HEAD", "DELETE"})
"""Of these a request without a word on a body has none, and gets no word on one."""


def edit_body(
    spec: ProtocolSpec, endpoint: Endpoint, peek: Peek, model: str | None, path: str, body: bytes, *, ask_usage: bool
) -> tuple[str, bytes, bool]:
    """Path and body as the provider gets them, and whether usage was asked for that the client had not asked for."""
    if model is not None and model != peek.model:
        path, body = spec.rename(endpoint.operation, path, body, model)
    if ask_usage and peek.stream and not peek.usage_asked and spec.ask_usage is not None:
        asking = spec.ask_usage(body)
        return path, asking, asking != body  # a body that states something odd there is left alone
    return path, body, False


def upstream_request(
    plan: Plan, provider: Provider, request: ClientRequest, path: str, body: bytes | None, query: str | None = None
) -> tuple[bytes, bytes, bytes]:
    """Method, target, and the rest from the first header line on. `body` is `None` where it is sent as it comes; `query` where it is the client's,
    without what stays in the house."""
    sent = plan.sent_to(provider)
    if query is None and path == plan.endpoint.path:
        target = sent.target
    else:
        target = target_of(provider, plan.endpoint, path, sent.query if query is None else query)
    method = request.method
    if body is None:
        framing = b"Content-Length: %d\r\n" % request.content_length if request.content_length is not None else b"Transfer-Encoding: chunked\r\n"
    elif body or request.content_length is not None or method not in _BODILESS:
        framing = b"Content-Length: %d\r\n" % len(body)
    else:
        framing = b""
    return method.encode(), target, b"%b%bAccept-Encoding: identity\r\n\r\n%b" % (sent.lines, framing, body or b"")


def whole_request(request: ClientRequest, sent: SentHead, body: bytes) -> tuple[bytes, bytes, bytes]:
    """The same for a body that is sent as it came, to the path as it came."""
    method = request.method
    if not body and request.content_length is None and method in _BODILESS:
        return method.encode(), sent.target, sent.lines + b"Accept-Encoding: identity\r\n\r\n"
    return method.encode(), sent.target, b"%bContent-Length: %d\r\nAccept-Encoding: identity\r\n\r\n%b" % (sent.lines, len(body), body)


def credentials_of(plan: Plan, provider: Provider) -> tuple[str, ...]:
    """What the provider may quote of what it was sent, and nobody else is to read: its own key, and the client's credentials without their schemes.
    (The gateway's own keys go to no provider. A user's name in the place of a key is no secret.)"""
    settings = provider.settings
    found = [settings.api_key or ""]
    found += _secret_values((name.encode("latin-1"), value.encode("latin-1")) for name, value in settings.headers)
    asked = None
    if not settings.user_from_key:
        found += _secret_values(plan.headers)
        asked = credential((), plan.query)
    if asked:
        found.append(asked.decode("utf-8", "replace"))
    return tuple({secret: None for secret in found if secret and secret != provider.name})


def _secret_values(headers: Iterable[Header]) -> list[str]:
    return [value.decode("latin-1").strip().rpartition(" ")[2] for name, value in headers if _is_secret(name)]


@lru_cache(maxsize=256)
def _is_secret(name: bytes) -> bool:
    return is_secret_header(name) and not name.lower().startswith(b"x-penstock-")


def without(error: UpstreamError, known: Sequence[str]) -> UpstreamError:
    """`error` as the gateway may tell it: what it quotes of the secrets that are `known` is masked."""
    shown = [None if word is None else mask_known(word, known) for word in (error.message, error.type, error.code, error.param)]
    members = mask_known(error.members.decode("utf-8", "surrogateescape"), known).encode("utf-8", "surrogateescape")
    if (*shown, members) == (error.message, error.type, error.code, error.param, error.members):
        return error
    message, type_, code, param = shown
    return replace(error, message=message, type=type_, code=code, param=param, members=members)
