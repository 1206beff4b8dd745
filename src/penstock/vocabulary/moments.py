"""Moments, in seconds since the epoch."""

from __future__ import annotations

from typing import Final

LAST: Final = 253_402_300_799.0
"""The last second of the year 9999: there are no days behind it."""
