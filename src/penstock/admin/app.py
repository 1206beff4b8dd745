"""The admin plane as one ASGI app."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, Router

from penstock.admin.deps import Deps
from penstock.admin.guard import HostGuard, TokenGuard
from penstock.admin.routes import Routes, refuse_bug, refuse_http


def make_app(deps: Deps) -> Starlette:
    """The app of one gateway. Everything below `/api` is behind the token, whatever is added there later."""
    routes = Routes(deps)
    # No redirects to a path with or without its last slash: they would be built from the Host header.
    api = Router(
        [Route("/exchanges", routes.exchanges), Route("/exchanges/{id}", routes.exchange), Route("/usage", routes.usage)], redirect_slashes=False)
    app = Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/ready", routes.ready),
            Mount("/api", app=TokenGuard(api, deps.token)),
        ],
        middleware=[Middleware(HostGuard, deps.listen_host, deps.hosts)],
        exception_handlers={HTTPException: refuse_http, Exception: refuse_bug},
    )
    app.router.redirect_slashes = False
    return app
