"""Histories come in once each, and what a gateway relayed is not counted again."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.ledger import query
from penstock.ledger.ascribe import Ascriber
from penstock.ledger.histories import BadSource, Tally, claude_code, find_sources, load
from penstock.ledger.histories.found import seconds_of
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.store import Store
from penstock.pricing import OwnPrice, Prices, Rates
from tests.support.histories import SESSION, claude_line, codex_lines, codex_record, token_count, write_lines, write_tracker
from tests.support.ledgers import COMPLETE, make_row

AT = seconds_of("2025-11-18T22:00:00Z") or 0.0
NOW = AT + 5 * 86400
LATER = "2025-11-18T22:00:0{}.000Z"


class Desk:
    """A ledger, and the histories that are brought into it."""

    def __init__(self, settings: LedgerSettings, home: Path) -> None:
        self.store = Store.open(settings)
        self.engine = query.connect(settings)
        self.home = home

    def bring(self, what: str, now: float = NOW, since: float | None = None) -> Tally:
        read = 0

        def told(size: int) -> None:
            nonlocal read
            read += size

        sources = find_sources(what, {"HOME": str(self.home)})
        for source in sources:
            os.utime(source.path, (AT, AT))
        sources = find_sources(what, {"HOME": str(self.home)})
        own = OwnPrice(rates=Rates(Decimal(1), Decimal("0.1"), Decimal(2), output=Decimal(4)))
        tally = load(self.store, Ascriber(Prices([own])), sources, told, now=now, since=since)
        assert sum(source.size for source in sources) * 0.9 <= read <= sum(source.size for source in sources)
        return tally

    def rows(self) -> list[dict[str, Any]]:
        return list(reversed(query.exchanges(self.engine, 100)))


def test_what_is_no_file_is_passed_over_and_what_cannot_be_read_is_told(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "some"
    (folder / "d.jsonl").mkdir(parents=True)
    os.mkfifo(folder / "f.jsonl")
    write_lines(folder / "good.jsonl", [claude_line("a", LATER.format(1), input_tokens=1, output_tokens=2)])
    write_lines(folder / "shut.jsonl", [claude_line("b", LATER.format(2), input_tokens=1, output_tokens=2)])
    plain: Any = Path.open

    def opened(path: Path, *more: Any, **named: Any) -> Any:
        if path.name == "shut.jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *more, **named)

    monkeypatch.setattr(Path, "open", opened)  # who runs this may be root
    found = find_sources(str(folder), {})
    assert [source.path.name for source in found] == ["shut.jsonl", "good.jsonl"]
    tally = load(desk.store, Ascriber(Prices()), found, lambda size: None, now=NOW * 2)
    assert (tally.files, tally.new) == (2, 1)
    assert "shut.jsonl" in tally.failed[0]


@pytest.fixture
def desk(any_settings: LedgerSettings, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(any_settings, tmp_path / "home")
    yield desk
    desk.engine.dispose()
    desk.store.close()


def claude_home(desk: Desk, lines: list[dict[str, Any]], name: str = "s1", torn: str = "") -> Path:
    return write_lines(desk.home / ".claude" / "projects" / "-home-me-work-shop" / f"{name}.jsonl", lines, torn)


def test_claude_code_s_answers_once_each_with_their_last_figures(desk: Desk) -> None:
    user = {"type": "user", "sessionId": SESSION, "timestamp": LATER.format(0), "message": {"role": "user", "content": "secret words"}}
    claude_home(desk, [
        user,
        claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1, cache_read_input_tokens=100, cache_creation_input_tokens=50,
                    cache_creation={"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}),
        claude_line("msg_1", LATER.format(2), input_tokens=10, output_tokens=40, cache_read_input_tokens=100, cache_creation_input_tokens=50,
                    cache_creation={"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}, service_tier="standard"),
        claude_line("msg_2", LATER.format(3), model="<synthetic>", input_tokens=0, output_tokens=0),
        claude_line("msg_3", LATER.format(4), input_tokens=5, output_tokens=6),
    ], torn='{"type":"assistant","message":{"id":"msg_4","usa')  # fmt: skip
    write_lines(desk.home / ".claude" / "projects" / "p" / SESSION / "subagents" / "agent-1.jsonl",
                [claude_line("msg_3", LATER.format(5), input_tokens=5, output_tokens=6)])  # fmt: skip
    tally = desk.bring("claude-code")
    assert (tally.files, tally.found, tally.new, tally.known, tally.failed) == (2, 3, 2, 1, [])
    first, second = desk.rows()
    assert {name: first[name] for name in (
        "origin", "provider", "operation", "model", "response_id", "session_id", "project", "client", "outcome", "usage_source", "input_tokens",
        "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")} == {
        "origin": "claude-code", "provider": "anthropic", "operation": "messages", "model": "claude-sonnet-4-5-20250929", "response_id": "msg_1",
        "session_id": SESSION, "project": "shop", "client": "claude-code", "outcome": "COMPLETE", "usage_source": "reported", "input_tokens": 10,
        "output_tokens": 40, "cache_read_tokens": 100, "cache_write_tokens": 50, "cache_write_1h_tokens": 30}  # fmt: skip
    assert first["cost_nanousd"] == (10 * 1000 + 40 * 4000 + 100 * 100 + 50 * 2000)
    assert first["started_at"] == seconds_of(LATER.format(1))
    assert second["response_id"] == "msg_3"
    assert "secret words" not in str(desk.rows())
    assert "private words" not in str(desk.rows())


def test_twice_changes_nothing_and_more_is_added(desk: Desk) -> None:
    lines = [claude_line(f"msg_{at}", LATER.format(at), input_tokens=at, output_tokens=1) for at in range(3)]
    claude_home(desk, lines)
    assert desk.bring("claude-code").new == 3
    before = desk.rows()
    again = desk.bring("claude-code")
    assert (again.new, again.known) == (0, 3)
    assert desk.rows() == before
    claude_home(desk, [*lines, claude_line("msg_9", LATER.format(9), input_tokens=9, output_tokens=1)])
    assert desk.bring("claude-code").new == 1


def test_what_a_gateway_relayed_is_left_out_by_its_response_id(desk: Desk) -> None:
    desk.store.write([make_row("px-1", started_at=AT - 30, response_id="msg_1", input_tokens=10, outcome=COMPLETE)])
    claude_home(desk, [claude_line(f"msg_{at}", LATER.format(at), input_tokens=10, output_tokens=1) for at in (1, 2)])
    tally = desk.bring("claude-code")
    assert (tally.new, tally.relayed) == (1, 1)
    assert query.usage(desk.engine, ())[0]["exchanges"] == 2


def test_days_that_are_only_kept_as_sums_are_left_out(desk: Desk) -> None:
    claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1)])
    assert desk.bring("claude-code").new == 1
    desk.store.retire(AT + 86400 * 2, 100)
    again = desk.bring("claude-code")
    assert (again.new, again.summed) == (0, 1)
    assert query.usage(desk.engine, ())[0]["input_tokens"] == 10


@pytest.mark.parametrize("who", ["gateway", "import"])
def test_no_row_is_retired_while_it_may_be_needed(desk: Desk, any_settings: LedgerSettings, who: str) -> None:
    """Each of an answer's two tellings is looked for among the rows; were its row a part of the sums by then, it would be counted twice."""
    if who == "gateway":
        desk.store.write([make_row("px-1", started_at=AT - 30, response_id="msg_1", provider="mine", input_tokens=10, outcome=COMPLETE)])
    else:
        claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1)], "s0")
    claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1)])
    other = Store.open(any_settings)
    retired: list[int] = []
    sources = find_sources("claude-code", {"HOME": str(desk.home)})
    for source in sources:
        os.utime(source.path, (AT, AT))
    load(desk.store, Ascriber(Prices()), find_sources("claude-code", {"HOME": str(desk.home)}),
         lambda size: retired.append(other.retire(AT + 86400 * 2, 100)), now=NOW)  # fmt: skip
    assert len(retired) >= len(sources)
    assert set(retired) == {0}
    [row] = query.usage(desk.engine, ())
    assert (row["exchanges"], row["input_tokens"]) == (1, 10)
    assert other.retire(AT + 86400 * 2, 100) == 1, "and now it may be"
    other.close()


@pytest.mark.parametrize("known", [{"session_id": SESSION}, {"client": "claude-code"}])
def test_what_a_gateway_s_sums_may_hold_is_left_out_whatever_its_provider_is_called(desk: Desk, known: dict[str, str]) -> None:
    desk.store.write([make_row("px-1", started_at=AT, provider="work", response_id="msg_1", input_tokens=10, outcome=COMPLETE, **known)])
    desk.store.retire(AT + 86400 * 2, 100)
    claude_home(desk, [
        claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1),
        claude_line("msg_2", "2025-11-17T22:00:00Z", input_tokens=10, output_tokens=1),
    ])  # fmt: skip
    tally = desk.bring("claude-code")
    assert (tally.new, tally.summed) == (1, 1)


def test_an_answer_that_took_hours_is_known_again(desk: Desk) -> None:
    desk.store.write([make_row("px-1", started_at=AT - 3 * 3600, response_id="msg_1", input_tokens=10, outcome=COMPLETE)])
    claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1)])
    assert desk.bring("claude-code").relayed == 1


def test_the_last_answer_of_a_file_that_is_being_written_waits(desk: Desk) -> None:
    claude_home(desk, [claude_line(f"msg_{at}", LATER.format(at), input_tokens=10, output_tokens=1) for at in (1, 2)])
    assert desk.bring("claude-code", now=AT + 5).new == 1
    assert desk.bring("claude-code").new == 1
    assert desk.bring("claude-code", since=NOW).found == 0


def test_an_answer_without_its_stop_reason_waits_longer(desk: Desk) -> None:
    """A block may take minutes, and until it is over the line of the one before it has the usage so far."""
    line = claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=1)
    claude_home(desk, [line])
    assert desk.bring("claude-code", now=AT + 1800).found == 0
    ended = claude_line("msg_1", LATER.format(2), input_tokens=10, output_tokens=700)
    ended["message"]["stop_reason"] = "tool_use"
    claude_home(desk, [line, ended])
    assert desk.bring("claude-code", now=AT + 60).found == 0
    assert desk.bring("claude-code", now=AT + 180).new == 1
    [row] = desk.rows()
    assert (row["output_tokens"], row["stop_reason"]) == (700, "tool_use")
    claude_home(desk, [line], "s2")
    assert desk.bring("claude-code", now=AT + 4000).found == 2


def test_the_answer_that_was_written_to_last_waits(desk: Desk) -> None:
    """Early versions wrote an agent's answers between the pieces of others."""
    used = [("msg_1", 1), ("msg_2", 9), ("msg_1", 7)]
    claude_home(desk, [claude_line(id, LATER.format(at), input_tokens=1, output_tokens=out) for at, (id, out) in enumerate(used)])
    assert desk.bring("claude-code", now=AT + 5).new == 1
    assert [row["response_id"] for row in desk.rows()] == ["msg_2"]
    assert desk.bring("claude-code").new == 1
    assert [row["output_tokens"] for row in desk.rows()] == [7, 9]


def test_codex_s_answers(desk: Desk) -> None:
    lines: list[dict[str, Any]] = [
        *codex_lines(),
        {"timestamp": LATER.format(0), "type": "event_msg", "payload": {"type": "token_count", "info": None, "rate_limits": {}}},
        token_count(LATER.format(1), (1000, 600, 50, 20), (1000, 600, 50, 20)),
        token_count(LATER.format(2), (1000, 600, 50, 20), (1000, 600, 50, 20)),  # only the rate limits changed
        {"timestamp": LATER.format(3), "type": "response_item", "payload": {"type": "message", "content": "private words"}},
        {"timestamp": LATER.format(3), "type": "turn_context", "payload": {"model": "gpt-5-mini"}},
        token_count(LATER.format(4), (3000, 1600, 90, 30)),  # as the first versions told it
    ]
    write_lines(desk.home / ".codex" / "sessions" / "2025" / "11" / "18" / f"rollout-2025-11-18T21-55-00-{SESSION}.jsonl", lines)
    tally = desk.bring("codex")
    assert (tally.files, tally.new) == (1, 2)
    first, second = desk.rows()
    figures = ("model", "effort", "session_id", "project", "client", "input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens")
    assert [first[name] for name in figures] == ["gpt-5", "high", SESSION, "shop", "codex", 1000, 600, 50, 20]
    assert [second[name] for name in figures] == ["gpt-5-mini", None, SESSION, "shop", "codex", 2000, 1000, 40, 10]
    assert first["cost_nanousd"] == 400 * 1000 + 600 * 100 + 50 * 4000
    assert desk.bring("codex").new == 0


def test_long_words_can_be_summed_by(desk: Desk) -> None:
    """They are parts of a key, whose size databases bound."""
    long = "\u00e9\U0001f600" * 2000
    lines: list[Any] = [*codex_lines(), {"timestamp": LATER.format(1), "type": "turn_context", "payload": {"model": long, "effort": long}}]
    lines[0]["payload"] |= {"model_provider": long, "cwd": f"/{long}", "id": long}
    write_lines(desk.home / ".codex" / "sessions" / "rollout-1.jsonl", [*lines, token_count(LATER.format(2), (10, 0, 5, 0), (10, 0, 5, 0))])
    assert desk.bring("codex").new == 1
    [row] = desk.rows()
    assert all(0 < len(row[name].encode()) <= 96 for name in ("provider", "effort", "project", "session_id"))
    assert desk.store.retire(AT + 86400 * 2, 100) == 1
    assert query.usage(desk.engine, ())[0]["input_tokens"] == 10


def test_what_a_gateway_relayed_for_codex_is_left_out_by_session_and_figures(desk: Desk) -> None:
    desk.store.write([make_row("px-1", started_at=AT, session_id=SESSION, input_tokens=10, output_tokens=5, response_id="resp_1", outcome=COMPLETE)])
    lines = [*codex_lines(), *(token_count(LATER.format(at), (10 * at, 0, 5 * at, 0), (10, 0, 5, 0)) for at in (1, 2))]
    write_lines(desk.home / ".codex" / "sessions" / "rollout-1.jsonl", lines)
    tally = desk.bring("codex")
    assert (tally.new, tally.relayed) == (1, 1), "each row of the gateway's stands for one answer"


def test_an_answer_without_a_name_and_a_session_is_nobody_s_copy(desk: Desk, tmp_path: Path) -> None:
    """Two that nobody said the session of are not of one session."""
    figures: dict[str, Any] = {"input_tokens": 10, "output_tokens": 5}
    desk.store.write([make_row("px-1", started_at=AT + 3600, response_id="chatcmpl-1", session_id=None, outcome=COMPLETE, **figures)])
    path = write_tracker(tmp_path / "tracker.db", [{"ts": "2025-11-18T22:00:01", "model": "openai/gpt-4o", **figures}])
    tally = desk.bring(str(path))
    assert (tally.new, tally.relayed) == (1, 0)


def test_codex_s_named_answers_are_left_out_by_their_names(desk: Desk) -> None:
    """Another session's id may be in the row: an agent's answers go under the session that sent it."""
    desk.store.write([make_row("px-1", started_at=AT, session_id="root", input_tokens=10, output_tokens=5, response_id="resp_1", outcome=COMPLETE)])
    lines = codex_lines()
    for at in (1, 2):
        lines += [codex_record(f"resp_{at}", LATER.format(at), SESSION, "t", (10, 0, 5, 0), written=4),
                  token_count(LATER.format(at), (10 * at, 0, 5 * at, 0), (10, 0, 5, 0))]  # fmt: skip
    write_lines(desk.home / ".codex" / "sessions" / "rollout-1.jsonl", lines)
    tally = desk.bring("codex")
    assert (tally.new, tally.relayed) == (1, 1)
    [_, row] = desk.rows()
    assert (row["response_id"], row["input_tokens"], row["cache_write_tokens"]) == ("resp_2", 10, 4)
    assert row["cost_nanousd"] == 6 * 1000 + 4 * 2000 + 5 * 4000
    assert desk.bring("codex").new == 0


def test_tokencost_s_tracker(desk: Desk, tmp_path: Path) -> None:
    path = write_tracker(tmp_path / "tracker.db", [
        {"ts": "2025-11-18T22:00:01", "model": "claude-sonnet-4-5", "input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 100,
         "cache_creation_tokens": 50, "cache_creation_1h_tokens": 50, "cost_usd": 9.9, "status": 200, "user_agent": "claude-cli/2",
         "stop_reason": "end_turn", "effort": "high", "prompt_preview": "private words", "msg_uuid": "msg_1", "duration_ms": 1500},
        {"ts": "2025-11-18T22:00:02", "model": "openai/gpt-4o", "input_tokens": 7, "output_tokens": 3, "status": 200, "source": "python-sdk",
         "stop_reason": "incomplete"},
        {"ts": "2025-11-18T22:00:03", "model": "claude-sonnet-4-5", "input_tokens": 0, "output_tokens": 0, "status": 502},
        {"ts": "nonsense", "model": "m", "input_tokens": 1, "output_tokens": 1},
    ])  # fmt: skip
    assert desk.bring(str(path)).new == 2
    first, second = desk.rows()
    assert [first[name] for name in ("provider", "model", "response_id", "cache_write_1h_tokens", "client", "effort", "duration_ms", "outcome")] == [
        "anthropic", "claude-sonnet-4-5", "msg_1", 50, "claude-code", "high", 1500.0, "COMPLETE"]
    assert (first["started_at"], first["settled_at"]) == (AT - 0.5, AT + 1), "it writes a row at the end of an answer"
    assert [second[name] for name in ("provider", "model", "client_protocol", "stop_reason", "outcome")] == [
        "openai", "gpt-4o", "openai_chat", None, "TRUNCATED"]
    assert (first["usage_source"], second["usage_source"]) == ("reported", "partial"), "its figures are those until the cut"
    assert sum(row["unreported"] for row in query.usage(desk.engine)) == 1
    assert "private words" not in str(desk.rows())
    claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=10, output_tokens=5)])
    assert desk.bring("claude-code").known == 1, "two histories tell of one answer"
    assert desk.bring(str(path)).new == 0


def test_an_early_tracker_has_fewer_columns(desk: Desk, tmp_path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, ts TEXT, model TEXT, input_tokens INTEGER, output_tokens INTEGER"
    path = write_tracker(tmp_path / "old.db", [{"ts": "2025-11-18T22:00:01", "model": "m", "input_tokens": 1, "output_tokens": 1}] * 2, columns)
    assert desk.bring(str(path)).new == 2


def test_what_cannot_be_read_is_told(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"there is no history of Claude Code's in .*/\.claude/projects"):
        desk.bring("claude-code")
    with pytest.raises(BadSource, match="is neither claude-code nor codex, and there is no such file"):
        desk.bring("claude")
    other = tmp_path / "notes.jsonl"
    other.write_text('{"a":1}\n')
    with pytest.raises(BadSource, match=r"is no session of Claude Code's or Codex's, and no tracker\.db"):
        desk.bring(str(other))
    with pytest.raises(BadSource, match="there is no session"):
        desk.bring(str(tmp_path))
    foreign = write_tracker(tmp_path / "foreign.db", [], "id INTEGER PRIMARY KEY, name TEXT")
    tally = load(desk.store, Ascriber(Prices()), find_sources(str(foreign), {}), lambda size: None, now=NOW)
    assert tally.failed == [f"{foreign} is no database of TokenCost's: it has no table of requests"]


def test_a_line_without_end_is_passed_over_in_bounded_memory(desk: Desk) -> None:
    """Somebody pasted a file into a prompt: no more of it is kept than the longest line that counts may have."""
    path = claude_home(desk, [claude_line("msg_1", LATER.format(1), input_tokens=1, output_tokens=1)])
    with path.open("ab") as file:
        file.write(b'{"type":"user","message":"')
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n')
    write_lines(path.with_name("s2.jsonl"), [claude_line("msg_2", LATER.format(2), input_tokens=1, output_tokens=1)])
    with path.open("ab") as file:
        file.write(path.with_name("s2.jsonl").read_bytes())
    tracemalloc.start()
    found = list(claude_code.read(path, lambda size: None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [each.response_id for each in found] == ["msg_1", "msg_2"], "what follows it is read"
    assert peak < 40 << 20
    assert desk.bring("claude-code").new == 2


def test_a_directory_of_sessions(desk: Desk, tmp_path: Path) -> None:
    write_lines(tmp_path / "d" / "a.jsonl", [claude_line("msg_1", LATER.format(1), input_tokens=1, output_tokens=1)])
    write_lines(tmp_path / "d" / "b" / "rollout-1.jsonl", [*codex_lines(), token_count(LATER.format(1), (1, 0, 1, 0), (1, 0, 1, 0))])
    assert desk.bring(str(tmp_path / "d")).new == 2
    with desk.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM exchanges WHERE origin IS NOT NULL")) == 2
