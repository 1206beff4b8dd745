"""What can be set about the data plane's listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from penstock.exchange.contract import Headers
from penstock.server.refusals import shape


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Settings:
    host: str = "127.0.0.1"
    port: int = 4270
    socket_path: str | None = None
    """Listen on this unix socket (mode 0600) instead."""
    head_bytes: int = 32 * 1024
    """Of a request's target and headers; of the trailers or chunk extensions that come without any body between."""
    head_fields: int = 100
    pipelined_bytes: int = 1 << 20
    """Of request bodies that came before the answer to an earlier request on their connection."""
    pipelined_requests: int = 64
    """Requests that wait for the answers before them."""
    linger: float = 1.0
    """Seconds for which a connection that is to be closed waits for its client to do the next thing: to read, or to stop sending."""
    draining: Callable[[], bool] = _never
    """Once true, connections close after the answer that they are giving."""
    refusal: Callable[[str, int, str], tuple[Headers, bytes]] = shape
    """Headers and body for a request that is refused for its form, from path (as far as it is known), status and sentence."""
