"""What `serve` says: the banner from plain data, the line to copy, and why it could not listen."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from penstock.cli import app
from penstock.cli.serve import BannerInfo, ProviderLine, banner, curl_line, describe, explain_failure
from penstock.config import Address, Config, load
from penstock.providers import ProviderSettings

INFO = BannerInfo(
    version="1.2.3", data_url="http://127.0.0.1:4270", admin_url="http://127.0.0.1:4271", data_dir=Path("/var/lib/penstock"),
    providers=[ProviderLine("openai", "openai", "api.openai.com", True), ProviderLine("anthropic", "anthropic", "api.anthropic.com", False)],
    notes=["the ledger keeps a rollback journal: the file system cannot do WAL"],
)  # fmt: skip


def shown(info: BannerInfo, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(banner(info), crop=False)
    return out.getvalue()


def test_the_banner_tells_where_who_and_how_it_is_paid() -> None:
    text = shown(INFO)
    for words in ("1.2.3", "http://127.0.0.1:4270", "http://127.0.0.1:4271", "/var/lib/penstock", "api.openai.com", "rollback"):
        assert words in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "own key" in lines["openai"]
    assert "client's key" in lines["anthropic"]


@pytest.mark.parametrize("width", [20, 80])
def test_the_line_to_copy_is_one_line_in_any_terminal(width: int) -> None:
    assert curl_line(INFO) in shown(INFO, width).splitlines()


def test_names_in_brackets_are_no_markup() -> None:
    assert "[bold]" in shown(BannerInfo("1", "http://x", None, [], Path("/[bold]"), notes=["[bold] is a word"]))


def test_the_line_to_copy_is_a_request_that_curl_understands() -> None:
    words = shlex.split(curl_line(INFO))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:4270/v1/chat/completions"]
    assert json.loads(words[-1])["stream"] is True
    assert "unix-socket" not in words
    assert '-H "authorization: Bearer $(cat ' in curl_line(BannerInfo("1", "http://x", None, [], Path("/d"), None, True, Path("/d/token")))
    assert "Bearer $TOKEN" in curl_line(BannerInfo("1", "http://x", None, [], Path("/d"), None, True))
    by_key = BannerInfo("1", "http://x", None, [], Path("/d"), key_asked=True)
    assert "Bearer $KEY" in curl_line(by_key)
    assert "penstock keys create" in shown(by_key)
    by_socket = shlex.split(curl_line(BannerInfo("1", "/run/a b/s", None, [], Path("/d"))))
    assert by_socket[by_socket.index("--unix-socket") + 1] == "/run/a b/s"


def test_the_facts_come_from_the_configuration_and_show_no_secret(tmp_path: Path) -> None:
    providers = (
        ProviderSettings("mine", "openai", "https://user:secret@llm.example:8443/v1", api_key="sk-secret"),
        ProviderSettings("theirs", "anthropic", "https://api.anthropic.com"),
    )
    config = Config(tmp_path, providers, listen=Address("0.0.0.0", 0), token="secret")
    try:
        info = describe(config, 5000, None, ["a note"])
    except ValueError:  # a base URL with a login may be refused; then it cannot be shown either
        info = describe(Config(tmp_path, providers[1:], listen=Address("0.0.0.0", 0), token="secret"), 5000, None, ["a note"])
    assert info.data_url == "http://127.0.0.1:5000"
    assert info.token_asked
    assert info.notes == ("a note",)
    assert "secret" not in repr(info)
    assert info.providers[-1] == ProviderLine("theirs", "anthropic", "api.anthropic.com", False)


def test_whoever_asks_in_a_configured_name_pays_with_no_clients_key(tmp_path: Path) -> None:
    base = "https://argo.example/argoapi"
    providers = (
        ProviderSettings("legacy", "argo_legacy", base, user="ada"), ProviderSettings("argo", "openai", base, user="ada"),
        ProviderSettings("each", "argo_legacy", base, user_from_key=True),
    )  # fmt: skip
    info = describe(Config(tmp_path, providers, listen=Address("127.0.0.1", 0)), 5000, None, [])
    assert [line.own_key for line in info.providers] == [True, True, False]


def test_a_port_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        config = Config(tmp_path, (), listen=Address("127.0.0.1", 0), admin=Address("127.0.0.1", port))
        text = explain_failure(config, OSError(errno.EADDRINUSE, "in use"))
    assert f"127.0.0.1:{port} is in use" in text
    assert "--admin" in text


@pytest.mark.parametrize(("number", "words"), [
    (errno.EACCES, "ports below 1024"), (errno.EADDRNOTAVAIL, "not one of this machine's"), (errno.EMFILE, os.strerror(errno.EMFILE)),
])  # fmt: skip
def test_other_failures_are_told_too(tmp_path: Path, number: int, words: str) -> None:
    assert words in explain_failure(Config(tmp_path, (), listen=Address("127.0.0.1", 80)), OSError(number, os.strerror(number)))


def test_a_name_that_is_not_known_is_named(tmp_path: Path) -> None:
    config = Config(tmp_path, (), listen=Address("nowhere.invalid", 80))
    for error in (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), OSError(socket.EAI_NONAME, "so it is", "nowhere.invalid:80")):
        assert "--listen nowhere.invalid:80" in explain_failure(config, error)


def test_what_stands_where_the_socket_would_be_is_told(tmp_path: Path) -> None:
    error = OSError(errno.EEXIST, "exists and is no socket", str(tmp_path))
    assert explain_failure(Config(tmp_path, (), socket=tmp_path), error).endswith(f"{tmp_path}: exists and is no socket")


def test_the_options_reach_the_gateway_and_its_exit_code_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Config] = []

    def serve(config: Config, on_ready: Callable[[Any], None]) -> int:
        seen.append(config)
        on_ready(SimpleNamespace(data_port=4999, admin_port=None, notes=(), key_asked=False))
        return 3

    monkeypatch.setattr("penstock.app.serve", serve)
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["serve", "--listen", "127.0.0.1:4999", "--admin", "127.0.0.1:0", "--data-dir", str(tmp_path / "d"), "--token", "a-token-of-ours"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 3, result.output
    assert (seen[0].listen, seen[0].admin.port, seen[0].data_dir, seen[0].token) == (
        Address("127.0.0.1", 4999), 0, tmp_path / "d", "a-token-of-ours",
    )  # fmt: skip
    assert "http://127.0.0.1:4999" in result.stdout
    assert "a-token-of-ours" not in result.stdout
    assert load(environ={"HOME": str(tmp_path)}).listen == Address("127.0.0.1", 4270)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--legacy-argo"], ("argo", None)), (["--legacy-argo", "--real-stream"], ("argo", True)),
        (["--legacy-argo", "--pseudo-stream"], ("argo", False)), (["--pseudo-stream"], ("openai", None)),
    ],
)  # fmt: skip
def test_legacy_argo_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], wanted: tuple[str, bool | None]
) -> None:  # fmt: skip
    served: list[Config] = []

    def serve(config: Config, on_ready: object) -> int:
        served.append(config)
        return 0

    monkeypatch.setattr("penstock.app.serve", serve)
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "ARGO_USER": "ada"}
    assert CliRunner().invoke(app, ["serve", *words], env=environ).exit_code == 0
    first = served[0].providers[0]
    assert (first.name, first.real_stream) == wanted
    assert (len(served[0].providers) == 1) == ("--legacy-argo" in words)


def test_legacy_argo_for_nobody_is_an_error(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "ARGO_USER": ""}
    found = CliRunner().invoke(app, ["serve", "--legacy-argo"], env=environ)
    assert (found.exit_code, "set ARGO_USER" in found.output) == (2, True)
