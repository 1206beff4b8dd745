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
    head_seconds: float = 10.0
    """From the first byte of a request's head until it is whole."""
    body_seconds: float = 60.0
    """Between two bytes of a request's body; not while we do not read, because the provider is slow."""
    idle_seconds: float | None = 75.0
    """For which a connection may be open without a request; `None`: for ever."""
    client_connections: int | None = None
    """Of one peer address at the same time, where it is no unix socket; `None`: any number."""
    pipelined_bytes: int = 1 << 20
    """Of request bodies that came before the answer to an earlier request on their connection."""
    pipelined_requests: int = 64
    """Requests that wait for the answers before them."""
    linger: float = 1.0
    """Seconds for which a connection that is to be closed waits for its client to do the next thing: to read, or to stop sending."""
    untaken_seconds: float = 30.0
    """The same where its client has not taken all of an answer: a network may be down for longer than `linger`."""
    draining: Callable[[], bool] = _never
    """Once true, connections close after the answer that they are giving."""
    refusal: Callable[[str, int, str], tuple[Headers, bytes]] = shape
    """Headers and body for a request that is refused for its form, from path (as far as it is known), status and sentence."""
