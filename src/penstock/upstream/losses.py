"""What the end of a connection is to the answer that was under way on it."""

from __future__ import annotations

import ssl
from typing import Final

from penstock.upstream.contract import Loss, LossKind

STALE: Final = Loss(LossKind.STALE, "a kept connection was closed by the provider")
TOO_LARGE: Final = Loss(LossKind.GARBAGE, "the head of the provider's answer is too large")


class Garbage(Exception):
    """Not an answer that can be taken. Raised inside llhttp's callbacks."""


def loss_of(exc: Exception | None, where: str) -> Loss:
    """`exc`: what the transport gave as the reason; `None`: a clean end. `where`: before or inside the answer."""
    if exc is None:
        return Loss(LossKind.EOF, f"the provider closed the connection {where} its answer")
    if isinstance(exc, ssl.SSLError):
        return Loss(LossKind.TLS, f"TLS failed {where} the answer ({exc.reason or 'unknown reason'})")
    if isinstance(exc, OSError):
        return Loss(LossKind.RESET, f"the provider reset the connection {where} its answer")
    return Loss(LossKind.RESET, f"the connection was given up {where} the answer ({type(exc).__name__})")


def short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:80]
