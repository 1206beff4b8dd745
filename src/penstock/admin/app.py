"""The admin plane as one ASGI app."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, Router

from penstock.admin.captures import Captures
from penstock.admin.deps import Deps
from penstock.admin.guard import HostGuard, TokenGuard
from penstock.admin.keys import KeyRoutes
from penstock.admin.routes import Routes, refuse_bug, refuse_http


def make_app(deps: Deps) -> Starlette:
    """The app of one gateway. `/metrics`, and everything below `/api` whatever is added there later, is behind the token."""
    routes = Routes(deps)
    # No redirects to a path with or without its last slash: they would be built from the Host header.
    api = Router(
        [Route("/exchanges", routes.exchanges), Route("/exchanges/{id}", routes.exchange), Route("/usage", routes.usage)], redirect_slashes=False)
    if deps.capture is not None:
        api.routes.append(Route("/capture", Captures(deps.capture).capture, methods=["GET", "POST", "DELETE"]))
    if deps.keys is not None:
        keys = KeyRoutes(deps.keys)
        api.routes += [
            Route("/keys", keys.keys, methods=["GET", "POST"]), Route("/keys/{id}", keys.revoke, methods=["DELETE"]),
            Route("/keys/{id}/rotate", keys.rotate, methods=["POST"]), Route("/budgets", keys.budgets),
        ]  # fmt: skip
    metrics = Router([Route("/metrics", routes.metrics)], redirect_slashes=False)
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/ready", routes.ready),
            # As an app and without methods of its own: who has no token is told so, whatever the method.
            Route("/metrics", TokenGuard(metrics, deps.token), include_in_schema=False),
            Mount("/api", app=TokenGuard(api, deps.token)),
        ],
        middleware=[Middleware(HostGuard, deps.listen_host, deps.hosts)],
        exception_handlers={HTTPException: refuse_http, Exception: refuse_bug},
    )
    app.router.redirect_slashes = False
    return app
