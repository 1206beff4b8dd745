"""Where a configuration comes from, who beats whom, and what is said of a broken one. Real processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.operator import Operator, free_port

FILE = "providers:\n  {}: {{protocol: openai, base_url: https://llm.example}}\n"


def found(operator: Operator, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The one provider of the configuration that is read."""
    done = operator.run("check", *arguments, env=env, cwd=cwd)
    assert done.code == 0, done.err
    return done.out.partition("(")[2].partition(")")[0]


class TestWhichFile:
    def test_the_users_own_the_variables_the_options(self, operator: Operator) -> None:
        names = ("of_the_home", "of_the_variable", "of_the_option", "of_the_argument")
        files = {name: operator.home / f"{name}.yaml" for name in names}
        files["of_the_home"] = operator.home / ".config" / "penstock" / "penstock.yaml"
        files["of_the_home"].parent.mkdir(parents=True)
        for name, path in files.items():
            path.write_text(FILE.format(name))
        variable = {"PENSTOCK_CONFIG": str(files["of_the_variable"])}
        assert found(operator) == "of_the_home"
        assert found(operator, env={"XDG_CONFIG_HOME": str(operator.home / "elsewhere")}) == "openai, anthropic, gemini"
        assert found(operator, env=variable) == "of_the_variable"
        assert found(operator, env={"PENSTOCK_CONFIG": "~/of_the_variable.yaml"}) == "of_the_variable"
        assert found(operator, "--config", str(files["of_the_option"]), env=variable) == "of_the_option"
        assert found(operator, str(files["of_the_argument"]), env=variable) == "of_the_argument"

    def test_never_one_of_the_working_directory(self, operator: Operator, tmp_path: Path) -> None:
        cloned = tmp_path / "cloned"
        for name in ("penstock.yaml", "penstock.yml", ".penstock.yaml", "config.yaml", ".config/penstock/penstock.yaml", "penstock/penstock.yaml"):
            (cloned / name).parent.mkdir(parents=True, exist_ok=True)
            (cloned / name).write_text(FILE.format("thief"))
        (cloned / ".env").write_text("OPENAI_BASE_URL=https://thief.example\nPENSTOCK_CONFIG=penstock.yaml\n")
        assert found(operator, cwd=cloned) == "openai, anthropic, gemini"
        # A relative directory is no directory of the user's: the specification wants it passed over.
        assert found(operator, cwd=cloned, env={"XDG_CONFIG_HOME": ".config"}) == "openai, anthropic, gemini"
        assert found(operator, cwd=cloned, env={"XDG_CONFIG_HOME": "", "PENSTOCK_CONFIG": ""}) == "openai, anthropic, gemini"
        with operator.serve(cwd=cloned) as gateway:
            assert "no file; providers from the environment" in gateway.banner
            assert "thief" not in gateway.banner

    def test_one_that_is_named_and_cannot_be_read_is_an_error(self, operator: Operator) -> None:
        for arguments, env, named in (
            (("--config", "none.yaml"), {}, "--config"), ((), {"PENSTOCK_CONFIG": "none.yaml"}, "PENSTOCK_CONFIG"), ((str(operator.home),), {}, "")
        ):  # fmt: skip
            for command in ("check", "serve", "usage", "exchanges") if arguments[:1] == ("--config",) or not arguments else ("check",):
                done = operator.run(command, *arguments, env=env)
                assert done.code == 2
                assert named in done.err
                assert "cannot be read" in done.err


class TestWhoBeatsWhom:
    def test_the_command_line_the_environment_the_file(self, operator: Operator) -> None:
        ports = [free_port() for _ in range(3)]
        file = operator.home / "f.yaml"
        file.write_text(f"listen: 127.0.0.1:{ports[0]}\nadmin: 127.0.0.1:0\ndata_dir: in-the-file\ntoken: of-the-file\n")
        variables = {"PENSTOCK_LISTEN": f"127.0.0.1:{ports[1]}", "PENSTOCK_DATA_DIR": "of-the-variable", "PENSTOCK_TOKEN": "of-the-variable"}
        options = ("--listen", f"127.0.0.1:{ports[2]}", "--token", "of-the-option", "--data-dir", "of-the-option")
        for env, said, port, token, directory in (
            ({}, (), ports[0], "of-the-file", "in-the-file"),
            (variables, (), ports[1], "of-the-variable", "of-the-variable"),
            (variables, options, ports[2], "of-the-option", "of-the-option"),
        ):
            with operator.serve("--config", str(file), *said, env=env, ports=False) as gateway:
                assert gateway.port == port
                assert gateway.chat({"x-penstock-token": token}).status == 200
                assert gateway.chat({"x-penstock-token": "another"}).status == 401
                assert (operator.home / directory / "ledger.db").exists()

    def test_commands_find_the_ledger_by_the_same_configuration(self, operator: Operator) -> None:
        file = operator.home / "sub" / "f.yaml"
        file.parent.mkdir()
        file.write_text("data_dir: beside-the-file\n")
        with operator.serve("--config", str(file)) as gateway:
            gateway.chat()
            gateway.end()
        assert (operator.home / "sub" / "beside-the-file" / "ledger.db").exists()
        assert operator.run("exchanges").code == 1, "without it there is no ledger"
        assert len(operator.exchanges("--config", str(file))) == 1
        assert operator.run("usage", "--json", "--config", str(file)).rows()[0]["exchanges"] == 1
        assert operator.run("exchanges", "--data-dir", "sub/beside-the-file", "--json").rows()
        assert operator.run("replay", "--config", str(file), "nowhere").code == 1


BROKEN = {
    "unknown keys": ("listn: 127.0.0.1:1\nprovider: {}\n", [":1: listn: .*listen", ":2: provider: .*providers"]),
    "missing provider": ("routes:\n  - {model: 'claude-*', provider: antropic}\n", [r":2: routes\[0\].provider: .*'antropic'.*anthropic"]),
    "bad glob": ("routes:\n  - {model: '[abc', provider: openai}\n", [r":2: routes\[0\].model: "]),
    "empty key": ("providers:\n  openai: {protocol: openai, api_key: ''}\n", [r":2: providers.openai.api_key: is empty; write the key, or leave"]),
    "unset variable": ("providers:\n  openai:\n    api_key: ${NOT_SET}\n", [":3: providers.openai.api_key: .*NOT_SET"]),
    "no protocol": ("providers:\n  groq: {base_url: https://h}\n", [":2: providers.groq: has no protocol; add one of openai"]),
    "bad URL": ("providers:\n  openai: {base_url: 'api.openai.com'}\n", [":2: providers.openai.base_url: .*https"]),
    "bad address": ("listen: 127.0.0.1\nadmin: ':4271'\n", [":1: listen: .*HOST:PORT", ":2: admin: .*names no host"]),
    "two on one port": ("listen: 127.0.0.1:5\nadmin: 127.0.0.1:5\n", [":2: admin: .*give admin another port"]),
    "bad size": ("limits: {max_frame: lots}\n", [":1: limits.max_frame: .*64MiB"]),
    "a list for a mapping": ("providers: [openai]\n", [":1: providers: "]),
    "no YAML": ("providers: {openai: [\n", [":[12]: "]),
    "a tab": ("providers:\n\topenai: {}\n", [":2: .*(tab|blank|space)"]),
    "twice the same key": ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", [":2: listen: "]),
    "a reserved name": ("providers:\n  v1: {protocol: openai}\n", [":2: providers.v1: .*path of the gateway's own"]),
    "a key for everybody": ("listen: 0.0.0.0:1\nproviders:\n  openai: {api_key: k}\n", [":1: listen: .*--token auto"]),
    "no text": ("listen: 1\n\x00\x01\x02", [":2: .*is this a text file"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_with_its_line_and_what_to_write(operator: Operator, name: str) -> None:
    text, patterns = BROKEN[name]
    file = operator.home / "broken.yaml"
    file.write_text(text)
    done = operator.run("check", str(file))
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == len(patterns), done.err
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.match(re.escape(str(file)) + pattern, line), line
    assert not operator.data.exists(), "check starts nothing"


def test_all_errors_of_file_environment_and_command_line_come_at_once(operator: Operator) -> None:
    file = operator.home / "broken.yaml"
    file.write_text("".join(text for name, (text, _) in BROKEN.items() if name in ("unknown keys", "missing provider")))
    done = operator.run("serve", "--config", str(file), "--admin", "nowhere", env={"PENSTOCK_RETENTION": "a while", "PENSTOCK_LISTEN": "x:y"})
    assert done.code == 2
    places = [line.split(": ")[0] for line in done.err.splitlines()]
    assert places == [f"{file}:1", f"{file}:2", f"{file}:4", "environment", "environment", "command line"]
