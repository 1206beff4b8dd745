"""The data plane's rim towards clients: listeners and HTTP/1.1.

In: connections. Out: `ClientRequest`s to a `Front` (the exchange), and whatever it replies, framed. llhttp parses, in its strict mode; what
it lets through and we do not is in `connection`.

Laws: 8 (what the exchange writes is what the client's framing carries), 5 (no bytes raise). Requests on one connection are answered in
order. Not here: what a path means, upstream, ledger, admin (which is on its own listener).
"""
