"""The `prices` of a file: prices of one's own, and discounts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import cast

from penstock.config.document import Listing, Node, Scalar
from penstock.config.errors import Place, Problems
from penstock.config.model import PRICE
from penstock.config.walk import Given, read_fields, section_of, suggest
from penstock.pricing import OwnPrice, Rates
from penstock.pricing.own import EVERYTHING
from penstock.routing import Glob
from penstock.vocabulary.usage import Kinds
from penstock.wire.secrets import mask_secrets

_EXAMPLE = "{model: \"my-*\", input: 0.25, output: 1}"
_PARTS: Mapping[str, str] = {
    "input": "input", "output": "output", "cache_read": "cache_read", "cache_write": "cache_write_5m", "cache_write_1h": "cache_write_1h",
    "audio_input": "audio_input", "reasoning": "reasoning", "audio_output": "audio_output", "web_search": "web_searches",
    **{name: name for name in Kinds.__struct_fields__},
}  # fmt: skip
"""Parts of `Rates` by the keys of the file."""


def read_prices(node: Node, place: Place, problems: Problems, notes: list[str]) -> tuple[OwnPrice, ...]:
    """In the file's order. An entry that is wrong is left out, and told in `problems`; one that is right and finds no list, in `notes`."""
    if not isinstance(node, Listing):
        if not (isinstance(node, Scalar) and node.tag == "null"):
            problems.add(place, f"must be a list, like [{_EXAMPLE}]")
        return ()
    found: list[OwnPrice] = []
    for index, item in enumerate(node.items):
        here = place.below(f"[{index}]", item.line)
        section = section_of(item, here, problems, _EXAMPLE)
        if section is None:
            continue
        before = len(problems.found)
        given = read_fields(section, PRICE, here, problems)
        # What is wrong with a value is one error, and not one more for its absence.
        entry = _read(given, here, problems) if len(problems.found) == before else None
        if entry is not None:
            found.append(entry)
            if entry.like is not None:
                notes += _unlisted(entry.like, given["like"].place)
    return tuple(found)


def _unlisted(maker: str, place: Place) -> list[str]:
    """A note if nobody's list is called so. No error: the installed lists come and go with their library."""
    from penstock.pricing.lists import Lists  # takes a quarter of a second, and few files name one

    lists = Lists()
    if lists.has(maker):
        return []
    return [f"{place}: there is no price list of {mask_secrets(maker)!r}, so it prices nothing; {suggest(maker, lists.makers)}"]


def _read(given: Mapping[str, Given], here: Place, problems: Problems) -> OwnPrice | None:
    rates, long = _rates(given, ""), _rates(given, "long.")
    like, discount = given.get("like"), given.get("discount")
    if rates is None and discount is None and like is None:
        problems.add(here, "has neither a price nor a discount; add input and output (US dollars per million tokens), discount: 15%, or like: openai")
        return None
    if rates is not None and like is not None:
        problems.add(like.place, "takes the prices of a list, and there are prices of its own beside it; keep one of the two")
        return None
    if rates is not None and rates.input is None:
        problems.add(here, "has prices, but none of input; add input: 0 where it is free")
        return None
    if "long" in given and (rates is None or "long.above" not in given or long is None):
        problems.add(given["long"].place, "needs above (tokens of context), prices, and prices of short contexts beside it")
        return None
    return OwnPrice(
        provider=cast("Glob", given["provider"].value) if "provider" in given else EVERYTHING,
        model=cast("Glob", given["model"].value) if "model" in given else EVERYTHING,
        tier=cast("str", given["tier"].value) if "tier" in given else None,
        rates=rates,
        above=cast("int", given["long.above"].value) if long is not None else None,
        long=long,
        like=cast("str", like.value) if like is not None else None,
        factor=cast("Decimal", discount.value) if discount is not None else Decimal(1),
    )


def _rates(given: Mapping[str, Given], prefix: str) -> Rates | None:
    stated = {part: cast("Decimal", given[prefix + key].value) for key, part in _PARTS.items() if prefix + key in given}
    return Rates(**stated) if stated else None
