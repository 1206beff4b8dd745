"""Who takes requests from the listener: `/health` is answered here, everything else is an `Intake`'s."""

from __future__ import annotations

from contextlib import suppress
from time import time

from penstock.admission import host_allowed
from penstock.exchange.contract import ClientRequest, Headers, Reply
from penstock.exchange.faults import SOON, refusal
from penstock.exchange.gateway import Gateway
from penstock.exchange.intake import Intake
from penstock.exchange.plan import str_of
from penstock.exchange.settle import close_entry
from penstock.ledger.entry import Entry
from penstock.ledger.errors import LedgerFull
from penstock.routing import Allowed, Refusal, resolve
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.secrets import mask_secrets

Header = tuple[bytes, bytes]


class HealthCheck:
    """`/health` on the data plane: no row, no token, nothing to do with what follows."""

    def client_body(self, data: bytes) -> None: ...
    def client_end(self) -> None: ...
    def client_whole(self, body: bytes) -> None: ...
    def client_gone(self) -> None: ...
    def client_bad(self, status: int, why: str) -> tuple[Headers, bytes]:
        return [], b""

    def client_paused(self) -> None: ...
    def client_resumed(self) -> None: ...


_HEALTH = HealthCheck()
_JSON: Header = (b"content-type", b"application/json")
_ALLOW: Header = (b"allow", b"GET, HEAD, OPTIONS")
_WELL, _DRAINING = b'{"status":"ok"}', b'{"status":"draining"}'


class Front:
    """Implements `contract.Front`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def open(self, request: ClientRequest, reply: Reply) -> Intake | HealthCheck:
        if request.path == "/health" and self._is_for_us(request):
            self._tell_health(request.method, reply)
            return _HEALTH
        intake = Intake(self._gateway, request, reply)
        intake.begin()
        return intake

    def _tell_health(self, method: str, reply: Reply) -> None:
        draining = self._gateway.draining
        headers: Headers = [_JSON, (b"cache-control", b"no-store"), *(SOON if draining else ())]
        status, body = (503, _DRAINING) if draining else (200, _WELL)
        if method == "OPTIONS":
            status, body, headers = 204, b"", [_ALLOW]
        elif method not in ("GET", "HEAD"):
            fault = Fault(FaultKind.METHOD_NOT_ALLOWED, 405, "/health takes GET, HEAD and OPTIONS.")
            status, body = 405, self._gateway.specs[ProtocolId.OPENAI_CHAT].error_body(fault, self._gateway.next_id())
            headers = [_JSON, _ALLOW]
        reply.head(status, headers, len(body))
        if body:
            reply.write(body)
        reply.end()

    def _is_for_us(self, request: ClientRequest) -> bool:
        settings = self._gateway.settings
        return host_allowed((request.header(b"host") or b"").decode("latin-1"), settings.listen_host, settings.hosts)

    def refuse(self, path: str, status: int, why: str) -> tuple[Headers, bytes]:
        """Headers and body of the answer to a request whose form the listener refuses: in the shape of the path's protocol, with an id
        and a row of its own; with 405, what the path takes. `path`: as far as it is known; may be empty."""
        gateway = self._gateway
        path = path.partition("?")[0].partition("#")[0] if path.startswith("/") else "/"  # a row holds no query, and nobody's password
        nearest = resolve("POST", path, False, gateway.faces)
        protocol = ProtocolId.OPENAI_CHAT if isinstance(nearest, Allowed) else nearest.protocol
        entry = Entry(gateway.next_id(), time())
        shown = mask_secrets(path)  # it may hold anything, a key in the wrong place too
        entry.instance, entry.path, entry.status, entry.client_protocol = gateway.instance, shown, status, str_of(protocol)
        with suppress(LedgerFull):  # it was asked for nothing, and nothing is lost but this row
            gateway.ledger.open(entry)
        close_entry(entry, Outcome(Ending.REFUSED, why, EndedBy.GATEWAY), 0.0, 0.0)
        if gateway.on_settled is not None:
            gateway.on_settled(entry)
        headers, body = refusal(gateway.specs[protocol], status, why, entry.id)
        if status == 405:
            taken = resolve("", path, False, gateway.faces)
            if path == "/health":
                headers.append(_ALLOW)
            elif isinstance(taken, Refusal) and taken.allow:
                headers.append((b"allow", ", ".join(taken.allow).encode()))
        return headers, body
