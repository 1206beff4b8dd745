"""Providers that end badly, by name. The model that a client asks for says which one plays, and after a `~` for whom, so that each row is known.

What a healthy provider says comes from the lab's speakers; what must come of each play is told beside it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Visit, chunk, head, whole
from penstock.lab.torture.speakers import Chat, Gemini, Messages, Responses, Speaker, error_body

MESSAGE = "the weather is too fine"
"""The provider's own words for any error of its own."""
PAUSE_S = 0.3
"""A healthy silence, long enough for a keep-alive and an early head that are due after 0.1."""
STATUSES = (400, 401, 403, 404, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529)
_PAGE = b"<html><body><h1>Bad gateway</h1><p>nginx/1.2.3</p></body></html>"


@dataclass(frozen=True, slots=True)
class Play:
    """How a provider behaves, and what a client of its gateway must be told: before the first byte its status, else 0."""

    act: Callable[[Visit, Speaker], Awaitable[None]]
    status: int
    outcome: str
    words: str
    """In the error's message."""
    timer: str | None = None
    """What it is told to have run out of."""
    brief: str | None = None
    """The timer that ends it, told or not."""


PLAYS: dict[str, Play] = {}
_OPENED: ContextVar[Callable[[], bool]] = ContextVar("opened")
"""For the play of this task: has its client got its head?"""
HELD = "the beginning is out"


def _play(name: str, status: int, outcome: str, words: str, timer: str | None = None, brief: str | None = None) -> Callable[[Any], Any]:
    def enter(act: Callable[[Visit, Speaker], Awaitable[None]]) -> Any:
        PLAYS[name] = Play(act, status, outcome, words, timer, brief or timer)
        return act

    return enter


def _start(speaker: Speaker) -> bytes:
    """Two frames or more, with text."""
    return b"".join([*speaker.opening(), *speaker.text("It is ")])


def _nothing(speaker: Speaker) -> bytes:
    """A line that means nothing; Google's client does not know comments."""
    return b"\r\n" if isinstance(speaker, Gemini) else b": working on it\n\n"


async def _begin(visit: Visit, data: bytes) -> None:
    await visit.send(SSE_HEAD + chunk(data))


def _answer_with(status: int) -> None:
    async def act(visit: Visit, speaker: Speaker) -> None:
        await visit.send(whole(error_body(type(speaker), status, MESSAGE), status, "retry-after: 7", "x-request-id: req_up", "request-id: req_up"))

    PLAYS[f"status-{status}"] = Play(act, status, "UPSTREAM_ERROR", MESSAGE)


for _status in STATUSES:
    _answer_with(_status)


@_play("html-502", 502, "UPSTREAM_ERROR", "")
async def _html(visit: Visit, speaker: Speaker) -> None:
    await visit.send(whole(_PAGE, 502, "content-type: text/html"))


@_play("plain-503", 503, "UPSTREAM_ERROR", "")
async def _plain(visit: Visit, speaker: Speaker) -> None:
    await visit.send(whole(b"upstream connect error", 503, "content-type: text/plain", "retry-after: 7"))


@_play("html-200", 502, "TRUNCATED", "rovider")
async def _page(visit: Visit, speaker: Speaker) -> None:
    await visit.send(whole(_PAGE, 200, "content-type: text/html"))


@_play("refused", 502, "UPSTREAM_LOST", "Could not reach provider")
async def _refused(visit: Visit, speaker: Speaker) -> None:
    raise AssertionError("a provider that does not listen was asked")


@_play("dead", 502, "UPSTREAM_LOST", "rovider")
async def _dead(visit: Visit, speaker: Speaker) -> None:
    visit.close()


@_play("dead-head", 502, "UPSTREAM_LOST", "rovider")
async def _dead_head(visit: Visit, speaker: Speaker) -> None:
    await visit.send(SSE_HEAD)
    await visit.link.flush()
    visit.close()


@_play("reset-head", 502, "UPSTREAM_LOST", "rovider")
async def _reset_head(visit: Visit, speaker: Speaker) -> None:
    await visit.send(SSE_HEAD + chunk(_nothing(speaker)))
    await visit.reset()


@_play("empty", 502, "TRUNCATED", "rovider")
async def _empty(visit: Visit, speaker: Speaker) -> None:
    await visit.send(SSE_HEAD + LAST_CHUNK)


@_play("half-first", 502, "TRUNCATED", "rovider")
async def _half_first(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, speaker.opening()[0][:-9])
    await visit.send(LAST_CHUNK)


@_play("no-head", 504, "TIMED_OUT", "first_content", "first_content")
async def _no_head(visit: Visit, speaker: Speaker) -> None:
    await visit.left()


@_play("no-frame", 504, "TIMED_OUT", "first_content", "first_content")
async def _no_frame(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _nothing(speaker))
    await visit.left()


def _first_is(name: str, status: int, error: Mapping[type[Speaker], dict[str, Any]]) -> None:
    async def act(visit: Visit, speaker: Speaker) -> None:
        await _begin(visit, speaker.event(error[type(speaker)]))
        await visit.send(LAST_CHUNK)

    PLAYS[name] = Play(act, status, "UPSTREAM_ERROR", MESSAGE)


def _errors(status: int, openai: str, anthropic: str, google: str) -> dict[type[Speaker], dict[str, Any]]:
    return {
        Chat: {"error": {"message": MESSAGE, "type": openai, "param": None, "code": None}},
        Responses: {"type": "error", "code": openai, "message": MESSAGE, "param": None},
        Messages: {"type": "error", "error": {"type": anthropic, "message": MESSAGE}},
        Gemini: {"error": {"code": status, "message": MESSAGE, "status": google}},
    }


_first_is("first-limited", 429, _errors(429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"))
_first_is("first-broken", 500, _errors(500, "server_error", "api_error", "INTERNAL"))
_first_is("first-overloaded", 503, {**_errors(503, "overloaded", "overloaded", "UNAVAILABLE")})
_first_is("first-bad", 400, _errors(400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"))


@_play("clean", 0, "TRUNCATED", "rovider")
async def _clean(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.send(LAST_CHUNK)


@_play("eof", 0, "UPSTREAM_LOST", "rovider")
async def _eof(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.link.flush()
    visit.close()


@_play("reset", 0, "UPSTREAM_LOST", "rovider")
async def _reset(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.reset()


@_play("half-frame", 0, "UPSTREAM_LOST", "rovider")
async def _half(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker) + speaker.text("fine")[-1][:-12])
    await visit.link.flush()
    visit.close()


@_play("garbage", 0, "UPSTREAM_LOST", "rovider")
async def _garbage(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.send(b"no such size\r\n")
    await visit.left()


@_play("stall-text", 0, "TIMED_OUT", "idle", "idle")
async def _stall(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.left()


@_play("stall-call", 0, "TIMED_OUT", "look_up", "tool_call")
async def _stall_call(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker) + b"".join([*speaker.call(0), *speaker.arguments(0, '{"q')]))
    await visit.left()


@_play("stall-call-pings", 0, "TIMED_OUT", "look_up", "tool_call")
async def _stall_pings(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker) + b"".join([*speaker.call(0), *speaker.arguments(0, '{"q')]))
    while not visit.link.lost.is_set():
        await asyncio.sleep(0.05)
        await visit.send(chunk(b"".join(speaker.ping())))


@_play("error-event", 0, "UPSTREAM_ERROR", MESSAGE, brief="idle")
async def _error(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker) + b"".join(speaker.error(MESSAGE)))
    await visit.left()  # most clients have their error, and need nobody's close


@_play("hold", 0, "SHUTDOWN", "shutting down")
async def _hold(visit: Visit, speaker: Speaker) -> None:
    await _begin(visit, _start(speaker))
    await visit.link.flush()
    visit.asked.note = HELD
    await visit.left()


@_play("hold-head", 503, "SHUTDOWN", "shutting down")
async def _hold_head(visit: Visit, speaker: Speaker) -> None:
    await visit.left()


@_play("half-body", 200, "UPSTREAM_LOST", "")
async def _half_body(visit: Visit, speaker: Speaker) -> None:
    await visit.send(head(200, "content-type: application/json", "content-length: 99") + b'{"id": "x", ')
    await visit.link.flush()
    visit.close()


@_play("slow", 200, "COMPLETE", "")
async def _slow(visit: Visit, speaker: Speaker) -> None:
    """Healthy, and silent before its head, before its first frame, in its text, in the arguments of a tool call, and before its end."""
    await asyncio.sleep(PAUSE_S)
    await visit.send(SSE_HEAD)
    text = [_start(speaker), b"".join(speaker.text("fine."))]
    call = b"".join([*speaker.call(0), *speaker.arguments(0, '{"query": "')])
    for piece in (*text, call, b"".join(speaker.arguments(0, 'x"}')), b"".join([*speaker.finish(), *speaker.terminal()])):
        await asyncio.sleep(PAUSE_S)
        await visit.send(chunk(piece))
    await visit.send(LAST_CHUNK)


@_play("well", 200, "COMPLETE", "")
async def _well(visit: Visit, speaker: Speaker) -> None:
    """Healthy, and in no need of time."""
    call = b"".join([*speaker.call(0), *speaker.arguments(0, '{"query": "x"}')])
    await _begin(visit, _start(speaker) + call + b"".join([*speaker.finish(), *speaker.terminal()]))
    await visit.send(LAST_CHUNK)


def _late(name: str, after: str) -> None:
    """The same play after a silence in which the client got its head: nothing but the words can be told then."""
    play = PLAYS[after]

    async def act(visit: Visit, speaker: Speaker) -> None:
        opened = _OPENED.get()
        async with asyncio.timeout(60):
            while not opened():  # noqa: ASYNC110 - however long the machine takes for that
                await asyncio.sleep(0.01)
        await play.act(visit, speaker)

    PLAYS[name] = Play(act, 0, play.outcome, play.words, play.timer, play.brief)


LATE = (
    "status-400", "status-429", "status-529", "html-502", "html-200", "dead", "reset-head", "empty", "no-frame", "first-limited", "eof", "stall-call",
)  # fmt: skip
for _name in LATE:
    _late(f"late-{_name}", _name)

BEFORE = tuple(name for name, play in PLAYS.items() if play.status >= 400 and name != "hold-head")
"""Told by a true status."""
WHOLE = tuple(name for name in BEFORE if name == "dead" or name.startswith(("status", "html-502", "plain", "refused", "no-head")))
"""Those that answers without a stream have as well."""
BEHIND = tuple(name for name, play in PLAYS.items() if play.status == 0 and name != "hold" and not name.startswith("late-"))
"""Told in band."""
OF_PATH: dict[str, type[Speaker]] = {"/v1/completions": Chat, "/v1/chat/completions": Chat, "/v1/responses": Responses, "/v1/messages": Messages}


async def act(visit: Visit, opened: Callable[[str], bool]) -> None:
    """The play that the model names. `opened`: whether a gateway has given the client of this model its head."""
    body = await visit.body()
    path = visit.asked.path
    speaker = OF_PATH.get(path, Gemini)
    model = unquote(path.rpartition("/")[2].rpartition(":")[0]) if speaker is Gemini else json.loads(body)["model"]
    _OPENED.set(lambda: opened(model))
    await PLAYS[model.partition("~")[0]].act(visit, speaker())
