"""Whether another try is made, and when. Pure: the dice and the time are arguments."""

from __future__ import annotations

from email.utils import formatdate
from math import isfinite
from time import gmtime, strftime, tzset

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.exchange.conduct import Retries
from penstock.exchange.retry import FIRST, MOST, PATIENCE, Tries
from penstock.upstream.contract import LossKind

NOW = 1_700_000_000.0
UNMADE = [LossKind.CONNECT, LossKind.CONNECT_TIMEOUT, LossKind.TLS]
LOST = [kind for kind in LossKind if kind not in UNMADE]


def status(said: dict[bytes, bytes] | None = None, code: int = 503, left: int = 9) -> float | None:
    """The pause after an answer with these headers, where further tries are left."""
    return Tries(Retries(status=left)).after_status(code, list((said or {}).items()), NOW, 1.0)


def test_only_connections_are_tried_again_unless_told_otherwise() -> None:
    tries = Tries(Retries())
    assert tries.after_status(503, [(b"retry-after", b"1"), (b"x-should-retry", b"true")], NOW, 1.0) is None
    assert tries.after_first_frame(1.0) is None
    assert [tries.after_loss(kind, 1.0) for kind in LOST] == [None] * len(LOST)
    assert [tries.after_loss(kind, 1.0) is not None for kind in UNMADE] == [True, True, False]
    assert tries.made == 2


def test_an_answer_that_was_lost_counts_as_one_that_did_not_begin() -> None:
    """It may have been billed, whichever way it died."""
    tries = Tries(Retries(connect=0, first_frame=2))
    assert tries.after_loss(LossKind.RESET, 1.0) is not None
    assert tries.after_first_frame(1.0) is not None
    assert tries.after_loss(LossKind.EOF, 1.0) is None
    assert tries.after_loss(LossKind.CONNECT, 1.0) is None


def test_each_sort_has_its_own_number_and_all_share_the_pauses() -> None:
    tries = Tries(Retries(connect=1, status=1, first_frame=1))
    assert tries.after_status(500, [], NOW, 1.0) == FIRST
    assert tries.after_loss(LossKind.TLS, 1.0) == 2 * FIRST
    assert tries.after_first_frame(1.0) == 4 * FIRST
    assert tries.after_status(500, [], NOW, 1.0) is None
    assert tries.made == 3


@pytest.mark.parametrize(("dice", "part"), [(0.0, 0.75), (0.5, 0.875), (1.0, 1.0)])
def test_pauses_double_up_to_a_bound_and_are_spread(dice: float, part: float) -> None:
    tries = Tries(Retries(connect=9))
    pauses = [tries.after_loss(LossKind.CONNECT, dice) for _ in range(10)]
    assert pauses == [pause * part for pause in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)] + [None]
    assert (FIRST, MOST) == (0.25, 8.0)


@pytest.mark.parametrize("code", range(400, 600))
def test_statuses(code: int) -> None:
    again = code in (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
    assert (status(code=code) is not None) is again
    assert status({b"x-should-retry": b"true"}, code) is not None, "the provider knows better"
    assert status({b"x-should-retry": b"false"}, code) is None
    assert status({b"X-Should-Retry": b" false "}, code) is None
    assert (status({b"x-should-retry": b"perhaps"}, code) is not None) is again


def test_a_pause_that_the_provider_asks_for() -> None:
    assert status({b"retry-after": b"7"}) == 7.0
    assert status({b"Retry-After": b" 1.5 "}) == 1.5
    assert status({b"retry-after-ms": b"120"}) == 0.12
    assert status({b"retry-after": b"9", b"retry-after-ms": b"120"}) == 0.12, "the exacter one"
    assert status({b"retry-after": b"0"}) == 0.0
    assert status({b"retry-after": b"-3"}) == 0.0
    assert status({b"retry-after": formatdate(NOW + 20, usegmt=True).encode()}) == pytest.approx(20.0)
    assert status({b"retry-after": formatdate(NOW - 20, usegmt=True).encode()}) == 0.0
    assert status({b"retry-after": b"60"}) == PATIENCE


def test_a_date_without_a_zone_is_no_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asctime`'s form, which a recipient must take (RFC 9110, 5.6.7)."""
    monkeypatch.setenv("TZ", "America/New_York")
    tzset()
    try:
        assert status({b"retry-after": strftime("%a %b %e %H:%M:%S %Y", gmtime(NOW + 20)).encode()}) == pytest.approx(20.0)
    finally:
        monkeypatch.undo()
        tzset()


BEYOND = [b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
          b"Mon, 01 Jan 2026 99999999999999:00:00 GMT"]  # fmt: skip
"""Numbers that no date can hold."""


@pytest.mark.parametrize("said", [b"", b"soon", b"\xff", b"nan", b"-nan", b"Wed, 99 Nov 2000 00:00:00 GMT", b"1,5", *BEYOND])
def test_a_pause_that_nobody_understands_is_ours(said: bytes) -> None:
    assert status({b"retry-after": said}) == FIRST
    assert status({b"retry-after-ms": said}) == FIRST
    assert status({b"retry-after-ms": said, b"retry-after": b"3"}) == 3.0


@pytest.mark.parametrize("said", [b"61", b"3600", b"inf", b"1e400", formatdate(NOW + 90, usegmt=True).encode()])
def test_who_asks_for_too_long_a_pause_is_not_waited_for(said: bytes) -> None:
    tries = Tries(Retries(status=1))
    assert tries.after_status(429, [(b"retry-after", said)], NOW, 1.0) is None
    assert tries.after_status(429, [(b"x-should-retry", b"false")], NOW, 1.0) is None
    assert tries.made == 0, "and it takes no try"
    assert tries.after_status(429, [], NOW, 1.0) == FIRST


NAMES = st.sampled_from([b"retry-after", b"Retry-After", b"retry-after-ms", b"x-should-retry", b"x"])
VALUES = st.one_of(
    st.binary(max_size=40), st.integers(-(10**30), 10**30).map(lambda n: str(n).encode()), st.floats().map(lambda n: repr(n).encode()),
    st.sampled_from([b"true", b"false", b"1_0", b"0x10"]),
    st.builds(
        lambda *parts: "{} {} {} {} {}:{}:{} {}".format(*parts).encode(),
        st.sampled_from(["Wed,", "", "Thu", "x,"]), st.integers(-1, 99), st.sampled_from(["Jan", "Feb", "1", "-"]),
        st.one_of(st.integers(-1, 99999), st.integers(0, 1 << 70)),
        st.integers(-1, 99), st.integers(-1, 99), st.integers(-1, 99), st.sampled_from(["GMT", "-0000", "+9999", "-9999", "+99", "", "EST"]),
    ),
)  # fmt: skip


@given(
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    code=st.sampled_from([400, 429, 503]),
    dice=st.floats(0, 1),
    retries=st.builds(Retries, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
)
@example([(b"retry-after", b"nan")], 503, 1.0, Retries(status=1))
def test_whatever_is_said_the_whole_is_bounded(headers: list[tuple[bytes, bytes]], code: int, dice: float, retries: Retries) -> None:
    tries = Tries(retries)
    pauses = [tries.after_status(code, headers, NOW, dice) for _ in range(4)]
    pauses += [tries.after_loss(kind, dice) for kind in [*LossKind] * 3]
    pauses += [tries.after_first_frame(dice) for _ in range(4)]
    made = [pause for pause in pauses if pause is not None]
    assert all(isfinite(pause) and 0 <= pause <= PATIENCE for pause in made)
    assert len(made) == tries.made <= retries.connect + retries.status + retries.first_frame
