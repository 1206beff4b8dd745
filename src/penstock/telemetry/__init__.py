"""What the process says of itself.

In: settled entries. Out: one line each (`log`). Never a body, a prompt, a key or a query string. A slow reader of the log never
slows the loop: lines wait in memory, and past a bound they are dropped and counted. Not here: the ledger, which drops nothing.
"""
