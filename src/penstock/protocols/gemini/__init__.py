"""Gemini: `generateContent` and `streamGenerateContent`, and beside them `countTokens` and the embeddings.

In: request paths and bodies; frames (`data` of a server-sent event, or an element of the JSON array) and whole answers. Out: the model
and the way of answering, what was said, bodies from streams and streams from bodies, neutral events from and to this dialect, errors.

Laws: 5 (no bytes make the observer raise), 6 (assembling what was unfolded gives the same body), 7 (neutral events there and back).

Peculiar here: there is no terminal event. A stream is complete when every candidate has a finish reason (or the prompt was blocked) and
its body then ends cleanly, so `Observer.terminal` stays False and `closable()` is what counts. The model stands in the path, and so
does whether the client streams. Two framings, one meaning: the one who calls splits either.

`request` path and query · `frames` the typed frame · `observe` · `tell` neutral events · `arguments` calls in pieces · `body` JSON values ·
`assemble` · `unfold` · `render` · `words` Google's vocabulary. Not here: framing (`wire`), hosts and keys (`providers`).
"""

from penstock.protocols.bounces import is_bounce
from penstock.protocols.contract import ProtocolSpec
from penstock.protocols.gemini.assemble import GeminiAssembler
from penstock.protocols.gemini.close import GeminiCloser
from penstock.protocols.gemini.observe import GeminiObserver
from penstock.protocols.gemini.render import KEEPALIVE, GeminiRenderer, error_body, error_element, error_frame, error_of
from penstock.protocols.gemini.request import ask_stream, ask_whole, is_sse, peek, rename
from penstock.protocols.gemini.unfold import unfold
from penstock.vocabulary.ids import ProtocolId

SPEC = ProtocolSpec(
    id=ProtocolId.GEMINI,
    peek=peek,
    rename=rename,
    ask_usage=None,
    observer=lambda operation: GeminiObserver(),
    assembler=lambda operation: GeminiAssembler(),
    unfold=unfold,
    ask_stream=ask_stream,
    ask_whole=ask_whole,
    renderer=lambda operation: GeminiRenderer(),
    error_body=error_body,
    error_frame=error_frame,
    error_of=error_of,
    keepalive=KEEPALIVE,
    closer=lambda operation: GeminiCloser(),
    array_asked=lambda query: not is_sse(query),
    error_element=error_element,
    bounced=is_bounce,
)

__all__ = ["SPEC", "error_element", "is_sse"]
