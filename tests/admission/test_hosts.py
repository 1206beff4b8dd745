from __future__ import annotations

import pytest

from penstock.admission import host_allowed, is_loopback, origin_allowed


@pytest.mark.parametrize("host", [
    "localhost", "localhost:4270", "LOCALHOST", "localhost.", "app.localhost:1", "127.0.0.1", "127.0.0.1:9", "127.8.9.1", "[::1]", "[::1]:4270",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "127.0.0.1:",
])
def test_loopback_names(host: str) -> None:
    assert host_allowed(host, "127.0.0.1")
    assert host_allowed(host, "::1")
    assert host_allowed(host, "localhost")


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:4270", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "0.0.0.0:4270", "[::]", "192.168.1.2", "127.1",
    "2130706433",
    "notlocalhost", "", ":4270", "localhost:4270@evil", "localhost/evil", "localhost evil", "localhost:port", "[::1", "::1", "127.0.0.1\r\n",
    "xn--localhost",
    "128.0.0.1", "[::ffff:1.2.3.4]", "[fe80::1]",
])
def test_other_names_stay_out(host: str) -> None:
    assert not host_allowed(host, "127.0.0.1")


def test_configured_names() -> None:
    extra = ("gateway.example", "*.Lab.example", "192.168.1.2", "[fe80::1]")
    for host in ("gateway.example", "Gateway.Example:4270", "a.lab.example", "a.b.lab.example", "192.168.1.2:1", "[FE80::1]:2", "localhost"):
        assert host_allowed(host, "127.0.0.1", extra), host
    for host in ("lab.example", "xlab.example", "x.gateway.example", "evil.example"):
        assert not host_allowed(host, "127.0.0.1", extra), host


def test_elsewhere_every_well_formed_name_is_ours() -> None:
    assert host_allowed("gateway.example", "0.0.0.0")
    assert host_allowed("192.168.1.2:4270", "192.168.1.2")
    assert not host_allowed("a b", "0.0.0.0")


def test_a_unix_socket_has_no_names() -> None:
    assert host_allowed("anything at all", None)


@pytest.mark.parametrize(("host", "expected"), [
    ("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("example.com", False), ("", False),
])
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("origin", [
    "http://127.0.0.1:5173", "http://localhost:3000", "https://LOCALHOST", "http://tauri.localhost", "http://[::1]:8", "https://gateway.example",
    "http://a.lab.example:8080", "app://obsidian.md", "vscode-webview://abc", "chrome-extension://abc", "file://", "tauri://localhost", "",
])
def test_pages_of_this_machine_and_of_its_names_and_programs_may_ask(origin: str) -> None:
    assert origin_allowed(origin, "127.0.0.1", ("gateway.example", "*.lab.example"))


@pytest.mark.parametrize("origin", [
    "https://evil.example", "http://evil.example:4270", "http://localhost.evil.example", "https://127.0.0.1.nip.io", "null", " NULL ", "HTTPS://Evil.example",
    "https://", "http://localhost@evil.example", "http://192.168.1.2", "https://localhost, https://evil.example",
])
def test_pages_of_others_stay_out(origin: str) -> None:
    assert not origin_allowed(origin, "127.0.0.1", ("gateway.example",))
    assert origin_allowed(origin, "0.0.0.0"), "a token guards its keys"
    assert origin_allowed(origin, None)
