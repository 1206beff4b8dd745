"""OpenAI Chat Completions, legacy Completions with it, and the smaller endpoints of the same family.

Enters: request bodies, the frames of a stream, whole bodies, neutral events, faults. Leaves: what was said (`observe`), a whole body made of a
stream (`assemble`), a stream made of a whole body (`unfold`), this dialect's chunks and errors (`render`).

Laws: no bytes make an observer raise, and its memory does not grow with the stream; `assemble(unfold(body))` is `body` as JSON, unknown fields
included (`unfold` lists what cannot come back); `rename`, `ask_usage`, `ask_stream` and `ask_whole` change
fields of the raw bytes and nothing else.

Files: `request` · `observe` (the stream's state), with `chunk` (typed shapes), `calls` (tool calls), `words` (stop reasons, texts), `body` (whole
bodies) and `media` (audio, images and the rest) · `assemble` · `unfold` · `render`.

Not here: other protocols, providers' addresses and credentials, SSE framing, prices.
"""

from __future__ import annotations

from penstock.protocols.bounces import is_bounce
from penstock.protocols.contract import Observer, ProtocolSpec
from penstock.protocols.openai_chat.assemble import ChatAssembler
from penstock.protocols.openai_chat.close import ChatCloser
from penstock.protocols.openai_chat.media import MediaObserver
from penstock.protocols.openai_chat.observe import ChatObserver
from penstock.protocols.openai_chat.render import DONE, KEEPALIVE, ChatRenderer, error_body, error_frame, error_of
from penstock.protocols.openai_chat.request import ask_stream, ask_usage, ask_whole, peek, rename
from penstock.protocols.openai_chat.unfold import unfold
from penstock.vocabulary.ids import Operation, ProtocolId

_TOLD = frozenset({Operation.CHAT, Operation.COMPLETIONS})


def observer(operation: Operation) -> Observer:
    """A fresh observer for one exchange."""
    return ChatObserver() if operation in _TOLD else MediaObserver()


SPEC = ProtocolSpec(
    id=ProtocolId.OPENAI_CHAT,
    peek=peek,
    rename=rename,
    ask_usage=ask_usage,
    observer=observer,
    assembler=ChatAssembler,
    unfold=unfold,
    ask_stream=ask_stream,
    ask_whole=ask_whole,
    renderer=ChatRenderer,
    error_body=error_body,
    error_frame=error_frame,
    error_of=error_of,
    keepalive=KEEPALIVE,
    closing=DONE,
    bounced=is_bounce,
    closer=ChatCloser,
)
