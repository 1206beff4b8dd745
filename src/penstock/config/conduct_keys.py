"""The keys that may stand at the top, on a provider and on a route: timers, retries, keep-alive and their like."""

from __future__ import annotations

from penstock.config import values
from penstock.config.shape import CHARS_OR_WORDS, COUNT_OR_OFF, FLAG, MILLISECONDS, OFF, RETRIES, SECONDS, SECONDS_OR_OFF, Field, Group

TERMINALS = ("event", "finish_reason")
TAILS = ("events", "content")
MARKERS = ("off", "on")
DISCONNECTS = ("cancel", "drain")
DEDUPS = ("retries", "always", "off")
MODES = ("force", "retry", "passthrough")

TIMERS: tuple[Field, ...] = (
    Field("connect", values.read_seconds, "The longest time for name, connection and TLS together; never off.", SECONDS, default="10s"),
    Field("first_content", values.read_seconds_or_off, "From the request to the first content; thinking counts as waiting.", SECONDS_OR_OFF,
          default="900s"),
    Field("idle", values.read_seconds_or_off, "Between two reads from the provider, once content has come.", SECONDS_OR_OFF, default="270s"),
    Field("content", values.read_seconds_or_off, "Without any content, once some has come; pings do not count.", SECONDS_OR_OFF, default="600s"),
    Field("tool_call", values.read_seconds_or_off, "Without progress of an open tool call's own arguments.", SECONDS_OR_OFF, default="240s"),
    Field("client_stall", values.read_seconds_or_off, "For which a client may take nothing while bytes wait for it.", SECONDS_OR_OFF, default="300s"),
    Field("drain", values.read_seconds_or_off, "For which a running answer may go on once the gateway is told to stop.", SECONDS_OR_OFF,
          default="120s"),
    Field("max_duration", values.read_seconds_or_off, "The whole exchange; there is no such limit unless asked for.", SECONDS_OR_OFF, default="off"),
)

_RETRIES = "{connect: 2, status: 0, first_frame: 0}"

CONDUCT: tuple[Field | Group, ...] = (
    Group("timers", TIMERS, "How long each part of an exchange may take: seconds, or with ms, s, m, h."),
    *(Field(timer.name, timer.read, f"The same as timers.{timer.name}: {timer.means}", timer.fragment, default=timer.default, second=True)
      for timer in TIMERS),
    Group("tool_calls", (
        Field("timeout_secs", values.read_seconds_or_off, "The same as timers.tool_call.", SECONDS_OR_OFF, default="240s"),
    ), "Another name of timers.tool_call.", second=True),
    Group("retries", (
        Field("connect", values.read_retries, "Further tries after no connection was made.", RETRIES, default=2),
        Field("status", values.read_retries, "Further tries after 408, 409, 429 and 5xx; the official clients try three times.", RETRIES,
              default=0),
        Field("first_frame", values.read_retries, "Further tries after an answer below 400 that failed before its first event; it may be billed.",
              RETRIES, default=0),
    ), "Further tries, each only before the client was told anything; off: none.",
        alone=Field("retries", values.only_off(_RETRIES), "No further tries.", OFF)),
    Field("keepalive", values.read_seconds_or_off, "Silence towards the client of a stream after which it is sent a word without meaning.",
          SECONDS_OR_OFF, default="15s"),
    Field("early_head", values.read_seconds_or_off, "After which a stream is opened with 200 although its provider has not begun.",
          SECONDS_OR_OFF, default="30s"),
    Group("on_disconnect", (
        Group("drain", (
            Field("seconds", values.read_seconds_or_off, "For how long it is read on.", SECONDS_OR_OFF, default="60s"),
            Field("tokens", values.read_count_or_off, "For how many further tokens it is read on.", COUNT_OR_OFF, default="off"),
        ), "Read on for the true usage, within these bounds."),
    ), "What becomes of the provider's answer when its client has left: cancel closes it at once, drain reads on for its usage.",
        alone=Field("on_disconnect", values.choice(DISCONNECTS), "cancel or drain.", {"enum": list(DISCONNECTS)}, default="cancel")),
    Field("terminal", values.choice(TERMINALS), "finish_reason: this provider never ends a Chat stream with [DONE].", {"enum": list(TERMINALS)},
          default="event"),
    Field("tail", values.choice(TAILS), "What is kept of the end of a stream that ended badly: its events' times, types and sizes, or the bytes too.",
          {"enum": list(TAILS)}, default="events"),
    Field("nonstream_mode", values.choice(MODES), "How a provider is asked for whole bodies: force asks for a stream and puts the body together, "
          "retry does so once the provider has refused to answer without one, passthrough changes nothing.", {"enum": list(MODES)}),
    Field("pseudo_stream", values.read_flag, "Ask for the whole body where the client wants a stream, and tell it as one.", FLAG, default=False),
    Field("pseudo_chunk_chars", values.read_chars, "Characters of each piece of a pseudo stream's text, or words.", CHARS_OR_WORDS, default="words"),
    Field("pseudo_interval_ms", values.read_milliseconds, "Milliseconds between two pieces of a pseudo stream.", MILLISECONDS, default=0),
    Field("cache_markers", values.read_switch, "on: put a marker of the prompt cache into Messages requests that set none and are long enough.",
          {"enum": [*MARKERS, True, False]}, default="off"),
    Field("dedup", values.choice(DEDUPS), "When an earlier answer is told again, or a running one joined: on evidence of a retry, to every "
          "equal request, or never.", {"enum": [*DEDUPS, False]}, default="retries"),
    Field("dedup_ttl", values.read_seconds, "For how long a whole answer can be told again, from its end.", SECONDS, default="5s"),
    Field("dedup_tool_ttl", values.read_seconds, "The same for turns made only of tool results.", SECONDS, default="15s"),
    Field("max_streams", values.read_count_or_off, "Exchanges under way at the same time: of each provider, and of the route where it stands.",
          COUNT_OR_OFF, default="off"),
)

STREAM_MODE = Field(
    "anthropic_stream_mode", values.choice(MODES), "The name of nonstream_mode for Anthropic providers, where force is the default.",
    {"enum": list(MODES)}, default="force", variable="ANTHROPIC_STREAM_MODE",
)  # fmt: skip
"""At the top and on a provider. Variable and command line beat the whole file."""
