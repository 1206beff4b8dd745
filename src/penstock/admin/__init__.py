"""The admin plane: how the gateway is, and what it has done. Starlette on uvicorn, on a listener of its own, in the gateway's loop.

In: HTTP requests of the person who runs Penstock, of their scripts, their supervisor and their Prometheus. Out: JSON, and text at `/metrics`.
`listener` owns the socket, `guard` says who may enter, `params` reads queries, `routes` answers, `queries` keeps the ledger's reads off the
loop, `metrics` writes counts out, `token` keeps the secret, `deps` lists what this room needs from others.

Laws: neither `/metrics` nor anything below `/api` is answered without the token. A Host that is not ours is refused everywhere (DNS
rebinding). No answer may be kept by a cache or read by another origin: there are no CORS headers. No request waits longer than the limit on
queries, and however many come, two threads work for them. `/metrics` waits for neither the ledger nor a thread.

`captures` turns captures on and off, `keys` makes, rotates and revokes virtual keys: the things that can be changed from here.

Not here: model traffic (never passes this plane, as nothing of this plane passes the data port), how the ledger reads, what captures hold.
"""

from penstock.admin.app import make_app
from penstock.admin.deps import Deps, Readings
from penstock.admin.listener import AdminListener
from penstock.admin.token import TokenError, load_token, read_token

__all__ = ["AdminListener", "Deps", "Readings", "TokenError", "load_token", "make_app", "read_token"]
