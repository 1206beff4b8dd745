"""Recorded streams: found below a directory, told apart by protocol, picked by name.

A recording is one `*.sse` file: the body of one streamed answer after transfer and content decoding. `NAME.request.json` beside it, where there
is one, is the body of its request. Other files are ignored.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from penstock.vocabulary.ids import Operation, ProtocolId

OPERATION_OF: dict[ProtocolId, Operation] = {
    ProtocolId.OPENAI_CHAT: Operation.CHAT,
    ProtocolId.OPENAI_RESPONSES: Operation.RESPONSES,
    ProtocolId.ANTHROPIC_MESSAGES: Operation.MESSAGES,
    ProtocolId.GEMINI: Operation.GENERATE,
}
"""What a stream of a protocol answers; legacy Completions are told by their content."""

LARGEST = 512 << 20
"""Bytes of one recording: all of them are held in memory."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


class RecordingError(ValueError):
    """A directory or a name from which no stream can be served. Its text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event of a recording: its bytes with the blank line that ends it, and what they say."""

    raw: bytes
    name: bytes
    data: bytes


@dataclass(frozen=True)
class Recording:
    name: str
    """Unique within its operation: the file's name without `.sse`, after the folders below the protocol's, if any."""
    protocol: ProtocolId
    operation: Operation
    body: bytes
    request: bytes | None = None

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The body in frames; together they are the body. The last one may be incomplete."""
        return tuple(split_frames(self.body))


@dataclass(frozen=True, slots=True)
class Library:
    """All recordings below a directory, sorted by path, and the files that could not be told: (path, reason)."""

    recordings: tuple[Recording, ...]
    skipped: tuple[tuple[Path, str], ...] = ()


def load_recordings(root: Path) -> Library:
    """Every stream below `root`. Raises `RecordingError` where there is no such directory or nothing in it can be served."""
    if not root.is_dir():
        raise RecordingError(f"{root} is not a directory")
    found: list[Recording] = []
    skipped: list[tuple[Path, str]] = []
    for path in sorted(root.rglob("*.sse")):
        try:
            body = _read(path)
            request = path.with_suffix(".request.json")
            asked = _read(request) if request.is_file() else None
        except OSError as error:
            skipped.append((path, f"it cannot be read: {error.strerror}"))
            continue
        folders = path.relative_to(root).parts[:-1]
        if any("\ud800" <= char <= "\udfff" for char in str(path.relative_to(root))):
            skipped.append((path, "its name is no UTF-8"))
            continue
        protocol = _protocol_by_folder((root.name, *folders))
        told = tell_operation(body)
        if protocol is None and told is None:
            skipped.append((path, "neither its folder nor its content names a protocol"))
            continue
        if protocol is None:
            assert told is not None
            protocol = told[0]
        operation = told[1] if told is not None and told[0] == protocol else OPERATION_OF[protocol]
        name = "/".join((*(f for f in folders if f != protocol.value), path.stem))
        found.append(Recording(name, protocol, operation, body, asked))
    if not found:
        raise RecordingError(f"no recorded stream (*.sse) below {root} can be served")
    return Library(tuple(found), tuple(skipped))


def _read(path: Path) -> bytes:
    """Raises `OSError`, with its reason, also where it is a folder, a pipe or a device, or larger than any recording."""
    if not path.is_file():
        path.stat()
        raise OSError(errno.EINVAL, "it is no file")
    if path.stat().st_size > LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return path.read_bytes()


def split_frames(body: bytes) -> Iterable[Frame]:
    """The frames of a whole body: a blank line ends one; LF, CRLF and CR end a line (WHATWG HTML, 9.2.6).

    For bodies that lie in memory as a whole; the gateway's own scanner is `penstock.wire.sse`.
    """
    start = at = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    begun = 0
    name, data = b"", list[bytes]()
    for ending in _LINE_END.finditer(body, start):
        line, at = body[at : ending.start()], ending.end()
        if not line:
            yield Frame(body[begun:at], name, b"\n".join(data))
            begun, name, data = at, b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    if begun < len(body):
        yield Frame(body[begun:], name, b"\n".join(data))


def tell_operation(body: bytes) -> tuple[ProtocolId, Operation] | None:
    """Which protocol wrote this stream, from the first events that show it; `None` where none does."""
    for frame in split_frames(body):
        match _decode(frame.data):
            case {"object": "text_completion"}:
                return ProtocolId.OPENAI_CHAT, Operation.COMPLETIONS
            case {"object": "chat.completion.chunk"} | {"choices": [*_]}:
                return ProtocolId.OPENAI_CHAT, Operation.CHAT
            case {"type": str(kind)} if kind.startswith("response."):
                return ProtocolId.OPENAI_RESPONSES, Operation.RESPONSES
            case {"type": "message_start"}:
                return ProtocolId.ANTHROPIC_MESSAGES, Operation.MESSAGES
            case {"candidates": _} | {"promptFeedback": _}:
                return ProtocolId.GEMINI, Operation.GENERATE
            case _:
                continue
    return None


def find_recording(recordings: Sequence[Recording], wanted: str) -> Recording:
    """The one that `wanted` means: `NAME` or `PROTOCOL/NAME`, whole or a prefix that only one has.

    Raises `RecordingError` with what there is instead.
    """
    full = [r for r in recordings if wanted in (r.name, f"{r.protocol}/{r.name}")]
    some = full or [r for r in recordings if r.name.startswith(wanted) or f"{r.protocol}/{r.name}".startswith(wanted)]
    if len(some) == 1:
        return some[0]
    if not some:
        raise RecordingError(f"no recorded stream is called {wanted!r}; {_list(recordings)}")
    raise RecordingError(f"{wanted!r} could be any of {len(some)} recorded streams; {_list(some)}")


def _list(recordings: Sequence[Recording]) -> str:
    names = [f"replay/{r.protocol}/{r.name}" for r in recordings]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"there is {', '.join(names[:5])}{more}" if names else "there is none for this path"


def _protocol_by_folder(folders: Sequence[str]) -> ProtocolId | None:
    """The protocol that the nearest folder is named after."""
    names = {p.value: p for p in ProtocolId}
    return next((names[f] for f in reversed(folders) if f in names), None)


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
