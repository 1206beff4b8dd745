"""`/api/keys` and `/api/budgets`: virtual keys made, listed, rotated, revoked; what was spent of budgets. A key's own text stands in the answer that
makes it, and in no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from penstock.admin.bodies import LARGEST, TooLarge, read_body
from penstock.admin.guard import answer, refusal
from penstock.stores.errors import KeyProblem, StoreError
from penstock.stores.keys import Wanted

_LONGEST_GRACE = 366 * 86_400.0


class KeyControl(Protocol):
    """`penstock.exchange.gatehouse.Gatehouse`, as this plane uses it. All raise `StoreError`; those that change something `KeyProblem`."""

    async def list(self) -> list[dict[str, Any]]: ...
    async def create(self, wanted: Wanted) -> tuple[dict[str, Any], str]: ...
    async def adopt(self, wanted: Wanted, sha: bytes) -> dict[str, Any]: ...
    async def rotate(self, id: str, grace: float) -> tuple[dict[str, Any], str]: ...
    async def revoke(self, id: str) -> dict[str, Any]: ...
    async def spent(self) -> Sequence[dict[str, object]]: ...


class _New(Wanted):
    sha256: str | None = None
    """Take over the digest of a key that was made elsewhere."""


class _Rotation(msgspec.Struct, forbid_unknown_fields=True):
    grace_seconds: float = 0.0


_decode_new = msgspec.json.Decoder(_New).decode
_decode_rotation = msgspec.json.Decoder(_Rotation).decode


class KeyRoutes:
    """The endpoints of one gateway."""

    def __init__(self, control: KeyControl) -> None:
        self._control = control

    async def keys(self, request: Request) -> Response:
        """`GET`: all keys. `POST`: make one, or take over the SHA-256 (`sha256`) of one."""
        return await _told(self._create(request) if request.method == "POST" else self._list())

    async def revoke(self, request: Request) -> Response:
        """`DELETE /api/keys/{id}`: at once and for ever."""
        return await _told(self._revoke(request.path_params["id"]))

    async def rotate(self, request: Request) -> Response:
        """`POST /api/keys/{id}/rotate`: a new text; the old one is taken for `grace_seconds` more."""
        return await _told(self._rotate(request, request.path_params["id"]))

    async def budgets(self, request: Request) -> Response:
        """`GET /api/budgets`: what was spent, by budget, subject and window."""
        return await _told(self._spent())

    async def _list(self) -> Response:
        return answer({"keys": await self._control.list()})

    async def _create(self, request: Request) -> Response:
        wanted = _decode_new(await read_body(request))
        plain = Wanted(**{name: getattr(wanted, name) for name in Wanted.__struct_fields__})
        if wanted.sha256 is not None:
            return answer({"key": await self._control.adopt(plain, digest_of(wanted.sha256))}, 201)
        key, text = await self._control.create(plain)
        return answer({"key": key, "secret": text}, 201)

    async def _rotate(self, request: Request, id: str) -> Response:
        body = await read_body(request)
        grace = _decode_rotation(body).grace_seconds if body else 0.0
        if not 0.0 <= grace <= _LONGEST_GRACE:
            raise KeyProblem("grace_seconds is a number from 0 to a year of seconds")
        key, text = await self._control.rotate(id, grace)
        return answer({"key": key, "secret": text})

    async def _revoke(self, id: str) -> Response:
        return answer({"key": await self._control.revoke(id)})

    async def _spent(self) -> Response:
        return answer({"budgets": await self._control.spent()})


def digest_of(text: str) -> bytes:
    """64 hexadecimal digits, also behind `sha256:`. Raises `KeyProblem`."""
    try:
        found = bytes.fromhex(text.strip().removeprefix("sha256:"))
    except ValueError:
        found = b""
    if len(found) != 32:
        raise KeyProblem("a SHA-256 is written as 64 hexadecimal digits")
    return found


async def _told(work: Any) -> Response:
    try:
        done: Response = await work
        return done
    except KeyProblem as error:
        unknown = str(error).startswith("there is no key")
        return refusal(404 if unknown else 400, "not_found" if unknown else "bad_request", str(error))
    except StoreError as error:
        return refusal(503, "ledger", str(error), {"retry-after": "1"})
    except TooLarge:
        return refusal(413, "too_large", f"A request has at most {LARGEST} bytes.", {"connection": "close"})
    except ClientDisconnect:
        return refusal(400, "bad_request", "The request did not come to its end.")
    except msgspec.MsgspecError as error:
        return refusal(400, "bad_request", f"The request is not understood: {error}")
