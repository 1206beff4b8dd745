"""What a test needs of its machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """The machine cannot run this test: skipped with the reason; under CI=true that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"lacking under CI=true: {reason}")
    pytest.skip(reason)
