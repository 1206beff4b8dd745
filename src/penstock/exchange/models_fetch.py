"""One provider's list of models, asked for and collected: bounded, and never raising anything but `FetchError`."""

from __future__ import annotations

from typing import Final

from penstock import __version__
from penstock.exchange.contract import Headers
from penstock.providers import Kind, Origin, Provider
from penstock.upstream.collect import Asker, CollectError, Request, collect

BODY_LIMIT: Final = 8 << 20
"""Bytes of one provider's list."""

# The largest page; more than a thousand models are shown by nobody who pages.
_PAGES: dict[Kind, tuple[str, str]] = {
    "openai": ("/v1/models", ""), "anthropic": ("/v1/models", "limit=1000"), "gemini": ("/v1beta/models", "pageSize=1000"),
    "argo_legacy": ("/v1/models", ""),
}  # fmt: skip

__all__ = ["Asker", "FetchError", "Request", "fetch", "list_request"]


class FetchError(Exception):
    """A provider's list could not be had. Its text is one clause for people, without addresses and secrets."""

    def __init__(self, cause: str, status: int | None = None) -> None:
        """`status`: of the provider's answer, where that is the cause."""
        super().__init__(cause)
        self.status = status


def list_request(provider: Provider, headers: Headers, query: str) -> Request:
    """The request for a provider's list. `headers` and `query`: what of the client's goes with it."""
    path, page = _PAGES[provider.kind]
    sent, lent = provider.headers(headers, query)
    lines = [b"Host: %b\r\n" % provider.host_header.encode("latin-1")]
    lines += [b"%b: %b\r\n" % pair for pair in sent]
    lines.append(b"Accept: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: penstock/%b\r\n\r\n" % __version__.encode())
    return b"GET", provider.target(path, "&".join(part for part in (page, lent) if part)).encode("ascii"), b"".join(lines)


async def fetch(client: Asker, origin: Origin, request: Request) -> bytes:
    """The body of a good answer. Raises `FetchError`. Has no time limit of its own; cancelled, it closes the connection."""
    try:
        status, body = await collect(client, origin, request, BODY_LIMIT, "the list")
    except CollectError as error:
        raise FetchError(str(error)) from None
    if status != 200:
        raise FetchError(f"the provider answered {status}", status)
    return body
