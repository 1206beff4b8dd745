"""A capture as files elsewhere: a copy of its folder for people, and beside it what `penstock replay` serves.

The copy is `DIR/<id>/`. The recording is `DIR/<protocol>/<id>.sse` with `<id>.request.json` beside it, as `lab.recordings` reads them: the
provider's own bytes, or what went to the client where only that was captured. An answer that was one body is unfolded into its protocol's
stream, from which the same body can be made again; Gemini's array becomes its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from penstock.capture.layout import META, Meta
from penstock.capture.settings import Phase
from penstock.capture.store import Item, Store, StoreError, write_private
from penstock.protocols import REGISTRY
from penstock.protocols.contract import BodyError
from penstock.vocabulary.ids import Operation, ProtocolId
from penstock.wire.array import ArraySplitter
from penstock.wire.budget import Budget


@dataclass(frozen=True, slots=True)
class Exported:
    folder: Path
    recording: Path | None
    """What can be served; `None` where the answer is none that could be."""
    note: str | None
    """Why there is no recording, or what is wrong with it."""


def export(store: Store, item: Item, directory: Path) -> Exported:
    """Write both below `directory`, which is made where it is not there. Raises `StoreError`, also where it was exported there before."""
    meta = item.meta
    if meta is None:
        raise StoreError(f"{item.id} is damaged: its {META} cannot be read")
    stream, note = _make_stream(store, item, meta)
    try:
        folder = directory / item.id
        folder.mkdir(mode=0o700, parents=True)
        for name, content in store.files(item):
            write_private(folder / name, content)
        recording = None if stream is None else _write_recording(store, item, meta, directory, stream)
    except FileExistsError as error:
        raise StoreError(f"{error.filename} is there already; name another directory") from None
    except OSError as error:
        raise StoreError(f"{error.filename or directory} cannot be written: {error.strerror or error}") from error
    return Exported(folder, recording, note)


def _write_recording(store: Store, item: Item, meta: Meta, directory: Path, stream: bytes) -> Path:
    folder = directory / (protocol.value if (protocol := _protocol(meta)) else "")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{item.id}.sse"
    write_private(path, stream)
    asked = meta.last(Phase.PROVIDER_REQUEST) or meta.last(Phase.INBOUND_REQUEST)
    request = store.read(item, asked).body if asked is not None else b""
    if request:
        write_private(folder / f"{item.id}.request.json", request)
    return path


def _make_stream(store: Store, item: Item, meta: Meta) -> tuple[bytes | None, str | None]:
    """The answer as a stream; `None` where it is none that can be served. And a note."""
    part = meta.last(Phase.UPSTREAM_RESPONSE) or meta.last(Phase.OUTBOUND_RESPONSE)
    if part is None:
        return None, "no answer was captured; capture upstream_response to serve it again"
    if len(part.start) == 3 and part.start.isascii() and part.start.isdigit() and int(part.start) >= 400:
        return None, f"the answer is an error (status {part.start}), which replay does not serve"
    body = store.read(item, part).body
    if not body:
        return None, "nothing of the answer's body was kept"
    note = f"only {part.size:,} bytes of the answer's body were kept" if part.truncated else None
    kind = (part.content_type or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream" or (not kind and body[:1] not in (b"{", b"[")):
        return body, note
    protocol = _protocol(meta)
    if protocol is None or kind not in ("", "application/json"):
        return None, f"the answer is no stream ({kind or 'of no known protocol'})"
    if protocol is ProtocolId.GEMINI and body.lstrip()[:1] == b"[":
        frames = ArraySplitter(len(body) + 1, Budget(len(body) + 1)).feed(body)
        return b"".join(_as_event(data) for _, data, _ in frames if data), note
    try:
        operation = Operation(meta.operation or "")
        return b"".join(REGISTRY[protocol].unfold(operation, body)), note
    except (ValueError, BodyError) as error:
        return None, f"no stream can be made of the answer: {error}"


def _as_event(data: bytes) -> bytes:
    return b"".join(b"data: %b\r\n" % line for line in data.splitlines()) + b"\r\n"


def _protocol(meta: Meta) -> ProtocolId | None:
    try:
        return ProtocolId(meta.protocol or "")
    except ValueError:
        return None
