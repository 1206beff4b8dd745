"""How long each part of an exchange may take. In seconds; `None`: no limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    connect: float = 10.0
    """Name, connection and TLS of an upstream connection together."""
    first_content: float | None = 900.0
    """From the request to the first content. Heads and opening events come at once; thinking follows. Of an upload: from what moved of it last."""
    idle: float | None = 270.0
    """Between two reads from the provider, once content has come."""
    content: float | None = 600.0
    """Without any content, once some has come; pings, comments and other events do not count."""
    tool_call: float | None = 240.0
    """Without progress of an open tool call's own arguments. Healthy models have been seen silent for 50 to 180 s inside them; Claude
    Code and Codex give up after 300 s."""
    client_stall: float | None = 300.0
    """For which a client may take nothing while bytes wait for it."""
    drain: float | None = 120.0
    """For which a running answer may go on once the gateway is told to stop."""
    max_duration: float | None = None
    """The whole exchange. There is no such limit unless asked for."""
