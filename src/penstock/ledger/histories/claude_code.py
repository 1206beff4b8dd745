"""Claude Code's sessions: `~/.claude/projects/<directory>/<session>.jsonl`, and those of its agents below.

One JSON object a line. Lines of the type `assistant` hold in `message` a Message as the API gave it (`id`, `model`, `usage`, ...), and beside it
`timestamp`, `sessionId`, `cwd` and `requestId`. A Message is written once per content block, each time with the usage so far, so the largest
figure of each kind counts; a resumed session repeats the lines of the one before. `<synthetic>` is the model of the program's own messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple

from penstock.ledger.histories.found import Found, lines_of, project_of, seconds_of
from penstock.protocols.anthropic_messages.observe import MessagesObserver
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.vocabulary.usage import EMPTY_USAGE, Usage

ORIGIN = "claude-code"
_SYNTHETIC = "<synthetic>"


class _Line(msgspec.Struct, gc=False):
    type: Any = None
    timestamp: Any = None
    sessionId: Any = None
    cwd: Any = None
    message: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Line).decode


def read(path: Path, told: Callable[[int], None]) -> Iterator[Found]:
    """What is found in a file, in the order of the last lines that tell of it. `told` hears of the bytes that were read. Raises `OSError`."""
    messages: dict[str, Found] = {}
    for line in lines_of(path, told):
        if b'"assistant"' not in line:
            continue
        found = _read(line)
        if found is not None and found.response_id is not None:
            former = messages.pop(found.response_id, None)
            messages[found.response_id] = found if former is None else _with_more(former, found)
    yield from messages.values()


def _read(line: bytes) -> Found | None:
    try:
        read = _decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None  # the last line of a session that is being written, most often
    at = seconds_of(read.timestamp)
    if read.type != "assistant" or not read.message or at is None:
        return None
    seer = MessagesObserver()
    seer.observe_body(bytes(read.message))
    if seer.response_id is None or seer.model == _SYNTHETIC or seer.usage == EMPTY_USAGE:
        return None
    return Found(
        ORIGIN, seer.response_id, at, "anthropic", ProtocolId.ANTHROPIC_MESSAGES, Operation.MESSAGES, seer.model, seer.usage, seer.response_id,
        session=read.sessionId if isinstance(read.sessionId, str) else None, project=project_of(read.cwd), client="claude-code",
        stop_reason=seer.stop_reason, service_tier=seer.service_tier,
    )  # fmt: skip


def _with_more(former: Found, later: Found) -> Found:
    pairs = zip(astuple(former.usage), astuple(later.usage), strict=True)
    usage = Usage(*(max((count for count in pair if count is not None), default=None) for pair in pairs))
    return replace(former, usage=usage, stop_reason=later.stop_reason or former.stop_reason)
