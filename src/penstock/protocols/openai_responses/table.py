"""The rules of a Responses stream, and what each event does.

Source: OpenAI, "Streaming events" of the Responses API, the event types of the `openai` package, and recorded streams.

Rules
-----
Every event carries its name in `type`; the SSE `event:` field repeats it, and where the two disagree `type` counts. Without `type` the
SSE name is taken; without either the frame is malformed. `sequence_number` rises by one with each event and goes on where a stream is
taken up again (`GET /v1/responses/{id}?stream=true&starting_after=N`, background mode); early recordings have none.

*Heads* (`created`, `queued`, `in_progress`) carry the Response without its output: id, model, time of creation. No content.

*Items* are announced whole-but-empty (`output_item.added`), grow by deltas, and are said again whole (`output_item.done`). Deltas of text,
refusal, reasoning, audio and arguments are content; partial images and the output of commands too. `*.done` events repeat and are none.

*Tool calls* are open from their announcement (the model writes the arguments next, and if it never does that is a stall) to the `.done` of their
arguments, to the event that says that the provider runs or ran them, or to the end of the item, whichever is first. An item that is
announced with its arguments is not open. A call counts as begun with the first event of its arguments; one whose arguments come whole (only in
`.done` or with the item) as begun and ended in one. A shell call writes several commands one after the other and is one call. Empty deltas
bring nothing and move no time. Neither the end of arguments nor that of an item ends the stream.

*The end* is `response.completed`, `response.incomplete` or `response.failed`, with the whole Response: output, usage, error. Its `status`
counts where it names an end; so does that of `response.cancelled`, which is not documented as an event, but `cancelled` is as a status.
The stop reason is the status word, or for `incomplete` its reason. After the end nothing is read. `[DONE]` is not of this protocol: it is
not an end, and is ignored (gateways add it).

*Errors*: `error` tells of a failure, flat (`code`, `message`, `param`) as documented or under `error` as OpenAI sends it. It is not the end:
OpenAI sends `response.failed` after it. Where the body then ends without it, `Observer.error` says why. A `response.completed` after an
`error` is the protocol's last word, and clears it.

Unknown events are counted and harmless.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import get_args

from penstock.protocols.openai_responses.frames import TOOL_WORDS


class What(Enum):
    """What an event does to the state."""

    HEAD = auto()
    END = auto()
    ITEM_ADDED = auto()
    ITEM_DONE = auto()
    TEXT = auto()
    REASONING = auto()
    MEDIA = auto()
    ARGUMENTS = auto()
    ARGUMENTS_BEGIN = auto()
    ARGUMENTS_DONE = auto()
    ARGUMENTS_OVER = auto()
    """The provider runs the call: whatever its arguments are, no more of them are written."""
    ERROR = auto()
    NOTHING = auto()


def _family(prefix: str, *words: str) -> dict[str, What]:
    return {f"response.{prefix}.{word}": What.NOTHING for word in words}


TABLE: dict[str, What] = {
    "response.created": What.HEAD,
    "response.queued": What.HEAD,
    "response.in_progress": What.HEAD,
    "response.completed": What.END,
    "response.incomplete": What.END,
    "response.failed": What.END,
    "response.cancelled": What.END,
    "response.canceled": What.END,
    "error": What.ERROR,
    "response.error": What.ERROR,
    "response.output_item.added": What.ITEM_ADDED,
    "response.output_item.done": What.ITEM_DONE,
    "response.output_text.delta": What.TEXT,
    "response.refusal.delta": What.TEXT,
    "response.reasoning_text.delta": What.REASONING,
    "response.reasoning_summary_text.delta": What.REASONING,
    "response.audio.delta": What.MEDIA,
    "response.audio.transcript.delta": What.MEDIA,
    "response.image_generation_call.partial_image": What.MEDIA,
    "response.shell_call_output_content.delta": What.MEDIA,
    **dict.fromkeys(get_args(TOOL_WORDS), What.ARGUMENTS),
    "response.shell_call_command.added": What.ARGUMENTS_BEGIN,
    "response.function_call_arguments.done": What.ARGUMENTS_DONE,
    "response.custom_tool_call_input.done": What.ARGUMENTS_DONE,
    "response.mcp_call_arguments.done": What.ARGUMENTS_DONE,
    "response.mcp_call.arguments_done": What.ARGUMENTS_DONE,
    "response.code_interpreter_call_code.done": What.ARGUMENTS_DONE,
    "response.code_interpreter_call.code.done": What.ARGUMENTS_DONE,
    "response.shell_call_command.done": What.ARGUMENTS_DONE,
    "response.apply_patch_call_operation_diff.done": What.ARGUMENTS_DONE,
    "keepalive": What.NOTHING,
    **_family("content_part", "added", "done"),
    **_family("output_text", "done", "annotation.added"),
    **_family("refusal", "done"),
    **_family("reasoning_text", "done"),
    **_family("reasoning_summary_part", "added", "done"),
    **_family("reasoning_summary_text", "done"),
    **_family("audio", "done", "transcript.done"),
    **_family("image_generation_call", "in_progress", "generating", "completed"),
    **_family("web_search_call", "in_progress", "searching", "completed"),
    **_family("file_search_call", "in_progress", "searching", "completed"),
    "response.code_interpreter_call.in_progress": What.NOTHING,
    "response.code_interpreter_call.interpreting": What.ARGUMENTS_OVER,
    "response.code_interpreter_call.completed": What.ARGUMENTS_OVER,
    "response.mcp_call.in_progress": What.NOTHING,
    "response.mcp_call.completed": What.ARGUMENTS_OVER,
    "response.mcp_call.failed": What.ARGUMENTS_OVER,
    **_family("mcp_list_tools", "in_progress", "completed", "failed"),
    **_family("shell_call_output_content", "done"),
    **_family("compaction", "compacting"),
}

KIND_OF_EVENT = {
    "function_call_arguments": "function",
    "custom_tool_call_input": "custom",
    "mcp_call_arguments": "mcp",
    "mcp_call": "mcp",
    "code_interpreter_call_code": "code_interpreter",
    "code_interpreter_call": "code_interpreter",
    "shell_call_command": "shell",
    "apply_patch_call_operation_diff": "custom",
}
"""The kind of a call by the second word of its argument events, where the item was not announced."""
