"""The keys of the stream modes: which place decides, what is refused, and what is noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.config import Config, ConfigErrors, load
from penstock.pipeline.pseudo import Pace

MODES = ("force", "retry", "passthrough")
THREE = "is none of force, retry, passthrough"


def loaded(directory: Path, text: str, overrides: dict[str, Any] | None = None, **environ: str) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ={"HOME": str(directory), **environ}, overrides=overrides)


def errors(directory: Path, text: str, overrides: dict[str, Any] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as found:
        loaded(directory, text, overrides, **environ)
    return [str(error) for error in found.value.errors]


BOTH = """
{top}
providers:
  claude: {{protocol: anthropic, base_url: "https://one.test"{provider}}}
  other: {{protocol: anthropic_messages, base_url: "https://two.test"}}
  openai: {{protocol: openai, base_url: "https://three.test/v1"}}
routes:
  - {{model: a, provider: claude{route}}}
"""


def modes(config: Config) -> tuple[str, str, str, str]:
    """Of the provider that says something, of another one, of one that is not Anthropic's, and of the route."""
    return (*(config.provider_conduct[name].nonstream for name in ("claude", "other", "openai")), config.route_conduct[0].nonstream)  # pyright: ignore[reportReturnType]


def test_anthropic_providers_are_forced_and_others_left_alone(tmp_path: Path) -> None:
    assert modes(loaded(tmp_path, BOTH.format(top="", provider="", route=""))) == ("force", "force", "passthrough", "force")


@pytest.mark.parametrize("flag", [None, "force"])
@pytest.mark.parametrize("variable", ["", "passthrough"])
@pytest.mark.parametrize("provider", [None, "retry"])
@pytest.mark.parametrize("top", [None, "passthrough"])
@pytest.mark.parametrize("route", [None, "passthrough"])
def test_flag_then_variable_then_provider_then_top(
    tmp_path: Path, flag: str | None, variable: str, provider: str | None, top: str | None, route: str | None
) -> None:
    text = BOTH.format(
        top=f"anthropic_stream_mode: {top}" if top else "", provider=f", anthropic_stream_mode: {provider}" if provider else "",
        route=f", nonstream_mode: {route}" if route else "",
    )  # fmt: skip
    config = loaded(tmp_path, text, {"anthropic_stream_mode": flag}, ANTHROPIC_STREAM_MODE=variable)
    over = flag or variable
    assert modes(config) == (
        over or provider or top or "force", over or top or "force", "passthrough", over or route or provider or top or "force",
    )  # fmt: skip


def test_nonstream_mode_is_for_every_provider_and_the_nearest_wins(tmp_path: Path) -> None:
    text = BOTH.format(top="nonstream_mode: retry", provider=", nonstream_mode: passthrough", route=", nonstream_mode: force")
    assert modes(loaded(tmp_path, text)) == ("passthrough", "retry", "retry", "force")
    text = BOTH.format(top="nonstream_mode: retry\nanthropic_stream_mode: passthrough", provider="", route="")
    assert modes(loaded(tmp_path, text)) == ("passthrough", "passthrough", "retry", "passthrough")


@pytest.mark.parametrize("written", ["forced", "Force", "yes", "''", "3"])
def test_an_invalid_mode_is_an_error_that_lists_the_three(tmp_path: Path, written: str) -> None:
    for where in ("top", "provider", "route"):
        name = "nonstream_mode" if where == "route" else "anthropic_stream_mode"
        text = BOTH.format(**{"top": "", "provider": "", "route": "", where: f"{', ' if where != 'top' else ''}{name}: {written}"})
        (error,) = errors(tmp_path, text)
        assert name in error
        assert THREE in error or "is empty" in error or "YAML takes this for" in error


@pytest.mark.parametrize("written", ["forced", "Force", "0", "off"])
def test_so_it_is_in_the_variable_and_on_the_command_line(tmp_path: Path, written: str) -> None:
    (error,) = errors(tmp_path, "{}", ANTHROPIC_STREAM_MODE=written)
    assert error.startswith("environment: ANTHROPIC_STREAM_MODE: ")
    assert THREE in error
    (error,) = errors(tmp_path, "{}", {"anthropic_stream_mode": written})
    assert error.startswith("command line: --anthropic-stream-mode: ")
    assert THREE in error


def test_one_provider_has_one_name_for_its_mode(tmp_path: Path) -> None:
    (error,) = errors(tmp_path, BOTH.format(top="", provider=", anthropic_stream_mode: force, nonstream_mode: force", route=""))
    assert "providers.claude.anthropic_stream_mode: is another name of nonstream_mode; keep one of the two" in error
    (error,) = errors(tmp_path, "providers: {openai: {anthropic_stream_mode: retry}}")
    assert "write nonstream_mode" in error
    (error,) = errors(tmp_path, BOTH.format(top="", provider="", route=", anthropic_stream_mode: force"))
    assert "is no key of routes[0]" in error
    assert "nonstream_mode" in error


def test_under_transparent_there_are_none_and_what_says_otherwise_is_noted(tmp_path: Path) -> None:
    text = BOTH.format(top="transparent: true\nnonstream_mode: force", provider=", anthropic_stream_mode: retry", route=", pseudo_stream: true")
    config = loaded(tmp_path, text, ANTHROPIC_STREAM_MODE="force")
    assert modes(config) == ("passthrough",) * 4
    assert config.route_conduct[0].pace is None
    assert [note.partition(": ")[2] for note in config.notes] == [
        f"{key}: has no effect while transparent is true, for it would change bytes"
        for key in ("nonstream_mode", "ANTHROPIC_STREAM_MODE", "providers.claude.anthropic_stream_mode", "routes[0].pseudo_stream")
    ]
    quiet = BOTH.format(top="transparent: true\nnonstream_mode: passthrough", provider="", route=", pseudo_stream: false")
    assert loaded(tmp_path, quiet).notes == ()


def test_the_pace_of_a_pseudo_stream(tmp_path: Path) -> None:
    def pace(written: str) -> Pace | None:
        return loaded(tmp_path, BOTH.format(top="", provider=written, route="")).provider_conduct["claude"].pace

    assert pace("") is None
    assert pace(", pseudo_stream: false, pseudo_chunk_chars: 3") is None
    assert pace(", pseudo_stream: true") == Pace(None, 0.0)
    assert pace(", pseudo_stream: true, pseudo_chunk_chars: 30, pseudo_interval_ms: 20") == Pace(30, 0.02)
    assert pace(", pseudo_stream: true, pseudo_chunk_chars: words, pseudo_interval_ms: 0.5") == Pace(None, 0.0005)
    inherited = loaded(tmp_path, BOTH.format(top="pseudo_chunk_chars: 7\npseudo_interval_ms: 1", provider="", route=", pseudo_stream: true"))
    assert inherited.route_conduct[0].pace == Pace(7, 0.001)
    assert inherited.provider_conduct["claude"].pace is None
    assert inherited.notes == ()


@pytest.mark.parametrize(("key", "written"), [
    ("pseudo_chunk_chars", "0"), ("pseudo_chunk_chars", "-3"), ("pseudo_chunk_chars", "letters"), ("pseudo_interval_ms", "-1"),
    ("pseudo_interval_ms", "10001"), ("pseudo_interval_ms", "20ms"), ("pseudo_interval_ms", "off"), ("pseudo_stream", "real"),
])  # fmt: skip
def test_what_is_no_pace(tmp_path: Path, key: str, written: str) -> None:
    (error,) = errors(tmp_path, BOTH.format(top=f"{key}: {written}", provider="", route=""))
    assert f": {key}: " in error


def test_a_pace_that_nothing_is_told_at_is_noted(tmp_path: Path) -> None:
    (note,) = loaded(tmp_path, BOTH.format(top="", provider=", pseudo_interval_ms: 5", route="")).notes
    assert note.endswith("providers.claude.pseudo_interval_ms: has no effect without pseudo_stream: true")


def test_legacy_argo_tells_whole_answers_at_a_pace_in_any_case(tmp_path: Path) -> None:
    """With tools it asks for nothing else."""
    text = "providers: {argo: {protocol: argo_legacy, base_url: https://argo.test, user: ada, pseudo_interval_ms: 5, pseudo_chunk_chars: 9}}"
    config = loaded(tmp_path, f"{text}\nroutes: [{{model: a, provider: argo, pseudo_interval_ms: 7}}]")
    assert config.notes == ()
    assert (config.provider_conduct["argo"].pace, config.provider_conduct["argo"].telling) == (None, Pace(9, 0.005))
    assert config.route_conduct[0].telling == Pace(9, 0.007)


@pytest.mark.parametrize(("text", "flag", "named"), [
    ("real_stream: false", None, "real_stream"), ("real_stream: true", None, "real_stream"), ("{}", True, "--real-stream"),
    ("{}", False, "--pseudo-stream"), ("real_stream: true", False, "--pseudo-stream"),
])  # fmt: skip
def test_argo_s_own_words_have_no_effect_and_a_note_says_what_has(tmp_path: Path, text: str, flag: bool | None, named: str) -> None:
    config = loaded(tmp_path, text, {"real_stream": flag})
    (note,) = config.notes
    assert f"{named}: is about the legacy Argo gateway and has no effect here" in note
    assert "pseudo_stream: true" in note
    assert config.real_stream is (flag if flag is not None else "true" in text)
    assert all(conduct.pace is None for conduct in (config.conduct, *config.provider_conduct.values()))


def test_they_must_be_yes_or_no(tmp_path: Path) -> None:
    (error,) = errors(tmp_path, "real_stream: sometimes")
    assert "neither true nor false" in error


def test_what_is_kept_of_dumps_and_how_much_an_assembly_holds(tmp_path: Path) -> None:
    config = loaded(tmp_path, "stream_retry_dumps: {keep_days: forever, most: 3, total_bytes: 1MiB}\nlimits: {assembly: 1MiB}")
    assert (config.dumps.keep_days, config.dumps.most, config.dumps.total_bytes, config.limits.assembly) == (None, 3, 1 << 20, 1 << 20)
    default = loaded(tmp_path, "{}")
    assert (default.dumps.keep_days, default.dumps.most, default.limits.assembly) == (7, 100, 64 << 20)
