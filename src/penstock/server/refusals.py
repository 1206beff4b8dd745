"""Answers to requests that are refused before anybody could take them: for their form."""

from __future__ import annotations

from http import HTTPStatus

from penstock.exchange import faults
from penstock.exchange.contract import Headers
from penstock.protocols import REGISTRY
from penstock.routing import Allowed, resolve
from penstock.vocabulary.ids import ProtocolId

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def shape(path: str, status: int, why: str) -> tuple[Headers, bytes]:
    """Headers and body of a refusal, as the clients that ask for `path` read errors. `path`: as far as it is known; may be empty.

    For a listener by itself: in the gateway `Front.refuse` says the same with an id, and keeps a row.
    """
    endpoint = resolve("POST", path if path.startswith("/") else "/", False, {})
    protocol = ProtocolId.OPENAI_CHAT if isinstance(endpoint, Allowed) else endpoint.protocol
    return [(b"content-type", b"application/json")], REGISTRY[protocol].error_body(faults.of_form(status, why), "")


def write_refusal(status: int, headers: Headers, body: bytes, *, head_only: bool) -> bytes:
    """A whole answer, behind which the connection closes."""
    lines = [b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b"Refused")), *(b": ".join(pair) for pair in headers)]
    if status == 503 and not any(name.lower() == b"retry-after" for name, _ in headers):
        lines.append(b"retry-after: 1")
    lines += (b"content-length: %d" % len(body), b"connection: close", b"\r\n")
    return b"\r\n".join(lines) + (b"" if head_only else body)
