"""What can go wrong with the ledger, as its callers see it."""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger cannot be opened or read. Its text is a sentence for the person who runs Penstock and names the file or the host."""


class LedgerFull(LedgerError):
    """No new exchange can be accounted for, so none may begin: the gateway answers 503. Those already opened are not affected."""


class StoreError(LedgerError):
    """The database did not take or give it now (locked, full, gone). Nothing of the transaction was kept; trying again is right."""
