"""The refusal to answer without streaming.

A request whose answer is predicted to take longer than ten minutes (3600 s x max_tokens / 128000 > 600 s, so more than 21333 tokens, or more than a
model's own limit) is refused at once by Anthropic's SDKs, not by its API. Where such an SDK runs inside a gateway, the refusal comes as an HTTP
error: with 500 most often, with 400 too (anthropics/anthropic-sdk-python#1698), in whatever shape that gateway gives its exceptions.

The words: "Streaming is required for operations that may take longer than 10 minutes"; in Go without the capital; until July 2025 "strongly
recommended" (anthropics/anthropic-sdk-python#1003), in TypeScript with a slip of the pen, "may token longer" (anthropic-sdk-typescript#798).
"""

from __future__ import annotations

import re
from typing import Final

from penstock.protocols.bounces import READ, SDK_WORDS, may_bounce

_WORDS: Final = re.compile(SDK_WORDS, re.IGNORECASE)


def is_bounce(status: int, body: bytes) -> bool:
    """Would the same request be answered as a stream? `body`: of an error, JSON or not, coding taken off. The words decide; a status that says why
    by itself (credentials, rates, size) is no bounce whatever its body quotes."""
    return may_bounce(status) and _WORDS.search(body[:READ]) is not None
