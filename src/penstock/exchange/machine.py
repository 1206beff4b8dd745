"""The phases of one exchange, and what is to be done at each step. Pure: no I/O, no clock.

    OPENED --routed--> DIALING --head--> HEAD_HELD --commit--> STREAMING --ended--> SETTLED
       |                |  ^ |              |  |                  |   |
       +- refused       |  | +--- early --- | -+-> EARLY --commit-+   +- terminal (then the connection may linger)
       ^--- alone ------|  +-- retry, again +          |
                        +------- the client left ------+---------------> DRAINING --ended--> SETTLED

OPENED      The request is being read; nothing was asked of anybody.
DIALING     The provider was asked; no byte of its answer has come. A kept connection that turns out dead is replaced at once.
HEAD_HELD   The head has come and is held: until the commit another answer, or another try, is possible with a true status.
EARLY       The client has waited long and was given a head of ours, with 200; no more than that has come of the provider's answer yet. An
            error can only be told in band; another try is still possible.
STREAMING   The client has what the provider said. From here an error can only be told in band, in the client's protocol.
DRAINING    The client has left, and the answer is read on for the sake of its account.
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
    EARLY = auto()
    STREAMING = auto()
    DRAINING = auto()
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
    ALONE = auto()
    """The answer of another that it was to be told is none for it, and nobody was asked for it yet."""
    RETRY = auto()
    """This try failed, and there is another one after a pause."""
    EARLY = auto()
    """The client has waited long enough for a head."""
    COMMIT = auto()
    STALE = auto()
    LOST = auto()
    FAILED = auto()
    """What comes is no answer, or came to its end by a limit of ours; the provider may still be sending."""
    ENDED = auto()
    """The provider's answer ended by its own framing."""
    TERMINAL = auto()
    """The terminal frame was given to the client."""
    LINGERED = auto()
    """The provider did not end its answer within the time it has after a terminal event."""
    CLIENT_GONE = auto()
    CLIENT_LEFT = auto()
    """The same, where the answer is to be read on."""
    SHUTDOWN = auto()


class Command(IntEnum):
    ASK = auto()
    ASK_FRESH = auto()
    """On a new connection."""
    WAIT = auto()
    """Until the time for the next try has come."""
    REFUSE = auto()
    """Answer with the fault, with its true status."""
    SEND_EARLY = auto()
    """A head of ours."""
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
_Steps = Mapping[Input, tuple[Phase, tuple[Command, ...]]]

_TRYING: _Steps = {
    _I.CLIENT_GONE: (_P.SETTLED, (_C.CANCEL, _C.SETTLE)),
    _I.CLIENT_LEFT: (_P.DRAINING, ()),
}
_UNTOLD: _Steps = {
    **_TRYING,
    _I.RETRY: (_P.DIALING, (_C.CANCEL, _C.WAIT)),
    _I.EARLY: (_P.EARLY, (_C.SEND_EARLY,)),
    _I.LOST: (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    _I.FAILED: (_P.SETTLED, (_C.CANCEL, _C.REFUSE, _C.SETTLE)),
    _I.SHUTDOWN: (_P.SETTLED, (_C.CANCEL, _C.REFUSE, _C.SETTLE)),
}
_TOLD: _Steps = {
    **_TRYING,
    _I.LOST: (_P.SETTLED, (_C.BREAK, _C.SETTLE)),
    _I.FAILED: (_P.SETTLED, (_C.CANCEL, _C.BREAK, _C.SETTLE)),
    _I.SHUTDOWN: (_P.SETTLED, (_C.CANCEL, _C.BREAK, _C.SETTLE)),
}
_STEPS: Mapping[Phase, _Steps] = {
    _P.OPENED: {
        _I.REFUSED: (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
        _I.ANSWERED: (_P.SETTLED, (_C.SETTLE,)),
        _I.ROUTED: (_P.DIALING, (_C.ASK,)),
        _I.CLIENT_GONE: (_P.SETTLED, (_C.SETTLE,)),
        _I.SHUTDOWN: (_P.SETTLED, (_C.REFUSE, _C.SETTLE)),
    },
    _P.DIALING: {
        **_UNTOLD,
        _I.HEAD: (_P.HEAD_HELD, ()),
        _I.ALONE: (_P.OPENED, ()),
        _I.STALE: (_P.DIALING, (_C.ASK_FRESH,)),
    },
    _P.HEAD_HELD: {
        **_UNTOLD,
        _I.COMMIT: (_P.STREAMING, (_C.SEND_HEAD,)),
        _I.AGAIN: (_P.DIALING, (_C.ASK,)),
    },
    _P.EARLY: {
        **_TOLD,
        _I.HEAD: (_P.EARLY, ()),
        _I.COMMIT: (_P.STREAMING, ()),
        _I.STALE: (_P.EARLY, (_C.ASK_FRESH,)),
        _I.AGAIN: (_P.EARLY, (_C.ASK,)),
        _I.RETRY: (_P.EARLY, (_C.CANCEL, _C.WAIT)),
    },
    _P.STREAMING: {
        **_TOLD,
        _I.ENDED: (_P.SETTLED, (_C.FINISH, _C.SETTLE)),
        _I.TERMINAL: (_P.SETTLED, (_C.SETTLE, _C.LINGER)),
    },
    _P.DRAINING: {
        _I.HEAD: (_P.DRAINING, ()),
        _I.STALE: (_P.DRAINING, (_C.ASK_FRESH,)),
        **dict.fromkeys(
            (_I.LOST, _I.FAILED, _I.ENDED, _I.TERMINAL, _I.SHUTDOWN, _I.CLIENT_GONE), (_P.SETTLED, (_C.CANCEL, _C.SETTLE)),
        ),
    },
    # After the end. FINISH and CANCEL do nothing where they were done.
    _P.SETTLED: {
        _I.ENDED: (_P.SETTLED, (_C.FINISH,)),
        _I.LOST: (_P.SETTLED, (_C.FINISH,)),
        _I.LINGERED: (_P.SETTLED, (_C.CANCEL, _C.FINISH)),
        _I.CLIENT_GONE: (_P.SETTLED, (_C.CANCEL,)),
        _I.CLIENT_LEFT: (_P.SETTLED, (_C.CANCEL,)),
        _I.SHUTDOWN: (_P.SETTLED, (_C.CANCEL, _C.FINISH)),
    },
}  # fmt: skip

TABLE: Mapping[tuple[Phase, Input], tuple[Phase, tuple[Command, ...]]] = {
    (phase, what): step for phase, steps in _STEPS.items() for what, step in steps.items()
}


_OPENED, _SETTLED = Phase.OPENED, Phase.SETTLED


class Machine:
    """Where one exchange is."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = _OPENED

    def handle(self, what: Input) -> tuple[Command, ...]:
        """What is to be done, in order. Raises `ProtocolError`."""
        step = TABLE.get((self.phase, what))
        if step is None:
            if self.phase is _SETTLED:
                return ()
            raise ProtocolError(f"{what.name} in {self.phase.name}")
        self.phase = step[0]
        return step[1]
