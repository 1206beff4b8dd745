"""What admission and policies need from outside: keys and budgets in the database, the keys of issuers from their URLs, the word of guards.

Enters: an engine on the ledger's database, which `app` opens. Leaves: rings, key sets, shares, as the pure rooms take them.

- `schema`: the tables; the ledger's migrations make them. `keys`: virtual keys, blocking.
- `budgets`: one thread that decides (`deciding`) and books, by `statements`, when it is due (`turns`). `advances`: what a busy gateway sets aside in
  advance, so that nobody waits for a turn. `shares`: what each exchange has set aside, on file, so that the dead are charged too.
- `jwks`: an issuer's keys, kept fresh. `guard_calls`: questions to guards outside, bounded; `guard_formats`: what those are sent, and what they say.

Laws: the loop never waits for a disk or a host here. What was used is booked, late if need be; a budget holds for spent exactly
what the ledger's rows are charged. The last good keys stay.

Not here: who may enter and how much (`admission`), the ledger's own rows.
"""
