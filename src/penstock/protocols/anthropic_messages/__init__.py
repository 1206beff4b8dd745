"""Anthropic Messages: `POST /v1/messages` and its neighbours (token counts, batches, files, models).

What enters: request bodies (`request`), frames of a stream and whole bodies (`observe`, `assemble`, `unfold`), neutral events and faults
(`render`). What leaves: a `Peek`, observations, whole bodies, frames in this dialect.

Laws: `observe` never raises and costs about a microsecond for a delta. `assemble(unfold(body)) == body` as JSON, with unknown fields
and absent keys; values that nothing had to change keep their spelling. Only `message_stop` completes a stream.

Where to look: `words` holds the dialect's vocabulary, `shapes` what is read of an event, `usage` how figures add up, `neutral` the
events told to a sink, `raw` JSON that keeps its bytes, `bounce` the refusal to answer without streaming, `markers` the prompt
cache. The protocol in prose:
`docs/protocols/anthropic_messages.md`.

Not here: headers (`anthropic-version`, `x-api-key`) and URLs are the provider's; prices are `pricing`'s; translation to another dialect is
`translate`'s.
"""

from __future__ import annotations

from penstock.protocols.anthropic_messages.assemble import MessagesAssembler
from penstock.protocols.anthropic_messages.bounce import is_bounce
from penstock.protocols.anthropic_messages.close import MessagesCloser
from penstock.protocols.anthropic_messages.markers import mark_cache
from penstock.protocols.anthropic_messages.observe import MessagesObserver
from penstock.protocols.anthropic_messages.render import PING, MessagesRenderer, error_body, error_frame, error_of
from penstock.protocols.anthropic_messages.request import ask_stream, ask_whole, peek, rename
from penstock.protocols.anthropic_messages.unfold import unfold
from penstock.protocols.contract import ProtocolSpec
from penstock.vocabulary.ids import ProtocolId

SPEC = ProtocolSpec(
    id=ProtocolId.ANTHROPIC_MESSAGES,
    peek=peek,
    rename=rename,
    ask_usage=None,
    observer=lambda operation: MessagesObserver(),
    assembler=lambda operation: MessagesAssembler(),
    unfold=unfold,
    ask_stream=ask_stream,
    ask_whole=ask_whole,
    renderer=lambda operation: MessagesRenderer(),
    error_body=error_body,
    error_frame=error_frame,
    error_of=error_of,
    keepalive=PING,
    closer=lambda operation: MessagesCloser(),
    bounced=is_bounce,
    mark_cache=mark_cache,
)

__all__ = ["SPEC", "MessagesAssembler", "MessagesObserver", "MessagesRenderer", "error_body", "error_frame", "is_bounce", "peek", "rename", "unfold"]
