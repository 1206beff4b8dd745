from __future__ import annotations

from pathlib import Path

import pytest

from penstock.admission.issuers import Issuer
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.config import Address, exposure
from penstock.config.rules import own_listener, same_place
from penstock.providers import ProviderSettings

KEYED = ProviderSettings(name="openai", kind="openai", base_url="https://h", api_key="hunter2")
OPEN = ProviderSettings(name="anthropic", kind="anthropic", base_url="https://h")


@pytest.mark.parametrize(("url", "listen", "own"), [
    ("http://127.0.0.1:4270/v1", "127.0.0.1", True), ("http://localhost:4270", "127.0.0.1", True), ("http://[::1]:4270", "localhost", True),
    ("http://127.0.0.1:4270", "0.0.0.0", True), ("http://0.0.0.0:4270", "127.0.0.1", True), ("http://127.0.0.1:4270", "::", True),
    ("http://gw.example:4270", "gw.example", True), ("http://127.0.0.1:4271", "127.0.0.1", True), ("http://127.0.0.1:4272", "127.0.0.1", False),
    ("http://127.0.0.2:4270", "127.0.0.1", False), ("http://gw.example:4270", "127.0.0.1", False), ("https://api.openai.com", "0.0.0.0", False),
    ("http://127.1:4270", "127.0.0.1", True), ("http://2130706433:4270", "127.0.0.1", True), ("http://0x7f.1:4270", "0.0.0.0", True),
    ("http://[::ffff:127.0.0.1]:4270", "127.0.0.1", True), ("http://127.0.0.1.:4270", "localhost", True), ("http://localhost.:4270", "::1", True),
    ("http://[0:0::1]:4270", "::1", True), ("http://[::ffff:127.0.0.2]:4270", "127.0.0.1", False), ("http://[::1]:4270", "127.0.0.1", False),
    ("unix:/run/p.sock", "127.0.0.1", False), ("not a url", "127.0.0.1", False),
])
def test_own_listener(url: str, listen: str, own: bool) -> None:
    assert (own_listener(url, Address(listen, 4270), Address("127.0.0.1", 4271), None) is not None) is own


def test_own_socket() -> None:
    listen, admin, socket = Address("127.0.0.1", 4270), Address("127.0.0.1", 4271), Path("/run/p.sock")
    assert own_listener("unix:/run/p.sock", listen, admin, socket) == "/run/p.sock"
    assert own_listener("unix:/run/q.sock", listen, admin, socket) is None
    assert own_listener("http://127.0.0.1:4270", listen, admin, socket) is None


def test_a_free_port_is_nobody_s() -> None:
    assert own_listener("http://127.0.0.1:80", Address("127.0.0.1", 0), Address("127.0.0.1", 0), None) is None
    assert not same_place(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
    assert same_place(Address("0.0.0.0", 1), Address("127.0.0.1", 1))
    assert not same_place(Address("127.0.0.1", 1), Address("127.0.0.2", 1))


def test_exposure() -> None:
    everybody, here, nothing = Address("0.0.0.0", 4270), Address("127.0.0.1", 4270), AdmissionSettings()
    words = exposure(everybody, None, [OPEN, KEYED], None, nothing)
    assert words is not None
    for part in ("0.0.0.0:4270", "'openai'", "--token auto", "127.0.0.1:4270", "mode: strict", "open: true"):
        assert part in words
    assert "hunter2" not in words
    assert "may use it" in (exposure(everybody, None, [OPEN], None, nothing) or "")
    assert exposure(everybody, None, [KEYED], "t", nothing) is None
    assert exposure(everybody, Path("/s"), [KEYED], None, nothing) is None
    assert exposure(here, None, [KEYED], None, nothing) is None


@pytest.mark.parametrize(("admission", "may"), [
    (AdmissionSettings(mode=Mode.STRICT), True), (AdmissionSettings(open=True), True), (AdmissionSettings(issuers=(Issuer("i", ("a",)),)), True),
    (AdmissionSettings(mode=Mode.OPTIONAL), False), (AdmissionSettings(mode=Mode.PERMISSIVE), False),
    (AdmissionSettings(mode=Mode.OPTIONAL, issuers=(Issuer("i", ("a",)),)), False), (AdmissionSettings(mode=Mode.OPTIONAL, open=True), True),
])  # fmt: skip
def test_who_asks_for_keys_may_listen_to_everybody(admission: AdmissionSettings, may: bool) -> None:
    assert (exposure(Address("0.0.0.0", 4270), None, [KEYED], None, admission) is None) is may

