"""The fault matrix behind `penstock torture`: a provider that misbehaves on purpose, a client that judges what arrives, a gateway between.

Enters: the address of a gateway whose provider is our `TortureServer`; what is known of it (`Bounds`). Leaves: a `Result` for each cell,
that is for each fault in each form in which it makes sense.

- `forms`: the five ways in which a client may ask; the model's name that carries a fault through any gateway.
- `speakers`: what a well-behaved provider says in each, frame by frame. `upstream`: the provider, and the `Stage` that scripts act on.
- `faults`: what a fault is, and the table. Its entries, each a few lines under a sentence that says what it does and what must arrive:
  `healthy`, `endings`, `refusals`, `stalls`, `leaving`. A new fault is a new entry, and nothing else.
- `client`: a raw socket that notes what came and when. `reading`: bytes -> frames. `shapes`: what is wrong with an error. `judging`: the verdict.
- `matrix`: runs cells, several at a time. `own`: a gateway of our own to be tried, as a process, with short timers, and its ledger.

Laws: the provider never helps (a fault is played to the byte as it is written); the judge shares no code with the gateway's protocols;
every cell ends, whatever the gateway does.

Not here: any other room but `wire`, `protocols` and `vocabulary`; tables and colours (`cli/torture`).
"""
