"""The forms in which a client may ask for a stream, and how each asks. Five of them: Gemini has two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from penstock.lab.torture.speakers import Chat, Gemini, GeminiArray, Messages, Responses, Speaker
from penstock.vocabulary.ids import ProtocolId

KEY = "torture-key"
"""The credential that is sent where the user names none. It opens nothing."""
_MODEL = re.compile(r"torture-(?P<fault>[a-z0-9-]+)\.(?P<form>chat|responses|messages|gemini|array)\b")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask for a stream, and to be answered."""

    name: str
    protocol: ProtocolId
    path: str
    """`{model}` stands for the model's name."""
    body: Mapping[str, Any]
    """Of a request, without its model."""
    headers: tuple[tuple[str, str], ...]
    speaker: type[Speaker]
    media: str = "text/event-stream"
    query: str = ""

    @property
    def array(self) -> bool:
        return self.speaker is GeminiArray

    def request(self, model: str, host: str, headers: Sequence[tuple[str, str]] = (), path: str | None = None) -> bytes:
        """The request's bytes. `headers` go in place of ours of the same name; `path` in place of the usual one."""
        place = (path or self.path).replace("{model}", quote(model, safe="/"))
        body = msgspec.json.encode(self.body if "{model}" in self.path else {"model": model, **self.body})
        given = {name.lower() for name, _ in headers}
        own = [("host", host), ("user-agent", "penstock-torture"), ("accept", self.media), ("content-type", "application/json"), *self.headers]
        lines = [f"{name}: {value}" for name, value in (*(pair for pair in own if pair[0] not in given), *headers)]
        query = ("&" if "?" in place else "?") + self.query if self.query else ""
        head = "\r\n".join((f"POST {place}{query} HTTP/1.1", *lines, f"content-length: {len(body)}", "", ""))
        return head.encode("latin-1", "replace") + body


_USER = [{"role": "user", "content": "Say something long."}]
_BEARER = ("authorization", f"Bearer {KEY}")
_GOOGLE = {"contents": [{"role": "user", "parts": [{"text": "Say something long."}]}]}
_GOOGLE_PATH = "/v1beta/models/{model}:streamGenerateContent"
FORMS: Mapping[str, Form] = {form.name: form for form in (
    # Usage is asked for, so that a gateway that wants it need not ask for it and take it out again: bytes can be compared.
    Form("chat", ProtocolId.OPENAI_CHAT, "/v1/chat/completions", {"messages": _USER, "stream": True, "stream_options": {"include_usage": True}},
         (_BEARER,), Chat),
    Form("responses", ProtocolId.OPENAI_RESPONSES, "/v1/responses", {"input": "Say something long.", "stream": True}, (_BEARER,), Responses),
    Form("messages", ProtocolId.ANTHROPIC_MESSAGES, "/v1/messages", {"max_tokens": 4096, "messages": _USER, "stream": True},
         (("x-api-key", KEY), ("anthropic-version", "2023-06-01")), Messages),
    Form("gemini", ProtocolId.GEMINI, _GOOGLE_PATH, _GOOGLE, (("x-goog-api-key", KEY),), Gemini, query="alt=sse"),
    Form("array", ProtocolId.GEMINI, _GOOGLE_PATH, _GOOGLE, (("x-goog-api-key", KEY),), GeminiArray, media="application/json"),
)}  # fmt: skip


def model_of(fault: str, form: str) -> str:
    """The model's name that asks for a fault: it tells the scripted provider what to do, and nothing else need pass through a gateway."""
    return f"torture-{fault}.{form}"


def read_model(target: str, body: bytes) -> tuple[str, str] | None:
    """The fault and the form that a request names, wherever its model stands; `None` where it names none."""
    found = _MODEL.search(unquote(target)) or _MODEL.search(body.decode("utf-8", "replace"))
    return (found["fault"], found["form"]) if found else None


def form_asked(path: str, query: str) -> Form | None:
    """The form that a request at this path wants its answer in, as a provider understands it."""
    if path.endswith("/chat/completions"):
        return FORMS["chat"]
    if path.endswith("/responses"):
        return FORMS["responses"]
    if path.endswith("/messages"):
        return FORMS["messages"]
    if path.endswith(":streamGenerateContent"):
        return FORMS["gemini" if "alt=sse" in query else "array"]
    return None
