"""The phases of one exchange, and what is to be done at each step. Pure: no I/O, no clock.

    OPENED --routed--> DIALING --head--> HEAD_HELD --commit--> STREAMING --ended--> SETTLED
       |                  |  ^               |                    |
       +- refused         |  +- stale, again-+                    +- terminal (then the connection may linger)
                          +- lost

OPENED      The request is being read; nothing was asked of anybody.
DIALING     The provider was asked; no byte of its answer has come. A kept connection that dies here is replaced at once.
HEAD_HELD   The head has come and is held: until the commit another answer, or another try, is possible with a true status.
STREAMING   The client has the head. From here an error can only be told in band, in the client's protocol.
SETTLED     The outcome is in the ledger. Bytes may still flow after a terminal event; nothing changes the outcome any more.

Every input in every phase is either in the table or a `ProtocolError`, which is our bug. In SETTLED everything is legal, because ends
cross each other on the way (a client leaves while the last bytes come).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, auto


class Phase(IntEnum):
    OPENED = auto()
    DIALING = auto()
    HEAD_HELD = auto()
    STREAMING = auto()
    SETTLED = auto()


class Input(IntEnum):
    REFUSED = auto()
    """We answer with an error of our own."""
    ANSWERED = auto()
    """We have answered from what we know; no provider is asked."""
    ROUTED = auto()
    HEAD = auto()
    AGAIN = auto()
    """The answer says that the provider does not take what we added; ask without it."""
    COMMIT = auto()
    STALE = auto()
    LOST = auto()
    ENDED = auto()
    """The provider's answer ended by its own framing."""
    TERMINAL = auto()
    """The terminal frame was given to the client."""
    LINGERED = auto()
    """The provider did not end its answer within the time it has after a terminal event."""
    CLIENT_GONE = auto()
    SHUTDOWN = auto()


class Command(IntEnum):
    ASK = auto()
    ASK_FRESH = auto()
    """On a new connection."""
    REFUSE = auto()
    """Answer with the fault, with its true status."""
    SEND_HEAD = auto()
    FINISH = auto()
    """Give out what is held, and end the answer."""
    BREAK = auto()
    """Tell the fault in band where that is possible, and end the answer so that its end cannot be taken for a good one."""
    CANCEL = auto()
    """Close the upstream connection."""
    LINGER = auto()
    SETTLE = auto()


class ProtocolError(Exception):
    """An input that cannot come in this phase: a bug of ours."""


_P, _I, _C = Phase, Input, Command

TABLE: Mapping[tuple[Phase, Input], tuple[Phase, tuple[Command, ...]]] = {
    (_P.OPENED, _I.REFUSED): (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    (_P.OPENED, _I.ANSWERED): (_P.SETTLED, (_C.SETTLE,)),
    (_P.OPENED, _I.ROUTED): (_P.DIALING, (_C.ASK,)),
    (_P.OPENED, _I.CLIENT_GONE): (_P.SETTLED, (_C.SETTLE,)),
    (_P.OPENED, _I.SHUTDOWN): (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    (_P.DIALING, _I.HEAD): (_P.HEAD_HELD, ()),
    (_P.DIALING, _I.STALE): (_P.DIALING, (_C.ASK_FRESH,)),
    (_P.DIALING, _I.LOST): (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    (_P.DIALING, _I.CLIENT_GONE): (_P.SETTLED, (_C.CANCEL, _C.SETTLE)),
    (_P.DIALING, _I.SHUTDOWN): (_P.SETTLED, (_C.CANCEL, _C.REFUSE, _C.SETTLE)),
    (_P.HEAD_HELD, _I.COMMIT): (_P.STREAMING, (_C.SEND_HEAD,)),
    (_P.HEAD_HELD, _I.AGAIN): (_P.DIALING, (_C.ASK,)),
    (_P.HEAD_HELD, _I.LOST): (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    (_P.HEAD_HELD, _I.CLIENT_GONE): (_P.SETTLED, (_C.CANCEL, _C.SETTLE)),
    (_P.HEAD_HELD, _I.SHUTDOWN): (_P.SETTLED, (_C.CANCEL, _C.REFUSE, _C.SETTLE)),
    (_P.STREAMING, _I.ENDED): (_P.SETTLED, (_C.FINISH, _C.SETTLE)),
    (_P.STREAMING, _I.LOST): (_P.SETTLED, (_C.BREAK, _C.SETTLE)),
    (_P.STREAMING, _I.TERMINAL): (_P.SETTLED, (_C.SETTLE, _C.LINGER)),
    (_P.STREAMING, _I.CLIENT_GONE): (_P.SETTLED, (_C.CANCEL, _C.SETTLE)),
    (_P.STREAMING, _I.SHUTDOWN): (_P.SETTLED, (_C.CANCEL, _C.BREAK, _C.SETTLE)),
    # After the end. FINISH and CANCEL do nothing where they were done.
    (_P.SETTLED, _I.ENDED): (_P.SETTLED, (_C.FINISH,)),
    (_P.SETTLED, _I.LOST): (_P.SETTLED, (_C.FINISH,)),
    (_P.SETTLED, _I.LINGERED): (_P.SETTLED, (_C.CANCEL, _C.FINISH)),
    (_P.SETTLED, _I.CLIENT_GONE): (_P.SETTLED, (_C.CANCEL,)),
    (_P.SETTLED, _I.SHUTDOWN): (_P.SETTLED, (_C.CANCEL, _C.FINISH)),
}


class Machine:
    """Where one exchange is."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = Phase.OPENED

    def handle(self, what: Input) -> tuple[Command, ...]:
        """What is to be done, in order. Raises `ProtocolError`."""
        step = TABLE.get((self.phase, what))
        if step is None:
            if self.phase is Phase.SETTLED:
                return ()
            raise ProtocolError(f"{what.name} in {self.phase.name}")
        self.phase = step[0]
        return step[1]
