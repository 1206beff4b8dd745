"""The keys of the `admission` section."""

from __future__ import annotations

from urllib.parse import urlsplit

from penstock.admission.address import Network, read_network
from penstock.admission.budget.spec import ACTIONS
from penstock.admission.budget.spec import PERIODS as WINDOWS
from penstock.admission.facts import BadField, check_field
from penstock.admission.hosts import is_loopback
from penstock.admission.issuers import KINDS
from penstock.admission.limits.spec import PERIODS
from penstock.admission.settings import MODES
from penstock.config import values
from penstock.config.document import Scalar
from penstock.config.errors import Unfit
from penstock.config.shape import COUNT, FLAG, SECONDS, STRING, Field, Group


def read_range(value: Scalar) -> Network:
    """An address, or a range of them."""
    try:
        return read_network(value.text)
    except ValueError:
        raise Unfit(f"{value.shown} is no address; write 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32") from None


def read_field_name(value: Scalar) -> str:
    try:
        return check_field(values.read_text(value).strip())
    except BadField as error:
        raise Unfit(str(error)) from None


def read_jwks_url(value: Scalar) -> str:
    text = values.read_text(value).strip()
    try:
        parts = urlsplit(text)
        taken = parts.port != 0 and bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
    except ValueError:
        taken = False  # half an IPv6 address, or a port that is no number
    if not taken:
        raise Unfit(f"{value.shown}: keys are fetched from https://..., or from this machine")
    return text


def read_long_secret(value: Scalar) -> str:
    text = values.read_secret(value)
    if len(text) < 32:
        raise Unfit("has fewer than 32 characters; make one with: openssl rand -hex 32")
    return text


def read_amount(value: Scalar) -> str:
    text = value.text.strip().replace("_", "")
    if value.tag not in ("str", "int", "float") or not text:
        raise Unfit(f"{value.shown} is no amount; write a number, like 12.50")
    return text


_NAME = Field("name", values.read_text, "What the ledger and its headers call it; clients of a limit or a rule never see it.", STRING)
_BY = Field("by", read_field_name, "Kept apart by these: key, user, project, limits_key, model, route, provider, address, claim.NAME, ...", STRING,
            many=True)

ADMISSION: tuple[Field | Group, ...] = (
    Field("mode", values.choice(MODES), "strict: everybody shows a key or a token. optional: who shows one shows a good one. permissive: nobody is "
          "refused for it. Left out: strict as soon as there is a key or an issuer.", {"enum": list(MODES)}),
    Field("open", values.read_flag, "Anybody who can connect may enter; needed to listen beyond this machine without token, keys or issuers.", FLAG,
          default=False),
    Field("keys_secret", read_long_secret, "Under which keys are sealed in the database; left out: one is made and kept in the data directory. "
          "Gateways that share a database share it. PENSTOCK_KEYS_SECRET overrides it.", STRING),
    Field("trusted_proxies", read_range, "Addresses of proxies whose x-forwarded-for is believed.", STRING, many=True),
)
"""`issuers`, `rules`, `limits` and `budgets`, lists, stand beside these."""

ISSUER: tuple[Field, ...] = (
    Field("issuer", values.read_text, "The claim iss, to the letter.", STRING),
    Field("audiences", values.read_text, "One of these must be in aud; [\"*\"]: any.", STRING, many=True),
    Field("algorithms", values.choice(tuple(KINDS)), "Which signatures are taken.", {"enum": list(KINDS)}, many=True),
    Field("jwks_url", read_jwks_url, "Where its keys are published.", STRING),
    Field("jwks_file", values.read_path, "A file with its keys (a JWK Set).", STRING),
    Field("jwks", values.read_text, "Its keys themselves, as JSON in quotes.", STRING),
    Field("required", values.read_text, "Claims that a token must have; left out: exp. []: none.", STRING, many=True),
    Field("skew", values.read_seconds, "By which clocks may differ.", SECONDS, default="30s"),
    Field("user_claim", values.read_text, "The claim that names the user.", STRING, default="sub"),
    Field("project_claim", values.read_text, "The claim that names the project.", STRING),
    Field("limits_claim", values.read_text, "The claim that limits are kept by, as limits_key.", STRING),
)

RULE: tuple[Field, ...] = (_NAME,)
"""One of `allow`, `deny` and `require` stands beside it."""

_COUNT_OF = "At most so many {} in each window."
LIMIT: tuple[Field, ...] = (
    _NAME,
    Field("requests", values.read_count, _COUNT_OF.format("requests"), COUNT),
    Field("tokens", values.read_count, _COUNT_OF.format("tokens, input and output together,"), COUNT),
    Field("input_tokens", values.read_count, _COUNT_OF.format("input tokens"), COUNT),
    Field("output_tokens", values.read_count, _COUNT_OF.format("output tokens"), COUNT),
    Field("streams", values.read_count, "At most so many exchanges under way at the same time.", COUNT),
    Field("per", values.choice(tuple(PERIODS)), "The window; it slides.", {"enum": list(PERIODS)}),
    _BY,
)
"""`when`, a condition, may stand beside these."""

AMOUNT = {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]{1,6})?$|\$\{", "exclusiveMinimum": 0}
BUDGET: tuple[Field, ...] = (
    _NAME,
    Field("tokens", values.read_count, "So many tokens, input and output together.", COUNT),
    Field("money", read_amount, "So much money, in the currency of the prices.", AMOUNT),
    Field("per", values.choice(WINDOWS), "The window of the calendar, in UTC.", {"enum": list(WINDOWS)}),
    Field("action", values.choice(ACTIONS), "audit: recorded and told in a header. warn: and in the log. block: nothing new is let in. cut: and what "
          "runs is ended.", {"enum": list(ACTIONS)}, default="block"),
    _BY,
)
