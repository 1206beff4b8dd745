"""Log probabilities on a stream: do they spell the text beside them, and nothing else?

Some servers tell tokens ahead of the text that they make of them (while a call or a thought is read, whose marks are no text), or beside none. What
nobody has judged must not be read there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from penstock.policy.places import Object, as_object, objects


def chat_spells(choice: Object) -> bool:
    """Of Chat (`content`, `refusal`), and of Completions (`tokens`)."""
    stated = as_object(choice.get("logprobs"))
    delta, message = as_object(choice.get("delta")), as_object(choice.get("message"))
    said = [choice.get("text"), *(one.get(key) for one in (delta, message) for key in ("content", "refusal", "reasoning_content", "reasoning"))]
    said += [_joined(one.get("content")) for one in (delta, message)]
    words: object = stated.get("tokens")
    legacy = [{"token": word} for word in cast("list[Any]", words)] if isinstance(words, list) else []
    return all(_spell(tokens, said) for tokens in (objects(stated.get("content")), objects(stated.get("refusal")), legacy))


def responses_spells(part: Object) -> bool:
    """Of a part of a message, and of an event with a text."""
    return _spell(objects(part.get("logprobs")), (part.get("delta"), part.get("text"), part.get("refusal")))


def responses_spelt(fields: Object) -> Iterator[Object]:
    """What of an answer or an event of Responses has log probabilities: its parts, and the event itself."""
    items = [*objects(fields.get("output")), *objects(as_object(fields.get("response")).get("output")), as_object(fields.get("item"))]
    for part in [*(part for item in items for part in objects(item.get("content"))), as_object(fields.get("part")), fields]:
        if part.get("logprobs"):
            yield part


def gemini_spells(candidate: Object) -> bool:
    """Of the tokens that were chosen."""
    parts = as_object(candidate.get("content")).get("parts")
    return _spell(objects(as_object(candidate.get("logprobsResult")).get("chosenCandidates")), (_joined(parts),))


def _joined(parts: object) -> str:
    return "".join([text for part in objects(parts) if isinstance(text := part.get("text"), str)])


def _spell(tokens: Iterable[Object], said: Iterable[object]) -> bool:
    """Stands what the tokens spell in one of the texts? Of half a character a token is no text, but its bytes are."""
    listed = list(tokens)
    words = "".join([word for one in listed if isinstance(word := one.get("token"), str)])
    if not words:
        return True
    texts = [text for text in said if isinstance(text, str)]
    if any(words in text for text in texts):
        return True
    stated: list[Any] = [one.get("bytes") for one in listed]
    if not all(isinstance(one, list) for one in stated):  # (of a number `bytes` would make as many)
        return False
    try:
        spelt = b"".join(map(bytes, stated))
    except (TypeError, ValueError):
        return False
    return bool(spelt) and any(spelt in text.encode("utf-8", "surrogatepass") for text in texts)
