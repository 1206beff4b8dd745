"""Law 5: no bytes make a pipeline or an observer raise, and an observer that fails never touches the client's bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.stream import StreamRelay
from penstock.protocols import REGISTRY
from penstock.protocols.contract import Observer
from penstock.vocabulary.ids import Operation, ProtocolId
from tests.support.corpus import Case
from tests.support.relays import CUTS, OPERATIONS, Relay, cut, data_of, every, frames_of, relayed, zipped
from tests.support.streams import COMPLETE, damaged, few, mutated, named, of, small, twisted

ANY = st.binary(max_size=120) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))


def sound(relay: Relay) -> None:
    """The observer itself never raised: what the pipeline catches is our bug all the same."""
    assert getattr(relay.pipeline, "failures", 0) == 0


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data(), sink=st.booleans(), clean=st.booleans())
def test_damaged_streams(protocol: ProtocolId, data: st.DataObject, sink: bool, clean: bool) -> None:
    sound(relayed(protocol, cut(data.draw(damaged(protocol)), data.draw(CUTS)), sink=sink, clean=clean))


@pytest.mark.parametrize("protocol", REGISTRY)
@given(
    name=st.sampled_from([b"", b"error", b"message_start", b"ping", b"response.created", b"response.output_text.delta", b"\xff"]),
    data=ANY,
    sink=st.booleans(),
)
def test_random_data(protocol: ProtocolId, name: bytes, data: bytes, sink: bool) -> None:
    for operation in Operation:
        observer = REGISTRY[protocol].observer(operation)
        observer.sink = [] if sink else None
        observer.observe(name, data, 0.0)
        observer.observe_body(data)
        observer.observe_error(500, data)
        assert observer.closable() in (True, False)
        assert observer.provenance()


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data(), status=st.sampled_from([200, 400, 503]), clean=st.booleans(), gzip=st.booleans())
def test_bodies(protocol: ProtocolId, data: st.DataObject, status: int, clean: bool, gzip: bool) -> None:
    """Whole bodies, of an answer or of an error, with anything in the place of anything."""
    spec = REGISTRY[protocol]
    assembler = spec.assembler(OPERATIONS[protocol])
    for frame in frames_of(data.draw(st.sampled_from(of(protocol))).body):
        assembler.feed(*data_of(frame))
    body = assembler.body()
    body = data.draw(
        st.one_of(
            twisted(body), mutated(body), twisted(b'{"error":{"message":"m","type":"t","code":400,"status":"S","details":[{"reason":"r"}]}}'), ANY
        )
    )
    relayed(protocol, cut(zipped(body) if gzip else body, data.draw(CUTS)), stream=False, status=status, clean=clean, gzip=gzip)


@pytest.mark.parametrize("protocol", REGISTRY)
@given(data=st.data())
def test_gzip_that_is_none(protocol: ProtocolId, data: st.DataObject) -> None:
    stream = data.draw(mutated(zipped(data.draw(st.sampled_from(of(protocol))).body)))
    sound(relayed(protocol, cut(stream, data.draw(CUTS)), gzip=True, clean=data.draw(st.booleans())))


@pytest.mark.parametrize("protocol", REGISTRY)
@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b'"' + b"\\" * 99_999, b"1" * 100_000, b"\x00" * 1000, b'{"choices":' + b"[" * 5000]
)
def test_deep_and_long(protocol: ProtocolId, data: bytes) -> None:
    for sink in (False, True):
        sound(relayed(protocol, [b"data: " + data + b"\n\n"], sink=sink))
    relayed(protocol, [data], stream=False)
    relayed(protocol, [data], stream=False, status=500)
    relayed(protocol, [data], array=REGISTRY[protocol].array_asked is not None)


class Faulty(Observer):
    """Reads as `inner` does, and raises at some frames, before or after having read them."""

    __slots__ = ("at", "count", "inner", "late")

    def __init__(self, inner: Observer, at: set[int], late: bool) -> None:
        self.inner, self.at, self.late, self.count = inner, at, late, 0
        super().__init__()

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        self.count += 1
        if self.count in self.at and not self.late:
            raise RuntimeError("a bug")
        bits = self.inner.observe(name, data, now)
        for slot in ("response_id", "model", "stop_reason", "usage", "final_usage", "error", "terminal"):
            setattr(self, slot, getattr(self.inner, slot))
        if self.count in self.at:
            raise RuntimeError("a bug")
        return bits

    def observe_body(self, body: bytes) -> None:
        raise RuntimeError("a bug")

    def observe_error(self, status: int, body: bytes) -> None:
        raise RuntimeError("a bug")

    def closable(self) -> bool:
        return self.inner.closable()


@pytest.mark.parametrize(**named(small()))
@few
@given(at=CUTS, bad=st.sets(st.integers(1, 12), max_size=4), late=st.booleans())
def test_a_failing_observer_does_not_touch_what_leaves(case: Case, at: list[int], bad: set[int], late: bool) -> None:
    relay = Relay(case.recording.protocol, observer=Faulty(REGISTRY[case.recording.protocol].observer(case.recording.operation), bad, late))
    for chunk in cut(case.body, at):
        relay.feed(chunk)
    assert relay.given == case.body


@pytest.mark.parametrize("protocol", REGISTRY)
@pytest.mark.parametrize("late", [False, True])
def test_nothing_is_put_behind_a_whole_stream_because_we_failed_to_read_it(protocol: ProtocolId, late: bool) -> None:
    """The observer fails at each frame in turn, the terminal one included. What the client has is whole; that we do not know it is no news for it."""
    case = next(c for c in of(protocol) if c in COMPLETE)
    for number in range(1, len(frames_of(case.body)) + 1):
        observer = Faulty(REGISTRY[protocol].observer(case.recording.operation), {number}, late)
        relay = Relay(protocol, observer=observer).feed(*every(case.body, 4096)).finish()
        assert relay.out == case.body, f"at frame {number}"
        assert isinstance(relay.pipeline, StreamRelay)
        assert relay.pipeline.failures <= 1


@pytest.mark.parametrize("status", [200, 500])
def test_a_failing_observer_of_a_body_does_not_keep_it_from_its_end(status: int) -> None:
    observer = Faulty(REGISTRY[ProtocolId.OPENAI_CHAT].observer(Operation.CHAT), set(), late=False)
    relay = relayed(ProtocolId.OPENAI_CHAT, [b'{"id":"x"}'], stream=False, status=status, observer=observer)
    assert relay.out == b'{"id":"x"}'
    assert relay.outcome is not None
    assert relay.budget.used == 0
