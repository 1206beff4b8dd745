"""Codex's rollouts: each answer once, by its name where it has one, whatever was copied into forked sessions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.ledger.histories import codex, find_sources
from penstock.ledger.histories.found import Found
from tests.support.histories import codex_lines, codex_record, codex_session, codex_turn, token_count, uuid7, write_lines

BEGAN = 1_763_503_000.0
PARENT, CHILD, GRANDCHILD = uuid7(BEGAN), uuid7(BEGAN + 1000), uuid7(BEGAN + 2000)
TURNS = [uuid7(BEGAN + at, 1) for at in (10, 20, 1010, 2010)]
"""Two of the parent's, one of the child's, one of the grandchild's."""


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def read(path: Path, lines: Iterable[dict[str, Any]]) -> list[Found]:
    return list(codex.read(write_lines(path, lines), lambda size: None))


def told(found: Iterable[Found]) -> list[tuple[str | None, str | None, int | None, int | None, float]]:
    return [(each.response_id, each.session, each.usage.input, each.usage.output, each.at) for each in found]


def counts(turn: str | None, at: float, total: int, session: str | None = None) -> list[dict[str, Any]]:
    """A turn with one answer of ten tokens and one, which takes the session to `total`."""
    began = [] if session is None else [codex_session(session, iso(at))]
    return [*began, codex_turn(turn, iso(at)), token_count(iso(at), (total, 0, total // 10, 0), (10, 0, 1, 0))]


@pytest.mark.parametrize("record_first", [True, False])
def test_an_answer_has_its_name_and_is_told_of_once(tmp_path: Path, record_first: bool) -> None:
    named = [codex_record(f"resp_{at}", iso(BEGAN + at), PARENT, TURNS[0], (100 * at, 60, 5, 2), written=30) for at in (1, 2)]
    counted = [token_count(iso(BEGAN + at), (100 * at, 60, 5 * at, 2), (100 * at, 60, 5, 2)) for at in (1, 2)]
    pairs = [(record, count) if record_first else (count, record) for record, count in zip(named, counted, strict=True)]
    lines = [codex_session(PARENT, iso(BEGAN)), codex_turn(TURNS[0], iso(BEGAN)), *(line for pair in pairs for line in pair)]
    first, second = read(tmp_path / "rollout-1.jsonl", lines)
    assert told([first, second]) == [("resp_1", PARENT, 100, 5, BEGAN + 1), ("resp_2", PARENT, 200, 5, BEGAN + 2)]
    assert (first.usage.cache_read, first.usage.cache_write, first.usage.reasoning, first.model, first.effort) == (60, 30, 2, "gpt-5", "high")


def test_what_only_one_kind_of_line_tells_of_is_told_too(tmp_path: Path) -> None:
    found = read(tmp_path / "rollout-1.jsonl", [
        codex_session(PARENT, iso(BEGAN)), *counts(None, BEGAN + 1, 10),  # of an older version, in the same session
        codex_record("resp_1", iso(BEGAN + 2), PARENT, TURNS[0], (50, 0, 5, 0)),
    ])  # fmt: skip
    assert told(found) == [(None, PARENT, 10, 1, BEGAN + 1), ("resp_1", PARENT, 50, 5, BEGAN + 2)]


def test_a_fork_s_copies_are_the_answers_that_they_copy(tmp_path: Path) -> None:
    """Every line of a copy has the time of the fork; the names of the turns tell when they were."""
    parent = read(tmp_path / "rollout-1.jsonl", [
        codex_session(PARENT, iso(BEGAN)), *counts(TURNS[0], BEGAN + 11, 10), *counts(TURNS[1], BEGAN + 21, 20)])  # fmt: skip
    copied = [codex_session(PARENT, iso(BEGAN + 1000)), *counts(TURNS[0], BEGAN + 1000, 10), *counts(TURNS[1], BEGAN + 1000, 20)]
    child = read(tmp_path / "rollout-2.jsonl", [
        codex_session(CHILD, iso(BEGAN + 1000), forked=PARENT), *copied, *counts(TURNS[2], BEGAN + 1000.5, 30)])  # fmt: skip
    grandchild = read(tmp_path / "rollout-3.jsonl", [
        codex_session(GRANDCHILD, iso(BEGAN + 2000), forked=CHILD), codex_session(CHILD, iso(BEGAN + 2000), forked=PARENT), *copied,
        *counts(TURNS[2], BEGAN + 2000, 30), *counts(TURNS[3], BEGAN + 2011, 40)])  # fmt: skip
    assert [each.id for each in child[:2]] == [each.id for each in parent]
    assert [each.id for each in grandchild[:3]] == [each.id for each in child]
    assert len({each.id for each in (*parent, *child, *grandchild)}) == 4
    assert [each.session for each in grandchild] == [PARENT, PARENT, CHILD, GRANDCHILD]
    assert [each.at for each in grandchild] == [BEGAN + 10, BEGAN + 20, BEGAN + 1010, BEGAN + 2011], "in their own time, about"


def test_a_fork_s_copies_of_named_answers(tmp_path: Path) -> None:
    record = codex_record("resp_1", iso(BEGAN + 1000), PARENT, TURNS[0], (10, 0, 1, 0))
    [copy, own] = read(tmp_path / "rollout-2.jsonl", [
        codex_session(CHILD, iso(BEGAN + 1000), forked=PARENT), codex_session(PARENT, iso(BEGAN + 1000)), record, *counts(TURNS[0], BEGAN + 1000, 10),
        codex_record("resp_2", iso(BEGAN + 1011), CHILD, TURNS[2], (10, 0, 1, 0)), *counts(TURNS[2], BEGAN + 1011, 20),
    ])  # fmt: skip
    assert told([copy, own]) == [("resp_1", PARENT, 10, 1, BEGAN + 10), ("resp_2", CHILD, 10, 1, BEGAN + 1011)]


def test_a_fork_of_a_version_that_named_no_turns(tmp_path: Path) -> None:
    parent = read(tmp_path / "rollout-1.jsonl", [*codex_lines("p"), *counts(None, BEGAN, 10), *counts(None, BEGAN, 20)])
    child = read(tmp_path / "rollout-2.jsonl", [
        *codex_lines("c", forked="p", at=iso(BEGAN + 1000)), *counts(None, BEGAN + 1000.1, 10, "p"), *counts(None, BEGAN + 1000.1, 20),
        *counts(None, BEGAN + 1060, 30)])  # fmt: skip
    assert [each.id for each in child[:2]] == [each.id for each in parent]
    assert [each.session for each in child] == ["p", "p", "c"]
    assert child[2].id not in {each.id for each in parent}


def test_agents_of_one_session_are_not_taken_for_copies_of_each_other(tmp_path: Path) -> None:
    """Their files hold the `session_meta` of the session that sent them, and no counts of it."""
    found: list[Found] = []
    for number in (1, 2):
        agent = uuid7(BEGAN + 1000, number)
        found += read(tmp_path / f"rollout-{number}.jsonl", [
            codex_session(agent, iso(BEGAN + 1000), forked=PARENT), codex_session(PARENT, iso(BEGAN + 1000)),
            *counts(uuid7(BEGAN + 1000.01, number), BEGAN + 1003, 10)])  # fmt: skip
    assert len({each.id for each in found}) == 2
    assert [each.session for each in found] == [uuid7(BEGAN + 1000, 1), uuid7(BEGAN + 1000, 2)]


def test_a_full_context_is_no_answer(tmp_path: Path) -> None:
    """Codex then sets the totals to the size of the context, and states no input."""
    full = {"total_token_usage": {"total_tokens": 272000}, "last_token_usage": {"total_tokens": 271000}}
    lines = [*codex_lines("s"), *counts(None, BEGAN, 10),
             {"timestamp": iso(BEGAN), "type": "event_msg", "payload": {"type": "token_count", "info": full}}]  # fmt: skip
    assert [each.usage.input for each in read(tmp_path / "rollout-1.jsonl", lines)] == [10]


def test_the_session_that_was_forked_is_read_before_its_forks(tmp_path: Path) -> None:
    home = tmp_path / ".codex" / "sessions"
    names = ["rollout-2025-11-18T21-55-00-p.jsonl", "rollout-2025-11-19T08-00-00-c.jsonl"]
    for name in reversed(names):
        write_lines(home / name, codex_lines())  # the older one is gone on with
    assert [source.path.name for source in find_sources("codex", {"HOME": str(tmp_path)})] == names
    assert [source.path.name for source in find_sources(str(home), {})] == names
