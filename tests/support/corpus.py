"""The recorded streams, what a correct reader finds in them, and how a client asks for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from msgspec.structs import asdict

from penstock.lab.recordings import Recording, load_recordings
from penstock.vocabulary.usage import NO_KINDS, Kinds, Usage

ROOT = Path(__file__).parent.parent / "corpus"
COLUMNS = {
    "input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_tokens", "cache_write": "cache_write_tokens",
    "cache_write_5m": "cache_write_5m_tokens", "cache_write_1h": "cache_write_1h_tokens", "reasoning": "reasoning_tokens",
    "audio_input": "audio_input_tokens", "audio_output": "audio_output_tokens", "tool_use": "tool_use_tokens", "tool_requests": "tool_requests",
    "web_searches": "web_searches", **{name: f"{name}_tokens" for name in Kinds.__struct_fields__},
}  # fmt: skip
"""Columns of the ledger by the words of `vocabulary.usage`."""


def figures(usage: Usage) -> dict[str, int]:
    """What is known of it, by the same words."""
    plain = {**asdict(usage), **asdict(usage.kinds or NO_KINDS)}
    return {word: plain[word] for word in COLUMNS if plain[word] is not None}


def usage_of(figures: Mapping[str, int | None]) -> Usage:
    """The other way round."""
    kinds = Kinds(**{word: value for word, value in figures.items() if word in Kinds.__struct_fields__})
    plain = {word: value for word, value in figures.items() if word not in Kinds.__struct_fields__}
    return Usage(**plain, kinds=None if kinds == NO_KINDS else kinds)


@dataclass(frozen=True, slots=True)
class Case:
    recording: Recording
    expected: dict[str, Any]
    """The entry of the protocol's `index.yaml`."""

    @property
    def name(self) -> str:
        return f"{self.recording.protocol}/{self.recording.name}"

    @property
    def body(self) -> bytes:
        return self.recording.body

    def request(self) -> tuple[str, dict[str, Any]]:
        """Path and JSON body with which a client asks the gateway for this very recording, as a stream."""
        name = f"replay/{self.name}"
        match str(self.recording.protocol):
            case "openai_chat":
                return "/v1/chat/completions", {"model": name, "stream": True, "stream_options": {"include_usage": True}, "messages": []}
            case "openai_responses":
                return "/v1/responses", {"model": name, "stream": True, "input": "x"}
            case "anthropic_messages":
                return "/v1/messages", {"model": name, "stream": True, "max_tokens": 9, "messages": []}
            case _:
                return f"/v1beta/models/{name.replace('/', '%2F')}:streamGenerateContent?alt=sse", {"contents": []}


@cache
def cases() -> tuple[Case, ...]:
    """Every recording, with its expectation."""
    found: list[Case] = []
    expected = {p.parent.name: {e["name"]: e for e in yaml.safe_load(p.read_text())} for p in ROOT.glob("*/index.yaml")}
    for recording in load_recordings(ROOT).recordings:
        found.append(Case(recording, expected[str(recording.protocol)][recording.name]))
    return tuple(found)


@cache
def distinct() -> tuple[Case, ...]:
    """One of each kind: recordings that differ in nothing but ids are left out, and very long ones."""
    seen: set[Any] = set()
    out: list[Case] = []
    for case in cases():
        shape = (case.recording.protocol, json.dumps(case.expected.get("usage"), sort_keys=True), len(case.body) // 100)
        if shape not in seen and len(case.body) < 40_000:
            seen.add(shape)
            out.append(case)
    return tuple(out)
