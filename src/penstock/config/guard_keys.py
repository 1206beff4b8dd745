"""The keys of one guard, as `model` has those of the rest of the file."""

from __future__ import annotations

from penstock.config import values
from penstock.config.shape import COUNT, FLAG, SECONDS, STRING, Field, Group
from penstock.policy.recognisers import GROUPS, RECOGNISERS
from penstock.policy.rules import Action, Scope

DETECT: tuple[str, ...] = (*RECOGNISERS, *GROUPS)
ACTIONS: tuple[str, ...] = tuple(action.value for action in Action)
SCOPES: tuple[str, ...] = tuple(scope.value for scope in Scope)
SIDES = ("request", "answer")
ON_ERROR = ("closed", "open")
IN_STREAM = ("stop", "error")

GUARD: tuple[Field | Group, ...] = (
    Field("name", values.read_text, "What it is called where it strikes: in the ledger, the log and the metrics.", STRING),
    Field("detect", values.choice(DETECT), "Built-in recognisers, or groups of them.", {"enum": list(DETECT)}, many=True),
    Field("patterns", values.read_text, "Regular expressions; with a group named secret, that group of a match is meant.", STRING, many=True),
    Field("words", values.read_text, "Words and phrases, in any case.", STRING, many=True),
    Field("words_file", values.read_path, "A file with a word or phrase in each line.", STRING),
    Field("action", values.choice(ACTIONS), "mask what is found, reject the request or answer, or audit: only count it.", {"enum": list(ACTIONS)},
          default="mask"),
    Field("mask", values.read_text, "What stands in the place of what is found. Left out: the recogniser's own word, or [MASKED].", STRING),
    Field("on", values.choice(SIDES), "request, answer, or both.", {"enum": list(SIDES)}, many=True),
    Field("scope", values.choice(SCOPES), "Whose texts are judged. Left out: all.", {"enum": list(SCOPES)}, many=True),
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
)
GUARDS_MEAN = "Guards over requests and answers: those at the top hold for all, those of a provider and of a route besides."
EXAMPLE = "[{name: secrets, detect: [secrets], action: mask}]"
