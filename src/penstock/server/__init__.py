"""The data plane's rim towards clients: listeners and HTTP/1.1.

In: connections. Out: `ClientRequest`s to a `Front` (the exchange), and whatever it replies, framed. `listener` accepts, `reader` makes
requests of bytes (llhttp parses, in its strict mode), `heads` says which heads are taken beyond that, `connection` keeps turns and frames
answers, `guest` watches it: how many its client has (`crowd`), how long it takes (`patience`); `refusals` words what is refused for its
form, `farewell` closes. `files`: how many sockets there may be.

Laws: 8 (what the exchange writes is what the client's framing carries), 5 (no bytes raise), 4 (no bytes grow a buffer past its limit).
Requests on one connection are answered in order, each once. Only the client is timed here, and no request costs a timer: the listener
looks at all connections a few times a second. Not here: what a request means, upstream, ledger, admin (which is on its
own listener).
"""
