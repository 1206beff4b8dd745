"""What a route says beats its provider, and that beats the top, key by key, however it is spelt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.config import Config, ConfigErrors, Listening, load
from penstock.dedup import Rules
from penstock.exchange.conduct import Conduct, Retries
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers

Said = dict[str, object]
TIMERS = ("connect", "first_content", "idle", "content", "tool_call", "client_stall", "drain", "max_duration")
RETRIES = ("connect", "status", "first_frame")
MODES = ("nonstream_mode", "anthropic_stream_mode", "pseudo_stream", "pseudo_chunk_chars", "pseudo_interval_ms")


def loaded(directory: Path, text: str, **environ: str) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return load(file, environ={"HOME": str(directory), **environ})


def errors(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as found:
        loaded(directory, text)
    return [str(error).partition("penstock.yaml:")[2] for error in found.value.errors]


# The law

seconds = st.integers(1, 100_000)
limit = seconds | st.just("off")
values: dict[str, st.SearchStrategy[object]] = {
    **{f"timers.{name}": seconds if name == "connect" else limit for name in TIMERS},
    **{f"retries.{name}": st.integers(0, 10) for name in RETRIES},
    "keepalive": limit, "early_head": limit, "terminal": st.sampled_from(["event", "finish_reason"]), "tail": st.sampled_from(["content", "events"]),
    "max_streams": limit, "on_disconnect": st.sampled_from(["cancel", "drain"]), "drain_seconds": limit, "drain_tokens": limit,
}
modes = st.sampled_from(["force", "retry", "passthrough"])
values |= {
    "nonstream_mode": modes, "pseudo_stream": st.booleans(), "pseudo_chunk_chars": st.integers(1, 99) | st.just("words"),
    "pseudo_interval_ms": st.integers(0, 9999),
}  # fmt: skip
levels = st.fixed_dictionaries({}, optional=values)
tops = st.fixed_dictionaries({}, optional={**values, "anthropic_stream_mode": modes})
"""Both words for one mode stand only at the top."""
anthropics = tops.map(lambda level: {key: value for key, value in level.items() if key != "nonstream_mode" or "anthropic_stream_mode" not in level})


@st.composite
def spelt(draw: st.DrawFn, level: Said) -> Said:
    """`level` as somebody might write it."""
    out: Said = {}
    for name in TIMERS:
        if (key := f"timers.{name}") in level:
            value = level[key] if level[key] == "off" else draw(st.sampled_from([level[key], f"{level[key]}s", f"{level[key]}000ms"]))
            form = draw(st.sampled_from(["flat", "grouped", "other"]))
            if form == "flat":
                out[name] = value
            elif form == "other" and name == "tool_call":
                out["tool_calls"] = {"timeout_secs": value}
            else:
                out.setdefault("timers", {})[name] = value  # pyright: ignore[reportIndexIssue]
    retries = {name: level[f"retries.{name}"] for name in RETRIES if f"retries.{name}" in level}
    if retries:
        out["retries"] = "off" if set(retries.values()) == {0} and len(retries) == 3 and draw(st.booleans()) else retries
    for key in ("keepalive", "early_head", "terminal", "tail", "max_streams", *MODES):
        if key in level:
            out[key] = level[key]
    bounds = {name: level[f"drain_{name}"] for name in ("seconds", "tokens") if f"drain_{name}" in level}
    if level.get("on_disconnect") == "drain" and bounds:
        out["on_disconnect"] = {"drain": bounds}
    elif "on_disconnect" in level:
        out["on_disconnect"] = level["on_disconnect"]
    return out


def meant(*levels: Said, anthropic: bool = False) -> Conduct:
    """The law once more, the plain way: one key after the other."""
    conduct = Conduct(nonstream="force" if anthropic else "passthrough")
    pseudo: Said = {}
    for level in levels:
        mode = (level.get("anthropic_stream_mode") if anthropic else None) or level.get("nonstream_mode")
        conduct = replace(conduct, nonstream=mode or conduct.nonstream)  # pyright: ignore[reportArgumentType]
        pseudo |= {key: value for key, value in level.items() if key.startswith("pseudo_")}
        for key, written in level.items():
            value = None if written == "off" else written
            if key in MODES:
                continue
            if key.startswith("timers."):
                conduct = replace(conduct, timers=replace(conduct.timers, **{key.removeprefix("timers."): value}))
            elif key.startswith("retries."):
                conduct = replace(conduct, retries=replace(conduct.retries, **{key.removeprefix("retries."): value}))
            elif key == "tail":
                conduct = replace(conduct, tail_content=value == "content")
            elif not key.startswith("drain_") or level.get("on_disconnect") == "drain":
                conduct = replace(conduct, **{key: value})
    chars, pause = pseudo.get("pseudo_chunk_chars", "words"), pseudo.get("pseudo_interval_ms", 0)
    assert isinstance(pause, int)
    telling = Pace(chars if isinstance(chars, int) else None, pause / 1000)
    return replace(conduct, pace=telling if pseudo.get("pseudo_stream") else None, telling=telling)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), top=tops, provider=levels, other=anthropics, route=levels)
def test_the_nearest_wins_key_by_key(tmp_path: Path, data: st.DataObject, top: Said, provider: Said, other: Said, route: Said) -> None:
    document = {
        **data.draw(spelt(top)),
        "providers": {"openai": data.draw(spelt(provider)), "anthropic": data.draw(spelt(other))},
        "routes": [{"model": "a", "provider": "anthropic"}, {"model": "b", "provider": "openai", **data.draw(spelt(route))},
                   {"model": "c", "provider": "demo", **data.draw(spelt(route))}],
    }
    config = loaded(tmp_path, json.dumps(document))
    assert config.conduct == meant(top)
    assert dict(config.provider_conduct) == {"openai": meant(top, provider), "anthropic": meant(top, other, anthropic=True)}
    assert config.route_conduct == (meant(top, other, anthropic=True), meant(top, provider, route), meant(top, route))
    assert (config.conduct_of("openai"), config.conduct_of("demo")) == (meant(top, provider), meant(top))
    assert config.connect_timeout == config.conduct.timers.connect


# Single keys


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, "routes: [{model: a, provider: openai}]")
    assert config.conduct == Conduct()
    assert dict(config.provider_conduct) == {"openai": Conduct(), "anthropic": Conduct(nonstream="force"), "gemini": Conduct()}
    assert config.route_conduct == (Conduct(),)
    assert (config.listening, config.max_streams) == (Listening(), None)
    assert config.notes == ()


@pytest.mark.parametrize(("written", "seconds"), [
    ("90", 90.0), ("1.5", 1.5), ("250ms", 0.25), ("5 s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("'7'", 7.0), ("off", None),
    ("Off", None), ("'off'", None), ("false", None), ("${T}", 3.0),
])  # fmt: skip
def test_how_a_time_may_be_written(tmp_path: Path, written: str, seconds: float | None) -> None:
    for text in (f"idle: {written}", f"timers: {{idle: {written.replace('${T}', '3s')}}}"):
        assert loaded(tmp_path, text, T="3s").conduct.timers.idle == seconds


@pytest.mark.parametrize("written", [
    "0", "0s", "0.0", "-1", "-1s", "on", "soon", "1d", "1:30", "1_000", "inf", "nan", "9" * 400, "9000h", "''", "", "~",
])  # fmt: skip
def test_how_it_may_not(tmp_path: Path, written: str) -> None:
    (found,) = errors(tmp_path, f"# first\nidle: {written}\n")
    assert found.startswith("2: idle: ")


def test_connect_is_never_off(tmp_path: Path) -> None:
    for text in ("connect: off", "timers: {connect: off}", "upstream: {connect: off}", "routes: [{model: a, provider: openai, connect: off}]"):
        (found,) = errors(tmp_path, text)
        assert "this cannot be off" in found


@pytest.mark.parametrize("text", [
    "tool_call: 5\ntimers: {tool_call: 5}", "tool_call: 5\ntool_calls: {timeout_secs: 6}", "timers: {tool_call: 5}\ntool_calls: {timeout_secs: 6}",
    "upstream: {connect: 5}\ntimers: {connect: 6}", "connect: 5\nupstream: {connect: 5}", "timers: {drain: 5}\ndrain: off",
])  # fmt: skip
def test_one_timer_has_one_name_in_one_place(tmp_path: Path, text: str) -> None:
    (found,) = errors(tmp_path, text)
    assert found.startswith("2: ")
    assert found.endswith(" in line 1 sets the same timer; keep one of the two")


def test_three_names_are_two_errors(tmp_path: Path) -> None:
    assert len(errors(tmp_path, "providers:\n openai:\n  tool_call: 5\n  timers: {tool_call: 5}\n  tool_calls: {timeout_secs: 5}")) == 2


def test_upstream_connect_is_the_top_s_timer(tmp_path: Path) -> None:
    config = loaded(tmp_path, "upstream: {connect: 3}\nproviders: {openai: {connect: 4}, gemini: {}}")
    assert [config.conduct_of(name).timers.connect for name in ("demo", "openai", "gemini")] == [3.0, 4.0, 3.0]


def test_a_bound_that_stands_farther_away_still_holds(tmp_path: Path) -> None:
    config = loaded(tmp_path, """
on_disconnect: {drain: {seconds: 5, tokens: 6}}
providers:
  openai: {on_disconnect: cancel}
  gemini: {on_disconnect: {drain: {seconds: off}}}
routes:
  - {model: a, provider: openai, on_disconnect: drain}
  - {model: b, provider: openai, on_disconnect: {drain: }}
""")
    seen = [(one.on_disconnect, one.drain_seconds, one.drain_tokens) for one in (*config.provider_conduct.values(), *config.route_conduct)]
    assert seen == [("cancel", 5.0, 6), ("drain", None, 6), ("drain", 5.0, 6), ("drain", 5.0, 6)]


def test_retries(tmp_path: Path) -> None:
    config = loaded(tmp_path, "retries: {status: 2}\nproviders: {openai: {retries: off}, gemini: {retries: {connect: off, first_frame: 1}}}")
    assert (config.conduct.retries, config.conduct_of("openai").retries) == (Retries(2, 2, 0), Retries(0, 0, 0))
    assert config.conduct_of("gemini").retries == Retries(0, 2, 1)


def test_every_key_at_once(tmp_path: Path) -> None:
    config = loaded(tmp_path, """
timers: {connect: 1, first_content: 200, idle: 30, content: 40, tool_call: 20, client_stall: 50, drain: 60, max_duration: 700}
retries: {connect: 1, status: 2, first_frame: 3}
keepalive: 5
early_head: 7
on_disconnect: {drain: {seconds: 8, tokens: 9}}
terminal: finish_reason
tail: content
max_streams: 10
limits: {head: 1KiB, head_fields: 11, head_time: 12, body_gap: 13, keepalive_idle: off, connections_per_client: 14, max_streams: 15}
""")
    timers = Timers(1.0, 200.0, 30.0, 40.0, 20.0, 50.0, 60.0, 700.0)
    assert config.conduct == Conduct(timers, Retries(1, 2, 3), 5.0, 7.0, "drain", 8.0, 9, "finish_reason", tail_content=True, max_streams=10)
    assert config.listening == Listening(1024, 11, 12.0, 13.0, None, 14)
    assert config.max_streams == 15
    assert config.notes == ()


# Transparent


def test_transparent_adds_nothing_and_says_what_it_passes_over(tmp_path: Path) -> None:
    text = """
keepalive: 5
providers:
  openai: {early_head: 9, retries: {connect: 1}, idle: 7}
  gemini: {keepalive: off}
routes:
  - {model: a, provider: openai, keepalive: 20}
"""
    config = loaded(tmp_path, text, PENSTOCK_TRANSPARENT="1")
    for conduct in (config.conduct, *config.provider_conduct.values(), *config.route_conduct):
        assert (conduct.keepalive, conduct.early_head) == (None, None)
    assert config.conduct_of("openai").retries == Retries(1, 0, 0)
    assert config.conduct_of("openai").timers.idle == 7.0
    where = [note.partition(": has no effect while transparent is true")[0].rpartition("penstock.yaml:")[2] for note in config.notes]
    assert where[:3] == ["2: keepalive", "4: providers.openai.early_head", "7: routes[0].keepalive"]
    assert loaded(tmp_path, text).route_conduct[0].keepalive == 20.0


def test_transparent_repairs_no_stream_and_says_so(tmp_path: Path) -> None:
    text = "transparent: true\nproviders:\n  openai: {terminal: finish_reason}\n  gemini: {}\n"
    config = loaded(tmp_path, text)
    assert config.conduct_of("openai").terminal == "event"
    assert [note.rpartition("penstock.yaml:")[2] for note in config.notes] == [
        "3: providers.openai.terminal: has no effect while transparent is true, for it would change bytes"]
    assert loaded(tmp_path, text.replace("finish_reason", "event")).notes == ()


# Log and captures


def test_log(tmp_path: Path) -> None:
    log = loaded(tmp_path, "log: {level: debug, format: json, file: logs/p.log}").log
    assert (log.level, log.format, log.file) == ("debug", "json", tmp_path / "logs/p.log")
    log = loaded(tmp_path, "log: {level: debug}", PENSTOCK_LOG_LEVEL="error", PENSTOCK_LOG_FORMAT="human", PENSTOCK_LOG_FILE="/x").log
    assert (log.level, log.format, log.file) == ("error", "human", Path("/x"))
    log = loaded(tmp_path, "").log
    assert (log.level, log.format, log.file) == ("info", "auto", None)


def test_capture(tmp_path: Path) -> None:
    text = "capture: {patterns: ['acct-[0-9]+'], mask_keys: false, max_bytes: 1MiB, total_bytes: 9MiB, keep_days: forever, most: 3}"
    capture = loaded(tmp_path, text).capture
    assert (capture.patterns, capture.mask_keys, capture.max_bytes, capture.total_bytes) == (("acct-[0-9]+",), False, 1 << 20, 9 << 20)
    assert (capture.keep_days, capture.most) == (None, 3)
    assert loaded(tmp_path, "capture: {keep_days: 2}").capture.keep_days == 2
    assert loaded(tmp_path, "").capture.mask_keys


def test_dedup_by_place_and_never_while_transparent(tmp_path: Path) -> None:
    text = "dedup_ttl: 20\nproviders:\n  openai: {dedup: off}\n  anthropic: {dedup: always, dedup_tool_ttl: 30}\n"
    config = loaded(tmp_path, text)
    assert [conduct.dedup for conduct in (config.conduct, config.provider_conduct["openai"], config.provider_conduct["anthropic"])] == [
        Rules("retries", 20.0, 20.0), None, Rules("always", 20.0, 30.0)]
    config = loaded(tmp_path, text + "transparent: true\n")
    assert {conduct.dedup for conduct in (config.conduct, *config.provider_conduct.values())} == {None}
    assert any("anthropic.dedup: has no effect while transparent" in note for note in config.notes)
