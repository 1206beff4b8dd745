"""HTTP/1.1's chunks (RFC 9112, 7.1) as far as they are plain: only lower-case digits in the line of the size, as nearly all write it."""

from __future__ import annotations

from typing import Final

SIZE_LINES: Final = tuple(b"%x\r\n" % size for size in range(2048))
"""The first lines of chunks, by the size of what is in them."""


def _by_length() -> tuple[bytes | tuple[()], ...]:
    lines: list[bytes | tuple[()]] = [()] * (len(SIZE_LINES[-1]) + len(SIZE_LINES) + 2)
    for size, line in enumerate(SIZE_LINES[1:], 1):
        lines[len(line) + size + 2] = line
    return tuple(lines)


LINES_BY_LENGTH: Final = _by_length()
"""What `n` bytes begin with that are one plain chunk, its last CR LF among them. Nothing begins with what stands at other numbers of bytes."""
LENGTHS: Final = len(LINES_BY_LENGTH)


def ends_a_chunk(data: bytes, body: bytes) -> bool:
    """Are `data`, of which a parser gave out `body`, one plain chunk, so that the parser now waits for the size of another?

    False wherever it might be otherwise: `data` can also be the rest of a chunk that only looks so, and the first line of the next one. That rest
    is what `data` begins with.
    """
    line = LINES_BY_LENGTH[len(data)] if len(data) < LENGTHS else ()
    return bool(line) and data.startswith(line) and data.endswith(b"\r\n") and body == data[len(line) : -2] and not data.startswith(body)
