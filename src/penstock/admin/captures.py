"""`/api/capture`: is anything captured, and what is to be. The captures themselves are files; the command reads them where they lie."""

from __future__ import annotations

from typing import Any, Protocol, cast

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from penstock.admin.bodies import LARGEST, TooLarge, read_body
from penstock.admin.guard import answer, refusal
from penstock.capture.settings import BadOrder, Order, Phase


class Control(Protocol):
    """`penstock.capture.Recorder`, as this plane uses it: on the loop, at once."""

    def state(self) -> dict[str, Any]: ...

    def turn_on(self, order: Order) -> None:
        """Raises `BadOrder`."""
        ...

    def turn_off(self) -> None: ...


class Captures:
    """The endpoint of one gateway."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def capture(self, request: Request) -> Response:
        """`GET`: the state. `POST`, with an `Order` as JSON: capture so from now on. `DELETE`: off. All answer with the state that is then."""
        if request.method == "POST":
            refused = await self._turn_on(request)
            if refused is not None:
                return refused
        elif request.method == "DELETE":
            self._control.turn_off()
        return answer(self._control.state())

    async def _turn_on(self, request: Request) -> Response | None:
        try:
            self._control.turn_on(_decode(await read_body(request)))
        except TooLarge:
            return refusal(413, "too_large", f"An order has at most {LARGEST} bytes.", {"connection": "close"})
        except ClientDisconnect:
            return refusal(400, "bad_request", "The order did not come to its end.")
        except BadOrder as error:
            return refusal(400, "bad_request", str(error))
        except msgspec.MsgspecError as error:
            return refusal(400, "bad_request", f"The order is not understood: {error}")
        except RecursionError:
            return refusal(400, "bad_request", "The order is not understood: it is nested too deeply.")
        return None


def _decode(body: bytes) -> Order:
    """With `all` among its phases, as the command takes it. Raises `MsgspecError`, `BadOrder`, `RecursionError`."""
    told: Any = msgspec.json.decode(body)
    phases: Any = cast("dict[str, Any]", told).get("phases") if isinstance(told, dict) else None
    if isinstance(phases, list) and "all" in phases:
        rest = [phase for phase in cast("list[object]", phases) if phase != "all" and phase not in list(Phase)]
        told["phases"] = [*rest, *(phase.value for phase in Phase)]
    return msgspec.convert(told, Order)
