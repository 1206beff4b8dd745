"""Addresses of one's own, users by name, and the try at the start: what right files come to. (Wrong ones: the golden files.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import Config, load


def read(directory: Path, text: str) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ={"HOME": str(directory), "WHO": "alice"})


def test_addresses_by_host_and_port(tmp_path: Path) -> None:
    config = read(tmp_path, (
        "resolve: {\"API.example.com:443\": 192.0.2.7, \"[2001:DB8::5]:8443\": \"[2001:db8:0::6]\", \"127.0.0.1:80\": 127.0.0.2}\n"
        "providers:\n"
        "  a: {protocol: openai, base_url: https://api.example.com}\n"
        "  b: {protocol: openai, base_url: \"https://[2001:db8::5]:8443/v1\"}\n"
        "  c: {protocol: openai, base_url: http://127.0.0.1}\n"))
    assert config.resolve == {("api.example.com", 443): "192.0.2.7", ("2001:db8::5", 8443): "2001:db8::6", ("127.0.0.1", 80): "127.0.0.2"}
    assert config.notes == ()


def test_an_address_that_nobody_is_dialed_by_is_noted(tmp_path: Path) -> None:
    config = read(tmp_path, "resolve:\n  api.openai.com:443: 192.0.2.7\n  api.openai.com:80: 192.0.2.7\n")
    place = f"{tmp_path}/penstock.yaml:3: resolve.api.openai.com:80"
    assert config.notes == (f"{place}: no provider is at this host and port, so nothing is dialed by it",)


@pytest.mark.parametrize("text", ["", "resolve:\n", "resolve: {}\n", "connection_test_timeout: off\n"])
def test_nothing_is_pinned_and_nobody_is_tried_unless_asked_for(tmp_path: Path, text: str) -> None:
    config = read(tmp_path, text)
    assert config.resolve == {}
    assert config.connection_test is None


def test_users_names_and_notices(tmp_path: Path) -> None:
    config = read(tmp_path, (
        "connection_test_timeout: 5\n"
        "providers:\n"
        "  a: {protocol: openai_chat, base_url: https://a.example/v1, user: \"${WHO}\", model_names: argo,\n"
        "      notices: [\"IMPORTANT  NOTICE\\nFROM ARGO\"]}\n"
        "  b: {protocol: anthropic, base_url: https://b.example, user_from: api_key, model_names: as_written}\n"
        "  c: {protocol: openai, base_url: https://c.example, user: 1234, api_key: sk-own, auth: api-key}\n"
        "  d: {protocol: openai, base_url: https://d.example, user: bob, auth: x-api-key}\n"))
    a, b, c, d = config.providers
    assert (a.user, a.user_from_key, a.argo_names, a.notices) == ("alice", False, True, ("IMPORTANT NOTICE FROM ARGO",))
    assert (b.user, b.user_from_key, b.argo_names, b.notices) == (None, True, False, ())
    assert (c.user, c.api_key) == ("1234", "sk-own")
    assert (d.user, d.auth) == ("bob", "x-api-key"), "a name is sent in whatever way is asked for"
    assert config.connection_test == 5.0
