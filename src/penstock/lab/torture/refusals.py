"""Providers that say no: by status, in band, or in a language that is not the client's."""

from __future__ import annotations

import asyncio

from penstock.lab.torture.faults import Must, begin, breathe, fault
from penstock.lab.torture.speakers import Responses, error_body
from penstock.lab.torture.upstream import Stage

MESSAGE = "The provider is tired of torture."
"""Of every error of the provider's own; it must reach the client."""
_HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1><hr>nginx</body></html>\n"


async def _refuse(up: Stage, status: int, *headers: str) -> None:
    await up.whole(error_body(up.form.speaker, status, MESSAGE), status, *headers)


@fault(Must.TOLD, statuses=(400,))
async def status_400(up: Stage) -> None:
    """The provider refuses the request with 400 in its own JSON; status, message, type, code and param must arrive."""
    await _refuse(up, 400)


@fault(Must.TOLD, statuses=(401,))
async def status_401(up: Stage) -> None:
    """The provider refuses the key; status and error must arrive."""
    await _refuse(up, 401)


@fault(Must.TOLD, statuses=(429,))
async def status_429(up: Stage) -> None:
    """The provider's rate limit; status, error and retry-after must arrive."""
    await _refuse(up, 429, "retry-after: 7")


@fault(Must.TOLD, statuses=(500,))
async def status_500(up: Stage) -> None:
    """The provider fails with 500 in its own JSON; status and error must arrive."""
    await _refuse(up, 500)


@fault(Must.TOLD, statuses=(503,))
async def status_503(up: Stage) -> None:
    """The provider is overloaded; status, error and retry-after must arrive."""
    await _refuse(up, 503, "retry-after: 7")


@fault(Must.TOLD, statuses=(529,))
async def status_529(up: Stage) -> None:
    """A status that only one provider uses; it must arrive as it is, with its error."""
    await _refuse(up, 529)


@fault(Must.REFUSED, statuses=(502,), outcomes=("UPSTREAM_ERROR",))
async def html_error(up: Stage) -> None:
    """A proxy's page of HTML with 502; an error in the client's shape with that status must arrive."""
    await up.whole(_HTML, 502, "content-type: text/html")


@fault(Must.REFUSED, statuses=(503,), outcomes=("UPSTREAM_ERROR",))
async def text_error(up: Stage) -> None:
    """503 in plain text; an error in the client's shape with that status must arrive."""
    await up.whole(b"upstream connect error or disconnect/reset before headers", 503, "content-type: text/plain")


@fault(Must.REFUSED, statuses=(500,), outcomes=("UPSTREAM_ERROR",))
async def empty_error(up: Stage) -> None:
    """500 without a body; an error in the client's shape with that status must arrive."""
    await up.whole(b"", 500)


@fault(Must.REFUSED)
async def html_200(up: Stage) -> None:
    """A page of HTML with 200 where a stream was asked for; an error must arrive, and no 200."""
    await up.whole(_HTML, 200, "content-type: text/html")


@fault(Must.REFUSED)
async def empty_200(up: Stage) -> None:
    """200 with a body of no bytes; an error must arrive, and no 200."""
    await up.whole(b"", 200, f"content-type: {up.form.media}")


@fault(Must.REFUSED, early=True, statuses=(503,), outcomes=("UPSTREAM_ERROR",))
async def early_head_then_503(up: Stage) -> None:
    """503 comes so late that the gateway may have opened the stream; the error must arrive, in band if it has."""
    await asyncio.sleep(1.5 * up.pause)
    await _refuse(up, 503)


@fault(Must.TOLD, statuses=(400, 429, 500, 502, 503, 529), outcomes=("UPSTREAM_ERROR",))
async def error_event_first(up: Stage) -> None:
    """The first frame of a 200 is an error event; nothing was told yet, so a true status must arrive with the provider's error."""
    await up.head()
    await up.send(*up.say.error(MESSAGE))
    await up.end()


@fault(Must.TOLD_IN_BAND)
async def error_event(up: Stage) -> None:
    """An error event in the middle of the stream; the frames until then and that error must arrive, and nothing behind it."""
    await begin(up)
    await breathe()
    await up.send(*up.say.error(MESSAGE))
    await up.end()


@fault(Must.TOLD_IN_BAND, forms=("responses",))
async def response_failed(up: Stage) -> None:
    """The provider ends its stream with `response.failed`; it must arrive as it is, and nothing behind it."""
    await begin(up)
    assert isinstance(up.say, Responses)
    await up.send(up.say.failed(MESSAGE))
    await up.end()


@fault(Must.TOLD_IN_BAND, lossy=True)
async def error_event_then_reset(up: Stage) -> None:
    """An error event, and then a reset; that error must arrive once, and nothing behind it."""
    await begin(up)
    await up.send(*up.say.error(MESSAGE))
    await breathe()
    await up.reset()
