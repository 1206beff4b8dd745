"""How an exchange is over: the closed list of endings, and who brought them about."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Ending(StrEnum):
    COMPLETE = "COMPLETE"
    """The protocol's terminal event was seen; for a whole body: all of it came, with a status below 400."""
    TRUNCATED = "TRUNCATED"
    """A clean end of the body without the terminal event."""
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    """The provider said that it failed: by its status, or by an error event in band."""
    UPSTREAM_LOST = "UPSTREAM_LOST"
    """Reset, TLS failure, no connection, an answer that is not HTTP."""
    TIMED_OUT = "TIMED_OUT"
    CUT = "CUT"
    """A policy ended it."""
    CLIENT_GONE = "CLIENT_GONE"
    REFUSED = "REFUSED"
    """We answered with an error ourselves, before anything was asked of a provider."""
    SHUTDOWN = "SHUTDOWN"
    CRASHED = "CRASHED"
    """The process that held it died; only ever written by another one."""
    UNVERIFIED = "UNVERIFIED"
    """Bytes were passed on that could not be understood; nothing is claimed."""


class EndedBy(StrEnum):
    CLIENT = "client"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One ending with its cause in words (English, one clause, no secrets, no bodies)."""

    ending: Ending
    cause: str
    ended_by: EndedBy
