"""A provider of our own: recorded streams over real sockets, faults at any byte, and servers that follow a script.

Enters: recordings (`*.sse` with `*.request.json` beside them), HTTP/1.1 requests on a listening socket, a script where a test has one.
Leaves: the recorded bytes exactly as they were, cut into the pieces that were asked for; and a log of what was asked and how it ended.

- `recordings`: files -> `Recording`s, and which of them a request means.
- `replies`: a request -> status, content type and body, or an error in words. Pure.
- `http1`: one inbound connection, and the server that `ReplayServer` and `ScriptedServer` share.
- `server`: `ReplayServer`, the upstream of our tests and the engine of `penstock replay`.
- `scripted`: `ScriptedServer`, whose every response byte is the test's.
- `torture/`: the fault matrix behind `penstock torture`: a provider that misbehaves on purpose, and a client that judges what arrives.

Laws: a streamed body is the recording byte for byte whatever the pace, the pieces and the seed; the same seed gives the same pieces; a fault
happens at the byte that was named and in the way that was named; a client that leaves is noticed at once.

Not here: any other room but `wire`, `protocols` and `vocabulary` (the gateway is only ever reached through a socket); routing, keys, the ledger.
Requests are read with a few lines of our own and not with the protocols' `peek`: a test provider that shared the gateway's reading of a
request would share its mistakes.
"""
