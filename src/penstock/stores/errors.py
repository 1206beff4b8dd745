"""What can go wrong with what is kept outside."""

from __future__ import annotations


class StoreError(Exception):
    """It could not be read or written now. Its text is a sentence for the person who runs Penstock, without a secret."""


class KeyProblem(ValueError):
    """What is asked of the keys cannot be done: there is no such key, the name is taken. Its text is a sentence for whoever asked."""
