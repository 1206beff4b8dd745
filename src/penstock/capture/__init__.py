"""Captures: the bytes of single exchanges with their times of arrival, for looking at and for serving again. Off until somebody turns them on.

Enters: an `Order` (what to record, of which exchanges, how many); bytes and heads from the exchange's callbacks, in up to four phases.
Leaves: one folder an exchange in `<data_dir>/captures`, which people can read and `penstock replay` can serve after an export.

- `settings`: the words: phases, what is configured, what is ordered. Pure.
- `redact`: what is taken out of heads and bodies. Pure.
- `recording`: one exchange's bytes in memory, bounded.
- `recorder`: on or off, which exchanges, and the counters; hands what is whole to `writer`, a thread of its own.
- `taps`: a recording between an exchange and its client or its provider, so that exchanges that are not recorded pay nothing.
- `layout`: what a capture's folder holds; a recording becomes those files: decoded, redacted, cut to its size.
- `store`: finds, reads, writes, deletes such folders, and forgets the old ones.
- `dumps`: requests that a provider refused to answer without streaming, a file each (`nonstream_mode: retry`); a thread of its own.
- `export`: a folder becomes a recording as `lab` reads them.

Laws: an exchange never notices: no call raises or waits, memory is bounded for each and for all, what has no room is left out, counted and
told. Nothing reaches the disk before it was redacted, as a whole, so that no boundary between chunks hides a secret. Files are their
owner's alone (0700, 0600). No name that comes from outside ever becomes part of a path.

Not here: when an exchange begins and what it sends (`exchange`), the terminal (`cli`), HTTP (`admin`).
"""

from penstock.capture.dumps import Dump, Dumps, DumpSettings
from penstock.capture.recorder import Recorder
from penstock.capture.recording import Recording, Subject
from penstock.capture.settings import BadOrder, CaptureSettings, Order, Phase
from penstock.capture.taps import AnswerTap, ReplyTap

__all__ = [
    "AnswerTap", "BadOrder", "CaptureSettings", "Dump", "DumpSettings", "Dumps", "Order", "Phase", "Recorder", "Recording", "ReplyTap", "Subject",
]  # fmt: skip
