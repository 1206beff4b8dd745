"""Routing: which endpoint a path is, and which provider takes a model.

Enters: method and path (`paths`); protocol, operation, model and hints (`routes`). Leaves: an `Endpoint` or why there is none;
a `Choice` or why there is none. Nothing is dialed on a refusal.

Laws: the path alone decides the client's protocol (`anthropic-version` where two protocols share a path). No path leaves the part of a
host that a provider's base URL names. The first route that matches model and protocol wins.

Not here: URLs and credentials (`providers`), reading bodies (`protocols`), retries and fallbacks.
"""

from penstock.routing.endpoints import RESERVED_NAMES, Allowed, Endpoint, Face, Refusal
from penstock.routing.globs import BadGlob, Glob
from penstock.routing.paths import predicts, resolve, speaks_unread
from penstock.routing.routes import Choice, Hints, Mismatch, NoRoute, Route, Router

__all__ = [
    "RESERVED_NAMES", "Allowed", "BadGlob", "Choice", "Endpoint", "Face", "Glob", "Hints", "Mismatch", "NoRoute", "Refusal", "Route", "Router",
    "predicts", "resolve", "speaks_unread",
]
