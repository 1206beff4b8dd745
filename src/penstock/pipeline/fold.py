"""A stream folded into the body that the same request would have had without streaming: for clients that asked for no stream, where the provider
was asked for one all the same.

Nothing goes out before the end, so that until then every status is possible: `conclude`, then either `whole` (the body) or `failure` (status and
body of an error). Never half an answer, and never a body from a stream that was not complete.

Rules
-----
- The stream is read as a stream that is passed on: the same scanner, observer, timers (`tells_content`), tail, endings.
- What comes is known by its first byte, whatever its type says: `{` and `[` begin JSON, which no line of a stream of events does. JSON is the
  protocol's array form, where it has one, else a body: whoever was asked for a stream may answer with one all the same. It is held, read as a
  whole at its end, and given out as it came if it is a whole answer; an error has the status that its words deserve; anything else is 502.
- An error that the provider told in band ends it (`State.ENDED`), with the status that its words deserve (`ProtocolSpec.error_of`).
- What cannot be put together (an event against the protocol's order, the input of a tool call that is not JSON) fails with 502. It is read to
  its end all the same, for its usage, but nothing of it is held any more.
- What may not be held (the assembly over its limit, a frame over its own, the shared budget used up), and what cannot be read at all (an
  array that is none, what is typed as something else and neither a stream of events nor JSON, an unknown coding), breaks it (`State.BROKEN`): the
  upstream is to be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.pipeline.contract import State, error_outcome, failure_of
from penstock.pipeline.stream import StreamRelay
from penstock.pipeline.tail import TailBytes
from penstock.protocols.contract import Assembler, BodyError, ProtocolSpec
from penstock.vocabulary.errors import Fault, UpstreamError
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget
from penstock.wire.sse import Scanner, parse

FULL = "the gateway holds as many bytes of answers as it may"
_BLANK = b"\xef\xbb\xbf \t\r\n"
_JSON = (b"{", b"[")
_EVENTS = (b":", b"d", b"e", b"i", b"r")
"""How the lines of a stream of events begin: a comment, `data`, `event`, `id`, `retry`."""


class Fold(StreamRelay):
    """See the rules above. Memory: what the assembler holds, within `limit` and the shared budget, and at the end the body beside it."""

    __slots__ = (
        "_assembler", "_body", "_budget", "_by", "_error", "_limit", "_operation", "_outcome", "_parts", "_spec", "_splitter", "_taken", "_typed",
        "_unknown", "_why",
    )  # fmt: skip

    def __init__(
        self, scanner: Scanner, spec: ProtocolSpec, operation: Operation, limit: int, budget: Budget, now: float, *,
        splitter: Callable[[], ArraySplitter] | None = None, typed: bool = True, closing: bytes = b"", kept: TailBytes | None = None,
    ) -> None:  # fmt: skip
        """`splitter`: of the protocol's array form. `typed`: it is said to be a stream of events. `closing`, `kept`: as of `StreamRelay`."""
        super().__init__(scanner, spec.observer(operation), spec.error_frame, now, closing=closing, kept=kept)
        self._observe = self._observe_and_add
        self._operation = operation
        self._splitter = splitter
        self._typed = typed
        self._unknown = True
        """Nothing but white space has come."""
        self._parts: list[bytes] | None = None
        """Of a body."""
        self._spec = spec
        self._assembler: Assembler | None = spec.assembler(operation)
        self._limit = limit
        self._budget = budget
        self._taken = 0
        self._why = ""
        """Why there can be no body; empty while there can."""
        self._by = EndedBy.UPSTREAM
        self._error: UpstreamError | None = None  # the first: what an observer makes of events behind it comes too late
        self._body: bytes | None = None
        self._outcome: Outcome | None = None

    @property
    def gathers(self) -> bool:
        return True

    def refuse(self, why: str) -> None:
        """Read nothing of it. `why`: what stands against it."""
        self._break(why)

    @property
    def is_body(self) -> bool:
        """What comes is a body already."""
        return self._parts is not None

    @property
    def begun(self) -> bool:
        return self._parts is not None or super().begun

    @property
    def tells_content(self) -> bool:
        return self._parts is None and super().tells_content

    def feed(self, data: bytes, now: float) -> bytes:
        if self.state is State.BROKEN:
            return b""
        if self._unknown:
            self._find_out(data.lstrip(_BLANK))
        if self._parts is not None:
            self._hold(self._parts, data, now)
            return b""
        super().feed(data, now)
        self.bytes_out = 0
        if self._assembler is not None:
            array = self._array
            if self._scanner.overflowed:
                self._break(f"an event of it is larger than the {self._scanner.limit} bytes that may be held, or {FULL}", EndedBy.GATEWAY)
            elif array is not None and not array.understood:
                self._break("it is not the JSON array that was asked for")
        return b""

    def _find_out(self, said: bytes) -> None:
        """What is it? `said`: its first bytes, without white space."""
        if not said:
            return
        self._unknown = False
        if not said.startswith(_JSON):
            if not self._typed and not said.startswith(_EVENTS):
                self._break("it is neither a stream of events nor JSON")
        elif self._splitter is None:
            self._parts = []
            self._assembler = None
            self._scanner.close()
        else:
            self.read_with(self._splitter())

    def _hold(self, parts: list[bytes], data: bytes, now: float) -> None:
        """A piece of a body."""
        gap = now - self.last_at
        if gap > self.largest_gap:
            self.largest_gap = gap
        self.last_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        if self._taken + len(data) > self._limit:
            self._break(f"it is larger than the {self._limit} bytes that may be held of it", EndedBy.GATEWAY)
        elif not self._budget.take(len(data)):
            self._break(FULL, EndedBy.GATEWAY)
        else:
            self._taken += len(data)
            parts.append(data)

    def _observe_and_add(self, name: bytes, data: bytes, now: float) -> int:
        try:
            return self.observer.observe(name, data, now)
        finally:
            if self._assembler is not None:
                self._add(self._assembler, name, data)

    def _add(self, assembler: Assembler, name: bytes, data: bytes) -> None:
        self._error = self.observer.error
        if self._error is not None:
            self._forget()
            self.state = State.ENDED
            return
        try:
            assembler.feed(name, data)
        except BodyError as error:
            self._why = str(error)
            self._forget()
            return
        except Exception:  # Our bug, and this answer's loss: a body with a piece left out would be worse.
            self.failures += 1
            self._why, self._by = "a mistake of the gateway", EndedBy.GATEWAY
            self._forget()
            return
        more = assembler.held - self._taken
        if assembler.held > self._limit:
            self._break(f"it is larger than the {self._limit} bytes that may be held of it", EndedBy.GATEWAY)
        elif not self._budget.take(more):
            self._break(FULL, EndedBy.GATEWAY)
        else:
            self._taken += more

    def _break(self, why: str, by: EndedBy = EndedBy.UPSTREAM) -> None:
        self._why, self._by = why, by
        self._forget()
        self._scanner.close()
        self.state = State.BROKEN

    def _forget(self) -> None:
        self._assembler = None
        if self._parts is not None:
            self._parts.clear()
        if self._taken:
            self._budget.give(self._taken)
            self._taken = 0

    def conclude(self, clean: bool, cause: str) -> Outcome:
        """May be asked more than once; a body is made once."""
        if self._body is None or self._outcome is None:
            self._outcome = self._conclude(clean, cause)
        return self._outcome

    def _conclude(self, clean: bool, cause: str) -> Outcome:
        outcome = super().conclude(clean, cause) if self._parts is None else self._conclude_body(self._parts, clean, cause)
        if self._error is not None:
            return error_outcome(self._error, "in the stream" if self._parts is None else "in its answer")
        if self._why:
            ending = Ending.UPSTREAM_ERROR if self._by is EndedBy.UPSTREAM else Ending.CUT
            how = "the stream could not be put together" if self._parts is None else "the body could not be passed on"
            return Outcome(ending, f"{how}: {self._why}", self._by)
        assembler = self._assembler
        if assembler is None or outcome.ending not in (Ending.COMPLETE, Ending.UNVERIFIED):
            return outcome
        if outcome.ending is Ending.UNVERIFIED and not clean:
            return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)
        try:
            if self._repaired:
                self._repaired = False
                name, data = parse(self._closing)
                assembler.feed(name, data or b"")
            self._body = assembler.body()
        except BodyError as error:
            self._why = str(error)
        except Exception:  # our bug, as above
            self.failures += 1
            self._why, self._by = "a mistake of the gateway", EndedBy.GATEWAY
        if self._why:
            self._forget()
            return self._conclude(clean, cause)
        self._assembler = None  # its share of the budget is now the body's
        return outcome

    def _conclude_body(self, parts: list[bytes], clean: bool, cause: str) -> Outcome:
        """Is it a whole answer? Else `_error` or `_why` says what it is."""
        if self._why or self._error is not None or not clean:
            self._forget()
            return Outcome(Ending.UPSTREAM_LOST, cause, EndedBy.UPSTREAM)
        body = b"".join(parts).lstrip(_BLANK)
        try:
            self.observer.observe_body(body)
        except Exception:  # Law 5: whatever the observer does, the answer goes on
            self.failures += 1
        self._error = self.observer.error
        try:
            next(iter(self._spec.unfold(self._operation, body)), None)
        except BodyError as error:
            self._why = str(error)
        except Exception:  # our bug, as above
            self.failures += 1
            self._why, self._by = "a mistake of the gateway", EndedBy.GATEWAY
        if self._error is not None or self._why:
            self._forget()
        else:
            parts.clear()
            self._body = body
        return Outcome(Ending.COMPLETE, "the whole body, though a stream was asked for", EndedBy.UPSTREAM)

    def whole(self) -> bytes | None:
        return self._body

    def failure(self, request_id: str) -> tuple[int, bytes] | None:
        if self._outcome is None or self._body is not None:
            return None
        return failure_of(self._spec, self._error, self._outcome, request_id)

    def may_speak(self) -> bool:
        return False  # a client that gets a body hears of errors by a status

    def keepalive(self) -> bytes:
        return b""

    def end(self, fault: Fault | None, request_id: str) -> bytes:
        """The body, where there is one and no fault."""
        out = self._body or b"" if fault is None else b""
        self.bytes_out += len(out)
        self.close()
        return out

    def close(self) -> None:
        super().close()
        self._forget()
