"""What `/metrics` counts of exchanges: plain ints in dicts, taken from settled entries, off the event loop.

Nothing of a label is an outsider's: providers are those of the configuration, protocols, endings and causes are closed lists, and models
are no labels at all. So the number of series is bounded by the configuration, whatever clients send.

Counting and reading may happen on different threads; a lock that is held for some microseconds keeps a reading consistent in itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Generator, Iterable
from itertools import accumulate
from typing import Literal, NamedTuple, Protocol

import msgspec

from penstock.admission.subject import By
from penstock.telemetry.causes import NONE, OTHER, Ended, classify
from penstock.vocabulary.ids import GENERATING, ProtocolId
from penstock.vocabulary.outcome import EndedBy, Ending

TTFT = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
DURATION = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
GAP = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 240.0, 270.0, 300.0, 600.0)
"""Upper bounds in seconds. The timers' defaults are among them: how near healthy answers come to a timer can be read off."""
DIRECTIONS = ("input", "output", "cache_read", "cache_write", "reasoning")
REPLAYS = ("hit", "join")
TOKENS_LIMIT = 10**12
"""A count beyond it, or below 0, is no count; the ledger sees it so too."""

ACTIONS = frozenset({"mask", "reject", "audit", "let_go", "error"})
"""What a guard did; `let_go`: texts that passed unjudged, `error`: questions to an external guard without a usable answer."""
_SIDES = frozenset({"request", "response"})
_PROTOCOLS = frozenset(protocol.value for protocol in ProtocolId)
_OUTCOMES = frozenset(ending.value for ending in Ending)
_PARTIES = frozenset(party.value for party in EndedBy)
_GENERATING = frozenset(operation.value for operation in GENERATING)

_BY = frozenset({*(by.value for by in By), "guard"})
_TURNED_AWAY = frozenset({Ending.REFUSED.value, Ending.CUT.value})

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    suffix: str
    """What follows the family's name: nothing, or a histogram's `_bucket`, `_sum`, `_count`."""
    labels: Labels
    value: float


class Family(NamedTuple):
    """One metric with all its series."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[Sample]


class Countable(Ended, Protocol):
    """What is counted of a settled entry; `ledger.entry.Entry` is one."""

    provider: str | None
    client_protocol: str | None
    operation: str | None
    streamed: bool | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    ttft_ms: float | None
    duration_ms: float | None
    largest_gap_ms: float | None
    retries: int | None
    bytes_in: int | None
    bytes_out: int | None
    rule: str | None
    refused_by: str | None
    findings: str | None
    replay: str | None


class Finding(msgspec.Struct, gc=False):
    """How often a guard did something; of an entry's `findings`."""

    guard: str
    action: str
    where: str
    hits: int


_decode = msgspec.json.Decoder(list[Finding]).decode


def read_findings(text: str) -> list[Finding]:
    """An entry's `findings`; none where it cannot be read."""
    try:
        return _decode(text)
    except msgspec.MsgspecError:
        return []


class _Histogram:
    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...], counts: list[int] | None = None, sum: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = counts or [0] * (len(bounds) + 1)
        """Of each bucket alone; they are summed up when they are read."""
        self.sum = sum

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1  # a bound belongs to its bucket: `le`
        self.sum += seconds

    def copy(self) -> _Histogram:
        return _Histogram(self.bounds, self.counts.copy(), self.sum)

    def samples(self, labels: Labels) -> Generator[Sample]:
        below = list(accumulate(self.counts))
        for bound, count in zip(self.bounds, below, strict=False):
            yield Sample("_bucket", (*labels, ("le", f"{bound:g}")), count)
        yield Sample("_bucket", (*labels, ("le", "+Inf")), below[-1])
        yield Sample("_sum", labels, self.sum)
        yield Sample("_count", labels, below[-1])


class _Flow:
    """The sums of one provider and protocol."""

    __slots__ = ("bytes_in", "bytes_out", "duration", "gap", "retries", "tokens", "ttft")

    def __init__(self) -> None:
        self.retries = self.bytes_in = self.bytes_out = 0
        self.tokens = [0] * len(DIRECTIONS)
        self.ttft, self.duration, self.gap = _Histogram(TTFT), _Histogram(DURATION), _Histogram(GAP)

    def note(self, entry: Countable) -> None:
        if entry.duration_ms is not None:
            self.duration.note(entry.duration_ms / 1e3)
        if entry.streamed:
            if entry.ttft_ms is not None:
                self.ttft.note(entry.ttft_ms / 1e3)
            if entry.largest_gap_ms is not None:
                self.gap.note(entry.largest_gap_ms / 1e3)
        if entry.retries:
            self.retries += entry.retries
        if entry.bytes_in:
            self.bytes_in += entry.bytes_in
        if entry.bytes_out:
            self.bytes_out += entry.bytes_out
        if entry.operation in _GENERATING:
            tokens = self.tokens
            counts = (entry.input_tokens, entry.output_tokens, entry.cache_read_tokens, entry.cache_write_tokens, entry.reasoning_tokens)
            for place, count in enumerate(counts):
                if count and 0 < count <= TOKENS_LIMIT:
                    tokens[place] += count

    def copy(self) -> _Flow:
        other = _Flow.__new__(_Flow)
        other.retries, other.bytes_in, other.bytes_out, other.tokens = self.retries, self.bytes_in, self.bytes_out, self.tokens.copy()
        other.ttft, other.duration, other.gap = self.ttft.copy(), self.duration.copy(), self.gap.copy()
        return other


class Metrics:
    """Counts since the start. `note` and `families` may be called from any thread."""

    def __init__(self, providers: Iterable[str] = (), guards: Iterable[str] = ()) -> None:
        """`providers`, `guards`: the names that may stand in labels; any other is told as `other`."""
        self._providers = frozenset(providers)
        self._guards = frozenset(guards)
        self._found: dict[tuple[str, str, str], int] = {}
        self._lock = threading.Lock()
        self._ends: dict[tuple[str, str, str, str, str], int] = {}
        self._flows: dict[tuple[str, str], _Flow] = {}
        self._turned: dict[tuple[str, str], int] = {}
        self._replays = dict.fromkeys(REPLAYS, 0)

    def note(self, entries: Iterable[Countable]) -> None:
        """Count settled entries; a hundred or so at a time, for the lock is held meanwhile. Raises nothing, whatever they hold."""
        providers, ends, flows = self._providers, self._ends, self._flows
        with self._lock:
            for entry in entries:
                provider = entry.provider or NONE
                if provider not in providers and provider is not NONE:
                    provider = OTHER
                protocol = _known(entry.client_protocol, _PROTOCOLS)
                key = (provider, protocol, _known(entry.outcome, _OUTCOMES), _known(entry.ended_by, _PARTIES), classify(entry))
                ends[key] = ends.get(key, 0) + 1
                if entry.rule is not None and entry.outcome in _TURNED_AWAY:
                    turned = (str(entry.outcome), _known(entry.refused_by, _BY))
                    self._turned[turned] = self._turned.get(turned, 0) + 1
                flow = flows.get((provider, protocol))
                if flow is None:
                    flow = flows[provider, protocol] = _Flow()
                flow.note(entry)
                if entry.findings is not None:
                    self._note_findings(entry.findings)
                if entry.replay in self._replays:
                    self._replays[entry.replay] += 1

    def _note_findings(self, text: str) -> None:
        for one in read_findings(text):
            key = (_known(one.guard, self._guards), _known(one.action, ACTIONS), _known(one.where, _SIDES))
            self._found[key] = self._found.get(key, 0) + one.hits

    def families(self) -> Generator[Family]:
        """All that was counted, as of the first step; one family a step, so that whoever writes them out can let others work in between."""
        with self._lock:
            ends = sorted(self._ends.items())
            flows = [(key, flow.copy()) for key, flow in sorted(self._flows.items())]
            turned = sorted(self._turned.items())
            found = sorted(self._found.items())
            replays = sorted(self._replays.items())
        labelled: list[tuple[Labels, _Flow]] = [((("provider", provider), ("protocol", protocol)), flow) for (provider, protocol), flow in flows]
        names = ("provider", "protocol", "outcome", "ended_by", "cause")
        yield Family(
            "penstock_exchanges_total", "counter", "Exchanges that have ended.",
            [Sample("", tuple(zip(names, key, strict=True)), count) for key, count in ends])  # fmt: skip
        yield Family(
            "penstock_refusals_total", "counter", "Exchanges that were refused, or whose answer was cut, by a rule of the house, by the kind of it.",
            [Sample("", (("outcome", outcome), ("by", by)), count) for (outcome, by), count in turned])  # fmt: skip
        yield Family(
            "penstock_ttft_seconds", "histogram", "Of streams: from the request to the first content.",
            [sample for labels, flow in labelled for sample in flow.ttft.samples(labels)])  # fmt: skip
        yield Family(
            "penstock_duration_seconds", "histogram", "From the request to the end.",
            [sample for labels, flow in labelled for sample in flow.duration.samples(labels)])  # fmt: skip
        yield Family(
            "penstock_largest_gap_seconds", "histogram", "Of streams: the longest silence of the provider in each.",
            [sample for labels, flow in labelled for sample in flow.gap.samples(labels)])  # fmt: skip
        yield Family(
            "penstock_retries_total", "counter", "Tries at a provider after the first.",
            [Sample("", labels, flow.retries) for labels, flow in labelled])  # fmt: skip
        yield Family(
            "penstock_tokens_total", "counter", "Tokens as providers state them, of operations that generate; which contains which differs.",
            [Sample("", (*labels, ("direction", direction)), count)
             for labels, flow in labelled for direction, count in zip(DIRECTIONS, flow.tokens, strict=True)])  # fmt: skip
        yield Family(
            "penstock_bytes_total", "counter", "Bytes of bodies: of requests (in), and of answers as sent to clients (out).",
            [Sample("", (*labels, ("direction", direction)), count)
             for labels, flow in labelled for direction, count in (("in", flow.bytes_in), ("out", flow.bytes_out))])  # fmt: skip
        yield Family(
            "penstock_guard_findings_total", "counter", "What guards found and did, in requests and in answers.",
            [Sample("", tuple(zip(("guard", "action", "where"), key, strict=True)), count) for key, count in found])  # fmt: skip
        yield Family(
            "penstock_replays_total", "counter", "Exchanges that were told another's answer: a running one (join), or a kept one (hit).",
            [Sample("", (("kind", kind),), count) for kind, count in replays])  # fmt: skip


def _known(word: str | None, words: frozenset[str]) -> str:
    if word is None:
        return NONE
    return word if word in words else OTHER
