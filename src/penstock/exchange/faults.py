"""What we say when there is nothing better to say: losses and refusals as faults for the client."""

from __future__ import annotations

from penstock.upstream.contract import Loss, LossKind
from penstock.vocabulary.errors import Fault, FaultKind

FULL = Fault(FaultKind.OVERLOADED, 503, "This gateway cannot account for another request now; try again.")
BODIES_FULL = Fault(FaultKind.OVERLOADED, 503, "This gateway holds as many request bodies as it may; try again.")
DRAINING = Fault(FaultKind.OVERLOADED, 503, "This gateway is shutting down; try again.")
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
    return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The answer of {who} was lost: {loss.cause}.")


def truncated(cause: str, provider: str) -> Fault:
    return Fault(FaultKind.UPSTREAM_BROKEN, 502, f"The answer of provider {provider!r} is not complete: {cause}.")
