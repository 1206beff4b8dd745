"""The file that `penstock config init` writes: nothing in it is set, everything in it can be."""

STARTER = """\
# Penstock's configuration. Nothing has to be set: as it stands, OpenAI, Anthropic and Gemini are the providers, with the keys of
# OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY where these are set, and with each client's own key where they are not.
# Take the '# ' away where you want something else. `penstock check` tells what is wrong; docs/configuration.md has all keys.

# Where clients connect. On another address than loopback a token is needed, or keys (`penstock keys`), or admission: {open: true}.
# listen: 127.0.0.1:4270
# token: auto                      # made at the first start, and kept in the data directory

# Whom to ask. With this key exactly these exist. What is below /{name}/ goes to that provider as it is.
# providers:
#   openai:    {protocol: openai, base_url: https://api.openai.com/v1, api_key: "${OPENAI_API_KEY}"}
#   anthropic: {protocol: anthropic, api_key: "${ANTHROPIC_API_KEY}"}
#   local:     {protocol: openai_chat, base_url: http://127.0.0.1:8000/v1, terminal: finish_reason}

# Which provider takes which model; the first match wins, and where none matches the first provider of the path's protocol.
# routes:
#   - {model: "claude-*", provider: anthropic}
#   - {model: fast, provider: openai, rename: gpt-4o-mini}

# How long each part of an answer may take: seconds, or with ms, s, m, h. Also on a provider, and on a route.
# timers: {first_content: 15m, idle: 270s, content: 10m}
# keepalive: 15s
# retries: {connect: 2, status: 0}

# Dial this address for a host and port, as `curl --resolve` does; certificates are checked by the name all the same.
# resolve: {"api.example.com:443": 192.0.2.7}

# Days for which the ledger keeps its rows.
# retention: 90

# log: {level: info, format: auto}
"""
