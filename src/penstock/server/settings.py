"""What can be set about the data plane's listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Settings:
    host: str = "127.0.0.1"
    port: int = 4270
    socket_path: str | None = None
    """Listen on this unix socket (mode 0600) instead."""
    head_bytes: int = 32 * 1024
    head_fields: int = 100
    pipelined_bytes: int = 1 << 20
    """Of request bodies that came before the answer to an earlier request on their connection."""
    draining: Callable[[], bool] = _never
    """Once true, connections close after the answer that they are giving."""
