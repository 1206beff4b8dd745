"""Connections by address."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.server.crowd import Crowd, Place


def test_inside_at_the_door_and_outside() -> None:
    crowd = Crowd(2)
    assert [crowd.enter("a") for _ in range(6)] == [Place.INSIDE] * 2 + [Place.AT_THE_DOOR] * 2 + [Place.OUTSIDE] * 2
    assert crowd.enter("b") is Place.INSIDE
    for _ in range(5):
        crowd.leave("a")
    assert [crowd.enter("a"), crowd.enter("a")] == [Place.INSIDE, Place.AT_THE_DOOR]


@given(st.lists(st.sampled_from("abc")), st.integers(1, 3), st.data())
def test_who_has_left_leaves_nothing(addresses: list[str], most: int, data: st.DataObject) -> None:
    crowd, inside = Crowd(most), list[str]()
    for address in addresses:
        while inside and data.draw(st.booleans()):
            crowd.leave(inside.pop(data.draw(st.integers(0, len(inside) - 1))))
        there = inside.count(address)
        inside.append(address)
        assert crowd.enter(address) is (Place.INSIDE if there < most else Place.AT_THE_DOOR if there < 2 * most else Place.OUTSIDE)
    for address in inside:
        crowd.leave(address)
    assert all(crowd.enter(address) is Place.INSIDE for address in "abc")
    assert len(crowd) == 3
