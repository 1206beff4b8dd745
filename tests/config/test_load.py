"""Which file is read, what beats what, and what exists without any."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from penstock.config import AUTO_TOKEN, Address, Config, ConfigErrors, find, load
from penstock.ledger.engine import locate
from penstock.ledger.errors import LedgerError
from penstock.ledger.settings import LedgerSettings
from penstock.providers import ProviderSettings
from penstock.routing import Glob, Route
from penstock.vocabulary.ids import ProtocolId

ISSUED = """
listen: 127.0.0.1:4270
admin: 127.0.0.1:4271
data_dir: ~/.local/share/penstock
providers:
  openai:    {protocol: openai, base_url: https://api.openai.com/v1, api_key: "${OPENAI_API_KEY}"}
  anthropic: {protocol: anthropic, base_url: https://api.anthropic.com}
  gemini:    {protocol: gemini, base_url: https://generativelanguage.googleapis.com}
routes:                      # first match wins
  - {model: "claude-*", provider: anthropic}
  - {model: "fast", provider: openai, rename: gpt-4o-mini}
"""


def written(directory: Path, text: str, name: str = "penstock.yaml") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


def errors(path: Path | None = None, *, environ: dict[str, str], **overrides: object) -> str:
    with pytest.raises(ConfigErrors) as found:
        load(path, environ=environ, overrides=overrides)
    return str(found.value)


def by_name(config: Config) -> dict[str, ProviderSettings]:
    return {settings.name: settings for settings in config.providers}


def test_the_example(tmp_path: Path) -> None:
    config = load(written(tmp_path, ISSUED), environ={"HOME": "/home/u", "OPENAI_API_KEY": "sk-1"})
    assert (config.listen, config.admin) == (Address("127.0.0.1", 4270), Address("127.0.0.1", 4271))
    assert config.data_dir == Path("/home/u/.local/share/penstock")
    assert config.providers == (
        ProviderSettings(name="openai", kind="openai", base_url="https://api.openai.com/v1", api_key="sk-1"),
        ProviderSettings(name="anthropic", kind="anthropic", base_url="https://api.anthropic.com"),
        ProviderSettings(name="gemini", kind="gemini", base_url="https://generativelanguage.googleapis.com"),
    )
    assert config.routes == (Route(Glob("claude-*"), "anthropic"), Route(Glob("fast"), "openai", "gpt-4o-mini"))
    assert config.notes == ()


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-file\n")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    config = load(written(tmp_path, """
listen: '[::1]:1'
admin: localhost:2
socket: run/p.sock
data_dir: data
token: auto
hosts: [a.example, "*.b.example"]
retention: 30 days
transparent: false
drop_headers: [X-All]
drop_response_headers: [Server]
limits: {max_frame: 1KiB, held_total: 2 MiB, body: 3, peeked_total: 1GB}
ledger: {url: "postgresql://u:hunter2@h/d", queue: 7}
upstream: {connect: 250ms, ca_file: ca.pem}
providers:
  groq:
    protocol: openai_chat
    base_url: https://api.groq.com/openai/v1
    api_key_file: key
    ask_usage: false
    drop_headers: [X-One]
    headers: {X-Team: red, X-Number: 5}
  azure: {protocol: openai, base_url: "https://x.openai.azure.com/openai/v1", api_key: hunter2, auth: api-key}
  claude: {protocol: anthropic_messages}
  openai:
  codex: {protocol: openai_responses, base_url: "https://chatgpt.com/backend-api/codex"}
"""), environ={"HOME": "/h"})
    assert (config.listen, config.admin, config.socket) == (Address("::1", 1), Address("localhost", 2), tmp_path / "run/p.sock")
    assert (config.data_dir, config.token, config.hosts) == (tmp_path / "data", AUTO_TOKEN, ("a.example", "*.b.example"))
    limits = config.limits
    assert (limits.max_frame, limits.held_total, limits.body, limits.peeked_total) == (1024, 2 << 20, 3, 10**9)
    assert (config.retention_days, config.ledger_queue, config.connect_timeout) == (30, 7, 0.25)
    assert (config.ledger_url, config.ca_file) == ("postgresql://u:hunter2@h/d", tmp_path / "ca.pem")
    assert config.drop_response_headers == {"server"}
    found = by_name(config)
    assert list(found) == ["groq", "azure", "claude", "openai", "codex"]
    assert found["groq"].api_key == "sk-file"
    assert found["groq"].protocols == {ProtocolId.OPENAI_CHAT}
    assert (found["groq"].ask_usage, found["groq"].drop_headers) == (False, ("x-one", "x-all"))
    assert found["groq"].headers == (("X-Team", "red"), ("X-Number", "5"))
    assert (found["azure"].auth, found["claude"].kind, found["claude"].base_url) == ("api-key", "anthropic", "https://api.anthropic.com")
    assert (found["openai"].base_url, found["openai"].api_key) == ("https://api.openai.com/v1", None)
    assert found["codex"].protocols == {ProtocolId.OPENAI_RESPONSES}
    assert "hunter2" not in repr(config)
    assert "sk-file" not in repr(config)


def test_transparent_asks_nobody_for_usage(tmp_path: Path) -> None:
    config = load(written(tmp_path, "transparent: true\n"), environ={"HOME": "/h"})
    assert config.transparent
    assert not any(settings.ask_usage for settings in config.providers)


def test_an_empty_file_is_no_file_s_defaults(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "---\n", "\ufeff"):
        config = load(written(tmp_path, text), environ={"HOME": "/h"})
        assert (config.listen, config.retention_days, len(config.providers)) == (Address("127.0.0.1", 4270), 90, 3)


# Search order


def test_the_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "listen: 127.0.0.1:1\n")
    written(tmp_path / "penstock", "listen: 127.0.0.1:1\n")
    home = written(tmp_path / "home/.config/penstock", "listen: 127.0.0.1:2\n")
    xdg = written(tmp_path / "xdg/penstock", "listen: 127.0.0.1:3\n")
    named = written(tmp_path / "named", "listen: 127.0.0.1:4\n")
    asked = written(tmp_path / "asked", "listen: 127.0.0.1:5\n")
    environ = {"HOME": str(tmp_path / "nobody")}
    assert find(None, environ)[0] is None
    assert load(environ=environ).listen.port == 4270
    environ["HOME"] = str(tmp_path / "home")
    assert (find(None, environ)[0], load(environ=environ).listen.port) == (home, 2)
    environ["XDG_CONFIG_HOME"] = "relative"
    assert load(environ=environ).listen.port == 2
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert (find(None, environ)[0], load(environ=environ).listen.port) == (xdg, 3)
    environ["PENSTOCK_CONFIG"] = str(named)
    assert load(environ=environ).listen.port == 4
    assert load(asked, environ=environ).listen.port == 5
    assert load(asked, environ=environ).file == asked
    assert load(Path("asked/penstock.yaml"), environ=environ).file == asked


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert errors(missing, environ={"HOME": "/h"}) == f"{missing}: this file, which --config names, cannot be read: No such file or directory"
    assert "which PENSTOCK_CONFIG names" in errors(environ={"HOME": "/h", "PENSTOCK_CONFIG": str(missing)})
    assert "Is a directory" in errors(tmp_path, environ={"HOME": "/h"})
    (tmp_path / "latin").write_bytes(b"listen: 127.0.0.1:1\n# caf\xe9\n")
    assert errors(tmp_path / "latin", environ={"HOME": "/h"}) == f"{tmp_path / 'latin'}:2: this is not UTF-8; save the file as UTF-8"
    (tmp_path / "binary").write_bytes(b"\x00\x01")
    assert "a character that YAML does not allow" in errors(tmp_path / "binary", environ={"HOME": "/h"})


# Command line beats environment beats file


def test_what_beats_what(tmp_path: Path) -> None:
    file = written(tmp_path, "listen: 127.0.0.1:1\nadmin: 127.0.0.1:11\ntoken: file\nledger: {url: 'sqlite:////f'}\nhosts: [f]\n")
    environ = {
        "HOME": "/h", "PENSTOCK_LISTEN": "127.0.0.1:2", "PENSTOCK_TOKEN": "env", "PENSTOCK_LEDGER_URL": "sqlite:////e",
        "PENSTOCK_HOSTS": "a, b.example,",
        "PENSTOCK_RETENTION": "forever", "PENSTOCK_DATA_DIR": "~/d", "PENSTOCK_ADMIN": "", "PENSTOCK_TRANSPARENT": "1",
    }
    config = load(file, environ=environ, overrides={"listen": "127.0.0.1:3", "token": None, "ledger.url": "sqlite:////c", "data_dir": Path("/c")})
    assert (config.listen.port, config.admin.port, config.token, config.ledger_url) == (3, 11, "env", "sqlite:////c")
    assert (config.hosts, config.retention_days, config.data_dir, config.transparent) == (("a", "b.example"), None, Path("/c"), True)
    assert load(file, environ=environ).data_dir == Path("/h/d")
    assert load(file, environ={"HOME": "/h"}, overrides={"hosts": ["x", "y"]}).hosts == ("x", "y")


def test_errors_name_where_they_come_from(tmp_path: Path) -> None:
    found = errors(written(tmp_path, "retention: no\n"), environ={"HOME": "/h", "PENSTOCK_LISTEN": "x"}, admin="y", data_dir="")
    assert [line.partition(": ")[0] for line in found.splitlines()] == [f"{tmp_path}/penstock.yaml:1", "environment", "command line", "command line"]
    assert "environment: PENSTOCK_LISTEN: 'x' has no port" in found
    assert "command line: --admin: 'y' has no port" in found
    assert "command line: --data-dir: is empty" in found
    with pytest.raises(KeyError):
        load(environ={"HOME": "/h"}, overrides={"listne": "x"})


def test_relative_paths_of_the_command_line_are_the_working_directory_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path / "etc", "socket: s\n")
    config = load(file, environ={"HOME": "/h"}, overrides={"data_dir": "d"})
    assert (config.data_dir, config.socket) == (tmp_path / "d", tmp_path / "etc/s")


def test_variables_that_look_misspelt_are_noted() -> None:
    config = load(environ={"HOME": "/h", "PENSTOCK_LISTN": "x", "PENSTOCK_SERVICE_HOST": "10.0.0.1", "PENSTOCK_PORT": "tcp://10.0.0.1:4270"})
    assert config.notes == ("the variable PENSTOCK_LISTN is not known and does nothing; did you mean PENSTOCK_LISTEN?",)
    notes = load(environ={"HOME": "/h", "PENSTOCK_CONFIG_FILE": "/x", "PENSTOCK_KEY_SECRET": "x"}).notes
    assert [note.rpartition(" ")[2] for note in notes] == ["PENSTOCK_CONFIG?", "PENSTOCK_KEYS_SECRET?"]


def test_xdg_data_home() -> None:
    assert load(environ={"HOME": "/h", "XDG_DATA_HOME": "/data"}).data_dir == Path("/data/penstock")


# Without a file


def test_three_providers_exist_without_anything() -> None:
    config = load(environ={"HOME": "/h"})
    assert [(settings.name, settings.base_url, settings.api_key) for settings in config.providers] == [
        ("openai", "https://api.openai.com/v1", None), ("anthropic", "https://api.anthropic.com", None),
        ("gemini", "https://generativelanguage.googleapis.com", None),
    ]


def test_keys_and_urls_of_the_environment() -> None:
    config = load(environ={
        "HOME": "/h", "OPENAI_API_KEY": " sk-o\n", "OPENAI_BASE_URL": "https://o.example/v1", "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_BASE_URL": "https://a.example",
        "GOOGLE_API_KEY": "second", "GEMINI_API_KEY": "first", "GOOGLE_GEMINI_BASE_URL": "https://g.example",
    })
    assert [(settings.base_url, settings.api_key) for settings in config.providers] == [
        ("https://o.example/v1", "sk-o"), ("https://a.example", None), ("https://g.example", "first"),
    ]
    assert by_name(load(environ={"HOME": "/h", "GOOGLE_API_KEY": "second"}))["gemini"].api_key == "second"


@pytest.mark.parametrize("url", ["http://127.0.0.1:4270/v1", "http://localhost:4270", "http://LOCALHOST:4270/openai", "http://127.0.0.1:4271"])
def test_a_variable_that_leads_clients_here_is_passed_over(url: str) -> None:
    config = load(environ={"HOME": "/h", "OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": "http://127.0.0.1:4999"})
    assert by_name(config)["openai"].base_url == "https://api.openai.com/v1"
    assert by_name(config)["anthropic"].base_url == "http://127.0.0.1:4999"
    (note,) = config.notes
    assert note.startswith("OPENAI_BASE_URL points at this gateway itself (")


def test_bad_variables_are_errors_without_their_values() -> None:
    found = errors(environ={"HOME": "/h", "OPENAI_BASE_URL": "https://u:hunter2@x", "ANTHROPIC_API_KEY": "hunter2 hunter2"})
    assert "environment: OPENAI_BASE_URL: a base URL holds no user name" in found
    assert "environment: ANTHROPIC_API_KEY: holds a blank" in found
    assert "hunter2" not in found


def test_a_file_s_providers_take_nothing_from_the_environment_unasked(tmp_path: Path) -> None:
    file = written(tmp_path, "providers: {openai: {}}\n")
    config = load(file, environ={"HOME": "/h", "OPENAI_API_KEY": "sk-o", "OPENAI_BASE_URL": "https://o.example"})
    assert config.providers == (ProviderSettings(name="openai", kind="openai", base_url="https://api.openai.com/v1"),)


# Rules


def test_strangers_and_keys() -> None:
    key, environ = {"OPENAI_API_KEY": "sk-o"}, {"HOME": "/h"}
    assert "Set a token" in errors(environ=environ | key, listen="0.0.0.0:4270")
    assert "Set a token" in errors(environ=environ | key | {"PENSTOCK_LISTEN": "gateway.example:4270"})
    assert load(environ=environ | key, overrides={"listen": "0.0.0.0:4270", "token": "auto"}).token == AUTO_TOKEN
    assert "whoever connects may use it" in errors(environ=environ, listen="0.0.0.0:4270")
    assert load(environ=environ | key, overrides={"listen": "0.0.0.0:4270", "socket": "/run/p.sock"}).local
    for host in ("127.0.0.1", "127.0.0.9", "[::1]", "localhost"):
        assert load(environ=environ | key, overrides={"listen": f"{host}:4270"}).local


def test_keys_that_every_user_can_read_are_noted(tmp_path: Path) -> None:
    file = written(tmp_path, "providers: {openai: {api_key: hunter2}}\n")
    assert load(file, environ={"HOME": "/h"}).notes == ()
    file.chmod(0o644)
    (note,) = load(file, environ={"HOME": "/h"}).notes
    assert f"chmod 600 {file}" in note
    file.write_text("providers: {openai: {api_key: '${K}'}}\n")
    assert load(file, environ={"HOME": "/h", "K": "k"}).notes == ()


@pytest.mark.parametrize(("written_as", "meant"), [("$${HOME}", "${HOME}"), ("a$b$$c", "a$b$$c"), ("${X}y${X}", "1y1"), ("pre-${X}", "pre-1")])
def test_variables_in_values(tmp_path: Path, written_as: str, meant: str) -> None:
    assert load(written(tmp_path, f"token: '{written_as}'\n"), environ={"HOME": "/h", "X": "1"}).token == meant


@pytest.mark.parametrize(("text", "told"), [
    ('hosts: ["\\ud800"]', "1: hosts[0]: holds half a character"), ('"\\ud83d": 1', "1: holds half a character"),
    ('guards:\n - {name: "a\\udfff", detect: [email]}', "2: guards[0].name: holds half a character"),
    ('providers:\n  a: {protocol: openai, api_key_file: "\\ud800"}', "2: providers.a.api_key_file: holds half a character"),
    ("data_dir: ${TORN}", "1: data_dir: holds half a character"), ("limits: {max_frame: 64M\u0131B}", "1: limits.max_frame: '64M\u0131B' is no size"),
    ('resolve: {"sk-ant-abc123456789": 1.1.1.1}', "1: resolve.sk-ant-***: "),
])  # fmt: skip
def test_odd_characters_are_told_and_neither_raise_nor_get_through(tmp_path: Path, text: str, told: str) -> None:
    said = errors(written(tmp_path, text), environ={"HOME": "/home/u", "TORN": "a\udcff"})
    assert f"penstock.yaml:{told}" in said
    said.encode()
    assert "abc123456789" not in said


@pytest.mark.parametrize(("text", "noted"), [
    ("token: auto", False), ("token: abcdefgh", True), ('token: "${T}"', False), ("admission: {mode: strict, keys_secret: " + "k" * 32 + "}", True),
    ("admission: {rules: [{name: r, deny: {key: key_1}}]}", False),
    ("guards: [{name: m, on: [request], uploads: pass, moderation: {key: sk-moderation}}]", True),
    ("routes: [{model: x, provider: demo, guards: [{name: m, uploads: pass, webhook: {url: 'http://127.0.0.1:9', key: sk-hook}}]}]", True),
])  # fmt: skip
def test_a_file_that_others_can_read_is_told_of_where_it_holds_a_key(tmp_path: Path, text: str, noted: bool) -> None:
    file = written(tmp_path, text)
    file.chmod(0o644)
    notes = load(file, environ={"HOME": "/home/u", "T": "abcdefgh"}).notes
    assert any("other users can read it" in note for note in notes) == noted


def test_a_usual_place_that_cannot_be_looked_into_is_an_error_and_no_empty_file(tmp_path: Path) -> None:
    said = errors(environ={"HOME": str(tmp_path / ("x" * 300))})
    assert "this file cannot be read: File name too long" in said


@pytest.mark.parametrize("jwks_url", ["https://[::1/keys", "https://id:x/keys", "https:///keys"])
def test_urls_of_keys_that_are_none(tmp_path: Path, jwks_url: str) -> None:
    text = f"admission: {{issuers: [{{issuer: i, audiences: [a], jwks_url: '{jwks_url}'}}]}}"
    said = errors(written(tmp_path, text), environ={"HOME": "/home/u"})
    assert f"penstock.yaml:1: admission.issuers[0].jwks_url: '{jwks_url}': keys are fetched from" in said


@pytest.mark.parametrize("empty", ["audiences", "algorithms"])
def test_an_issuer_whose_tokens_would_never_be_good_is_an_error(tmp_path: Path, empty: str) -> None:
    more = {"audiences": "[a]", "algorithms": "[RS256]", empty: "[]"}
    given = ", ".join(f"{name}: {value}" for name, value in more.items())
    text = f"admission: {{issuers: [{{issuer: i, jwks_url: 'https://i/keys', {given}}}]}}"
    said = errors(written(tmp_path, text), environ={"HOME": "/home/u"})
    assert f"penstock.yaml:1: admission.issuers[0].{empty}: is empty, so no token would be good" in said


@pytest.mark.parametrize(("said", "required"), [("", ("exp",)), (", required: []", ()), (", required: [exp, team]", ("exp", "team"))])
def test_claims_that_are_required(tmp_path: Path, said: str, required: tuple[str, ...]) -> None:
    text = f"admission: {{issuers: [{{issuer: i, audiences: [a], jwks_url: 'https://i/keys'{said}}}]}}"
    assert load(written(tmp_path, text), environ={"HOME": "/home/u"}).admission.issuers[0].required == required


def test_half_an_address_of_a_database(tmp_path: Path) -> None:
    said = errors(written(tmp_path, "ledger: {url: 'postgresql://[::1'}"), environ={"HOME": "/home/u"})
    assert "penstock.yaml:1: ledger.url: is no database" in said


def test_a_relative_path_of_sqlite_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a b%41"
    config = load(written(place, "ledger: {url: 'sqlite:///rows.db?timeout=5'}"), environ={"HOME": "/home/u"})
    _, path, _ = locate(LedgerSettings(place, config.ledger_url))
    assert path == place / "rows.db"
    url = (config.ledger_url or "").replace("%", "%25")  # as SQLAlchemy before 2.1 gives it back: not decoded
    given = make_url(url)

    def undecoded(text: str) -> URL:
        return given

    monkeypatch.setattr("penstock.ledger.engine.make_url", undecoded)
    assert locate(LedgerSettings(place, config.ledger_url))[1] == place / "rows.db"
    monkeypatch.undo()
    config = load(written(place, ""), environ={"HOME": "/home/u", "PENSTOCK_LEDGER_URL": "sqlite:///rows.db"})
    assert locate(LedgerSettings(place, config.ledger_url))[1] == Path.cwd() / "rows.db"
    for whole in ("sqlite:////srv/rows.db", "sqlite:///~/rows.db", "postgresql://h/d"):
        assert load(written(place, f"ledger: {{url: '{whole}'}}"), environ={"HOME": "/home/u"}).ledger_url == whole


def test_a_database_at_a_port_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read; write postgresql"):
        locate(LedgerSettings(tmp_path, "postgresql://h:x/d"))


@pytest.mark.parametrize(("name", "told"), [
    ("missing.pem", "cannot be read: No such file or directory"), (".", "cannot be read: Is a directory"), ("penstock.yaml", "holds no certificate"),
])  # fmt: skip
def test_a_file_of_authorities_is_looked_at(tmp_path: Path, name: str, told: str) -> None:
    file = written(tmp_path, f"listen: 127.0.0.1:1\nupstream: {{ca_file: {name}}}\n")
    with pytest.raises(ConfigErrors) as caught:
        load(file, environ={})
    (error,) = caught.value.errors
    assert (error.line, error.path) == (2, "upstream.ca_file")
    assert told in error.message


def test_an_address_on_the_command_line_beats_a_socket_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "listen: 127.0.0.1:1\nsocket: s\n")
    assert load(file, environ={}).socket == tmp_path / "s"
    assert load(file, environ={}, overrides={"listen": "127.0.0.1:2"}).socket is None
    assert load(file, environ={"PENSTOCK_LISTEN": "127.0.0.1:2"}).socket is None
    assert load(file, environ={"PENSTOCK_LISTEN": "127.0.0.1:2", "PENSTOCK_SOCKET": "/e"}).socket == Path("/e")
    assert load(file, environ={"PENSTOCK_SOCKET": "/e"}, overrides={"listen": "127.0.0.1:2"}).socket is None
    with pytest.raises(ConfigErrors, match="others can reach"):
        load(file, environ={}, overrides={"listen": "0.0.0.0:4270"})


def test_who_wants_the_other_s_port_is_named_where_it_is_written(tmp_path: Path) -> None:
    assert "penstock.yaml:1: listen: listen and admin both want 127.0.0.1:4271" in errors(written(tmp_path, "listen: 127.0.0.1:4271\n"), environ={})
    assert "command line: --listen: listen and admin both want 127.0.0.1:4271" in errors(environ={}, listen="127.0.0.1:4271")
