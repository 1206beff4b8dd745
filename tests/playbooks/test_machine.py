"""The machine of one exchange, as dialogues: what comes in, what is to be done. And every phase with every input: legal, or a `ProtocolError`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.exchange.machine import TABLE, Command, Input, Machine, Phase, ProtocolError


class Playbook:
    """A dialogue with one machine: what is said to it, and what it wants done, in order and nothing besides."""

    def __init__(self) -> None:
        self.machine = Machine()

    def on(self, what: Input, *wanted: Command) -> Playbook:
        assert self.machine.handle(what) == wanted
        return self

    def at(self, phase: Phase) -> None:
        assert self.machine.phase is phase


I, C, P = Input, Command, Phase  # noqa: E741  # as short as a dialogue needs them


def dialing() -> Playbook:
    return Playbook().on(I.ROUTED, C.ASK)


def streaming() -> Playbook:
    return dialing().on(I.HEAD).on(I.COMMIT, C.SEND_HEAD)


def test_an_answer_that_ends_by_its_framing() -> None:
    streaming().on(I.ENDED, C.FINISH, C.SETTLE).at(P.SETTLED)


def test_an_answer_with_a_terminal_event_lets_its_connection_end() -> None:
    streaming().on(I.TERMINAL, C.SETTLE, C.LINGER).on(I.ENDED, C.FINISH).at(P.SETTLED)


def test_a_provider_that_never_ends_behind_its_terminal_event() -> None:
    streaming().on(I.TERMINAL, C.SETTLE, C.LINGER).on(I.LINGERED, C.CANCEL, C.FINISH).at(P.SETTLED)


def test_a_client_that_closes_on_the_terminal_event() -> None:
    streaming().on(I.TERMINAL, C.SETTLE, C.LINGER).on(I.CLIENT_GONE, C.CANCEL).at(P.SETTLED)


def test_the_line_breaks_behind_the_terminal_event() -> None:
    streaming().on(I.TERMINAL, C.SETTLE, C.LINGER).on(I.LOST, C.FINISH).at(P.SETTLED)


def test_an_answer_that_is_lost_is_told_in_band() -> None:
    streaming().on(I.LOST, C.BREAK, C.SETTLE).at(P.SETTLED)


def test_a_kept_connection_that_died_is_replaced_unseen() -> None:
    dialing().on(I.STALE, C.ASK_FRESH).at(P.DIALING)
    dialing().on(I.STALE, C.ASK_FRESH).on(I.LOST, C.REFUSE, C.SETTLE).at(P.SETTLED)


def test_a_provider_that_does_not_take_what_we_added_is_asked_again() -> None:
    dialing().on(I.HEAD).on(I.AGAIN, C.ASK).at(P.DIALING)
    dialing().on(I.HEAD).on(I.AGAIN, C.ASK).on(I.HEAD).on(I.COMMIT, C.SEND_HEAD).at(P.STREAMING)


def test_before_the_commit_a_loss_has_a_true_status() -> None:
    dialing().on(I.LOST, C.REFUSE, C.SETTLE).at(P.SETTLED)
    dialing().on(I.HEAD).on(I.LOST, C.REFUSE, C.SETTLE).at(P.SETTLED)


def test_a_try_that_failed_is_followed_by_another() -> None:
    dialing().on(I.RETRY, C.CANCEL, C.WAIT).on(I.HEAD).on(I.COMMIT, C.SEND_HEAD).at(P.STREAMING)
    dialing().on(I.HEAD).on(I.RETRY, C.CANCEL, C.WAIT).on(I.LOST, C.REFUSE, C.SETTLE).at(P.SETTLED)


def test_a_limit_of_ours_closes_the_upstream_connection_first() -> None:
    dialing().on(I.FAILED, C.CANCEL, C.REFUSE, C.SETTLE).at(P.SETTLED)
    dialing().on(I.HEAD).on(I.FAILED, C.CANCEL, C.REFUSE, C.SETTLE).at(P.SETTLED)
    streaming().on(I.FAILED, C.CANCEL, C.BREAK, C.SETTLE).at(P.SETTLED)


def test_a_client_that_waited_long_has_a_head_of_ours_and_learns_the_rest_in_band() -> None:
    dialing().on(I.EARLY, C.SEND_EARLY).on(I.HEAD).on(I.COMMIT).on(I.TERMINAL, C.SETTLE, C.LINGER).at(P.SETTLED)
    dialing().on(I.EARLY, C.SEND_EARLY).on(I.LOST, C.BREAK, C.SETTLE).at(P.SETTLED)
    dialing().on(I.EARLY, C.SEND_EARLY).on(I.RETRY, C.CANCEL, C.WAIT).on(I.FAILED, C.CANCEL, C.BREAK, C.SETTLE).at(P.SETTLED)
    dialing().on(I.EARLY, C.SEND_EARLY).on(I.STALE, C.ASK_FRESH).on(I.CLIENT_GONE, C.CANCEL, C.SETTLE).at(P.SETTLED)


def test_an_answer_is_read_on_without_its_client() -> None:
    streaming().on(I.CLIENT_LEFT).on(I.TERMINAL, C.CANCEL, C.SETTLE).at(P.SETTLED)
    dialing().on(I.CLIENT_LEFT).on(I.HEAD).on(I.ENDED, C.CANCEL, C.SETTLE).at(P.SETTLED)
    dialing().on(I.HEAD).on(I.CLIENT_LEFT).on(I.FAILED, C.CANCEL, C.SETTLE).at(P.SETTLED)


def test_refused_and_answered() -> None:
    Playbook().on(I.REFUSED, C.REFUSE, C.SETTLE).at(P.SETTLED)
    Playbook().on(I.ANSWERED, C.SETTLE).at(P.SETTLED)


def test_the_client_goes() -> None:
    Playbook().on(I.CLIENT_GONE, C.SETTLE).at(P.SETTLED)
    dialing().on(I.CLIENT_GONE, C.CANCEL, C.SETTLE).at(P.SETTLED)
    dialing().on(I.HEAD).on(I.CLIENT_GONE, C.CANCEL, C.SETTLE).at(P.SETTLED)
    streaming().on(I.CLIENT_GONE, C.CANCEL, C.SETTLE).at(P.SETTLED)


def test_the_gateway_shuts_down() -> None:
    Playbook().on(I.SHUTDOWN, C.REFUSE, C.SETTLE).at(P.SETTLED)
    dialing().on(I.SHUTDOWN, C.CANCEL, C.REFUSE, C.SETTLE).at(P.SETTLED)
    dialing().on(I.HEAD).on(I.SHUTDOWN, C.CANCEL, C.REFUSE, C.SETTLE).at(P.SETTLED)
    streaming().on(I.SHUTDOWN, C.CANCEL, C.BREAK, C.SETTLE).at(P.SETTLED)
    streaming().on(I.TERMINAL, C.SETTLE, C.LINGER).on(I.SHUTDOWN, C.CANCEL, C.FINISH).at(P.SETTLED)


# Every phase with every input, written down a second time and apart from the table: the phase that follows, `-` for a ProtocolError.
GRID = """
             OPENED    DIALING   HEAD_HELD  EARLY      STREAMING  DRAINING  SETTLED
REFUSED      SETTLED   -         -          -          -          -         SETTLED
ANSWERED     SETTLED   -         -          -          -          -         SETTLED
ROUTED       DIALING   -         -          -          -          -         SETTLED
HEAD         -         HEAD_HELD -          EARLY      -          DRAINING  SETTLED
AGAIN        -         -         DIALING    EARLY      -          -         SETTLED
ALONE        -         OPENED    -          -          -          -         SETTLED
RETRY        -         DIALING   DIALING    EARLY      -          -         SETTLED
EARLY        -         EARLY     EARLY      -          -          -         SETTLED
COMMIT       -         -         STREAMING  STREAMING  -          -         SETTLED
STALE        -         DIALING   -          EARLY      -          DRAINING  SETTLED
LOST         -         SETTLED   SETTLED    SETTLED    SETTLED    SETTLED   SETTLED
FAILED       -         SETTLED   SETTLED    SETTLED    SETTLED    SETTLED   SETTLED
ENDED        -         -         -          -          SETTLED    SETTLED   SETTLED
TERMINAL     -         -         -          -          SETTLED    SETTLED   SETTLED
LINGERED     -         -         -          -          -          -         SETTLED
CLIENT_GONE  SETTLED   SETTLED   SETTLED    SETTLED    SETTLED    SETTLED   SETTLED
CLIENT_LEFT  -         DRAINING  DRAINING   DRAINING   DRAINING   -         SETTLED
SHUTDOWN     SETTLED   SETTLED   SETTLED    SETTLED    SETTLED    SETTLED   SETTLED
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
    heads = [c for c in wanted if c in (Command.SEND_HEAD, Command.SEND_EARLY, Command.REFUSE)]
    assert len(heads) <= 1, "there is one head"
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
        if what in (Input.SHUTDOWN, Input.FAILED) and phase not in (Phase.OPENED, Phase.SETTLED):
            assert commands[0] is Command.CANCEL
