"""One request and its answer, from the first byte of the one to the ledger row of the other.

In: a client's request, through `contract`. Out: a reply, one upstream request or none, one row. `machine` says what is to be done (pure),
`drive` does it, `intake` decides who takes the request, `modes` asks for it in another form and `gathering` gives it back in the client's,
`settle` writes the row, `models` merges the providers' lists. What single providers want besides is in `quirks`, by way of `bend`: a user in
the body, `names` of models that are looked up, `notice`s that come as answers. `probe` asks a provider whether it is there.
`naming` holds a request to the model by which it was let in. Guards: `guarding` on requests and whole answers, `hearing` where somebody outside
is asked. Budgets: `metering` holds a running stream against its share. Time: `watching`, at regular `looks` at the clock.

Laws: 8, 9 (opened = settled), 2 of the tenets (every stream ends, visibly). This is the only place where awaits meet the core; there are
none per chunk. Not here: HTTP, parsing, what a protocol's bytes mean.
"""
