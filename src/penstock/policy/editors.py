"""The editors, by protocol."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.policy.edit_chat import ChatEditor
from penstock.policy.edit_gemini import GeminiEditor
from penstock.policy.edit_messages import MessagesEditor
from penstock.policy.edit_responses import ResponsesEditor
from penstock.policy.editing import Editor
from penstock.vocabulary.ids import ProtocolId

EDITORS: Mapping[ProtocolId, type[Editor]] = {
    ProtocolId.OPENAI_CHAT: ChatEditor,
    ProtocolId.OPENAI_RESPONSES: ResponsesEditor,
    ProtocolId.ANTHROPIC_MESSAGES: MessagesEditor,
    ProtocolId.GEMINI: GeminiEditor,
}
