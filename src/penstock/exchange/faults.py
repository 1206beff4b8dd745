"""What we say when there is nothing better to say: losses and refusals as faults for the client."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.exchange.contract import Headers
from penstock.protocols.contract import ProtocolSpec
from penstock.upstream.contract import Loss, LossKind
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.secrets import CUT, mask_known, mask_secrets

NONE: Headers = []
SOON: Headers = [(b"retry-after", b"1")]
FORM_FAULTS = {
    405: FaultKind.METHOD_NOT_ALLOWED, 408: FaultKind.TIMEOUT_OF_CLIENT, 413: FaultKind.TOO_LARGE, 429: FaultKind.RATE_LIMITED,
    431: FaultKind.HEADERS_TOO_LARGE,
    503: FaultKind.OVERLOADED,
}  # fmt: skip
"""Kinds by the statuses with which listeners refuse a request for its form; anything else is a bad request."""

FULL = Fault(FaultKind.OVERLOADED, 503, "This gateway cannot account for another request now; try again.")
BODIES_FULL = Fault(FaultKind.OVERLOADED, 503, "This gateway holds as many request bodies as it may; try again.")
DRAINING = Fault(FaultKind.OVERLOADED, 503, "This gateway is shutting down; try again.")
CODED = Fault(
    FaultKind.UNSUPPORTED_MEDIA, 415, "The request body must not be compressed: it is read for its model. Send it without Content-Encoding.")
OTHER_HOST = Fault(FaultKind.FORBIDDEN, 403, "This gateway does not answer to that Host."), "the Host header names somebody else"
OTHER_PAGE = Fault(FaultKind.FORBIDDEN, 403, "This gateway does not answer to web pages of that Origin."), "the Origin header names somebody else"
SELF = Fault(FaultKind.INTERNAL, 500, "This gateway made a mistake; the request was not completed.")


def too_large(limit: int) -> Fault:
    return Fault(FaultKind.TOO_LARGE, 413, f"The request body is larger than {limit} bytes.")


def lost(loss: Loss, provider: str) -> Fault:
    """`loss` for the client: 502, or 504 where it was a matter of time."""
    who = f"provider {provider!r}"
    if loss.kind is LossKind.CONNECT_TIMEOUT:
        return Fault(FaultKind.UPSTREAM_TIMEOUT, 504, f"Could not reach {who}: {loss.cause}.")
    if loss.kind in (LossKind.CONNECT, LossKind.TLS):
        return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"Could not reach {who}: {loss.cause}.")
    if loss.kind is LossKind.UNUSABLE:
        return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The answer of {who} could not be used: {loss.cause}.")
    return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The answer of {who} was lost: {loss.cause}.")


def outcome_of(loss: Loss) -> Outcome:
    """The ending of an exchange whose answer was lost before it began."""
    if loss.kind is LossKind.CONNECT_TIMEOUT:
        return Outcome(Ending.TIMED_OUT, f"connect: {loss.cause}", EndedBy.GATEWAY)
    return Outcome(Ending.UPSTREAM_LOST, loss.cause, EndedBy.UPSTREAM)


def of_form(status: int, why: str) -> Fault:
    """A request that a listener refuses for its form."""
    return Fault(FORM_FAULTS.get(status, FaultKind.BAD_REQUEST), status, why)


def refusal(spec: ProtocolSpec, status: int, why: str, entry_id: str) -> tuple[Headers, bytes]:
    """Headers and body of the answer to such a request."""
    return [(b"content-type", b"application/json"), (b"x-penstock-id", entry_id.encode())], spec.error_body(of_form(status, why), entry_id)


def truncated(cause: str, provider: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The answer of provider {provider!r} is not complete: {cause}.")


def timed_out(cause: str, provider: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_TIMEOUT, 504, f"The answer of provider {provider!r} took too long: {cause}.")


def full(name: str) -> Fault:
    """`name`: of the limit, as `Gateway.permits` has it."""
    return Fault(FaultKind.OVERLOADED, 503, f"As many requests are under way as may be ({name}); try again.")


def no_stream(seen: Outcome) -> Outcome:
    """An answer that was neither passed on nor an error: a whole body, or a page, for a client whose stream was opened already."""
    whole = seen.ending in (Ending.COMPLETE, Ending.UNVERIFIED)
    return Outcome(Ending.TRUNCATED, "the answer was not the stream that was asked for" if whole else seen.cause, EndedBy.UPSTREAM)


PAGE = Outcome(Ending.TRUNCATED, "the answer was a page of HTML", EndedBy.UPSTREAM)


def page(provider: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"Provider {provider!r} sent a page of HTML in the place of an answer.")


NOTICE = Outcome(Ending.UPSTREAM_ERROR, "the provider sent a notice instead of an answer", EndedBy.UPSTREAM)
_SHOWN = 500


def notice(text: str, provider: str, known: Sequence[str] = ()) -> Fault:
    """A notice in the place of an answer, for the client: what stands in it is for people to read, secrets (those that are `known`, too) masked."""
    words = mask_secrets(mask_known(" ".join(text.split()), known))
    shown = words if len(words) <= _SHOWN else words[: _SHOWN - 1].rstrip() + CUT
    return Fault(FaultKind.FORBIDDEN, 403, f"Provider {provider!r} sent a notice instead of an answer: {shown}")
