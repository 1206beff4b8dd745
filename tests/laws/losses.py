"""What an answer loses on its way from protocol P through protocol Q and back: the one list, and what each word of it means.

`docs/protocols/losses.md` shows the same list; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from penstock.vocabulary.events import StopReason
from penstock.vocabulary.ids import ProtocolId
from penstock.vocabulary.usage import Kinds
from tests.support.neutral import Call, Choice, Said

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI
Change = Callable[[Said], None]


@dataclass(frozen=True)
class Loss:
    word: str
    sentence: str
    change: Change


def _stops(change: Callable[[Choice], StopReason | None]) -> Change:
    def apply(said: Said) -> None:
        for choice in said.choices.values():
            choice.stop = change(choice)

    return apply


def _becomes(old: StopReason | None, new: StopReason) -> Change:
    return _stops(lambda choice: new if choice.stop is old else choice.stop)


def _by_calls(choice: Choice) -> StopReason | None:
    if choice.stop not in (StopReason.STOP, StopReason.TOOL_CALLS):
        return choice.stop
    return StopReason.TOOL_CALLS if any(isinstance(item, Call) for item in choice.content) else StopReason.STOP


def _without(*names: str) -> Change:
    def apply(said: Said) -> None:
        for name in names:
            said.usage.pop(name, None)

    return apply


def _zeros(said: Said) -> None:
    said.usage = {"input": 0, "output": 0} | said.usage


def _required(said: Said) -> None:
    stated = "input" in said.usage or "output" in said.usage
    said.usage = {"input": 0, "output": 0, "cache_read": 0, "reasoning": 0} | said.usage if stated else {}


def _first(said: Said) -> None:
    said.choices = {0: said.choices[0]}


def _prefix(said: Said) -> None:
    own = re.sub(r"[^A-Za-z0-9_-]", "", said.response_id or "") or "0"
    said.response_id = own if own.startswith("resp_") else f"resp_{own}"


def _named(response_id: str | None, model: str | None) -> Change:
    def apply(said: Said) -> None:
        said.response_id, said.model = said.response_id or response_id, said.model or model

    return apply


def _time(said: Said) -> None:
    said.created = None


def _epoch(said: Said) -> None:
    said.created = said.created or 0


def _nothing(said: Said) -> None:
    """Told by comparing arguments as values."""


ALTERNATIVES = Loss("alternatives", "Answers beside the first (Chat's `n`, Gemini's candidates) are left out.", _first)
TIME = Loss("time", "When the answer was created is not told.", _time)
EPOCH = Loss("epoch", "An answer of unknown time is told as created at 0.", _epoch)
RESP = Loss("resp_", "The response's id gets the prefix `resp_`, and loses characters that such ids do not have.", _prefix)
CHAT_NAME = Loss("id", "An answer without an id gets one.", _named("chatcmpl-penstock", None))
MESSAGES_NAME = Loss("names", "An answer without an id or a model's name gets placeholders.", _named("msg_unnamed", "unknown"))
RESPONSES_NAME = Loss("model", "An answer without a model's name gets `unknown`.", _named(None, "unknown"))
SEQUENCE = Loss("sequence", "That a stop sequence was met becomes an ordinary stop.", _becomes(StopReason.STOP_SEQUENCE, StopReason.STOP))
PAUSE = Loss("pause", "A turn that the provider paused becomes an ordinary stop.", _becomes(StopReason.PAUSE, StopReason.STOP))
PAUSE_OTHER = Loss("pause as other", "A turn that the provider paused is told as `OTHER`.", _becomes(StopReason.PAUSE, StopReason.OTHER))
BY_CALLS = Loss("stop by calls", "Whether it stopped for tool calls is told by whether there are any.", _stops(_by_calls))
STOP = Loss("no reason is stop", "An answer that was complete without a stop reason becomes an ordinary stop.", _becomes(None, StopReason.STOP))
OTHER = Loss("no reason is other", "An answer that was complete without a stop reason is told as `OTHER`.", _becomes(None, StopReason.OTHER))
LIFETIMES = Loss("cache lifetimes", "Cache writes are not told apart by lifetime.", _without("cache_write_5m", "cache_write_1h"))
WRITES = Loss("cache writes", "Cache writes are not told.", _without("cache_write", "cache_write_5m", "cache_write_1h"))
KINDS = Loss(
    "kinds of tokens", "Tokens of sound, pictures and film are not told apart.",
    _without("audio_input", "audio_output", *Kinds.__struct_fields__),
)
CACHED_KINDS = Loss(
    "cached kinds", "Cached tokens are not told apart by kind, and neither are those of film that was made.",
    _without("video_output", "cache_read_audio", "cache_read_image", "cache_read_video"),
)
TOOL_USE = Loss("tool-use tokens", "Gemini's tokens of tool results are not told.", _without("tool_use"))
REQUESTS = Loss("tool requests", "Calls of the provider's own tools are not counted.", _without("tool_requests", "web_searches"))
ZEROS = Loss("zeros", "Input and output that nobody stated are told as 0.", _zeros)
REQUIRED = Loss(
    "required counts",
    "With input or output known, what is unknown of input, output, cache reads and reasoning is told as 0; with neither, no usage is told.",
    _required,
)
SPELLING = Loss("spelling", "Arguments of calls keep their value and not their spelling.", _nothing)

LOSSES: dict[tuple[ProtocolId, ProtocolId], tuple[Loss, ...]] = {
    # On the diagonal: what a dialect's own observer reads and its renderer has no way to say again, or adds.
    (CHAT, CHAT): (CHAT_NAME, EPOCH),
    (RESPONSES, RESPONSES): (RESP, RESPONSES_NAME, EPOCH, REQUIRED, STOP, BY_CALLS),
    (MESSAGES, MESSAGES): (MESSAGES_NAME, ZEROS, REQUESTS),
    (GEMINI, GEMINI): (TIME, OTHER, BY_CALLS, SPELLING),
    (CHAT, RESPONSES): (ALTERNATIVES, RESP, RESPONSES_NAME, STOP, BY_CALLS, KINDS, REQUIRED),
    (CHAT, MESSAGES): (ALTERNATIVES, TIME, MESSAGES_NAME, KINDS, ZEROS),
    (CHAT, GEMINI): (TIME, OTHER, BY_CALLS, WRITES, SPELLING),
    (RESPONSES, CHAT): (PAUSE,),
    (RESPONSES, MESSAGES): (TIME, ZEROS),
    (RESPONSES, GEMINI): (TIME, PAUSE_OTHER, WRITES, SPELLING),
    (MESSAGES, CHAT): (SEQUENCE, PAUSE, LIFETIMES, REQUESTS),
    (MESSAGES, RESPONSES): (RESP, SEQUENCE, STOP, BY_CALLS, LIFETIMES, REQUESTS, REQUIRED),
    (MESSAGES, GEMINI): (SEQUENCE, PAUSE_OTHER, OTHER, BY_CALLS, WRITES, REQUESTS, SPELLING),
    (GEMINI, CHAT): (TIME, CHAT_NAME, CACHED_KINDS, TOOL_USE, SPELLING),
    (GEMINI, RESPONSES): (TIME, ALTERNATIVES, RESP, RESPONSES_NAME, KINDS, TOOL_USE, REQUIRED, SPELLING),
    (GEMINI, MESSAGES): (TIME, ALTERNATIVES, MESSAGES_NAME, KINDS, TOOL_USE, ZEROS, SPELLING),
}
"""(P, Q): what P -> Q -> P does not keep of an answer that P has told, in the order in which it is lost."""


def lose(said: Said, losses: Iterable[Loss]) -> Said:
    """`said` without what is lost; changed in place."""
    for loss in losses:
        loss.change(said)
    return said


def page() -> str:
    """The list as the documentation shows it."""
    words = {loss.word: loss.sentence for losses in LOSSES.values() for loss in losses}
    lines = ["| from | through | lost |", "|---|---|---|"]
    lines += [
        f"| `{p}` | {f'`{q}`' if p is not q else 'itself'} | {', '.join(loss.word for loss in losses) or 'nothing'} |"
        for (p, q), losses in LOSSES.items()
    ]
    lines += ["", "| word | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| {word} | {sentence} |" for word, sentence in words.items())]) + "\n"
