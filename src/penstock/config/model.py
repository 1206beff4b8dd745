"""Every key of the file, once: how it is read, what it means, what an editor may offer. `load`, `schema` and the documents follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from penstock.config import values
from penstock.config.document import Scalar

Fragment = Mapping[str, object]
"""A piece of JSON Schema."""


@dataclass(frozen=True, slots=True)
class Field:
    """One key with a scalar, or (`many`) a list of scalars."""

    name: str
    read: Callable[[Scalar], object]
    """Raises `Unfit`."""
    means: str
    fragment: Fragment
    many: bool = False
    default: object = None
    """As an editor should show it; `None`: none to show."""
    variable: str | None = None
    """The environment's variable that overrides the file."""


@dataclass(frozen=True, slots=True)
class Group:
    """One key with keys of its own."""

    name: str
    fields: tuple[Field, ...]
    means: str


STRING: Fragment = {"type": "string", "minLength": 1}
_SIZE: Fragment = {"type": ["integer", "string"], "pattern": r"^[0-9]+ *([KMG]i?B|[KMG]|B)?$|\$\{", "minimum": 1}
_FLAG: Fragment = {"type": ["boolean", "string"], "pattern": r"^(true|false)$|\$\{"}
_COUNT: Fragment = {"type": ["integer", "string"], "pattern": r"^[0-9]+$|\$\{", "minimum": 1}
_ADDRESS: Fragment = {"type": ["string", "integer"], "pattern": r"^(.+:)?[0-9]{1,5}$|\$\{"}

PROTOCOLS: tuple[str, ...] = ("openai", "anthropic", "gemini", "openai_chat", "openai_responses", "anthropic_messages")
AUTHS: tuple[str, ...] = ("bearer", "x-api-key", "api-key", "x-goog-api-key")

TOP: tuple[Field | Group, ...] = (
    Field("listen", values.read_address, "Where clients connect: HOST:PORT.", _ADDRESS, default="127.0.0.1:4270", variable="PENSTOCK_LISTEN"),
    Field("admin", values.read_address, "Where the admin plane listens: HOST:PORT.", _ADDRESS, default="127.0.0.1:4271", variable="PENSTOCK_ADMIN"),
    Field("socket", values.read_path, "A unix socket for clients (mode 0600), instead of listen.", STRING, variable="PENSTOCK_SOCKET"),
    Field("data_dir", values.read_path, "Where ledger and tokens are kept.", STRING, default="~/.local/share/penstock", variable="PENSTOCK_DATA_DIR"),
    Field("token", values.read_secret, "What clients must send to enter; 'auto' makes one and keeps it in the data directory.", STRING,
          variable="PENSTOCK_TOKEN"),
    Field("hosts", values.read_host, "Host names, besides this machine's own, under which clients may ask.", STRING, many=True,
          variable="PENSTOCK_HOSTS"),
    Field("retention", values.read_days, "Days for which the ledger keeps its rows (their daily sums stay), or 'forever'.",
          {"type": ["integer", "string"], "minimum": 1, "pattern": r"^([0-9]+ *(d|days?)?|forever)$|\$\{"}, default=90,
          variable="PENSTOCK_RETENTION"),
    Field("transparent", values.read_flag, "Pass requests and answers with no byte added or taken out; usage is not asked for then.", _FLAG,
          default=False, variable="PENSTOCK_TRANSPARENT"),
    Field("drop_headers", values.read_header_name, "Further request headers that no provider gets.", STRING, many=True),
    Field("drop_response_headers", values.read_header_name, "Further answer headers that no client gets.", STRING, many=True),
    Group("limits", (
        Field("max_frame", values.read_size, "The longest frame that is held until it is whole.", _SIZE, default="64MiB"),
        Field("held_total", values.read_size, "All incomplete frames of all streams together.", _SIZE, default="256MiB"),
        Field("body", values.read_size, "The longest request body that is read for its model.", _SIZE, default="64MiB"),
        Field("peeked_total", values.read_size, "All such bodies together; beyond it the answer is 503.", _SIZE, default="256MiB"),
    ), "Bounds on memory, in bytes or with KiB, MiB, GiB."),
    Group("ledger", (
        Field("url", values.read_database_url, "A database instead of SQLite in the data directory: postgresql://... or sqlite:///...", STRING,
              variable="PENSTOCK_LEDGER_URL"),
        Field("queue", values.read_count, "Entries that may wait in memory before they go to the spill file.", _COUNT, default=10_000),
    ), "Where every exchange is written down."),
    Group("upstream", (
        Field("connect", values.read_seconds, "The longest time for name, connection and TLS together: seconds, or with ms, s, m.",
              {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)? *(ms|s|m|h)?$|\$\{", "exclusiveMinimum": 0}, default="10s"),
        Field("ca_file", values.read_path, "A PEM file with further certificate authorities.", STRING),
    ), "Connections to providers."),
)

PROVIDER: tuple[Field, ...] = (
    Field("protocol", values.choice(PROTOCOLS), "What it speaks. openai is both openai_chat and openai_responses; the long names restrict it to one.",
          {"enum": list(PROTOCOLS)}),
    Field("base_url", values.read_base_url, "Where it is: https://..., http://... or unix:/path/to.sock. Left out: its maker's address.", STRING),
    Field("api_key", values.read_secret, "The key for every request; clients' own stay in the house then. \"${NAME}\" takes it from a variable.",
          STRING),
    Field("api_key_file", values.read_path, "A file that holds the key.", STRING),
    Field("auth", values.choice(AUTHS), "How the key is sent. Left out: the protocol's way. api-key is for Azure's v1 URLs.", {"enum": list(AUTHS)}),
    Field("ask_usage", values.read_flag, "Ask for usage in Chat streams where the client did not; the extra frame is taken out again.", _FLAG,
          default=True),
    Field("drop_headers", values.read_header_name, "Further request headers that this provider does not get.", STRING, many=True),
)
"""`headers`, a mapping, stands beside these."""

HEADERS_MEAN = "Headers sent with every request, in place of the client's of the same name."

ROUTE: tuple[Field, ...] = (
    Field("model", values.read_glob, "The model's name as clients write it; *, ? and [abc] are wildcards.", STRING),
    Field("provider", values.read_text, "The name of the provider that takes it.", STRING),
    Field("rename", values.read_model, "What the provider calls the model.", STRING),
)


SYNONYMS: Mapping[str, str] = {
    "kind": "protocol", "type": "protocol", "url": "base_url", "api_base": "base_url", "endpoint": "base_url", "key": "api_key", "apikey": "api_key",
    "token_file": "api_key_file", "key_file": "api_key_file", "bind": "listen", "host": "listen", "port": "listen", "address": "listen",
    "allowed_hosts": "hosts", "data": "data_dir", "datadir": "data_dir", "database": "ledger", "models": "routes", "route": "routes",
    "provider": "providers", "name": "model", "alias": "rename", "to": "rename", "target": "provider", "match": "model",
}
"""Words that people write for ours; offered where nothing closer is found."""
