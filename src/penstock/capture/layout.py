"""What lies in a capture's folder, and how a recording comes to lie there: decoded, redacted, cut to its size.

A folder holds `capture.json` (`Meta`) and for each part up to three files, named after its phase (`upstream_response`; of a second try
`upstream_response.2`): `.head` the request line or status and the headers, one a line; `.body` the bytes; `.times` one line a chunk, the
seconds since the exchange began and the bytes that came then. The sizes of all chunks are, together, the body's.

Bodies under gzip are kept decoded: no pattern could look into them otherwise. Those under another coding are not kept while there are
patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from penstock.capture.recording import SLACK, Finished, Part
from penstock.capture.redact import Pattern, redact_body, redact_headers, redact_target, redact_text
from penstock.capture.settings import Phase
from penstock.wire.encoding import EncodingError, Gunzip
from penstock.wire.secrets import mask_name, mask_secrets

META = "capture.json"
HEAD, BODY, TIMES = ".head", ".body", ".times"
_GZIP = b"\x1f\x8b"
_LATE = frozenset({"gzip", "x-gzip"})


class PartMeta(msgspec.Struct, frozen=True):
    phase: Phase
    number: int
    """1 for the first try."""
    file: str
    """The names of its files without their endings."""
    start: str
    """The request line, or the status; empty where no head came."""
    at: float | None
    """When the head came, in seconds since the exchange began."""
    size: int
    """Bytes of the body as kept."""
    seen: int
    """Bytes of the body that passed, as they were on the wire."""
    chunks: int
    content_type: str | None = None
    truncated: bool = False
    """Not all of it was kept."""
    masked: int = 0
    """Places in the body where something was taken out."""
    decoded: str | None = None
    """The coding that the body had when it passed."""
    note: str | None = None
    """Why it is not all there, or not as it was."""


class Meta(msgspec.Struct, frozen=True):
    id: str
    exchange: str
    began: float
    """Seconds since the epoch."""
    took: float
    """Seconds."""
    outcome: str | None
    cause: str | None
    provider: str | None
    model: str | None
    sent_model: str | None
    route: str | None
    key_fingerprint: str | None
    protocol: str | None
    operation: str | None
    parts: tuple[PartMeta, ...]
    format: int = 1

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum(part.size for part in self.parts)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(dict.fromkeys(part.phase for part in self.parts))

    def last(self, phase: Phase) -> PartMeta | None:
        """The part of the last try."""
        return next((part for part in reversed(self.parts) if part.phase is phase), None)


Files = dict[str, bytes]


@dataclass(slots=True)
class _Kept:
    """A body on its way from what was recorded to what is written."""

    body: bytes
    ends: Sequence[int]
    short: bool
    decoded: str | None = None
    note: str | None = None


def lay_out(finished: Finished, id: str, patterns: Sequence[Pattern], breathe: Callable[[], None] = lambda: None) -> tuple[Meta, Files]:
    """The files of a recording, `capture.json` among them. `breathe`: as in `redact.redact_body`."""
    files: Files = {}
    parts = [_lay_part(part, finished.literals, patterns, files, breathe) for part in finished.parts if part.at is not None or part.seen]
    about = finished.subject
    meta = Meta(
        id=id, exchange=about.exchange, began=about.began, took=round(finished.took, 6), outcome=finished.outcome,
        cause=redact_text(mask_secrets(finished.cause), finished.literals, patterns) if finished.cause else None, provider=about.provider,
        model=_name(about.model), sent_model=_name(about.sent_model), route=about.route, key_fingerprint=about.fingerprint, protocol=about.protocol,
        operation=about.operation, parts=tuple(parts),
    )  # fmt: skip
    files[META] = msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"
    return meta, files


def _lay_part(part: Part, literals: Sequence[bytes], patterns: Sequence[Pattern], files: Files, breathe: Callable[[], None]) -> PartMeta:
    name = part.phase.value if part.number == 1 else f"{part.phase.value}.{part.number}"
    start = _redact_start(part.start.decode("utf-8", "surrogateescape"), literals, patterns)
    headers = redact_headers(part.headers, literals, patterns)
    if part.at is not None:
        lines = [start.encode("utf-8", "surrogateescape"), *(field + b": " + value for field, value in headers)]
        files[name + HEAD] = b"\n".join(lines) + b"\n"
    kept = _decode(part, bool(patterns))
    cut = min(part.limit, len(kept.body))
    ends = [end for end in kept.ends if end < cut]
    ends.append(cut)
    body, ends, masked = redact_body(kept.body, ends, literals, patterns, breathe)
    body = body[: ends[-1]]
    if body or part.seen:
        files[name + BODY] = body
        files[name + TIMES] = _spell_times(part.times, ends)
    kind = next((value for field, value in headers if field.lower() == b"content-type"), None)
    return PartMeta(
        part.phase, part.number, name, _printable(start), None if part.at is None else round(part.at, 6), len(body), part.seen,
        sum(1 for _ in zip(part.times, ends, strict=False)), kind.decode("latin-1") if kind else None,
        kept.short or len(kept.body) > cut, masked, kept.decoded, kept.note,
    )  # fmt: skip


def _name(model: str | None) -> str | None:
    return None if model is None else mask_name(model)


def _redact_start(line: str, literals: Sequence[bytes], patterns: Sequence[Pattern]) -> str:
    method, blank, target = line.partition(" ")
    return method + blank + redact_target(target, literals, patterns)


def _decode(part: Part, looked_into: bool) -> _Kept:
    """The body without its coding. `looked_into`: there are patterns that must be able to read it."""
    raw = bytes(part.body)
    short = part.seen > len(raw)
    note = "there was no room in memory for more" if part.crowded else None
    named = b",".join(value.lower().replace(b" ", b"") for field, value in part.headers if field.lower() == b"content-encoding")
    coding = named.decode("latin-1") or ("gzip" if raw.startswith(_GZIP) else "identity")
    if coding == "identity" or not raw:
        return _Kept(raw, part.ends, short, None, note)
    if coding in _LATE:
        return _gunzip(part, raw, short, note)
    if looked_into:
        return _Kept(b"", (), True, None, f"its coding, {_printable(coding)}, cannot be looked into; the body is not kept")
    return _Kept(raw, part.ends, short, None, note)


def _gunzip(part: Part, raw: bytes, short: bool, note: str | None) -> _Kept:
    """Chunk by chunk, so that every chunk keeps its time, and no further than the limit, whatever a small body swells to."""
    gunzip = Gunzip(64 * 1024)
    out = bytearray()
    ends: list[int] = []
    at = 0
    try:
        for end in part.ends:
            for piece in gunzip.feed(raw[at:end]):
                out += piece
                if len(out) >= part.limit + SLACK:
                    ends.append(len(out))
                    return _Kept(bytes(out), ends, True, "gzip", note)
            at = end
            ends.append(len(out))
    except EncodingError:
        if not out:
            return _Kept(raw, part.ends, short, None, note or "its head says gzip; it is none")
        ends.append(len(out))
        return _Kept(bytes(out), ends, True, "gzip", f"its gzip is broken near byte {at} of {part.seen}")
    return _Kept(bytes(out), ends, short, "gzip", note)


def _spell_times(times: Iterable[float], ends: Iterable[int]) -> bytes:
    lines: list[str] = []
    before = 0
    for time, end in zip(times, ends, strict=False):
        lines.append(f"{time:.6f} {end - before}\n")
        before = end
    return "".join(lines).encode()


def read_times(text: bytes) -> list[tuple[float, int]]:
    """The lines of a `.times` file: seconds, and the bytes that came then. What is no such line is left out."""
    found: list[tuple[float, int]] = []
    for line in text.splitlines():
        words = line.split()
        try:
            found.append((float(words[0]), max(0, int(words[1]))))
        except (IndexError, ValueError):
            continue
    return found


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
