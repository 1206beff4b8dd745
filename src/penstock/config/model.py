"""Every key of the file, once: how it is read, what it means, what an editor may offer. `load`, `schema` and the documents follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penstock.admission.settings import MODES
from penstock.config import values
from penstock.config.conduct_keys import CONDUCT, STREAM_MODE
from penstock.config.guard_keys import HOLD
from penstock.config.shape import ADDRESS, COUNT, COUNT_OR_OFF, DAYS, FLAG, MONEY, PART, SECONDS, SECONDS_OR_OFF, SIZE, STRING, WORD, Field, Group

PROTOCOLS: tuple[str, ...] = ("openai", "anthropic", "gemini", "openai_chat", "openai_responses", "anthropic_messages", "argo_legacy")
LEVELS: tuple[str, ...] = ("debug", "info", "warning", "error")
FORMATS: tuple[str, ...] = ("auto", "human", "json")
MODEL_NAMES: tuple[str, ...] = ("as_written", "argo")
AUTHS: tuple[str, ...] = ("bearer", "x-api-key", "api-key", "x-goog-api-key")

TOP: tuple[Field | Group, ...] = (
    Field("listen", values.read_address, "Where clients connect: HOST:PORT.", ADDRESS, default="127.0.0.1:4270", variable="PENSTOCK_LISTEN"),
    Field("admin", values.read_address, "Where the admin plane listens: HOST:PORT.", ADDRESS, default="127.0.0.1:4271", variable="PENSTOCK_ADMIN"),
    Field("socket", values.read_path, "A unix socket for clients (mode 0600), instead of listen.", STRING, variable="PENSTOCK_SOCKET"),
    Field("data_dir", values.read_path, "Where ledger and tokens are kept.", STRING, default="~/.local/share/penstock", variable="PENSTOCK_DATA_DIR"),
    Field("token", values.read_secret, "What clients must send to enter; 'auto' makes one and keeps it in the data directory.", WORD,
          variable="PENSTOCK_TOKEN"),
    Field("hosts", values.read_host, "Host names, besides this machine's own, under which clients may ask.", STRING, many=True,
          variable="PENSTOCK_HOSTS"),
    Field("retention", values.read_days, "Days for which the ledger keeps its rows (their daily sums stay), or 'forever'.", DAYS, default=90,
          variable="PENSTOCK_RETENTION"),
    Field("transparent", values.read_flag, "Pass requests and answers with no byte added or taken out; usage is not asked for then.", FLAG,
          default=False, variable="PENSTOCK_TRANSPARENT"),
    Field("legacy_argo", values.read_flag, "Send everything to legacy Argo: the argo_legacy provider of this file, or the one that ARGO_USER names.",
          FLAG, default=False, variable="PENSTOCK_LEGACY_ARGO"),
    Field("real_stream", values.read_flag, "The same key of every argo_legacy provider; without meaning elsewhere (see pseudo_stream).", FLAG,
          variable="PENSTOCK_REAL_STREAM", second=True),
    Field("drop_headers", values.read_header_name, "Further request headers that no provider gets.", STRING, many=True),
    Field("drop_response_headers", values.read_header_name, "Further answer headers that no client gets.", STRING, many=True),
    Group("limits", (
        Field("max_frame", values.read_size, "The longest frame that is held until it is whole.", SIZE, default="64MiB"),
        Field("assembly", values.read_size, "What is held of one stream that is put together to a body; beyond it the answer is 502.", SIZE,
              default="64MiB"),
        Field("held_total", values.read_size, "All incomplete frames of all streams together.", SIZE, default="256MiB"),
        Field("body", values.read_size, "The longest request body that is read for its model.", SIZE, default="64MiB"),
        Field("noted", values.read_size, "What is noted of one answer so that it can be told again; beyond it it cannot be.", SIZE, default="8MiB"),
        Field("noted_total", values.read_size, "All that is noted and takes memory, the requests among it; the oldest answers go first.", SIZE,
              default="64MiB"),
        Field("noted_on_disk", values.read_flag, "Notes of streams lie in files of the data directory that have no name; false: in memory.", FLAG,
              default=True),
        Field("noted_answers", values.read_count, "Whole answers that are kept at the same time.", COUNT, default=1000),
        Field("peeked_total", values.read_size, "All such bodies together; beyond it the answer is 503.", SIZE, default="256MiB"),
        Field("head", values.read_size, "A request's target and headers.", SIZE, default="32KiB"),
        Field("head_fields", values.read_count, "Headers of one request.", COUNT, default=100),
        Field("head_time", values.read_seconds, "The longest time in which a request's head must have come.", SECONDS, default="10s"),
        Field("body_gap", values.read_seconds, "The longest time between two bytes of a request's body.", SECONDS, default="60s"),
        Field("keepalive_idle", values.read_seconds_or_off, "For which a client's connection is kept open without a request.", SECONDS_OR_OFF,
              default="75s"),
        Field("connections_per_client", values.read_count_or_off, "Open connections from one address.", COUNT_OR_OFF, default="off"),
        Field("max_streams", values.read_count_or_off, "Exchanges under way at the same time, all providers together.", COUNT_OR_OFF, default="off"),
    ), "Bounds on what clients may send and hold: bytes or with KiB, MiB, GiB; seconds or with ms, s, m, h; counts."),
    Group("ledger", (
        Field("url", values.read_database_url, "A database instead of SQLite in the data directory: postgresql://... or sqlite:///...", STRING,
              variable="PENSTOCK_LEDGER_URL"),
        Field("queue", values.read_count, "Entries that may wait in memory before they go to the spill file.", COUNT, default=10_000),
        Field("preview", values.read_count_or_off, "Characters of the last user message that are kept with each row; prompts are private, so: off.",
              COUNT_OR_OFF, default="off"),
    ), "Where every exchange is written down."),
    Group("upstream", (
        Field("connect", values.read_seconds, "Another name of timers.connect.", SECONDS, default="10s"),
        Field("ca_file", values.read_path, "A PEM file with further certificate authorities.", STRING),
    ), "Connections to providers."),
    Field("connection_test_timeout", values.read_seconds_or_off,
          "Ask each provider for its models when the gateway starts, and warn of those that do not answer within this time.", SECONDS_OR_OFF,
          default="off"),
    *CONDUCT,
    STREAM_MODE,
    Group("stream_retry_dumps", (
        Field("keep_days", values.read_days, "Days for which they are kept, or 'forever'.", DAYS, default=7),
        Field("most", values.read_count, "How many are kept.", COUNT, default=100),
        Field("total_bytes", values.read_size, "Of all of them together.", SIZE, default="256MiB"),
    ), "What nonstream_mode: retry writes down of each request that was refused without streaming."),
    Group("log", (
        Field("level", values.choice(LEVELS), "The least weight of a line that is written.",
              {"enum": list(LEVELS)}, default="info", variable="PENSTOCK_LOG_LEVEL"),
        Field("format", values.choice(FORMATS), "human, json, or auto: human on a terminal and json elsewhere.", {"enum": list(FORMATS)},
              default="auto", variable="PENSTOCK_LOG_FORMAT"),
        Field("file", values.read_path, "A file instead of standard error.", STRING, variable="PENSTOCK_LOG_FILE"),
    ), "One line per exchange, and the gateway's own messages."),
    Group("capture", (
        Field("patterns", values.read_pattern, "Regular expressions whose matches are masked in captures; with a group named secret, that group.",
              STRING, many=True),
        Field("mask_keys", values.read_flag, "Mask in bodies what looks like a key or a password; heads and URLs always are.", FLAG, default=True),
        Field("max_bytes", values.read_capture_size, "Of one capture, where its order says nothing.", SIZE, default="8MiB"),
        Field("total_bytes", values.read_size, "Of all captures on the disk.", SIZE, default="256MiB"),
        Field("keep_days", values.read_days, "Days for which captures are kept, or 'forever'.", DAYS, default=7),
        Field("most", values.read_count, "Captures on the disk.", COUNT, default=200),
    ), "What holds for captures; they are switched on by a command and never here."),
    *HOLD,
)

USERS: tuple[Field, ...] = (
    Field("user", values.read_user, "Who is named in every request's body, and in the place of a key where there is no api_key.", WORD),
    Field("user_from", values.choice(("api_key",)), "api_key: each client's own key is the user, in the body and towards the provider.",
          {"enum": ["api_key"]}),
    Field("model_names", values.choice(MODEL_NAMES), "argo: clients' names of models are looked up in the provider's list, as argo-proxy did.",
          {"enum": list(MODEL_NAMES)}, default="as_written"),
    Field("notices", values.read_notice, "How an answer of 200 begins that is a refusal and no answer; it becomes an error.", STRING, many=True),
)
"""What gateways ask for that know their users by name; not for Gemini's protocol."""

PROVIDER: tuple[Field | Group, ...] = (
    Field("protocol", values.choice(PROTOCOLS), "What it speaks. openai is both openai_chat and openai_responses; the long names restrict it to one.",
          {"enum": list(PROTOCOLS)}),
    Field("base_url", values.read_base_url, "Where it is: https://..., http://... or unix:/path/to.sock. Left out: its maker's address.", STRING),
    Field("api_key", values.read_secret, "The key for every request; clients' own stay in the house then. \"${NAME}\" takes it from a variable.",
          WORD),
    Field("api_key_file", values.read_path, "A file that holds the key.", STRING),
    Field("auth", values.choice(AUTHS), "How the key is sent. Left out: the protocol's way. api-key is for Azure's v1 URLs.", {"enum": list(AUTHS)}),
    Field("ask_usage", values.read_flag, "Ask for usage in Chat streams where the client did not; the extra frame is taken out again.", FLAG,
          default=True),
    Field("real_stream", values.read_flag, "For argo_legacy: streams are asked for as raw text; false: as whole answers, told as streams.", FLAG,
          default=True),
    Field("drop_headers", values.read_header_name, "Further request headers that this provider does not get.", STRING, many=True),
    *USERS,
    *CONDUCT,
    replace(STREAM_MODE, variable=None),
)
"""`headers`, a mapping, stands beside these; beside those of the top, `providers`, `routes` and `resolve` (`config.resolve`)."""

HEADERS_MEAN = "Headers sent with every request, in place of the client's of the same name."

ROUTE: tuple[Field | Group, ...] = (
    Field("model", values.read_glob, "The model's name as clients write it; *, ? and [abc] are wildcards.", STRING),
    Field("provider", values.read_text, "The name of the provider that takes it.", STRING),
    Field("rename", values.read_model, "What the provider calls the model.", STRING),
    Field("admission", values.choice(MODES), "Who may use this route, where it differs from admission.mode.", {"enum": list(MODES)}),
    *CONDUCT,
)


PRICE: tuple[Field | Group, ...] = (
    Field("provider", values.read_glob, "The provider's name; *, ? and [abc] are wildcards. Left out: any.", STRING),
    Field("model", values.read_glob, "The model's name, as the provider says it or as it was asked for; wildcards as above. Left out: any.", STRING),
    Field("tier", values.read_text, "Only answers of this service tier, by the provider's word: batch, priority, flex, ...", STRING),
    Field("input", values.read_usd, "US dollars per million tokens that are read anew.", MONEY),
    Field("output", values.read_usd, "US dollars per million tokens of answers.", MONEY),
    Field("cache_read", values.read_usd, "Of input read from the cache. Left out: as input.", MONEY),
    Field("cache_write", values.read_usd, "Of input written to the cache for five minutes. Left out: as input.", MONEY),
    Field("cache_write_1h", values.read_usd, "Of input written to the cache for an hour. Left out: as cache_write.", MONEY),
    Field("audio_input", values.read_usd, "Of sound that is read. Left out: as input.", MONEY),
    Field("reasoning", values.read_usd, "Of thinking. Left out: as output.", MONEY),
    Field("audio_output", values.read_usd, "Of sound that is made. Left out: as output.", MONEY),
    Field("image_input", values.read_usd, "Of pictures that are read. Left out: as input.", MONEY),
    Field("image_output", values.read_usd, "Of pictures that are made. Left out: as output.", MONEY),
    Field("video_input", values.read_usd, "Of film that is read. Left out: as input.", MONEY),
    Field("video_output", values.read_usd, "Of film that is made. Left out: as output.", MONEY),
    Field("cache_read_audio", values.read_usd, "Of sound read from the cache. Left out: as cache_read, or else as audio_input.", MONEY),
    Field("cache_read_image", values.read_usd, "Of pictures read from the cache. Left out: as cache_read, or else as image_input.", MONEY),
    Field("cache_read_video", values.read_usd, "Of film read from the cache. Left out: as cache_read, or else as video_input.", MONEY),
    Field("web_search", values.read_usd, "US dollars per thousand searches of the web that the provider ran.", MONEY),
    Group("long", (
        Field("above", values.read_count, "Tokens of context, cached ones too, above which these prices hold for the whole request.", COUNT),
        Field("input", values.read_usd, "As above.", MONEY),
        Field("output", values.read_usd, "As above.", MONEY),
        Field("cache_read", values.read_usd, "As above.", MONEY),
        Field("cache_write", values.read_usd, "As above.", MONEY),
        Field("cache_write_1h", values.read_usd, "As above.", MONEY),
    ), "Prices of long contexts; what is left out costs what it costs in short ones."),
    Field("like", values.read_text, "Take the price list of this maker: anthropic, openai, google, groq, ...", STRING),
    Field("discount", values.read_discount, "What is taken off the price: 15%.", PART),
)


SYNONYMS: Mapping[str, str] = {
    "kind": "protocol", "type": "protocol", "url": "base_url", "api_base": "base_url", "endpoint": "base_url", "key": "api_key", "apikey": "api_key",
    "token_file": "api_key_file", "key_file": "api_key_file", "bind": "listen", "host": "listen", "port": "listen", "address": "listen",
    "allowed_hosts": "hosts", "data": "data_dir", "datadir": "data_dir", "database": "ledger", "models": "routes", "route": "routes",
    "provider": "providers", "name": "model", "alias": "rename", "to": "rename", "target": "provider", "match": "model",
    "timeout": "timers", "timeouts": "timers", "connect_timeout": "connect", "idle_timeout": "idle", "read_timeout": "idle",
    "tool_timeout": "tool_call", "total_timeout": "max_duration", "heartbeat": "keepalive", "ping": "keepalive", "concurrency": "max_streams",
    "stream_mode": "nonstream_mode", "chunk_chars": "pseudo_chunk_chars", "interval_ms": "pseudo_interval_ms",
    "resolve_overrides": "resolve", "dns": "resolve", "username_passthrough": "user_from", "argo_base_url": "base_url",
    "skip_url_validation": "connection_test_timeout", "attempts": "retries", "logging": "log", "log_level": "log",
    "guard": "guards", "policies": "guards", "guardrails": "guards", "prompt_guard": "guards",
}
"""Words that people write for ours; offered where nothing closer is found."""
