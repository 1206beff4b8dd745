"""Reading a Messages stream: what happened, what it used, which tool calls are open, and whether it is over.

The stream (Anthropic, "Streaming messages"): `message_start` with a Message whose `content` is empty; then, for each content block,
`content_block_start`, any number of `content_block_delta`, `content_block_stop`; then one or more `message_delta`; then
`message_stop`. `ping` and events of unknown type may come anywhere, and so may `error`.

Rules

1. The JSON's own `type` names the event; the SSE event name counts where there is none. An object without either but with an `error`
   is an error.
2. Only `message_stop` is terminal. `message_delta` states the stop reason and the totals, but a stream that breaks off behind it is
   truncated.
3. `error` is reported and not terminal: the documentation says that errors may occur within a stream, not that they end it. In fact
   the connection closes behind it and both official SDKs raise at once. An exchange that saw one ends as an upstream error, whatever
   follows.
4. Behind `message_stop` nothing counts any more; frames there are not read.
5. A tool call is open from its `content_block_start` (the next that can come are its arguments) to its `content_block_stop`, or to the stop
   reason at the latest. Calls that the provider runs itself count too. Its key is the block's index.
6. Each delta is progress, of a known type or not, unless it is one of text or arguments that is empty: those only say that the connection
   lives (Anthropic opens each call with one). An empty one of thinking is progress: it may count tokens that are not shown. The start of
   a block is progress where it brings something: every type except `text` and `thinking` that begin empty, and `compaction`, whose
   summary follows in a delta.
7. A `fallback` block names the model that goes on answering; it becomes the answer's model, as it does in the whole body.
8. Usage is cumulative (`usage.py`); the figures count once a `message_delta` stated some, or `message_stop` passed after some.

| event                 | sets                                        | bits                                       |
|-----------------------|---------------------------------------------|--------------------------------------------|
| `message_start`       | id, model, usage so far, stop reason if any | 0                                          |
| `content_block_start` | opens a call, model at a `fallback`         | CONTENT if it brings something; TOOL       |
| `content_block_delta` | the call's `arguments_at`                   | CONTENT; TOOL for the arguments of a call; 0 where empty |
| `content_block_stop`  | ends the call                               | TOOL where it was one                      |
| `message_delta`       | stop reason, usage                          | TOOL where a call was still open           |
| `message_stop`        | `terminal`, `final_usage`                   | TERMINAL                                   |
| `ping`                |                                             | 0                                          |
| `error`               | `error`                                     | ERROR                                      |
| any other             | `unknown`                                   | 0                                          |
| not a JSON object     | `malformed`                                 | MALFORMED                                  |
"""

from __future__ import annotations

from typing import Final

from penstock.protocols.anthropic_messages import neutral, usage
from penstock.protocols.anthropic_messages.shapes import (
    BROKEN,
    BodyShape,
    ErrorShape,
    EventShape,
    UsageShape,
    decode_body,
    decode_event,
    read_body,
    read_event,
)
from penstock.protocols.anthropic_messages.words import TOOL_KINDS
from penstock.protocols.contract import CONTENT, ERROR, MALFORMED, TERMINAL, TOOL, Followed, ToolCall
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

MAX_OPEN_CALLS: Final = 256
"""Open calls that are kept. The protocol has one at a time; a server that never closes them must not grow us."""


class MessagesObserver(Followed):
    """The observer of this protocol, for every operation: a stream of events, one Message, a token count, or any other body."""

    tells_usage = True
    __slots__ = ("_compacted", "_stated", "_teller")

    def __init__(self) -> None:
        super().__init__()
        self._teller: neutral.Teller | None = None
        self._stated = EMPTY_USAGE
        """The totals as they stand in the stream."""
        self._compacted: Usage | None = None
        """What came on top of them."""

    def observe(self, name: bytes, data: bytes, now: float) -> int:
        if self.terminal:
            return 0
        try:
            event = decode_event(data)
        except BROKEN:
            found = read_event(data)
            if found is None:
                if self.follower is not None:
                    self.follower(name, data)
                # SDKs skip a ping without looking at its data, so one without any is no fault.
                return 0 if name == b"ping" and not data.strip() else self._malformed()
            event = found
        if self.sink is not None:
            self._tell(name, event)
        if event.type == "content_block_delta":
            return self._delta(event, now)
        if self.follower is not None:
            self.follower(name, data)
        return self._other(event.type or name.decode("utf-8", "replace"), event, now)

    def _delta(self, event: EventShape, now: float) -> int:
        delta = event.delta
        if delta is None:
            return self._malformed()
        if delta.text:
            return CONTENT
        if delta.type == "input_json_delta":
            if not delta.partial_json:
                return 0
            call = self.tools.get(event.index) if event.index is not None else None
            if call is not None:
                call.arguments_at = now
                return CONTENT | TOOL
        return 0 if delta.text == "" else CONTENT

    def _other(self, kind: str, event: EventShape, now: float) -> int:
        match kind:
            case "content_block_start":
                return self._open(event, now)
            case "content_block_stop":
                return TOOL if event.index is not None and self.tools.pop(event.index, None) is not None else 0
            case "content_block_delta":
                return self._delta(event, now)
            case "ping":
                return 0
            case "message_start":
                if event.message is None:
                    return self._malformed()
                self._learn(event.message.id, event.message.model, event.message.stop_reason)
                if event.message.usage is not None:
                    self._count(event.message.usage)
                return 0
            case "message_delta":
                bits = 0
                if event.delta is not None and event.delta.stop_reason is not None:
                    self.stop_reason = event.delta.stop_reason
                    if self.tools:
                        self.tools.clear()
                        bits = TOOL
                if event.usage is not None:
                    self._count(event.usage)
                    self.final_usage = self.usage != EMPTY_USAGE
                return bits
            case "message_stop":
                self.terminal = True
                self.final_usage = self.usage != EMPTY_USAGE
                return TERMINAL
            case "error":
                self.error = _upstream_error(event.error, None)
                return ERROR
            case _:
                if not kind and event.error is not None:
                    self.error = _upstream_error(event.error, None)
                    return ERROR
                self.unknown += 1
                return 0

    def _open(self, event: EventShape, now: float) -> int:
        block = event.content_block
        if block is None:
            return self._malformed()
        kind = TOOL_KINDS.get(block.type or "")
        if kind is not None:
            self.calls += 1
            if event.index is not None and len(self.tools) < MAX_OPEN_CALLS:
                self.tools[event.index] = ToolCall(block.name, kind, now)
            return CONTENT | TOOL
        match block.type:
            case "text":
                return CONTENT if block.text else 0
            case "thinking":
                return CONTENT if block.thinking else 0
            case "compaction":
                return 0
            case "fallback":
                if block.to is not None and block.to.model is not None:
                    self.model = block.to.model
                return CONTENT
            case _:
                return CONTENT

    def _malformed(self) -> int:
        self.malformed += 1
        return MALFORMED

    def _learn(self, response_id: str | None, model: str | None, stop_reason: str | None) -> None:
        self.response_id = response_id if response_id is not None else self.response_id
        self.model = model if model is not None else self.model
        self.stop_reason = stop_reason if stop_reason is not None else self.stop_reason

    def _count(self, stated: UsageShape) -> None:
        self._stated = usage.merge(self._stated, stated)
        if stated.iterations:
            self._compacted = usage.compacted(stated.iterations) or self._compacted
        self.usage = self._stated if self._compacted is None else usage.plus(self._stated, self._compacted)
        tier = usage.tier_of(stated)
        if tier is not None:
            self.service_tier = tier

    def _tell(self, name: bytes, event: EventShape) -> None:
        if self.sink is None:
            return
        if self._teller is None:
            self._teller = neutral.Teller()
        kind = event.type or name.decode("utf-8", "replace") or ("error" if event.error is not None else "")
        self._teller.tell(kind, event, self._stated, self.sink)

    def observe_body(self, body: bytes) -> None:
        """Read one whole body. Lists of batches, models or files set nothing; a token count is `usage.input`, and its operation
        says that it is no new usage."""
        read = _read(body)
        if read is None:
            self.malformed += 1
            return
        if read.error is not None and read.type in (None, "error"):
            self.error = _upstream_error(read.error, None)
            return
        if read.type in ("file", "message_batch"):
            self._learn(read.id, None, None)
            return
        if read.type not in (None, "message"):
            return
        if read.usage is not None:
            self._count(read.usage)
            self._learn(read.id, read.model, read.stop_reason)
        elif read.type == "message":
            self._learn(read.id, read.model, read.stop_reason)
        elif read.input_tokens is not None:
            self.usage = usage.merge(self.usage, UsageShape(input_tokens=read.input_tokens))
        self.final_usage = self.usage != EMPTY_USAGE

    def observe_error(self, status: int, body: bytes) -> None:
        read = _read(body)
        self.error = _upstream_error(None if read is None else read.error, status)


def _read(body: bytes) -> BodyShape | None:
    try:
        return decode_body(body)
    except BROKEN:
        return read_body(body)


def _upstream_error(error: ErrorShape | None, status: int | None) -> UpstreamError:
    if error is None:
        return UpstreamError(status=status)
    return UpstreamError(message=error.message, type=error.type, status=status)
