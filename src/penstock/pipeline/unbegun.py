"""A stream that was opened before its provider answered: kept alive until it does, and failed in band if it does not.

Once its head has gone to the client with 200, no status can be told any more. When the answer comes, its pipeline goes on (`Pipeline.follow`): a
stream as it is; everything else (a bad status, a whole body, an unknown coding) is told by `tell` or `end`, as an error of the stream.
"""

from __future__ import annotations

from penstock.pipeline.contract import Pipeline
from penstock.protocols.contract import ProtocolSpec
from penstock.protocols.statuses import fault_of
from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome

SPACE = b"\n"
"""White space, which JSON allows around an array and between its elements."""


class Unbegun(Pipeline):
    """In the place of the pipeline of an answer that has not begun. Nothing is fed to it."""

    __slots__ = ("_array", "_spec")

    def __init__(self, spec: ProtocolSpec, operation: Operation, now: float, *, array: bool = False) -> None:
        """`array`: the client asked for the protocol's array form."""
        super().__init__(spec.observer(operation), now)
        self._spec = spec
        self._array = array

    @property
    def content_type(self) -> bytes:
        """Of the head that opens it."""
        return b"application/json" if self._array else b"text/event-stream"

    @property
    def begun(self) -> bool:
        return False

    @property
    def tells_content(self) -> bool:
        return True

    def feed(self, data: bytes, now: float) -> bytes:
        return b""

    def keepalive(self) -> bytes:
        out = SPACE if self._array else self._spec.keepalive
        self.bytes_out += len(out)
        return out

    def may_speak(self) -> bool:
        return True

    def conclude(self, clean: bool, cause: str) -> Outcome:
        if clean:
            return Outcome(Ending.TRUNCATED, "the body ended before its first event", EndedBy.UPSTREAM)
        return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)

    def tell(self, error: UpstreamError, request_id: str) -> bytes:
        """The last bytes for the client where the provider answered with an error: its own words, in band."""
        self.observer.error = error
        return self.end(fault_of(error), request_id)

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        if fault is None:
            return b""
        element = self._spec.error_element
        if self._array and element is not None:
            out = b"[" + element(fault, request_id) + b"]"
        else:
            out = self._spec.error_frame(fault, request_id, self.observer)
        self.bytes_out += len(out)
        return out
