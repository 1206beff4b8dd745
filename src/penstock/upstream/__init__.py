"""Asking a provider: connections, the pool that keeps them, and one request at a time on each.

In: an origin, the bytes of a request head, a body (whole, or as it comes). Out: calls on a `Receiver`: head, body, end, or the way
in which it was lost. `pool` decides and does no I/O; `dial` connects, by `proxies` and `tunnel` where the environment says so, within
`deadlines`; `connection` speaks HTTP/1.1, with `reading` for what transports do not do and `losses` for what an end means; `client` joins
them; `local` is the built-in `demo` provider, which needs no network.

Laws: a request on a kept connection that dies without a byte of an answer may be sent again; a connection is kept only after a clean
end of both messages, and used again only while there is nothing to read on it; exactly one end is told, unless the asker cancels, and then
nothing is; a proxy that the environment names is never gone around. Not here: what the bytes mean, retries by status, credentials.
"""
