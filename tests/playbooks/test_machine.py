"""The machine of one exchange, as dialogues: what comes in, what is to be done. And every phase with every input: legal, or a `ProtocolError`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.exchange.machine import TABLE, Command, Input, Machine, Phase, ProtocolError


class Playbook:
    """A dialogue with one machine: `>>` says something to it, `<<` is what it wants done, in order and nothing besides."""

    def __init__(self) -> None:
        self.machine = Machine()
        self._wanted: Iterator[Command] = iter(())

    def __rshift__(self, what: Input) -> Playbook:
        self.done()
        self._wanted = iter(self.machine.handle(what))
        return self

    def __lshift__(self, command: Command) -> Playbook:
        assert next(self._wanted, None) is command
        return self

    def done(self) -> Playbook:
        """Nothing else is wanted."""
        assert list(self._wanted) == []
        return self

    def __matmul__(self, phase: Phase) -> Playbook:
        """`@`: where the machine is now."""
        assert self.machine.phase is phase
        return self


P, I, C = Phase, Input, Command  # noqa: E741  # as short as a dialogue needs them


def streaming() -> Playbook:
    play = Playbook()
    play >> I.ROUTED << C.ASK
    (play >> I.HEAD).done() @ P.HEAD_HELD
    play >> I.COMMIT << C.SEND_HEAD
    return play.done() @ P.STREAMING


def test_an_answer_that_ends_by_its_framing() -> None:
    (streaming() >> I.ENDED << C.FINISH << C.SETTLE).done() @ P.SETTLED


def test_an_answer_with_a_terminal_event_lets_its_connection_end() -> None:
    play = streaming() >> I.TERMINAL << C.SETTLE << C.LINGER
    (play >> I.ENDED << C.FINISH).done() @ P.SETTLED


def test_a_provider_that_never_ends_behind_its_terminal_event() -> None:
    (streaming() >> I.TERMINAL << C.SETTLE << C.LINGER >> I.LINGERED << C.CANCEL << C.FINISH).done()


def test_a_client_that_closes_on_the_terminal_event() -> None:
    (streaming() >> I.TERMINAL << C.SETTLE << C.LINGER >> I.CLIENT_GONE << C.CANCEL).done()


def test_the_line_breaks_behind_the_terminal_event() -> None:
    (streaming() >> I.TERMINAL << C.SETTLE << C.LINGER >> I.LOST << C.FINISH).done()


def test_an_answer_that_is_lost_is_told_in_band() -> None:
    (streaming() >> I.LOST << C.BREAK << C.SETTLE).done() @ P.SETTLED


def test_a_kept_connection_that_died_is_replaced_unseen() -> None:
    play = Playbook() >> I.ROUTED << C.ASK
    (play >> I.STALE << C.ASK_FRESH).done() @ P.DIALING
    (play >> I.LOST << C.REFUSE << C.SETTLE).done() @ P.SETTLED


def test_a_provider_that_does_not_take_what_we_added_is_asked_again() -> None:
    play = Playbook() >> I.ROUTED << C.ASK
    play >> I.HEAD
    (play >> I.AGAIN << C.ASK).done() @ P.DIALING
    play >> I.HEAD
    (play >> I.COMMIT << C.SEND_HEAD).done() @ P.STREAMING


@pytest.mark.parametrize("steps", [[I.ROUTED], [I.ROUTED, I.HEAD]])
def test_before_the_commit_a_loss_has_a_true_status(steps: list[Input]) -> None:
    play = Playbook()
    for step in steps:
        play.machine.handle(step)
    (play >> I.LOST << C.REFUSE << C.SETTLE).done() @ P.SETTLED


def test_refused_and_answered() -> None:
    (Playbook() >> I.REFUSED << C.REFUSE << C.SETTLE).done() @ P.SETTLED
    (Playbook() >> I.ANSWERED << C.SETTLE).done() @ P.SETTLED


def test_the_client_goes() -> None:
    (Playbook() >> I.CLIENT_GONE << C.SETTLE).done()
    (Playbook() >> I.ROUTED << C.ASK >> I.CLIENT_GONE << C.CANCEL << C.SETTLE).done()
    (streaming() >> I.CLIENT_GONE << C.CANCEL << C.SETTLE).done()


def test_the_gateway_shuts_down() -> None:
    (Playbook() >> I.SHUTDOWN << C.REFUSE << C.SETTLE).done()
    (Playbook() >> I.ROUTED << C.ASK >> I.SHUTDOWN << C.CANCEL << C.REFUSE << C.SETTLE).done()
    (streaming() >> I.SHUTDOWN << C.CANCEL << C.BREAK << C.SETTLE).done()
    (streaming() >> I.TERMINAL << C.SETTLE << C.LINGER >> I.SHUTDOWN << C.CANCEL << C.FINISH).done()


# Every phase with every input, written down a second time and apart from the table: the phase that follows, `-` for a ProtocolError.
GRID = """
             OPENED    DIALING   HEAD_HELD  STREAMING  SETTLED
REFUSED      SETTLED   -         -          -          SETTLED
ANSWERED     SETTLED   -         -          -          SETTLED
ROUTED       DIALING   -         -          -          SETTLED
HEAD         -         HEAD_HELD -          -          SETTLED
AGAIN        -         -         DIALING    -          SETTLED
COMMIT       -         -         STREAMING  -          SETTLED
STALE        -         DIALING   -          -          SETTLED
LOST         -         SETTLED   SETTLED    SETTLED    SETTLED
ENDED        -         -         -          SETTLED    SETTLED
TERMINAL     -         -         -          SETTLED    SETTLED
LINGERED     -         -         -          -          SETTLED
CLIENT_GONE  SETTLED   SETTLED   SETTLED    SETTLED    SETTLED
SHUTDOWN     SETTLED   SETTLED   SETTLED    SETTLED    SETTLED
"""
LINES = [line.split() for line in GRID.strip().splitlines()]
CELLS = {(Phase[phase], Input[line[0]]): cell for line in LINES[1:] for phase, cell in zip(LINES[0], line[1:], strict=True)}


@pytest.mark.parametrize(("phase", "what"), CELLS, ids=lambda value: value.name)
def test_every_phase_and_every_input(phase: Phase, what: Input) -> None:
    machine = Machine()
    machine.phase = phase
    if CELLS[phase, what] == "-":
        with pytest.raises(ProtocolError, match=f"{what.name} in {phase.name}"):
            machine.handle(what)
        assert machine.phase is phase, "and nothing has changed"
    else:
        machine.handle(what)
        assert machine.phase is Phase[CELLS[phase, what]]


def test_the_grid_is_whole() -> None:
    assert set(CELLS) == {(phase, what) for phase in Phase for what in Input}


@given(st.lists(st.sampled_from(Input), max_size=30))
def test_settled_once_and_the_client_told_once_whatever_comes(inputs: list[Input]) -> None:
    machine, wanted = Machine(), list[Command]()
    for what in inputs:
        try:
            wanted += machine.handle(what)
        except ProtocolError:
            assert machine.phase is not Phase.SETTLED
    settles = wanted.count(Command.SETTLE)
    assert settles == (machine.phase is Phase.SETTLED)
    ends = [c for c in wanted[: wanted.index(Command.SETTLE)] if c in (Command.REFUSE, Command.FINISH, Command.BREAK)] if settles else []
    assert len(ends) <= 1
    if Command.SEND_HEAD in wanted:
        assert Command.REFUSE not in wanted, "there is one head"
    if Command.REFUSE in wanted:
        assert not {Command.FINISH, Command.BREAK} & set(wanted[: wanted.index(Command.REFUSE)])


@given(st.lists(st.sampled_from(Input), max_size=30))
def test_no_way_out_of_settled(inputs: list[Input]) -> None:
    machine = Machine()
    machine.handle(Input.REFUSED)
    for what in inputs:
        assert Command.SETTLE not in machine.handle(what)
        assert machine.phase is Phase.SETTLED


def test_whoever_asked_cancels_before_it_tells() -> None:
    """Where the client is told that it is over while the provider still talks, the provider is cancelled first."""
    for (phase, what), (_, commands) in TABLE.items():
        if what is Input.SHUTDOWN and phase in (Phase.DIALING, Phase.HEAD_HELD, Phase.STREAMING):
            assert commands[0] is Command.CANCEL
