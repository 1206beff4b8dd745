"""`penstock logs collect`: what is in the bundle, that no secret is, and that nothing is overwritten."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from penstock.cli import app
from penstock.cli.bundle import Part, pack, versions
from penstock.cli.redaction import known_secrets, redact_document, redact_settings, without
from penstock.config import load
from penstock.ledger.settings import LedgerSettings
from penstock.ledger.writer import Ledger
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.ledgers import COMPLETE, MIDNIGHT, make_entry

SECRETS = ("sentinel-key", "sentinel-token", "sentinel-header", "sentinel-pattern", "sentinel-comment", "sentinel-content", "sentinel-environment")
CONFIG = """
# an old key: sentinel-comment
token: sentinel-token-1
providers:
  openai: {protocol: openai, base_url: "https://api.example.com/v1", api_key: sentinel-key-1}
  anthropic:
    protocol: anthropic
    api_key: ${MY_KEY}
    headers: {x-team: sentinel-header-1}
routes:
  - {model: "claude-*", provider: anthropic, tool_call: 300s}
ledger: {queue: 5000}
capture: {patterns: ["sentinel-pattern[0-9]+"]}
"""

Collect = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    for name in [name for name in os.environ if name.startswith(("PENSTOCK_", "XDG_")) or name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MY_KEY", "sentinel-environment-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sentinel-environment-2")
    monkeypatch.chdir(tmp_path)
    return CliRunner()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    where = tmp_path / "data"
    ledger = Ledger.start(LedgerSettings(where, retention_days=None), "0123456789ab")
    bad = make_entry("px-bad", error_message="wrong key sentinel-key-1")
    bad.keep_bytes(b"sentinel-content")
    ended = Outcome(Ending.TRUNCATED, "the body ended without the terminal event", EndedBy.UPSTREAM)
    for entry, outcome in ((bad, ended), (make_entry("px-good", MIDNIGHT + 1), COMPLETE), (make_entry("px-open", MIDNIGHT + 2), None)):
        ledger.open(entry)
        if outcome is not None:
            entry.settle(outcome, MIDNIGHT + 3)
    ledger.close()
    (where / "spill-dead-1.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    return where


@pytest.fixture
def collect(cli: CliRunner, data_dir: Path, tmp_path: Path) -> Collect:
    file = tmp_path / "house" / "penstock.yaml"
    file.parent.mkdir()
    file.write_text(CONFIG)

    def run(*arguments: str, output: str = "bundle.tar.gz") -> Result:
        return cli.invoke(app, ["logs", "collect", "--config", str(file), "--data-dir", str(data_dir), "--output", output, *arguments])

    return run


def _open(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        found: dict[str, bytes] = {}
        for entry in archive.getmembers():
            content = archive.extractfile(entry)
            assert content is not None
            assert (entry.mode, entry.isreg(), entry.name.startswith(("/", ".."))) == (0o600, True, False)
            found[entry.name] = content.read()
        return found


def test_a_bundle_has_everything_and_no_secret(collect: Collect, data_dir: Path, tmp_path: Path) -> None:
    for place in ("captures/20250101-000000-00bada/capture.json", "stream_retry_dumps/retry_1.json", "stream_retry_dumps/other.json"):
        (data_dir / place).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / place).write_text('{"key": "sentinel-key-1"}' if "1.json" in place else "{}")
    (tmp_path / "house" / "stream_retry_dumps").mkdir()
    (tmp_path / "house" / "stream_retry_dumps" / "retry_2.json").write_text("{}")
    result = collect()
    assert result.exit_code == 0, result.output
    found = _open(tmp_path / "bundle.tar.gz")
    assert set(found) == {
        "diagnostics/versions.json", "diagnostics/spill.json", "diagnostics/exchanges.jsonl", "diagnostics/open.jsonl", "diagnostics/ledger.json",
        "config/environment.txt", "config/penstock.yaml", "config/settings.json", "captures/20250101-000000-00bada/capture.json",
        "stream-retry/data/retry_1.json", "stream-retry/config/retry_2.json",
    }  # fmt: skip
    for name, content in found.items():
        assert not [secret for secret in SECRETS if secret.encode() in content], name
    assert result.stdout.splitlines()[0] == str(tmp_path / "bundle.tar.gz")
    assert all(name in result.stdout for name in found)
    assert "look before you send it" in result.stdout
    assert stat.S_IMODE((tmp_path / "bundle.tar.gz").stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".penstock-logs-*")), "nothing is left beside it"


def test_diagnostics_tell_what_a_report_needs(collect: Collect, tmp_path: Path) -> None:
    assert collect("--type", "diagnostics", "--last", "2").exit_code == 0
    found = _open(tmp_path / "bundle.tar.gz")
    assert all(name.startswith("diagnostics/") for name in found)
    assert [json.loads(line)["id"] for line in found["diagnostics/exchanges.jsonl"].splitlines()] == ["px-open", "px-good"]
    assert [json.loads(line)["id"] for line in found["diagnostics/open.jsonl"].splitlines()] == ["px-open"]
    ledger = json.loads(found["diagnostics/ledger.json"])
    assert {row["outcome"]: row["exchanges"] for row in ledger["outcomes"]} == {None: 1, "COMPLETE": 1, "TRUNCATED": 1}
    assert ledger["instances"][0]["id"] == "0123456789ab"
    assert "journal_mode wal" in ledger["notes"]
    [spill] = json.loads(found["diagnostics/spill.json"])
    assert (spill["file"], spill["lines"]) == ("spill-dead-1.jsonl", 2)
    about = json.loads(found["diagnostics/versions.json"])
    assert about["penstock"] == versions()["penstock"]
    assert "msgspec" in about["dependencies"]


def test_the_configuration_can_be_read_without_its_secrets(collect: Collect, tmp_path: Path) -> None:
    assert collect("--type", "config").exit_code == 0
    found = _open(tmp_path / "bundle.tar.gz")
    text = found["config/penstock.yaml"].decode()
    assert "api_key: ${MY_KEY}" in text
    assert "api_key: '***'" in text
    assert "base_url: https://api.example.com/v1\n" in text
    assert "x-team: '***'" in text
    settings = json.loads(found["config/settings.json"])
    assert settings["route_conduct"][0]["timers"]["tool_call"] == 300.0
    assert [provider["api_key"] for provider in settings["providers"]] == ["set, not shown", "set, not shown"]
    names = found["config/environment.txt"].decode().splitlines()
    assert "OPENAI_API_KEY" in names
    assert not [name for name in names if "=" in name]


@pytest.mark.parametrize(("kind", "said"), [("captures", "there are no captures in"), ("stream-retry", "there are no stream-retry dumps")])
def test_nothing_of_a_type_is_said_and_no_file_is_made(collect: Collect, tmp_path: Path, kind: str, said: str) -> None:
    result = collect("--type", kind)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert not (tmp_path / "bundle.tar.gz").exists()
    assert said in collect().stdout, "among others it is only said"


def test_an_unknown_type_is_refused(collect: Collect) -> None:
    result = collect("--type", "everything")
    assert result.exit_code == 2
    assert "there are all, diagnostics, config, captures, stream-retry" in result.stderr


def test_what_is_there_is_not_overwritten_unless_told(collect: Collect, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    target.write_text("mine")
    target.chmod(0o644)
    result = collect()
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert target.read_text() == "mine"
    assert collect("--force").exit_code == 0
    assert "diagnostics/versions.json" in _open(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_file_that_comes_while_it_is_packed_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"

    def appear() -> bytes:
        target.write_text("mine")
        return b"{}"

    with pytest.raises(FileExistsError):
        pack([Part("a.json", appear)], target, lambda part, size: None, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.tar.gz"]
    assert target.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_said(collect: Collect, tmp_path: Path) -> None:
    result = collect(output=str(tmp_path / "nowhere" / "bundle.tar.gz"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


def test_dumps_are_unpacked_so_that_secrets_in_them_are_masked(collect: Collect, data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "stream_retry_dumps").mkdir()
    dump = b'{"upstream_url": "https://h/v1?key=abc", "x": "sentinel-key-1"}'
    (data_dir / "stream_retry_dumps" / "retry_1.json.gz").write_bytes(gzip.compress(dump))
    (data_dir / "stream_retry_dumps" / "retry_2.json.gz").write_bytes(b"damaged")
    result = collect("--type", "stream-retry")
    assert result.exit_code == 0, result.output
    assert _open(tmp_path / "bundle.tar.gz") == {"stream-retry/data/retry_1.json": b'{"upstream_url": "https://h/v1?key=***", "x": "***"}'}
    assert "stream-retry/data/retry_2.json  left out: it could not be read" in result.stdout


def test_links_are_not_followed(collect: Collect, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sentinel-key")
    (data_dir / "captures").mkdir()
    (data_dir / "captures" / "link").symlink_to(tmp_path / "secret")
    assert collect("--type", "captures").exit_code == 1


def test_a_wrong_configuration_and_no_ledger_are_no_hindrance(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("listn: 1\ntoken: sentinel-token\nproviders: {openai: {protocol: openai, api_key: [sentinel-key]}}\n")
    result = cli.invoke(app, ["logs", "collect", "--config", str(file), "--data-dir", str(tmp_path / "none"), "--output", "b.tar.gz"])
    assert result.exit_code == 0, result.output
    found = _open(tmp_path / "b.tar.gz")
    assert "listn" in found["config/errors.txt"].decode()
    assert "there is no ledger" in json.loads(found["diagnostics/ledger.json"])["error"]
    assert not [name for name, content in found.items() if b"sentinel" in content]


def test_a_file_that_is_no_yaml_is_left_out(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("token: [sentinel-token\n")
    result = cli.invoke(app, ["logs", "collect", "--type", "config", "--config", str(file), "--output", "b.tar.gz"])
    assert result.exit_code == 0, result.output
    found = _open(tmp_path / "b.tar.gz")
    assert found["config/penstock.yaml"].startswith(b"# left out: the file is not valid YAML")
    assert not [name for name, content in found.items() if b"sentinel" in content]


@pytest.mark.parametrize("text", [
    "api_key: SECRET", "x: {api-key: SECRET}", "a: {b: {apiKey: [SECRET, {c: SECRET}]}}", "headers: {x: SECRET}", "token: SECRET",
    "client_secret: SECRET", "ledger: {url: 'postgresql://me:SECRET@host/db?password=SECRET'}", "password: 12345678", "authorization: Bearer SECRET",
    "# SECRET\nlisten: 1", "? {a: SECRET}\n: 1", "guards: [{name: g, words: [SECRET, other]}]", "providers: {openai: {base_url: 'https://host/v1?key=SECRET'}}",
])  # fmt: skip
def test_no_place_in_a_file_gives_a_secret_away(text: str) -> None:
    try:
        shown = redact_document(text)
    except ValueError:
        return
    assert "SECRET" not in shown
    assert "12345678" not in shown


def test_what_is_around_a_secret_stays() -> None:
    shown = redact_document("url: https://me:pass@host.example/v1?code=5#x\nheaders: {a: b}")
    assert shown == "url: https://***@host.example/v1?***\nheaders:\n  a: '***'\n"


@pytest.mark.parametrize("text", ["listen: 127.0.0.1:4270", "token: auto", "api_key: ${NAME}", "timers: {tool_call: 240s}", "api_key_file: a.key",
                                  "on_disconnect: {drain: {tokens: 500}}", "mask_keys: true"])  # fmt: skip
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    import yaml

    assert yaml.safe_load(redact_document(text)) == yaml.safe_load(text)


@pytest.mark.parametrize(("text", "shown"), [
    ("guards: [{name: w, on: [request]}]", "guards:\n- name: w\n  'on':\n  - request\n"),
    ("listen: 0010\nat: 12:30:45\nday: 2001-01-02", "listen: '0010'\nat: '12:30:45'\nday: '2001-01-02'\n"), ("", "null\n...\n"),
    ("a: &b {c: 1}\nd: *b", "a:\n  c: 1\nd:\n  c: 1\n"), ("x: !secret {a: 1.5, <<: {b: off}}", "x:\n  a: 1.5\n  '<<':\n    b: false\n"),
])  # fmt: skip
def test_a_file_is_shown_in_its_own_words(text: str, shown: str) -> None:
    assert redact_document(text) == shown


@pytest.mark.parametrize("text", ["a: &a [*a]", "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))])
def test_aliases_without_end_are_left_out(text: str) -> None:
    with pytest.raises(ValueError, match="not valid YAML"):
        redact_document(text)


def test_a_guards_key_is_a_secret_and_guards_are_shown_by_name(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("guards: [{name: hook, uploads: pass, webhook: {url: 'http://127.0.0.1:9', key: sesame-opens, key_header: x-k}}]\n")
    config = load(file, environ={"HOME": str(tmp_path)})
    assert "sesame-opens" in known_secrets(config, {})
    assert redact_settings(config)["conduct"]["guards"]["names"] == ["hook"]
    assert "sesame-opens" not in str(redact_settings(config))


@given(secret=st.text(alphabet="abcdefgh12345678", min_size=6, max_size=20), before=st.text(max_size=30), after=st.text(max_size=30))
def test_a_known_secret_is_found_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in without(before + secret + after, [secret])


def test_of_the_captures_only_their_own_files_are_packed_and_none_that_is_no_captures_size(data_dir: Path, tmp_path: Path, collect: Collect) -> None:
    folder = data_dir / "captures" / "20250101-000000-00bada"
    folder.mkdir(parents=True)
    for name in ("capture.json", "upstream_response.body", "upstream_response.2.times", "notes.txt", ".capture.json.swp"):
        (folder / name).write_text("sentinel-key-1")
    (data_dir / "captures" / "mine.body").write_text("sentinel-key-1")
    with (folder / "inbound_request.body").open("wb") as huge:
        huge.truncate(1 << 40)
    result = collect("--type", "captures", "--output", "bundle.tar.gz")
    assert result.exit_code == 0, result.output
    assert "inbound_request.body  left out" in result.output
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        names = {name.removeprefix("captures/20250101-000000-00bada/") for name in archive.getnames()}
    assert names == {"capture.json", "upstream_response.body", "upstream_response.2.times"}


@pytest.mark.parametrize(("name", "value"), [("OPENAI_API_KEY", "two words"), ("OPENAI_BASE_URL", "ftp://x"), ("PENSTOCK_LISTEN", "nowhere")])
def test_an_environment_that_is_wrong_is_packed_and_no_hindrance(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
                                                                value: str) -> None:
    monkeypatch.setenv(name, value)
    result = cli.invoke(app, ["logs", "collect", "--output", str(tmp_path / "b.tar.gz")])
    assert result.exit_code == 0, result.output
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        packed = archive.extractfile(next(one for one in archive.getnames() if one.endswith("config/errors.txt")))
        assert packed is not None
        assert name in packed.read().decode()


def test_where_the_data_is_may_stand_in_a_file_that_is_wrong(cli: CliRunner, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"data_dir: {data_dir.name}\nlisten: nowhere\n")
    result = cli.invoke(app, ["logs", "collect", "--output", str(tmp_path / "b.tar.gz"), "--config", str(tmp_path / "p.yaml")])
    assert result.exit_code == 0, result.output
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert any(name.endswith("ledger.json") for name in archive.getnames())
    assert str(data_dir / "captures") in result.output


def test_a_data_directory_without_a_name_is_told(cli: CliRunner) -> None:
    result = cli.invoke(app, ["logs", "collect", "--data-dir", ""])
    assert result.exit_code == 2
    assert "--data-dir: is empty" in result.output
