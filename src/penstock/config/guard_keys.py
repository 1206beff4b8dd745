"""The keys of one guard, as `model` has those of the rest of the file."""

from __future__ import annotations

import re

from penstock.config import values
from penstock.config.document import Scalar
from penstock.config.errors import Unfit
from penstock.config.shape import COUNT, COUNT_OR_OFF, FLAG, SECONDS, SIZE, STRING, WORD, Field, Group
from penstock.policy.recognisers import GROUPS, RECOGNISERS
from penstock.policy.rules import Action, Scope
from penstock.policy.windows import Windows
from penstock.providers.credentials import CREDENTIAL_HEADERS
from penstock.providers.headers import HOP_BY_HOP
from penstock.stores.guard_calls import CallLimits
from penstock.stores.guard_formats import MODERATION_MODEL

DETECT: tuple[str, ...] = (*RECOGNISERS, *GROUPS)
ACTIONS: tuple[str, ...] = tuple(action.value for action in Action)
SCOPES: tuple[str, ...] = tuple(scope.value for scope in Scope)
SIDES = ("request", "answer")
UPLOADS = ("pass", "reject")
ON_ERROR = ("closed", "open")
IN_STREAM = ("stop", "error")

FORMATS = ("penstock", "agentgateway")
_NOT_FORWARDED = HOP_BY_HOP | CREDENTIAL_HEADERS | {b"host", b"expect", b"cookie", b"content-type", b"content-encoding", b"accept-encoding"}
_CATEGORY = re.compile(r"([A-Za-z0-9_/ -]+?)(?: *>= *([0-9]*\.?[0-9]+))?")


def read_category(value: Scalar) -> tuple[str, float | None]:
    """`violence`, or `violence>=0.5`."""
    found = _CATEGORY.fullmatch(values.read_text(value).strip())
    if found is None or float(found[2] or 0) > 1:
        raise Unfit(f"{value.shown} is no category; write its name, or its name and a score from 0 to 1, like violence>=0.5")
    return found[1], None if found[2] is None else float(found[2])


def read_forwarded(value: Scalar) -> str:
    """The name of a header of the client's that may go to somebody else, with a body of ours: none of its connection, and none with its key."""
    name = values.read_header_name(value)
    if name.encode() in _NOT_FORWARDED or name.startswith(("x-penstock-", "proxy-")):
        raise Unfit(f"{value.shown} stays in the house: it belongs to the client's connection, or carries its key; name another header")
    return name


GUARD: tuple[Field | Group, ...] = (
    Field("name", values.read_text, "What it is called where it strikes: in the ledger, the log and the metrics.", STRING),
    Field("detect", values.choice(DETECT), "Built-in recognisers, or groups of them.", {"enum": list(DETECT)}, many=True),
    Field("patterns", values.read_text, "Regular expressions; with a group named secret, that group of a match is meant.", STRING, many=True),
    Field("words", values.read_text, "Words and phrases, in any case.", STRING, many=True),
    Field("words_file", values.read_path, "A file with a word or phrase in each line.", STRING),
    Group("webhook", (
        Field("url", values.read_base_url, "Where questions go; with format: agentgateway, what stands before /request and /response.", STRING),
        Field("format", values.choice(FORMATS), "penstock (docs/guards.md), or agentgateway's webhook.", {"enum": list(FORMATS)}, default="penstock"),
        Field("key", values.read_secret, "Sent with each question, as a bearer token unless key_header says otherwise.", WORD),
        Field("key_header", values.read_header_name, "The header that carries the key, as it is.", STRING),
        Field("forward", read_forwarded, "Headers of the client's that go with a question.", STRING, many=True),
    ), "A server of your own that is asked; it finds by itself, so detect, patterns and words do not stand beside it."),
    Group("moderation", (
        Field("base_url", values.read_base_url, "An API with /moderations, as OpenAI has it.", STRING, default="https://api.openai.com/v1"),
        Field("key", values.read_secret, "Its key.", WORD),
        Field("model", values.read_text, "The model that judges.", STRING, default=MODERATION_MODEL),
        Field("categories", read_category, "Those that count, each perhaps with a score from which on it does: violence>=0.5. Left out: "
              "whatever it flags.", STRING, many=True),
    ), "OpenAI's moderation endpoint, or one of its shape, is asked."),
    Field("timeout", values.read_seconds, "Of a question to a webhook or moderation, its wait for a turn included.", SECONDS, default="5s"),
    Field("at_once", values.read_count, "Questions to a webhook or moderation that may be under way.", COUNT, default=16),
    Field("action", values.choice(ACTIONS), "mask what is found, reject the request or answer, or audit: only count it.", {"enum": list(ACTIONS)},
          default="mask"),
    Field("mask", values.read_text, "What stands in the place of what is found. Left out: the recogniser's own word, or [MASKED].", STRING),
    Field("on", values.choice(SIDES), "request, answer, or both.", {"enum": list(SIDES)}, many=True),
    Field("scope", values.choice(SCOPES), "Whose texts are judged. Left out: all.", {"enum": list(SCOPES)}, many=True),
    Field("uploads", values.choice(UPLOADS), "What happens to bodies that no guard looks into, because they are passed on as they come (files, "
          "audio, images, batches): pass, or reject.", {"enum": list(UPLOADS)}, default="pass"),
    Field("message", values.read_text, "What the client is told of a rejection.", STRING),
    Field("on_error", values.choice(ON_ERROR), "What happens to a text that cannot be judged: closed rejects it, open lets it go.",
          {"enum": list(ON_ERROR)}, default="closed"),
    Field("in_stream", values.choice(IN_STREAM), "How a stream is rejected: stop, by its protocol's own stop reason; or error.",
          {"enum": list(IN_STREAM)}, default="stop"),
    Field("time_limit", values.read_seconds, "Of one search of one of its patterns.", SECONDS, default="50ms"),
    Field("enabled", values.read_flag, "False: as if it were not there.", FLAG, default=True),
)

HOLD: tuple[Field | Group, ...] = (
    Group("guard_hold", (
        Field("chars", values.read_count, "Characters of one text that may wait for a decision.", COUNT, default=1024),
        Field("time", values.read_seconds, "For which they may wait.", SECONDS, default="30s"),
    ), "How much of a streamed text guards may hold; past it each decides by its on_error."),
    Group("guard_windows", (
        Field("by", values.choice(("sentence", "size")), "Where a streamed text is cut for guards that are asked outside.",
              {"enum": ["sentence", "size"]}, default="sentence"),
        Field("chars", values.read_count, "Characters of one window at most.", COUNT, default=Windows().chars),
        Field("before", values.read_count_or_off, "Characters before it that are shown with it.", COUNT_OR_OFF, default=Windows().before),
        Field("time", values.read_seconds, "For which a window may stay open.", SECONDS, default="2s"),
        Field("held", values.read_size, "Bytes of one stream that may wait for verdicts; beyond them its provider is not read.", SIZE,
              default="1MiB"),
    ), "How streamed texts are put before a webhook or moderation."),
    Group("guard_calls", (
        Field("at_once", values.read_count, "Questions under way, of all guards together.", COUNT, default=CallLimits().at_once),
        Field("waiting", values.read_count, "Questions that may wait for their turn; beyond them each guard decides by its on_error.", COUNT,
              default=CallLimits().waiting),
    ), "How many questions may be put to webhooks and moderations."),
)
GUARDS_MEAN = "Guards over requests and answers: those at the top hold for all, those of a provider and of a route besides."
EXAMPLE = "[{name: secrets, detect: [secrets], action: mask}]"
