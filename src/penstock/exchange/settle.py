"""The row of one exchange: what was asked at its start, what was seen at its end."""

from __future__ import annotations

import re
from functools import lru_cache
from time import time

from penstock.attribution import read_head
from penstock.exchange.contract import ClientRequest
from penstock.ledger.entry import Entry, Found
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.stream import StreamRelay
from penstock.policy.matcher import Findings
from penstock.providers import credential
from penstock.routing.endpoints import FIXED
from penstock.vocabulary.outcome import Outcome
from penstock.vocabulary.usage import Provenance
from penstock.wire.secrets import fingerprint, mask_secrets

_GEMINI = re.compile(r"/v1(?:beta|alpha)?/models/gem[a-z0-9.-]{,60}:(?:streamG|g)enerateContent")
"""As Google's models are called."""
_LONGEST = 4096
"""Bytes of a user agent that are looked at."""


def open_entry(entry_id: str, instance: str, request: ClientRequest) -> Entry:
    """A row with what the request's head says."""
    entry = Entry(entry_id, time())
    entry.instance = instance
    entry.method = request.method
    memo = request.memo
    client = memo.client
    if client is None:
        agent, secret, claimed = request.header(b"user-agent"), credential(request.headers, request.query), read_head(request.header)
        memo.client = client = (
            _agent(agent[:_LONGEST]) if agent is not None else None, fingerprint(secret) if secret else None,
            claimed.user, claimed.project, claimed.session, _shown(request.path),
        )  # fmt: skip
    entry.user_agent, entry.key_fingerprint, entry.user_id, entry.project, entry.session_id, entry.path = client
    return entry


@lru_cache(maxsize=256)
def _agent(value: bytes) -> str:
    """It may hold anything, too. Remembered, because clients of one kind say the same on every connection."""
    return mask_secrets(value.decode("latin-1"))


def _shown(path: str) -> str:
    """An unknown path, and what stands behind an id's or a provider's, may hold anything: a key in the wrong place too. (Masking takes as long as
    all else here.)"""
    return path if path in FIXED or _GEMINI.fullmatch(path) is not None else mask_secrets(path)


def read(entry: Entry, pipeline: Pipeline, started: float) -> None:
    """Take over what the pipeline and its observer know; `started` on the monotonic clock."""
    observer = pipeline.observer
    entry.response_id = observer.response_id
    entry.model = observer.model
    entry.stop_reason = observer.stop_reason
    entry.service_tier = observer.service_tier
    entry.account(observer.usage, observer.provenance())
    if observer.error is not None:
        entry.blame(observer.error)
    if pipeline.first_content_at is not None and (entry.upstream_status or 200) < 400:  # an error's words are no content
        entry.ttft_ms = (pipeline.first_content_at - started) * 1e3
    entry.largest_gap_ms = pipeline.largest_gap * 1e3
    entry.events = pipeline.events
    entry.bytes_out = pipeline.bytes_out
    entry.malformed = observer.malformed + pipeline.failures


def read_tail(entry: Entry, pipeline: Pipeline, started: float, waited: float | None) -> None:
    """Keep the last events of a stream that ended badly, and its last bytes where they were kept. `waited`: until when more of it was waited for,
    which may have been its longest silence; `None`: it was not."""
    if waited is not None and isinstance(pipeline, StreamRelay) and not pipeline.observer.terminal:
        entry.largest_gap_ms = max(pipeline.largest_gap, waited - pipeline.last_at) * 1e3
    rows = pipeline.tail_rows(started)
    if rows:
        entry.keep_tail(rows)
    entry.keep_bytes(pipeline.tail_bytes())


def read_findings(entry: Entry, asked: Findings | None, pipeline: Pipeline | None, failing: Findings | None = None) -> None:
    """Keep what guards found in the request (`asked`), in the answer of `pipeline` and in an error in its place (`failing`), and which of them ended
    it. Never a word of the text."""
    told: Findings | None = getattr(pipeline, "findings", None)
    rows: list[Found] = []
    for where, findings in (("request", asked), ("response", told), ("response", failing)):
        if findings is None:
            continue
        rows += [Found(guard, action, where, hits) for (guard, action), hits in findings.hits.items()]
        rows += [Found(guard, "let_go", where, texts) for guard, texts in findings.let_go.items()]
        if entry.upstream_status is not None:  # else there was no answer that could pass
            rows += [Found(guard, "let_go", "response", 1) for guard in findings.unread]
        if findings.rejection is not None and entry.rule is None:
            entry.rule, entry.refused_by = findings.rejection.guard, "guard"
    if rows:
        entry.keep_findings(rows)
    if told is not None and pipeline is not None and not pipeline.gathers:
        entry.held_chars, entry.held_ms = told.held_chars, told.held_seconds * 1e3


def close_entry(entry: Entry, outcome: Outcome, started: float, now: float) -> bool:
    """Settle; True the first time."""
    if entry.outcome is None:
        entry.duration_ms = (now - started) * 1e3
        if entry.replay_of is not None:
            entry.spare()
        if entry.usage_source is None:
            entry.usage_source = Provenance.NONE.value
    return entry.settle(outcome, time())
