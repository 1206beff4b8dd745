"""The bytes that go to a provider."""

from __future__ import annotations

from penstock.exchange.contract import ClientRequest, Headers
from penstock.protocols.contract import Peek, ProtocolSpec
from penstock.providers import Provider
from penstock.routing import Endpoint


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
    provider: Provider, endpoint: Endpoint, request: ClientRequest, headers: Headers, path: str, query: str, body: bytes | None
) -> tuple[bytes, bytes, bytes]:
    """Method, target, and the rest from the first header line on. `body` is `None` where it is sent as it comes."""
    sent, query = provider.headers(headers, query)
    target = provider.verbatim(path, query) if endpoint.verbatim else provider.target(path, query)
    lines = [b"Host: %b\r\n" % provider.host_header.encode("latin-1")]
    lines += [b"%b: %b\r\n" % pair for pair in sent]
    if body is not None:
        if body or request.content_length is not None or request.method not in ("GET", "HEAD", "DELETE"):
            lines.append(b"Content-Length: %d\r\n" % len(body))
    elif request.content_length is not None:
        lines.append(b"Content-Length: %d\r\n" % request.content_length)
    else:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines.append(b"Accept-Encoding: identity\r\n\r\n")
    if body:
        lines.append(body)
    return request.method.encode(), target.encode("ascii"), b"".join(lines)
