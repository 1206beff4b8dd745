"""The keys of argo-proxy's configuration, versions 1 to 3, that are not carried over, and why; and what it reads from the environment.

Source: argo-proxy's `config.sample.yaml` and its documentation of versions 2.7, 3.0 and 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

_CAPTURE = "no log of ours holds bodies; penstock capture on --count N records the next N exchanges, without their keys"
_IMAGES = "images are neither fetched nor made smaller: what the client wrote goes to the provider"
_FALLBACK = ("no model is put in another one's place: an unknown one is a 404 that names it. For one on purpose, add a route: "
             '{model: NAME, provider: NAME, rename: MODEL}')
_NATIVE = "argo-proxy itself ignores it since version 3: each protocol goes to its own endpoint"

NOT_NEEDED: Mapping[str, str] = {
    "config_version": "Penstock's file has no version",
    "max_log_history": _CAPTURE,
    "dump_requests": _CAPTURE,
    "dump_dir": "captures are kept in data_dir, bounded by capture.total_bytes and capture.keep_days",
    "force_conversion": "a request in its provider's own protocol is never converted",
    "enable_payload_control": _IMAGES,
    "max_payload_size": _IMAGES,
    "image_timeout": _IMAGES,
    "concurrent_downloads": _IMAGES + " (argo-proxy never read this key)",
    "model_refresh_interval_hours": "the list of models is asked for again once it is an hour old, and when a name is not in it",
    "default_chat_model": _FALLBACK,
    "default_embed_model": _FALLBACK,
    "data_dir": "it holds argo-proxy's own data; Penstock keeps its ledger elsewhere (data_dir, else ~/.local/share/penstock)",
    "use_native_openai": _NATIVE,
    "use_native_anthropic": _NATIVE,
    "provider_tool_format": _NATIVE,
    "num_workers": "one process serves everybody",
    "argo_model_url": "it follows from the base URL",
    "argo_message_url": "it follows from the base URL",
    "enable_leaked_tool_fix": "tool calls that leak into text are not repaired: what the provider said is what the client gets",
    "dev_mode": "everything below /argo/ goes to the provider as it is, with or without a mode",
    "admin_password": "the admin plane has a token of its own, in data_dir, and listens on loopback",
}

LEGACY_URLS: Mapping[str, str] = {
    "argo_url": "/api/v1/resource/chat", "argo_stream_url": "/api/v1/resource/streamchat", "argo_embedding_url": "/api/v1/resource/embed",
}
"""Keys that stand for one endpoint each, and what follows the base URL in them. The first from which a base can be told counts."""

VARIABLES: Mapping[str, str] = {
    "ARGO_BASE_URL": "base_url of the providers",
    "SKIP_URL_VALIDATION": "connection_test_timeout: off",
    "USERNAME_PASSTHROUGH": "user_from: api_key on the providers, in the place of user", "USE_LEGACY_ARGO": "the provider argo-legacy",
    "REAL_STREAM": "real_stream of the provider argo-legacy", "DUMP_REQUESTS": "penstock capture on",
    "ARGO_PROXY_CONNECT_TIMEOUT": "timers.connect", "ARGO_PROXY_READ_TIMEOUT": "timers.idle", "ARGO_PROXY_TOTAL_TIMEOUT": "timers.max_duration",
    "ARGO_PROXY_MAX_CONNECTIONS": "limits.max_streams", "ARGO_PROXY_MAX_CONNECTIONS_PER_HOST": "max_streams of the providers",
}
"""Variables that argo-proxy lets override its file, and where the same is said here, where they are not read. (ANTHROPIC_STREAM_MODE is, with
the same meaning, and is therefore not among them.)"""
