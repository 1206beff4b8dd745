"""How hard the fuzzing tries, and what it does to bytes.

In `make test` each test of it runs some dozen examples, to see that it holds at all; `make fuzz` looks. `PENSTOCK_FUZZ` multiplies them, on top
of the profile.
"""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""As in `make fuzz`: what tries every place tries every place, where `make test` takes some of each kind."""
TIMES = float(os.environ.get("PENSTOCK_FUZZ", "0.4"))


def tries(weight: float = 1.0) -> settings:
    """`weight`: how many times as many examples as the profile has for a plain test."""
    base = settings.default or settings()
    return settings(
        max_examples=max(5, int(base.max_examples * weight * TIMES)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


CUTS = st.lists(st.integers(0, 1 << 16), max_size=10)
"""Where bytes are cut, modulo their length."""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, none of them empty."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@st.composite
def marred(draw: st.DrawFn, data: bytes, spice: st.SearchStrategy[bytes], most: int = 4) -> bytes:
    """`data`, harmed once or up to `most` times: a bit flipped, a slice left out, said twice, or moved, something put in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(out)))
        if draw(st.booleans()):  # where a line begins, and with it most of what means anything
            at = out.find(b"\n", at) + 1
        size = draw(st.integers(1, 4) | st.integers(1, max(1, len(out))))
        what = draw(st.sampled_from(["flip", "set", "cut", "twice", "move", "put", "put"]))
        if what == "flip" and at < len(out):
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "set" and at < len(out):
            out[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del out[at : at + size]
        elif what == "twice":
            out[at:at] = out[at : at + size]
        elif what == "move":
            piece = out[at : at + size]
            del out[at : at + size]
            to = draw(st.integers(0, len(out)))
            out[to:to] = piece
        elif what == "put":
            out[at:at] = draw(spice)
    return bytes(out)
