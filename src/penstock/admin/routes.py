"""What the admin plane answers. Each of these only reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.admin.deps import Deps
from penstock.admin.guard import SAFE, answer, refusal
from penstock.admin.metrics import Exposition
from penstock.admin.params import Asked, BadParameter, parse_exchanges, parse_usage
from penstock.admin.queries import Busy, Queries
from penstock.ledger.errors import LedgerError

_SOON = {"retry-after": "1"}


class Routes:
    """The endpoints of one app."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._queries = Queries(deps.query_limit)
        self._exposition = Exposition(deps)

    async def health(self, request: Request) -> Response:
        """`GET /health`: 200 as long as the process answers at all."""
        return answer({"status": "ok", "version": self._deps.version, "instance": self._deps.instance})

    async def ready(self, request: Request) -> Response:
        """`GET /ready`: may new requests be sent here? 503 with the reasons why not."""
        reasons: list[str] = []
        if self._deps.draining():
            reasons.append("draining")
        if self._deps.ledger_failing():
            reasons.append("ledger failing")
        if reasons:
            return answer({"status": "not ready", "reasons": reasons}, 503, _SOON)
        return answer({"status": "ready", "reasons": reasons})

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`: counts for Prometheus. Answers also while the ledger does not."""
        return await self._exposition.answer()

    async def exchanges(self, request: Request) -> Response:
        """`GET /api/exchanges?last=&outcome=&provider=&model=&operation=&since=&until=&id=&open=`: the newest first."""
        deps = self._deps

        def read(asked: Asked) -> bytes:
            return msgspec.json.encode({"exchanges": deps.exchanges(asked.last, **asked.filters)})

        return await self._asked(request, parse_exchanges, read)

    async def usage(self, request: Request) -> Response:
        """`GET /api/usage?by=&since=&until=&...`: sums, by model where nothing else is asked for."""
        deps = self._deps

        def read(asked: Asked) -> bytes:
            return msgspec.json.encode({"by": asked.by, "usage": deps.usage(asked.by, **asked.filters)})

        return await self._asked(request, parse_usage, read)

    async def exchange(self, request: Request) -> Response:
        """`GET /api/exchanges/{id}`: one, by its whole id."""
        deps = self._deps
        id: str = request.path_params["id"]

        def read() -> bytes:
            row = deps.exchange(id) if len(id) <= 256 and "\0" not in id else None
            return b"" if row is None else msgspec.json.encode(row)

        found = await self._read(read)
        if isinstance(found, Response):
            return found
        if not found:
            return refusal(404, "not_found", "There is no exchange of this id; of those beyond the ledger's retention only daily sums are kept.")
        return Response(found, media_type="application/json")

    async def _asked(self, request: Request, parse: Callable[[list[tuple[str, str]], float], Asked], read: Callable[[Asked], bytes]) -> Response:
        try:
            asked = parse(request.query_params.multi_items(), self._deps.clock())
        except BadParameter as error:
            return refusal(400, "bad_request", str(error))
        found = await self._read(lambda: read(asked))
        return found if isinstance(found, Response) else Response(found, media_type="application/json")

    async def _read(self, read: Callable[[], bytes]) -> bytes | Response:
        try:
            return await self._queries.run(read)
        except Busy as error:
            return refusal(503, "overloaded", str(error), _SOON)
        except LedgerError as error:
            return refusal(503, "ledger", str(error), _SOON)


async def refuse_http(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in our shape."""
    status: int = getattr(error, "status_code", 500)
    headers: dict[str, Any] | None = getattr(error, "headers", None)
    kind, message = {
        404: ("not_found", "There is nothing here; there are /health, /ready, /metrics, /api/exchanges, usage, capture, keys and budgets."),
        405: ("method_not_allowed", f"Only {(headers or {}).get('Allow') or 'GET, HEAD'} are answered here."),
    }.get(status, ("bad_request", "The request cannot be answered."))
    return refusal(status, kind, message, headers)


async def refuse_bug(request: Request, error: Exception) -> Response:
    """Our own mistake; uvicorn logs it. Starlette answers it outside of all middleware, so the headers are put on here."""
    return refusal(500, "internal", "The admin plane failed; the log says why.", {name.decode(): value.decode() for name, value in SAFE})
