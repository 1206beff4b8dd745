"""What happens to the bytes of one answer between its provider and its client.

In: the body of an upstream answer, in chunks (transfer decoding done), with the time of each. Out: the bytes for the client, and an
observer that knows what was said. Each mode is a composition (`compose`): own bytes of a stream, of a JSON array, of a body, or of
something that cannot be understood; a body made of a stream (`fold`), and a stream made of a body (`pseudo`), where the client did not ask as
the provider was asked.

`guarded` judges what passes, `guarded_body` what is given out as a whole, and `awaited` waits for guards that are asked outside.

Beside it: `watch` (which timer runs out, asked lazily), `cues` (behind which event a budget is to look at a stream), `unbegun` (a stream opened
before its provider answered), `tail` (the last events of a running stream), `foreign` (errors in nobody's shape).

Laws: 1 to 5 for what the client receives, 8 (transparent), 10 (cut short is never complete). Not here: sockets, timers, HTTP, the ledger.
Time is an argument, in seconds of one monotonic clock.
"""
