"""A text where it stands, as a string: what guards that are asked outside are shown, and what they may put in its place."""

from __future__ import annotations

from typing import Any

from penstock.policy.places import Kind, Place
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any


def read_text(place: Place) -> str:
    """The text; of a JSON value its JSON. Empty where there is nothing to be judged."""
    value: Any = place.holder[place.key]
    if place.kind is not Kind.TREE:
        return value
    return encode_any(value).decode("utf-8", "replace") if value not in ({}, [], "", None) else ""


def put_text(place: Place, text: str) -> None:
    """`text` must be of its place's kind (`fits`)."""
    place.holder[place.key] = decode_any(text.encode("utf-8", "surrogatepass")) if place.kind is Kind.TREE else text


def fits(kind: Kind, text: str) -> bool:
    """May `text` stand where a text of this kind stood? In the place of JSON only JSON may."""
    if kind is Kind.TEXT:
        return True
    try:
        decode_any(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return False
    return True
