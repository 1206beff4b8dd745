"""The protocols, and the registry that names them.

One folder a protocol, the same five files in each: `request` (peek, rename), `observe` (stream -> what happened), `assemble` (stream -> body),
`unfold` (body -> stream), `render` (neutral -> this dialect, errors included). `contract` says what each promises.

In: bytes of requests, frames and bodies. Out: facts, neutral events, bytes. Laws: 5 (total), 6 (assemble and unfold are inverse), 7.
A new protocol is a folder and one line below. Not here: providers, sockets, time. Protocols do not import each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.protocols.anthropic_messages import SPEC as _ANTHROPIC_MESSAGES
from penstock.protocols.contract import ProtocolSpec
from penstock.protocols.gemini import SPEC as _GEMINI
from penstock.protocols.openai_chat import SPEC as _OPENAI_CHAT
from penstock.protocols.openai_responses import SPEC as _OPENAI_RESPONSES
from penstock.vocabulary.ids import ProtocolId

REGISTRY: Mapping[ProtocolId, ProtocolSpec] = {s.id: s for s in (_OPENAI_CHAT, _OPENAI_RESPONSES, _ANTHROPIC_MESSAGES, _GEMINI)}
