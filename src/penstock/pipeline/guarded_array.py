"""A guarded stream in its protocol's array form: judged as any, its closing bracket held as any array's (`array_relay`)."""

from __future__ import annotations

from typing import Any

from penstock.pipeline.array_relay import ArrayRelay
from penstock.pipeline.decoded import Decoded
from penstock.pipeline.guarded import GuardedFrames
from penstock.wire.array import ArraySplitter
from penstock.wire.encoding import Gunzip


class GuardedArray(GuardedFrames, ArrayRelay):
    """To be made with an `ArraySplitter`."""

    __slots__ = ("blind", "closer", "editor", "findings", "request_id", "rest", "shut", "spec")

    @property
    def _stopped(self) -> bool:
        return self.findings.rejection is not None

    def _is_shut(self, array: ArraySplitter) -> bool:
        return super()._is_shut(array) and not self._bracket


class DecodedGuardedArray(Decoded, GuardedArray):
    __slots__ = ("gunzip",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gunzip = Gunzip()
