"""OpenAI's Responses API: `POST /v1/responses`, `GET|DELETE|POST /v1/responses/{id}[/...]`.

Enters: request bodies (`request`), frames of a stream and whole bodies (`observe`, `assemble`, `unfold`), neutral events and faults (`render`).
Leaves: a `Peek`; an observer that knows id, model, usage, open tool calls and the end; a Response; frames of this dialect.

Laws: an observer never raises and never grows with the stream; `assemble(unfold(body)) == body`, unknown fields included; a stream without its
terminal event never gives a body; every stream that we write has consecutive sequence numbers and a terminal event.

Beside the five files of every protocol: `frames` (what is read of a frame), `calls` (which call a frame speaks of), `words` (stop reasons and
error types, both ways).

Not here: the WebSocket mode, Chat Completions, prices, HTTP. Facts of the wire: `docs/protocols/openai_responses.md`.
"""

from __future__ import annotations

from penstock.protocols.bounces import is_bounce
from penstock.protocols.contract import ProtocolSpec
from penstock.protocols.openai_responses.assemble import ResponsesAssembler
from penstock.protocols.openai_responses.close import ResponsesCloser
from penstock.protocols.openai_responses.observe import ResponsesObserver
from penstock.protocols.openai_responses.render import KEEPALIVE, ResponsesRenderer, error_body, error_frame, error_of
from penstock.protocols.openai_responses.request import ask_stream, ask_whole, peek, rename
from penstock.protocols.openai_responses.unfold import unfold
from penstock.vocabulary.ids import Operation, ProtocolId

__all__ = ["SPEC"]


def _observer(operation: Operation) -> ResponsesObserver:
    return ResponsesObserver()


def _assembler(operation: Operation) -> ResponsesAssembler:
    return ResponsesAssembler()


def _renderer(operation: Operation) -> ResponsesRenderer:
    return ResponsesRenderer()


SPEC = ProtocolSpec(
    id=ProtocolId.OPENAI_RESPONSES,
    peek=peek,
    rename=rename,
    ask_usage=None,
    observer=_observer,
    assembler=_assembler,
    unfold=unfold,
    ask_stream=ask_stream,
    ask_whole=ask_whole,
    renderer=_renderer,
    error_body=error_body,
    error_frame=error_frame,
    error_of=error_of,
    keepalive=KEEPALIVE,
    bounced=is_bounce,
    closer=lambda operation: ResponsesCloser(),
)
