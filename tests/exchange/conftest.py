"""A gateway without sockets for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.exchanges import House


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.close()
