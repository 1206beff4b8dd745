"""The refusal to answer without streaming, as providers that speak OpenAI's protocols or Gemini's give it.

- Gateways that carry such a protocol to Anthropic hand on the words of Anthropic's SDKs (see `anthropic_messages.bounce`).
- ChatGPT's own backend for Codex: 400 `{"detail":"Stream must be set to true"}` (stakpak/agent#739, BerriAI/litellm#34095).
- Alibaba's Model Studio: 400 "This model only support stream mode, please enable the stream parameter to access the model."
  (infiniflow/ragflow#5912), and for models that think, "parameter.enable_thinking must be set to false for non-streaming calls".
"""

from __future__ import annotations

import re
from typing import Final

READ: Final = 64 * 1024
"""Bytes of a body that are looked at."""
SDK_WORDS: Final = rb"(?<![\w-])streaming\s+is\s+(?:strongly\s+recommended|required)\b(?!\s+(?:by|when|where|if)\b)"
"""Of Anthropic's SDKs."""
_WORDS: Final = re.compile(
    SDK_WORDS + rb"|\bstream['\"`]?\s+must\s+be\s+(?:set\s+to\s+)?true\b|\bonly\s+supports?\s+stream(?:ing)?\s+mode\b"
    rb"|\benable_thinking\s+must\s+be\s+(?:set\s+to\s+)?false\s+for\s+non-streaming\b",
    re.IGNORECASE,
)


def may_bounce(status: int) -> bool:
    """Not where the status says why by itself (credentials, rates, size), whatever the body quotes."""
    return status in (400, 422) or 500 <= status < 529


def is_bounce(status: int, body: bytes) -> bool:
    """Would the same request be answered as a stream? `body`: of an error, JSON or not, coding taken off."""
    return may_bounce(status) and _WORDS.search(body[:READ]) is not None
