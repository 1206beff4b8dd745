"""What every store of kept answers must do: the one in memory, and one that holds only bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dedup import Claim, Conflict, Fields, Fits, Form, Kept, Record, Reel, Room
from penstock.dedup.tape import Tape
from penstock.wire.budget import Budget
from tests.support.kept import STORES, Full, Make, wanted

MIB = 1 << 20
EACH = pytest.mark.parametrize("make", STORES.values(), ids=list(STORES))


def asked(body: Any = None, *, head: bytes = b"h", model: str | None = "m", key: bytes | None = None, provider: str = "p") -> Record:
    return Record("asked", (head, provider, model), json.dumps(body or {"model": "m"}).encode(), key)


def kept(id: str, record: Record | None = None, answer: Reel | bytes = b"answer", form: Form = Form.BODY, *, has_usage: bool = True) -> Fields:
    one = record or asked()
    return id, one.place, one.body, one.key, 200, [(b"x-request-id", b"r1")], answer, form, has_usage


def text_of(answer: Reel | bytes) -> bytes:
    if isinstance(answer, bytes):
        return answer
    out, (piece, at) = b"", answer.read(0, 3000)
    while piece:
        out += piece
        piece, at = answer.read(at, 3000)
    return out


def ids(store: Full, *wants: Record, now: float = 0.0, **how: Any) -> list[str | None]:
    found: list[str | None] = []
    for one in wants:
        claim = store.claim(wanted(one, **how), now)
        assert not isinstance(claim, Conflict)
        found.append(claim.kept.id if claim is not None else None)
    return found


@EACH
def test_what_was_put_comes_back_as_it_was(make: Make) -> None:
    reads = [b'data: {"id":"c1","choices":[{"delta":{"content":"%b"}}],"n":%d}\n\n' % (word, at) for at, word in enumerate([b"a", b"bc", b""] * 900)]
    tape = Tape(MIB, Budget(MIB))
    tape.add([*reads, b"another"])
    store = make(10, Room(MIB), 15.0)
    store.put(kept("1", answer=tape.reel(), form=Form.EVENTS, has_usage=False), 0, 0.0)
    claim = store.claim(wanted(asked()), 1.0)
    assert isinstance(claim, Claim)
    assert not claim.back
    told = claim.kept
    assert (told.id, told.place, told.status, told.headers) == ("1", (b"h", "p", "m"), 200, [(b"x-request-id", b"r1")])
    assert (told.form, told.has_usage) == (Form.EVENTS, False)
    assert text_of(told.answer) == b"".join(reads) + b"another"
    store.put(kept("2", answer=b"body"), 0, 1.0)
    claim = store.claim(wanted(asked()), 1.0)
    assert isinstance(claim, Claim)
    assert claim.kept == Kept(*kept("2", answer=b"body"))


@EACH
def test_one_that_a_client_left_goes_first_and_once_for_each(make: Make) -> None:
    store = make(10, Room(MIB), 15.0)
    assert (store.owed, store.holds) == (0, False)
    store.put(kept("1"), 2, 0.0)
    store.put(kept("2"), 0, 0.0)
    assert (store.owed, store.holds) == (2, True)
    assert ids(store, *[asked()] * 4) == ["1", "1", "2", "2"]
    assert store.owed == 0
    assert ids(store, asked(), only_left=True) == [None]
    store.left((b"h", "p", "m"), "1")
    store.left((b"h", "p", "m"), "nobody's")
    assert store.owed == 1
    claim = store.claim(wanted(asked(), only_left=True), 0.0)
    assert isinstance(claim, Claim)
    assert (claim.kept.id, claim.back, store.owed) == ("1", True, 0)


@EACH
def test_only_what_is_equal_is_told(make: Make) -> None:
    store = make(10, Room(MIB), 15.0)
    store.put(kept("1", asked({"a": 1, "b": [2], "stream": True})), 0, 0.0)
    same = asked({"b": [2], "a": 1})
    unlike: list[dict[str, Any]] = [{"head": b"g"}, {"model": "n"}, {"provider": "q"}, {"key": b"k"}]
    others = [asked({"a": 1, "b": [3]}), *(asked({"b": [2], "a": 1}, **one) for one in unlike)]
    assert ids(store, same, *others) == ["1", *[None] * len(others)]
    no_json = Record("x", (b"h", "p", "m"), b"{", None)
    store.put(kept("2", no_json), 0, 0.0)
    assert ids(store, no_json, Record("x", (b"h", "p", "m"), b"{ ", None)) == ["2", None]


@EACH
def test_time_runs_from_when_it_was_put_by_the_rules_of_who_asks(make: Make) -> None:
    store = make(10, Room(MIB), 15.0)
    turn = asked({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}]})
    store.put(kept("1"), 0, 100.0)
    store.put(kept("2", turn), 1, 100.0)
    for now, found in ((104.9, ["1", "2"]), (105.0, [None, "2"]), (114.9, [None, "2"]), (115.0, [None, None])):
        assert ids(store, asked(), turn, now=now) == found
    assert ids(store, asked(), now=104.0, ttl=3.0, tool_ttl=3.0) == [None]
    store.sweep(114.9)
    assert len(store) == 2
    store.sweep(115.0)
    assert (len(store), store.holds, store.owed) == (0, False, 0)


@EACH
def test_a_key_stands_for_its_last_body(make: Make) -> None:
    store = make(10, Room(MIB), 15.0)
    store.put(kept("1", asked(key=b"k")), 0, 0.0)
    assert ids(store, asked(key=b"k"), asked(), asked(key=b"l"), asked({"n": 2}, head=b"g", key=b"k"), asked(key=b"k", provider="q")) == [
        "1", None, None, None, None]  # fmt: skip
    other = wanted(asked({"n": 2}, key=b"k"))
    assert isinstance(store.claim(other, 0.0), Conflict)
    assert store.claim(other, 5.0) is None, "it is over"
    store.put(kept("2", asked({"n": 2}, key=b"k")), 0, 1.0)
    assert isinstance(store.claim(wanted(asked(key=b"k")), 1.0), Conflict)


@EACH
def test_an_answer_that_cannot_be_told_to_who_asks_does_not_count(make: Make) -> None:
    store = make(10, Room(MIB), 15.0)
    store.put(kept("1", form=Form.EVENTS), 1, 0.0)
    store.put(kept("2", form=Form.ARRAY), 1, 0.0)
    store.put(kept("3", form=Form.BODY, has_usage=False), 1, 0.0)
    assert ids(store, asked(), fits=Fits((Form.EVENTS, Form.BODY), usage=True)) == ["1"]
    assert ids(store, asked(), fits=Fits((Form.BODY,), usage=True)) == [None]
    assert ids(store, asked(), fits=Fits((Form.BODY,))) == ["3"]
    assert ids(store, asked(), fits=Fits((Form.ARRAY,))) == ["2"]
    store.put(kept("4", asked(key=b"k"), form=Form.ARRAY), 1, 0.0)
    assert ids(store, asked(key=b"k"), fits=Fits((Form.BODY,))) == [None]
    assert store.owed == 1


@EACH
def test_the_oldest_make_room(make: Make) -> None:
    store = make(2, Room(MIB), 15.0)
    for name in ("1", "2", "3"):
        store.put(kept(name, asked({"model": name})), 1, 0.0)
    assert ids(store, *(asked({"model": name}) for name in ("1", "2", "3"))) == [None, "2", "3"]
    assert store.owed == 0
    small = make(100, Room(2000), 15.0)
    for at in range(20):
        small.put(kept(str(at), asked({"model": str(at)}), b"x" * 300), 1, 0.0)
    assert 1 <= len(small) <= 6
    assert small.owed == len(small)
    assert ids(small, asked({"model": "0"}), asked({"model": "19"})) == [None, "19"]
    small.put(kept("large", asked({"model": "large"}), b"x" * 2000), 0, 0.0)
    assert ids(small, asked({"model": "large"})) == [None], "larger than everything"


@pytest.mark.parametrize("entries", [1, 2, 31, 32, 33, 100])
def test_in_memory_no_more_are_kept_than_may_be_however_often_somebody_looks(entries: int) -> None:
    for every in (1, 3, 40, 10_000):
        store = STORES["memory"](entries, Room(64 * MIB), 15.0)
        for at in range(300):
            store.put(kept(str(at), asked({"n": at})), 0, 0.0)
            if at % every == 0:
                ids(store, asked())
            assert len(store) <= entries
        assert ids(store, asked({"n": 299})) == ["299"]
        assert len(store) >= min(entries, max(1, entries - 32))


def test_in_memory_nothing_goes_for_what_has_no_room_anyway() -> None:
    room = Room(10_000)
    store = STORES["memory"](100, room, 15.0)
    assert room.take(7000)
    for at in range(5):
        store.put(kept(str(at), asked({"n": at}), b"x" * 200), at % 2, 0.0)
    for n in (3001, 9000, 10_001):
        assert not room.take(n)
        assert len(store) == 5
    assert room.take(3000)
    assert len(store) == 0
    room.give(10_000)
    assert room.used == 0


@pytest.mark.parametrize("reads", [1, 12])
def test_in_memory_a_search_takes_no_more_room_than_what_was_put(reads: int) -> None:
    """A stream of many packs is told to weigh more than it does."""
    tape = Tape(MIB, Budget(MIB))
    for at in range(0, 240, reads):
        tape.add([b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" word%d"}}]}\n\n' % n for n in range(at, at + reads)])
    reel, room = tape.reel(), Room(MIB)
    store = STORES["memory"](1000, room, 15.0)
    for at in range(500):
        store.put(kept(str(at), asked({"n": at}), answer=reel, form=Form.EVENTS), 0, 0.0)
        assert room.used <= MIB
    before = room.used
    assert ids(store, asked({"n": 499})) == ["499"]
    assert room.used <= before
    store.sweep(15.0)
    assert (room.used, len(store)) == (0, 0)


def test_in_memory_the_newest_of_a_pack_stay_where_not_all_of_it_have_room() -> None:
    """A pack has the heads besides."""
    one = kept("0")
    room = Room(48 * 1024)
    store = STORES["memory"](1000, room, 15.0)
    for at in range(40):
        _, place, _, key, status, _, answer, form, has_usage = one
        store.put((str(at), place, asked({"n": at}).body, key, status, [(b"x", b"v" * 1500)], answer, form, has_usage), 0, 0.0)
    assert ids(store, asked({"n": 39}), asked({"n": 20}), asked({"n": 0})) == ["39", "20", None]
    assert 0 < room.used <= room.total


def test_in_memory_no_more_bodies_are_read_than_may_be() -> None:
    store = STORES["memory"](100, Room(64 * MIB), 15.0)
    filler = "x" * MIB
    for n in range(9):
        store.put(kept(str(n), asked({"n": n, "messages": filler})), 0, 0.0)
    assert ids(store, asked({"messages": filler, "n": 0}), reads=4 * MIB) == [None]
    assert ids(store, asked({"messages": filler, "n": 8}), reads=0) == ["8"], "it has been read"
    assert ids(store, asked({"n": 0, "messages": filler}), reads=0) == ["0"], "what is the same byte by byte needs no reading"


@given(st.data())
def test_both_stores_say_the_same(data: st.DataObject) -> None:
    entries = data.draw(st.integers(1, 4))
    stores = [make(entries, Room(MIB), 15.0) for make in STORES.values()]
    small, now = st.integers(0, 1), 0.0
    for at in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.sampled_from([0.0, 1.0, 4.0]))
        one = asked({"x": data.draw(small)}, head=b"%d" % data.draw(small), key=data.draw(st.sampled_from([None, None, b"k"])))
        match data.draw(st.sampled_from(["put", "claim", "claim", "left", "sweep"])):
            case "put":
                form, left = data.draw(st.sampled_from(Form)), data.draw(small)
                for store in stores:
                    store.put(kept(str(at), one, form=form), left, now)
            case "claim":
                want = wanted(one, only_left=data.draw(st.booleans()), fits=Fits(tuple(data.draw(st.sets(st.sampled_from(Form))))))
                claims = [store.claim(want, now) for store in stores]
                assert claims[0] == claims[1]
                if isinstance(claims[0], Claim):
                    assert (claims[0].kept.place, claims[0].kept.body, claims[0].kept.key) == (one.place, one.body, one.key)
            case "left":
                name = str(data.draw(st.integers(0, at)))
                for store in stores:
                    store.left(one.place, name)
            case _:
                for store in stores:
                    store.sweep(now)
        assert len({(len(store), store.owed, store.holds) for store in stores}) == 1
