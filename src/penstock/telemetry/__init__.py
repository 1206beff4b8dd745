"""What the process says of itself: a log and counts.

In: settled entries (`Log.note`, once each, on the loop) and the rooms' log records (`log.Handler`). Out: one line each (`log`, `lines`, to
`sinks`), and sums for `/metrics` (`metrics`, by classes of `causes`). Never a body, a prompt, a key or a query string.

Laws: whoever reads the log, and however slowly, the loop never waits for it: lines wait in memory, past a bound they are dropped, and what was
dropped is counted. What is counted is counted of every exchange, also of those whose line was dropped or not wanted. No label comes from
outside the configuration and the closed lists.

Not here: the ledger, which drops nothing; how counts are served (`admin.metrics`).
"""
