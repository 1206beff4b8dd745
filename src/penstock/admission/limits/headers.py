"""How limits are told, in the style of each protocol.

OpenAI: `x-ratelimit-limit-requests`, `-remaining-`, `-reset-` with a duration like `6m0s` (platform.openai.com/docs/guides/rate-limits). Anthropic:
`anthropic-ratelimit-requests-limit`, `-remaining`, `-reset` with a time of RFC 3339, and for `tokens`, `input-tokens` and `output-tokens`
(docs.anthropic.com/en/api/rate-limits). Google has none: its clients get OpenAI's. Of several limits of one measure the one that is nearest to
its end is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil

from penstock.admission.limits.spec import Measure
from penstock.admission.limits.store import State

Header = tuple[bytes, bytes]
_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")
_NAMES = {Measure.REQUESTS: "requests", Measure.TOKENS: "tokens", Measure.INPUT: "input-tokens", Measure.OUTPUT: "output-tokens"}
_WORDS = "limit", "remaining", "reset"
_OPENAIS = {measure: [f"x-ratelimit-{word}-{name}".encode() for word in _WORDS] for measure, name in _NAMES.items()}
_ANTHROPICS = {measure: [f"anthropic-ratelimit-{name}-{word}".encode() for word in _WORDS] for measure, name in _NAMES.items()}


def limit_headers(states: Iterable[State], now: float, *, anthropic: bool) -> list[Header]:
    """`now` in seconds since the epoch."""
    names = _ANTHROPICS if anthropic else _OPENAIS
    nearest: dict[Measure, State] = {}
    for state in states:
        measure = state.limit.measure
        other = nearest.get(measure)
        if measure in names and (other is None or _share(state) < _share(other)):
            nearest[measure] = state
    out: list[Header] = []
    for measure, state in nearest.items():
        limit, remaining, reset = names[measure]
        moment = _moment(now + state.reset) if anthropic else _span(state.reset)
        out += ((limit, b"%d" % state.limit.amount), (remaining, b"%d" % state.left), (reset, moment.encode()))
    return out


def retry_after(seconds: float) -> Header:
    """Whole seconds, 1 at least."""
    return b"retry-after", str(max(1, ceil(seconds))).encode()


def without_theirs(headers: Sequence[Header]) -> list[Header]:
    """`headers` without a provider's own limits: they are of the house's account there, and would be taken for ours."""
    return [pair for pair in headers if not pair[0].lower().startswith(_PREFIXES)]


def _share(state: State) -> float:
    return state.left / state.limit.amount


def _span(seconds: float) -> str:
    """Go's way to write a duration, as OpenAI does: `1s`, `6m0s`, `120ms`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    left = ceil(seconds)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s" if minutes else f"{left}s"


def _moment(at: float) -> str:
    whole = datetime.fromtimestamp(at, UTC) + timedelta(seconds=0.999999)
    return whole.replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")
