"""The account: one row per exchange, written once, whatever the ending.

In: an `Entry` that the exchange fills and settles, on the event loop's thread. Out: rows in SQLite (in the data directory) or PostgreSQL
(by URL), and the sums that `query` reads from them, with a gateway running or without.

- `entry`: the row as the hot path sees it (pure). `writer`: `Ledger`, the queue and the one thread that writes. `upkeep`: leases, crashed
  rows and retention, on the same thread. `spill`: where rows wait when the database does not take them.
- `store`: one database, behind a few verbs. `engine`: how it is opened. `patience`: how long PostgreSQL is waited for. `schema`, `migrations`:
  what stands in it. `rows`: one row as a tuple. `shapes`: how SQLite is given many of them.
- `ascribe`: what it cost and whose it was, filled in by the writer's thread. `rollup`: closed hours summed, on a thread of its own.
- `lease`, `retention`: what each does in one transaction. `staying`: who needs rows to stay meanwhile. `query`: reading,
  with `sums` for where figures come from and `moments` as people write them. `story`, `advice`: a row in plain words (pure). `histories`: what
  other programs wrote down of their own use, brought in.

Laws: 9 (once: opened = settled under any interleaving of end, cut, cancel, drain, crash). No row is ever dropped: database, else spill
file, else memory, and then new exchanges are refused (`LedgerFull`). No caller of `open` or `settle` ever waits for a disk.

Not here: what an ending means (`exchange`), what a model costs (`pricing`), what requests say (`attribution`), tables for people (`cli`). Nothing
here awaits but `Ledger.maker_of`.
"""
