"""What holds for all tests with the official clients."""

from __future__ import annotations

import os
import ssl

import pytest


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's reaches a client: neither keys and base URLs, nor proxies."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here speaks TLS, and every client reads a hundred and forty certificates when it is made: most of the time, without this."""

    def none(context: ssl.SSLContext, cafile: object = None, capath: object = None, cadata: object = None) -> None:
        del context, cafile, capath, cadata

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", none)
