"""Requests and answers of one form, told in another.

Enters: a client's request, a provider's answer. Leaves: the request in the provider's form, the answer in neutral events or in the client's
protocol, and what was left out on the way.

- `argo_legacy/`: OpenAI's protocols -> Argo's own JSON; its bodies and its raw text -> neutral events.

Laws: 2 (chunk-blind), 3 (prompt), 4 (bounded), 5 (total: what cannot be told is a `ValueError` with its reason, never anything else).
Not here: sockets, time, where a provider is and who may ask it.
"""
