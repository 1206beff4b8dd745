"""Histories that other programs kept of their own use, read into the ledger: each answer once, however often and from however many places.

- `found`: one answer of a history, and the entry that it becomes. `claude_code`, `codex`, `tokencost`: one file format each, from a file to what
  is `Found` in it. `places`: where these programs keep their files, and which format a file has. `load`: from files to rows.

Laws: the id of a row is made of what the answer is called (its response id, where there is one), so a second import changes nothing. What
went through a gateway is in the ledger already and is left out: by its response id, else by its session and its figures. Of days that are
only kept as sums nothing is taken that those may hold: nobody could tell. Nothing of what people or models wrote is read into a row.
"""

from penstock.ledger.histories.load import Tally, load
from penstock.ledger.histories.places import BadSource, Source, find_sources

__all__ = ["BadSource", "Source", "Tally", "find_sources", "load"]
