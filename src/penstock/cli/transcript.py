"""A capture for people's eyes: heads, and bodies chunk by chunk with the time at which each came.

What a terminal would obey (escape sequences, carriage returns) is shown and not sent: these bytes are others'.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Sequence

from penstock.capture.layout import Meta, PartMeta
from penstock.capture.store import Content
from penstock.cli.streams import flush_or_drop
from penstock.cli.tables import open_console, show_number, show_time

_BINARY = 0.3
"""The share of bytes that are no text from which on a body is none."""
_DUMPED = 4096
"""Bytes of such a body that are shown."""


def print_capture(meta: Meta, parts: Sequence[tuple[PartMeta, Content]]) -> None:
    from rich.text import Text

    console = open_console()
    console.print(Text.assemble((meta.id, "bold"), f"  exchange {_plain(meta.exchange)}, {show_time(meta.began)} UTC, took {meta.took:.3f} s"))
    about = [("outcome", meta.outcome), ("cause", meta.cause), ("provider", meta.provider), ("model", meta.model), ("sent as", meta.sent_model),
             ("route", meta.route), ("key", meta.key_fingerprint), ("operation", meta.operation)]  # fmt: skip
    for name, value in about:
        if value is not None and not (name == "sent as" and value == meta.model):
            console.print(Text.assemble((f"{name:10}", "dim"), _plain(value)))
    for part, content in parts:
        console.print()
        console.print(Text(_heading(part), style="bold cyan"))
        for remark in _remarks(part):
            console.print(Text(remark, style="yellow"))
        for line in content.head.decode("utf-8", "backslashreplace").split("\n")[:-1]:
            console.print(Text(_plain(line)), soft_wrap=True)
        for line, style in _lines(content):
            console.print(Text(line, style=style), soft_wrap=True)


def print_raw(body: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    flush_or_drop()


def _heading(part: PartMeta) -> str:
    which = f", try {part.number}" if part.number > 1 else ""
    at = f" at +{part.at:.3f} s" if part.at is not None else ""
    return f"{part.phase}{which}{at}: {show_number(part.size)} bytes in {show_number(part.chunks)} chunk{'' if part.chunks == 1 else 's'}"


def _remarks(part: PartMeta) -> Iterator[str]:
    if part.truncated:
        yield f"only the beginning: {show_number(part.seen)} bytes passed"
    if part.masked:
        yield f"masked in {part.masked} place{'' if part.masked == 1 else 's'}"
    if part.decoded is not None:
        yield f"decoded: it passed as {part.decoded}, {show_number(part.seen)} bytes"
    if part.note is not None:
        yield part.note


def _lines(content: Content) -> Iterator[tuple[str, str]]:
    """The body's lines with their styles: for each chunk when it came and how long it was, then what it says."""
    body = content.body
    if body and not _is_text(body):
        yield f"{show_number(len(body))} bytes that are no text (--raw prints them)", "dim"
        for at in range(0, min(len(body), _DUMPED), 16):
            yield f"{at:08x}  {body[at : at + 16].hex(' ')}", ""
        return
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    at = 0
    for time, size in content.times:
        chunk = body[at : at + size]
        at += size
        yield f"+{time:.6f} s  {show_number(size)} B", "dim"
        text = decoder.decode(chunk, at >= len(body))
        yield from ((f"  {_plain(line)}", "") for line in text.removesuffix("\n").split("\n") if text)


def _is_text(body: bytes) -> bool:
    sample = body[:_DUMPED].decode("utf-8", "replace")
    odd = sum(1 for char in sample if char == "\ufffd" or (char < " " and char not in "\t\r\n"))
    return odd <= _BINARY * len(sample) and "\0" not in sample


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in text)
