"""What `check` notes of settings that forestall each other: against a small model of the timers, and word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.config import load
from penstock.config.advice import advise
from penstock.config.errors import Place
from penstock.config.walk import Given

Limits = dict[str, int | None]
State = tuple[int, bool, int, int, int | None, int | None]
"""Ticks since the request, content has come, ticks since a byte, since content, since each of two open calls' arguments."""
EVERYTHING = frozenset({"nothing", "ping", "text", "one", "other"})


def fires(state: State, limits: Limits) -> str | None:
    """The timer that ends the exchange in this state. Where two are due, the one that waits for more."""
    total, begun, byte, content, one, other = state
    calls = [since for since in (one, other) if since is not None]
    waited = {"max_duration": total, "first_content": total if not begun else -1, "content": content if begun else -1,
              "idle": byte if begun else -1, "tool_call": max(calls, default=-1)}
    return next((name for name, ticks in waited.items() if (limit := limits[name]) is not None and ticks >= limit), None)


def steps(state: State, script: frozenset[str]) -> Iterator[State]:
    total, begun, _, content, one, other = state
    for event in script:
        if event == "nothing":
            yield state
        elif event == "ping":
            yield total, begun, 0, content, one, other
        else:
            yield total, True, 0, 0, 0 if event == "one" else one, 0 if event == "other" else other


def reachable(limits: Limits, script: frozenset[str]) -> set[str]:
    """Every timer that ends some exchange whose provider does only what `script` allows, at each tick."""
    seen: set[State] = set()
    ended: set[str] = set()
    waiting: list[State] = [(0, False, 0, 0, None, None)]
    while waiting:
        for total, begun, byte, content, one, other in steps(waiting.pop(), script):
            later = (min(total + 1, 9), begun, min(byte + 1, 9), min(content + 1, 9), None if one is None else min(one + 1, 9),
                     None if other is None else min(other + 1, 9))
            name = fires(later, limits)
            if name is not None:
                ended.add(name)
            elif later not in seen:
                seen.add(later)
                waiting.append(later)
    return ended


NAMES = ("max_duration", "first_content", "content", "idle", "tool_call")


@settings(max_examples=40, deadline=None)
@given(limits=st.fixed_dictionaries({name: st.integers(2, 5) | st.none() for name in NAMES}))
def test_what_is_noted_is_what_cannot_happen(limits: Limits) -> None:
    level = {f"timers.{name}": Given(limits[name], Place("f", 1, name)) for name in NAMES}
    level |= {name: Given(None, Place("f", 1, name)) for name in ("early_head", "keepalive")}
    level |= {f"timers.{name}": Given(None, Place("f", 1, name)) for name in ("client_stall", "drain")}
    level["timers.connect"] = Given(1, Place("f", 1, "connect"))
    notes = advise([level])
    never = {found for note in notes for found in re.findall(r": (\w+) \([^)]*\) can never fire", note)}
    never |= {found for note in notes if "ends every exchange before" in note for found in re.findall(r"(\w+) \(", note.partition("these can: ")[2])}
    on = {name for name in NAMES if limits[name] is not None}
    assert never == on - reachable(limits, EVERYTHING)
    alone = [note for note in notes if "a call that stalls alone" in note]
    if "tool_call" in on and "tool_call" not in never:
        stalls = "tool_call" in reachable(limits, frozenset({"nothing", "one"}))
        pinged = "tool_call" in reachable(limits, frozenset({"nothing", "ping", "one"}))
        assert bool(alone) is not stalls
        assert not alone or ("in silence" in alone[0]) is pinged


# Word by word


def notes(directory: Path, text: str) -> list[str]:
    file = directory / "penstock.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return [note.replace(str(file), "FILE") for note in load(file, environ={"HOME": str(directory)}).notes]


@pytest.mark.parametrize("text", [
    "", "providers: {openai: {}}", "idle: 599", "tool_call: 269", "first_content: 31", "max_duration: 901", "keepalive: 59", "early_head: 59",
    "content: off", "idle: off", "keepalive: off", "early_head: off", "connect: 899", "client_stall: 1h", "drain: off", "content: 271",
    "limits: {max_streams: 5}\nmax_streams: 5",
])  # fmt: skip
def test_nothing_is_said_of_what_is_fine(tmp_path: Path, text: str) -> None:
    assert notes(tmp_path, text) == []


@pytest.mark.parametrize(("text", "noted"), [
    ("content: 250", "FILE:1: content: idle (270 s, the default) can never fire: content (250 s, line 1) starts no later and ends no later. "
                     "Make idle shorter than content"),
    ("timers: {idle: 10m}", "FILE:1: timers.idle: timers.idle (600 s, line 1) can never fire: content (600 s, the default) starts no later and ends "
                            "no later. Make idle shorter than content"),
    ("connect: 900", "FILE:1: connect: connect (900 s, line 1) can never fire: first_content (900 s, the default) includes it. Make connect shorter"),
    ("tool_call: 270", "FILE:1: tool_call: tool_call (270 s, line 1) cannot end a call that stalls alone: idle (270 s, the default) comes first in "
                       "silence; it fires only while pings, text or other calls go on beside the call. Make tool_call shorter"),
    ("tool_calls: {timeout_secs: 600}",
     "FILE:1: tool_calls.timeout_secs: tool_calls.timeout_secs (600 s, line 1) cannot end a call that stalls alone: content (600 s, the default) "
     "comes first; it fires only while text or other calls go on beside the call. Make tool_call shorter"),
    ("first_content: 30", "FILE:1: first_content: early_head (30 s, the default) never comes: first_content (30 s, line 1) ends the exchange before. "
                          "Make early_head shorter"),
    ("max_duration: 10m", "FILE:1: max_duration: max_duration (600 s, line 1) ends every exchange before these can: first_content (900 s, the "
                          "default), content (600 s, the default). Make it longer, or leave it off"),
    ("keepalive: 60", "FILE:1: keepalive: 60 s without a byte is where many load balancers and clients give up, and keepalive (60 s, line 1) comes "
                      "no sooner. Make it shorter"),
    ("limits: {max_streams: 4}\nmax_streams: 5", "FILE:2: max_streams: 5 are never reached: limits.max_streams in line 1 allows 4"),
    ("providers:\n openai: {max_streams: 4}\nroutes: [{model: a, provider: openai, max_streams: 5}]",
     "FILE:3: routes[0].max_streams: 5 are never reached: providers.openai.max_streams in line 2 allows 4"),
    ("providers:\n anthropic: {terminal: finish_reason}",
     "FILE:2: providers.anthropic.terminal: finish_reason is about Chat streams, and provider 'anthropic' makes none; leave it out"),
])  # fmt: skip
def test_what_is_said(tmp_path: Path, text: str, noted: str) -> None:
    assert notes(tmp_path, text) == [noted]


def test_a_pair_is_told_once_where_it_is_made(tmp_path: Path) -> None:
    found = notes(tmp_path, """
idle: 100
tool_call: 50
providers:
  openai: {content: 100}
  gemini: {}
  groq: {protocol: openai_chat, keepalive: 5}
routes:
  - {model: a, provider: openai}
  - {model: b, provider: openai, keepalive: 5}
  - {model: c, provider: openai, content: 101}
  - {model: d, provider: gemini, idle: 601}
""")
    assert [note.partition(": ")[2].partition(" (")[0] for note in found] == ["providers.openai.content: idle", "routes[3].idle: routes[3].idle"]
    assert "content (600 s, the default)" in found[1]


def test_a_provider_s_own_number_may_be_above_the_top_s_default(tmp_path: Path) -> None:
    assert notes(tmp_path, "max_streams: 4\nproviders: {openai: {max_streams: 5}}") == []
    assert len(notes(tmp_path, "max_streams: 4\nroutes: [{model: a, provider: openai, max_streams: 5}]")) == 1
