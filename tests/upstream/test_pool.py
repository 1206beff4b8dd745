"""The pool's policy, held against a model that is too plain to be wrong."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.upstream.pool import Pool

IDLE = 10.0
MOST = 3
ORIGINS = st.sampled_from(["a", "b"])


class PoolModel(RuleBasedStateMachine):
    """The model: a list of (origin, connection, since), oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[int] = Pool(IDLE, MOST)
        self.kept: list[tuple[str, int, float]] = []
        self.made = 0
        self.now = 0.0

    def of(self, origin: str) -> list[tuple[str, int, float]]:
        return [entry for entry in self.kept if entry[0] == origin]

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, IDLE, IDLE + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(origin=ORIGINS)
    def put(self, origin: str) -> None:
        self.made += 1
        self.kept.append((origin, self.made, self.now))
        surplus = self.pool.put(origin, self.made, self.now)
        entries = self.of(origin)
        if len(entries) > MOST:
            assert surplus == entries[0][1]
            self.kept.remove(entries[0])
        else:
            assert surplus is None

    @rule(origin=ORIGINS)
    def take(self, origin: str) -> None:
        taken = self.pool.take(origin, self.now)
        entries = self.of(origin)
        if entries and self.now - entries[-1][2] <= IDLE:
            assert taken == entries[-1][1]  # the last one kept is the first one used
            self.kept.remove(entries[-1])
        else:
            assert taken is None  # nothing is given out that has waited too long

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def close_by_itself(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.kept))
        self.pool.drop(entry[0], entry[1])
        self.kept.remove(entry)

    @rule(origin=ORIGINS)
    def drop_unknown(self, origin: str) -> None:
        self.pool.drop(origin, -1)

    @rule()
    def sweep(self) -> None:
        old = [entry for entry in self.kept if self.now - entry[2] > IDLE]
        assert sorted(self.pool.expired(self.now)) == sorted(entry[1] for entry in old)
        self.kept = [entry for entry in self.kept if entry not in old]

    @rule()
    def clear(self) -> None:
        assert sorted(self.pool.clear()) == sorted(entry[1] for entry in self.kept)
        self.kept.clear()

    @invariant()
    def counts(self) -> None:
        assert len(self.pool) == len(self.kept)


TestPool = PoolModel.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_origins_do_not_share() -> None:
    pool: Pool[int] = Pool(IDLE, MOST)
    pool.put("a", 1, 0.0)
    assert pool.take("b", 0.0) is None
    assert pool.take("a", 0.0) == 1
    assert pool.take("a", 0.0) is None
