"""Admission: who may enter.

Enters: a request's headers and query, and what the configuration allows. Leaves: a verdict, and the headers and query without the
house's own token.

Laws: the token is compared in constant time and never goes upstream. Behind a loopback listener only loopback's names are answered, so
that no web page reaches the gateway through a name of its own (DNS rebinding), and no page of another host is answered under ours.

Not here: the provider's credentials (`providers`), budgets and keys of the house's own.
"""

from penstock.admission.hosts import host_allowed, is_loopback, origin_allowed
from penstock.admission.token import Verdict, check

__all__ = ["Verdict", "check", "host_allowed", "is_loopback", "origin_allowed"]
