"""How hard the model was told to think, in one word whatever the dialect.

OpenAI has words (`reasoning_effort`, `reasoning.effort`: none, minimal, low, medium, high, xhigh); Anthropic has words too (`output_config.effort`)
and budgets of tokens (`thinking.budget_tokens`), or leaves it to the model (`adaptive`); Gemini has budgets (0: none, -1: the model's choice) and
levels. A budget becomes the word of the range it lies in.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

import msgspec

from penstock.vocabulary.said import Said

ADAPTIVE: Final = "adaptive"
NONE: Final = "none"
_BUDGETS: tuple[tuple[int, str], ...] = ((1500, "low"), (5000, "medium"), (12000, "high"))
"""Up to so many tokens; beyond the last it is `xhigh`."""
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")


def effort_of(said: Said) -> str | None:
    """`None`: nothing was asked for, and the provider's default holds."""
    stated = read(said.effort)
    word = _word(stated)
    if word is None and isinstance(stated, dict):
        fields = cast("dict[str, Any]", stated)
        word = _word(fields.get("effort")) or _of_google(fields)
        if word is None and "max_tokens" in fields:  # OpenRouter's `reasoning`
            word = of_budget(fields["max_tokens"])
    return word or _of_thinking(read(said.thinking))


def of_budget(tokens: object) -> str | None:
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        return None
    if tokens < 0:
        return ADAPTIVE
    if tokens == 0:
        return NONE
    return next((word for most, word in _BUDGETS if tokens <= most), "xhigh")


def read(text: bytes) -> object:
    """The value of a JSON text; `None` where it is none."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _of_thinking(stated: object) -> str | None:
    if not isinstance(stated, dict):
        return None
    fields = cast("dict[str, Any]", stated)
    match fields.get("type"):
        case "enabled":
            return of_budget(fields.get("budget_tokens"))
        case "adaptive":
            return ADAPTIVE
        case "disabled":
            return NONE
        case _:
            return None


def _of_google(fields: dict[str, Any]) -> str | None:
    stated = fields.get("thinkingConfig", fields.get("thinking_config"))
    if not isinstance(stated, dict):
        return None
    config = cast("dict[str, Any]", stated)
    level = config.get("thinkingLevel", config.get("thinking_level"))
    return _word(level) or of_budget(config.get("thinkingBudget", config.get("thinking_budget")))


def _word(value: object) -> str | None:
    low = value.lower() if isinstance(value, str) and len(value) <= 32 else ""
    return low if _WORD.match(low) else None
