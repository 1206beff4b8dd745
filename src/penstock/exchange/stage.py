"""Where an answer stands between its provider and its client. Part of `drive`."""

from __future__ import annotations

from enum import IntEnum, auto


class Stage(IntEnum):
    """What is waited for before bytes of the answer go to the client."""

    FLOWING = 0
    """Nothing: they go."""
    BODY = auto()
    """The first bytes of a body."""
    FRAME = auto()
    """The first frame with data."""
    JUDGED = auto()
    """The whole of an error, which may be about what we added, or in a stranger's shape."""
    WEIGHED = auto()
    """The whole of a body that is judged before any of it goes out."""
    UNSEEN = auto()
    """Nothing any more: the client has left, and what comes is only read."""
    GATHERED = auto()
    """The whole of an answer that is made into another form (`gathering`)."""
    NAMELESS = auto()
    """Nothing: they go. Others may ask for the response by its id while it is made, and it has not been told yet."""


FLOWING, BODY, FRAME, JUDGED, WEIGHED, UNSEEN, GATHERED, NAMELESS = Stage
"""By names of their own, as above."""
