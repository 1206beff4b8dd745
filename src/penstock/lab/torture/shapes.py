"""The shape of errors, per protocol: as a body with a status, and in band. Each check tells what is wrong, or nothing."""

from __future__ import annotations

from typing import Any, cast

from penstock.lab.torture.forms import Form
from penstock.lab.torture.reading import Kind, Piece

Object = dict[str, Any]


def wrong_with_body(form: Form, value: Object) -> str | None:
    """An error as the body of a status of 400 or above."""
    error = value.get("error")
    if not isinstance(error, dict):
        return "the body has no error object"
    error = cast("Object", error)
    if form.name == "messages" and value.get("type") != "error":
        return "the body's type is not error"
    return _wrong_with_google(error) if form.name in ("gemini", "array") else _wrong_with_members(form, error)


def wrong_in_band(form: Form, pieces: list[Piece], *, own: bool) -> str | None:
    """The error at the end of a stream; `own`: the gateway made it, and none of its members may be missing."""
    last = pieces[-1]
    value = last.value or {}
    if form.name == "responses":
        return _wrong_with_failure(pieces) if own or value.get("type") == "response.failed" else None
    if form.name == "messages" and last.name != "error":
        return f"the error's event is called {last.name or 'nothing'!r}"
    if form.name == "chat" and last.name not in ("", "error"):
        return f"the error's event is called {last.name!r}"
    return wrong_with_body(form, value)


def _wrong_with_members(form: Form, error: Object) -> str | None:
    if not isinstance(error.get("message"), str) or not error["message"]:
        return "the error has no message"
    if not isinstance(error.get("type"), str):
        return "the error has no type"
    if form.name != "messages" and not {"param", "code"} <= error.keys():
        return "the error has no param or no code"
    return None


def _wrong_with_google(error: Object) -> str | None:
    if not isinstance(error.get("message"), str) or not error["message"]:
        return "the error has no message"
    if type(error.get("code")) is not int or not 400 <= error["code"] <= 599:
        return "the error's code is no status"
    return None if isinstance(error.get("status"), str) else "the error has no status word"


def _wrong_with_failure(pieces: list[Piece]) -> str | None:
    """`response.failed` as Codex reads it, numbered on."""
    value = pieces[-1].value or {}
    if value.get("type") != "response.failed" or pieces[-1].name != "response.failed":
        return f"the error is {value.get('type')!r}, which is not response.failed"
    response = value.get("response")
    if not isinstance(response, dict):
        return "response.failed has no response"
    response = cast("Object", response)
    missing = [name for name in ("id", "model", "created_at", "status", "error") if response.get(name) is None]
    if missing:
        return f"the response has no {', '.join(missing)}"
    if response["status"] != "failed":
        return f"the response's status is {response['status']!r}"
    if not isinstance(response["error"], dict) or not {"code", "message"} <= cast("Object", response["error"]).keys():
        return "the response's error has no code or no message"
    told = [piece.value for piece in pieces if piece.value is not None and piece.kind is not Kind.QUIET]
    if not any(event.get("type") == "response.created" for event in told):
        return "no response.created came before it"
    numbers = [event.get("sequence_number") for event in told]
    expected = list(range(len(numbers)))
    return None if numbers == expected else f"the sequence numbers are {numbers[-3:]} at the end, not {expected[-3:]}"
