"""The life of one exchange, told from its row: what was expected, what came, who ended it, what to change. Pure.

Everything in a row that an outsider wrote is made printable here: nothing of it can steer a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.ledger.advice import ADVICE, case_of
from penstock.pricing import show_usd
from penstock.vocabulary.outcome import Ending

TERMINALS: Mapping[str, str] = {
    "openai_chat": "a chunk with finish_reason, then `data: [DONE]`",
    "openai_responses": "the event `response.completed` (or `response.incomplete`, `response.failed`)",
    "anthropic_messages": "the event `message_stop`",
    "gemini": "a chunk with finishReason, then the end of the stream",
}
"""What ends a stream by its protocol: `docs/protocols/`."""

_SHOWN = 12
"""Events of the tail that the timeline shows."""
_WHOM = {"client": "the client", "upstream": "the provider", "gateway": "this gateway"}
_LONG = 300


class Moment(msgspec.Struct, frozen=True):
    """One line of the timeline."""

    ms: float | None
    """From the request; `None`: not known when."""
    what: str


class Story(msgspec.Struct, frozen=True):
    id: str
    outcome: str | None
    """`None`: it has not ended."""
    case: str
    """The line of `advice.ADVICE`."""
    verdict: str
    cause: str | None
    expected: str
    came: str
    ended_by: str
    timer: str | None
    rule: str | None
    """The rule, limit, budget, key, mode or guard by whose word it was refused or cut."""
    guards: list[str]
    """What guards found and did, a sentence each."""
    replay: str | None
    """Whose answer it was told, where it was another's."""
    change: list[str]
    timeline: list[Moment]
    tries: list[dict[str, Any]]
    tail: list[tuple[float, str, int]]
    """The last events: milliseconds from the request, type, bytes."""


def tell(row: Mapping[str, Any], more: bool = False) -> Story:
    """The story of a row of `query.exchange`. `more`: its timeline shows all of the tail."""
    tries, tail = _read(row.get("tries"), list[dict[str, Any]]), _read(row.get("tail"), list[tuple[float, str, int]])
    tail = [(at, _plain(kind), size) for at, kind, size in tail]
    silence = _silence(row, tail)
    case = case_of(row, silence)
    advice = ADVICE[case]
    words = {
        "where": _where(row), "provider": _plain(row.get("provider")) or "?", "status": str(row.get("upstream_status")), "silence": _span(silence),
    }  # fmt: skip

    def fill(text: str) -> str:
        for name, word in words.items():
            text = text.replace("{" + name + "}", word)
        return text

    return Story(
        id=row["id"],
        outcome=row.get("outcome"),
        case=case,
        verdict=fill(advice.means) + _by_rule(row),
        cause=_plain(row.get("cause")) or None,
        expected=_expected(row),
        came=_came(row, tail, silence),
        ended_by=_WHOM.get(str(row.get("ended_by")), "nobody yet" if row.get("outcome") is None else "unknown"),
        timer=row.get("timer"),
        rule=_plain(row.get("rule")) or None,
        guards=_guards(row),
        replay=_replay(row),
        change=[fill(line) for line in advice.change],
        timeline=_timeline(row, tries, tail, len(tail) if more else _SHOWN),
        tries=[{**one, "cause": _plain(one.get("cause"))} for one in tries],
        tail=tail,
    )


def _by_rule(row: Mapping[str, Any]) -> str:
    """The sentence that names it."""
    done = {Ending.REFUSED.value: "refused", Ending.CUT.value: "cut"}.get(str(row.get("outcome")))
    return f" It was {done} by the word of {_plain(row['rule'])!r}." if done and row.get("rule") else ""


def _timeline(row: Mapping[str, Any], tries: Sequence[Mapping[str, Any]], tail: Sequence[tuple[float, str, int]], shown: int) -> list[Moment]:
    moments = [Moment(0.0, _asked(row))]
    for number, one in enumerate(tries, 1):
        status = f"status {one['status']}, " if one.get("status") is not None else ""
        moments.append(Moment(one.get("after_ms"), f"try {number} failed: {status}{_plain(one.get('cause'))}"))
    provider = _plain(row.get("provider")) or "the provider"
    if row.get("dial_ms") is not None:
        moments.append(Moment(row["dial_ms"], f"connected to {provider}"))
    if row.get("upstream_status") is not None:
        request = f" ({_plain(row['upstream_request_id'])})" if row.get("upstream_request_id") else ""
        who = f"the answer to {_plain(row['replay_of'])} began:" if row.get("replay_of") else f"{provider} answered"
        moments.append(Moment(row.get("head_ms"), f"{who} {row['upstream_status']}{request}"))
    if row.get("ttft_ms") is not None:
        moments.append(Moment(row["ttft_ms"], "first content"))
    if len(tail) > shown:
        moments.append(Moment(tail[-shown - 1][0], f"... {(row.get('events') or len(tail)) - shown:,} events up to here"))
    last: float | None = None
    head, end = (row[name] if isinstance(row.get(name), int | float) else None for name in ("head_ms", "duration_ms"))
    for kept, kind, size in tail[max(0, len(tail) - shown) :]:
        # Kept in whole milliseconds, it may seem to have come before the head, or behind the end.
        at = head if head is not None and kept < head < kept + 1 else kept
        at = at if end is None else min(at, end)
        gap = f", after {_span(at - last)}" if last is not None and at - last >= 1000 else ""
        moments.append(Moment(at, f"{kind} ({size:,} bytes{gap})"))
        last = at
    if row.get("outcome") is not None:
        status = f", status {row['status']} to the client" if row.get("status") is not None else ""
        moments.append(Moment(row.get("duration_ms"), f"{row['outcome']}: {_plain(row.get('cause')) or 'no cause was kept'}{status}"))
    # Two that happened at one moment stay in this order; what has no time stays behind what it followed.
    order: list[tuple[float, int]] = []
    for at, moment in enumerate(moments):
        order.append((moment.ms if moment.ms is not None else order[-1][0], at))
    return [moments[at] for _, at in sorted(order)]


def _replay(row: Mapping[str, Any]) -> str | None:
    if not row.get("replay_of"):
        return None
    how = "was joined while it was made" if row.get("replay") == "join" else "was told once more"
    avoided = row.get("avoided_nanousd")
    cost = f"it would have cost {show_usd(avoided)}" if isinstance(avoided, int) else "what it would have cost is not known"
    return f"the answer to {_plain(row['replay_of'])} {how}: nothing was asked of a provider, {cost}"


def _asked(row: Mapping[str, Any]) -> str:
    parts = [f"{_plain(row.get('method')) or '?'} {_plain(row.get('path')) or '?'}"]
    if row.get("requested_model"):
        parts.append(f"model {_plain(row['requested_model'])}")
    if row.get("bytes_in") is not None:
        parts.append(f"{row['bytes_in']:,} bytes")
    if row.get("route"):
        parts.append(f"route {_plain(row['route'])}")
    if row.get("user_agent"):
        parts.append(f"from {_plain(row['user_agent'])}")
    return ", ".join(parts)


def _expected(row: Mapping[str, Any]) -> str:
    if row.get("outcome") == Ending.REFUSED:
        return "nothing: no provider was asked"
    status = row.get("upstream_status")
    if isinstance(status, int) and status >= 400:
        return "an answer with a good status"
    if not row.get("streamed"):
        return "the whole body, as its framing announces it" if row.get("streamed") is False else "an answer"
    protocol = row.get("upstream_protocol") or row.get("client_protocol")
    return TERMINALS.get(str(protocol), "the event that ends a stream")


def _came(row: Mapping[str, Any], tail: Sequence[tuple[float, str, int]], silence: float | None) -> str:
    if row.get("outcome") == Ending.REFUSED:
        return "nothing"
    if row.get("upstream_status") is None and not row.get("events"):
        return "no answer" + (f" in {_span(row['duration_ms'])}" if row.get("duration_ms") is not None else "")
    parts: list[str] = []
    if row.get("streamed") and row.get("events") is not None:
        parts.append(_count(row["events"], "event"))
    if row.get("bytes_out") is not None:
        parts.append(f"{row['bytes_out']:,} bytes passed on")
    if row.get("stop_reason") and row["stop_reason"] != "incomplete":
        parts.append(f"the stop reason {_plain(row['stop_reason'])}")
    if row.get("largest_gap_ms"):
        parts.append(f"the longest silence {_span(row['largest_gap_ms'])}")
    if tail:
        after = f", {_span(silence)} before the end" if silence is not None else ""
        parts.append(f"last came {tail[-1][1]} ({tail[-1][2]:,} bytes){after}")
    if "inside a frame" in str(row.get("cause")):
        parts.append("and half an event behind it")
    if row.get("malformed"):
        parts.append(f"{_count(row['malformed'], 'event')} not of the shape that the protocol promises")
    if row.get("error_type") or row.get("error_code") or row.get("error_message"):
        said = " ".join(_plain(row[name]) for name in ("error_type", "error_code", "error_message") if row.get(name))
        parts.append(f"the provider's error: {said}")
    return "; ".join(parts) or "a head without a body"


_DID: Mapping[str, tuple[str, str]] = {
    "mask": ("masked", "match"), "reject": ("rejected it for", "match"), "audit": ("counted", "match"),
    "let_go": ("could not judge, and let go,", "text"), "error": ("had no usable answer to", "question"),
}  # fmt: skip
_HELD_MS = 1.0
"""Held for less than this is held for no time that anybody could notice."""


def read_findings(text: Any) -> list[dict[str, Any]]:
    """A row's `findings`; none where it has none or it cannot be read."""
    return _read(text, list[dict[str, Any]])


def _guards(row: Mapping[str, Any]) -> list[str]:
    sentences: list[str] = []
    for one in read_findings(row.get("findings")):
        did, what = _DID.get(str(one.get("action")), (f"did {_plain(one.get('action'))} to", "match"))
        hits = one.get("hits")
        where = "the request" if one.get("where") == "request" else "the answer"
        sentences.append(f"Guard `{_plain(one.get('guard'))}` {did} {_count(hits if isinstance(hits, int) else 0, what)} in {where}.")
    chars, ms = row.get("held_chars"), row.get("held_ms")
    if isinstance(chars, int) and chars > 0:
        for_long = f", for {_span(ms)} at most" if isinstance(ms, int | float) and ms >= _HELD_MS else ""
        sentences.append(f"Up to {_count(chars, 'character')} of the answer waited for guards at once{for_long}.")
    return sentences


def _silence(row: Mapping[str, Any], tail: Sequence[tuple[float, str, int]]) -> float | None:
    """Milliseconds between what came last and the end; `None` where it is not known what came last."""
    end = row.get("duration_ms")
    if not isinstance(end, int | float):
        return None
    if tail:
        return max(0.0, end - tail[-1][0])
    if row.get("events"):
        return None
    head = row.get("head_ms")
    return max(0.0, end - head) if isinstance(head, int | float) else end if row.get("upstream_status") is None else None


def _where(row: Mapping[str, Any]) -> str:
    places = [f"on route `{_plain(row['route'])}`"] if row.get("route") else []
    places += [f"on provider `{_plain(row['provider'])}`"] if row.get("provider") else []
    return f"({', '.join([*places, 'or at the top'])}; the nearest wins)" if places else "(at the top)"


def _read(text: Any, kind: type[list[Any]]) -> list[Any]:
    """A JSON column; what cannot be read is as if it were not there."""
    try:
        return msgspec.json.decode(text, type=kind) if text else []
    except (msgspec.DecodeError, TypeError):
        return []


def _plain(value: Any) -> str:
    """Printable, on one line, and not too long."""
    text = "" if value is None else str(value)
    text = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONG else text[:_LONG] + "..."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 'es' if what.endswith('ch') else 's'}"


def _span(ms: Any) -> str:
    if not isinstance(ms, int | float):
        return "an unknown time"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.1f} min"
