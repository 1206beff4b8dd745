"""`penstock config`: which file, what it comes to, a first one, an editor, and argo-proxy's."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from penstock.cli import app
from penstock.cli.starter import STARTER
from penstock.config import load
from tests.support.operator import Operator

ARGO = "user: alice\nhost: 127.0.0.1\nport: 50001\nverbose: true\nmine: 1\n"


def usual(home: Path) -> Path:
    return home / ".config" / "penstock" / "penstock.yaml"


def editor(tmp_path: Path, text: str, code: int = 0) -> str:
    """An editor that puts `text` behind what is there, and ends with `code`."""
    script = tmp_path / "an editor.py"
    script.write_text(f"import sys\nopen(sys.argv[-1], 'a').write({text!r})\nsys.exit({code})\n")
    return f"{sys.executable} '{script}' --wait"


# show


def test_show_tells_every_setting_and_no_secret(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-hunter2hunter2")
    file = tmp_path / "p.yaml"
    file.write_text(
        "token: hunter2hunter2\nresolve: {\"h.test:443\": 127.0.0.1}\n"
        "providers:\n  a: {protocol: openai, api_key: \"${KEY}\", headers: {X-Org: hunter2}, timers: {idle: 5}}\n"
        "  b: {protocol: anthropic, user: alice}\n")
    result = cli.invoke(app, ["config", "show", "--config", str(file)])
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    shown = yaml.safe_load(result.stdout)
    assert shown["providers"][0]["api_key"] == "set, not shown"
    assert shown["providers"][1]["user"] == "alice"
    assert shown["provider_conduct"]["a"]["timers"]["idle"] == 5.0
    assert shown["resolve"] == {"h.test:443": "127.0.0.1"}
    assert result.stdout.startswith(f"# {file}\n")
    assert json.loads(cli.invoke(app, ["config", "show", "--json", "--config", str(file)]).stdout) == shown


def test_show_tells_patterns_prices_and_addresses_as_they_are_written(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "routes: [{model: 'claude-*', provider: anthropic}]\n"
        "prices: [{model: 'my-*', input: 0.25, output: 2, long: {above: 9, input: 3}}, {provider: openai, discount: 15%}]\n"
        "admission: {trusted_proxies: [10.0.0.0/8, '2001:db8::/32']}\n")
    result = cli.invoke(app, ["config", "show", "--json", "--config", str(file)])
    shown = json.loads(result.stdout)
    assert shown["routes"][0]["model"] == "claude-*"
    first, second = shown["prices"]
    assert (first["provider"], first["model"], first["rates"], first["long"]) == ("*", "my-*", {"input": 0.25, "output": 2}, {"input": 3})
    assert (second["provider"], second["factor"], second["rates"]) == ("openai", 0.85, None)
    assert shown["admission"]["trusted_proxies"] == ["10.0.0.0/8", "2001:db8::/32"]
    assert "(" not in result.stdout
    assert " object at " not in result.stdout


def test_show_of_a_wrong_file_tells_its_errors(cli: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("listn: 1\n")
    result = cli.invoke(app, ["config", "show", "--config", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{file}:1: listn" in result.stderr


# path


def test_path_tells_the_file_and_where_it_was_looked_for(cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli.invoke(app, ["config", "path"])
    first, *looked = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, "no file; the providers are those of the environment")
    assert [line.split(": ")[-1] for line in looked] == ["  --config         not given", "  PENSTOCK_CONFIG  not given", "not there"]
    usual(tmp_path).parent.mkdir(parents=True)
    usual(tmp_path).write_text("")
    assert cli.invoke(app, ["config", "path"]).stdout.splitlines()[0] == str(usual(tmp_path))
    monkeypatch.setenv("PENSTOCK_CONFIG", "~/other.yaml")
    result = cli.invoke(app, ["config", "path"])
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, str(tmp_path / "other.yaml"))
    (tmp_path / "given.yaml").write_text("")
    result = cli.invoke(app, ["config", "path", "--config", str(tmp_path / "given.yaml")])
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, str(tmp_path / "given.yaml"))
    assert f"{usual(tmp_path)}: it is there" in result.stdout


# init


def test_init_writes_a_file_that_is_right_and_changes_nothing(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["config", "init"])
    assert (result.exit_code, result.stdout) == (0, f"written: {usual(tmp_path)}\n")
    assert stat.S_IMODE(usual(tmp_path).stat().st_mode) == 0o600
    (tmp_path / "empty").touch()
    environ = {"HOME": str(tmp_path)}
    assert replace(load(environ=environ), file=None) == replace(load(tmp_path / "empty", environ=environ), file=None)
    assert list(usual(tmp_path).parent.iterdir()) == [usual(tmp_path)], "nothing is left beside it"


def test_what_the_first_file_offers_is_right_as_well(tmp_path: Path) -> None:
    offered = [line.removeprefix("# ") for line in STARTER.splitlines() if line.startswith(("# ", "#   "))]
    keys = "\n".join(line for line in offered if line.startswith("  ") or line.partition(":")[0].isidentifier())
    file = tmp_path / "p.yaml"
    file.write_text(keys)
    config = load(file, environ={"HOME": str(tmp_path), "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
    assert [provider.name for provider in config.providers] == ["openai", "anthropic", "local"]
    assert len(config.routes) == 2
    assert config.resolve == {("api.example.com", 443): "192.0.2.7"}


def test_init_overwrites_only_when_told_and_asks_nothing_without_a_terminal(operator: Operator) -> None:
    assert operator.run("config", "init").code == 0
    usual(operator.home).write_text("# mine\n")
    refused = operator.run("config", "init")
    assert refused.code == 1
    assert "--force overwrites it" in refused.err
    assert usual(operator.home).read_text() == "# mine\n"
    assert operator.run("config", "init", "--force").code == 0
    assert usual(operator.home).read_text() == STARTER
    elsewhere = operator.home / "sub" / "p.yaml"
    assert operator.run("config", "init", "--config", str(elsewhere)).code == 0
    assert elsewhere.read_text() == STARTER


def test_a_place_that_cannot_be_written(cli: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli.invoke(app, ["config", "init", "--config", str(tmp_path / "file" / "p.yaml")])
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


# edit


def test_edit_opens_the_editor_and_checks_afterwards(operator: Operator, tmp_path: Path) -> None:
    assert operator.run("config", "init").code == 0
    done = operator.run("config", "edit", env={"VISUAL": editor(tmp_path, "keepalive: 90\n"), "EDITOR": "false"})
    assert done.code == 0, done.err
    assert "note: " in done.out
    assert f"{usual(operator.home)}: fine" in done.out
    done = operator.run("config", "edit", env={"EDITOR": editor(tmp_path, "listn: 1\n")})
    assert done.code == 2
    assert "listn: is no key" in done.err


def test_edit_without_a_file_an_editor_or_luck(operator: Operator, tmp_path: Path) -> None:
    done = operator.run("config", "edit", env={"EDITOR": "true"})
    assert done.code == 1
    assert "penstock config init" in done.err
    operator.run("config", "init")
    done = operator.run("config", "edit", env={"EDITOR": "/nowhere/editor"})
    assert done.code == 1
    assert "/nowhere/editor" in done.err
    done = operator.run("config", "edit", env={"EDITOR": editor(tmp_path, "", code=3)})
    assert done.code == 1
    assert "exit code 3" in done.err


def test_edit_with_half_a_quotation_for_an_editor(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.invoke(app, ["config", "init"])
    monkeypatch.setenv("EDITOR", '"vi')
    result = cli.invoke(app, ["config", "edit"])
    assert result.exit_code == 1
    assert "EDITOR cannot be taken apart" in result.stderr


# import argo


@pytest.fixture
def argo(tmp_path: Path) -> Path:
    file = tmp_path / "argo.yaml"
    file.write_text(ARGO)
    return file


def test_import_writes_where_serve_reads_tells_and_checks(cli: CliRunner, tmp_path: Path, argo: Path) -> None:
    result = cli.invoke(app, ["config", "import", "argo", str(argo)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [["1", "user:"], ["2", "host:"], ["3", "port:"], ["4", "verbose:"], ["5", "mine:"]]
    assert "unknown" in lines[4]
    assert f"{argo} -> {usual(tmp_path)}" in lines
    assert stat.S_IMODE(usual(tmp_path).stat().st_mode) == 0o600
    assert str(load(environ={"HOME": str(tmp_path)}).listen) == "127.0.0.1:50001"
    checked = cli.invoke(app, ["check"])
    assert checked.exit_code == 0
    assert "2 providers (argo, argo-anthropic)" in checked.stdout


def test_import_never_overwrites_without_being_told(cli: CliRunner, tmp_path: Path, argo: Path) -> None:
    target = tmp_path / "out.yaml"
    target.write_text("# mine\n")
    result = cli.invoke(app, ["config", "import", "argo", str(argo), "--output", str(target)])
    assert result.exit_code == 1
    assert "--force overwrites it" in result.stderr
    assert target.read_text() == "# mine\n"
    assert cli.invoke(app, ["config", "import", "argo", str(argo), "--output", str(target), "--force"]).exit_code == 0
    assert target.read_text() != "# mine\n"
    result = cli.invoke(app, ["config", "import", "argo", str(argo), "--output", str(argo), "--force"])
    assert result.exit_code == 2
    assert argo.read_text() == ARGO


def test_import_finds_argo_proxys_own_places(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["config", "import", "argo", "--output", "-"])
    assert result.exit_code == 2
    for place, user in ((".argoproxy", "second"), (".config/argoproxy", "first")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").write_text(f"user: {user}\n")
        result = cli.invoke(app, ["config", "import", "argo", "--output", "-"])
        assert yaml.safe_load(result.stdout)["providers"]["argo"]["user"] == user
        assert "argo_base_url" in result.stderr, "what became of the keys is told aside"


def test_import_as_json_is_one_object_a_key(cli: CliRunner, tmp_path: Path, argo: Path) -> None:
    result = cli.invoke(app, ["config", "import", "argo", str(argo), "--json"])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows[0] == {"line": 1, "key": "user", "value": "alice", "fate": "kept", "told": rows[0]["told"]}
    assert [row["fate"] for row in rows if row["key"] == "mine"] == ["unknown"]


@pytest.mark.parametrize(("content", "told"), [
    (b"port: 1\n", "has no user"), (b"\xff", "not UTF-8"), (b"user: [\n", "not valid YAML"), (None, "cannot be read"),
])
def test_a_file_that_cannot_be_imported(cli: CliRunner, tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "argo.yaml"
    if content is not None:
        file.write_bytes(content)
    result = cli.invoke(app, ["config", "import", "argo", str(file)])
    assert result.exit_code == 2
    assert told in result.stderr
    assert not usual(tmp_path).exists()


def test_a_gateway_with_an_imported_file_serves_and_warns_of_who_is_not_there(operator: Operator) -> None:
    argo = operator.home / "argo.yaml"
    argo.write_text(ARGO + "argo_base_url: http://127.0.0.1:9/argoapi\nconnection_test_timeout: 2\n")
    assert operator.run("config", "import", "argo", str(argo)).code == 0
    with operator.serve() as serving:
        assert serving.chat().status == 200
        for _ in range(200):
            if serving.log.count("is not well") == 2:
                break
            serving.chat()
        assert "provider 'argo' is not well: the provider refused the connection" in serving.log
        assert "provider 'argo-anthropic' is not well" in serving.log
        assert serving.end() == 0


# Typos.


@pytest.mark.parametrize(("typed", "meant"), [
    (["chek"], "check"), (["model"], "models"), (["config", "shwo"], "show"), (["config", "import", "arg"], "argo"), (["confg"], "config"),
])
def test_a_typo_is_told_with_what_is_meant(cli: CliRunner, typed: list[str], meant: str) -> None:
    result = cli.invoke(app, typed)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in " ".join(result.stderr.split())


def test_the_home_is_the_tests_own(cli: CliRunner, tmp_path: Path) -> None:
    assert os.environ["HOME"] == str(tmp_path)
