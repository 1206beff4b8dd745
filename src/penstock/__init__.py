"""Penstock: a self-hosted gateway that carries streamed LLM answers unchanged and accounts for each of them.

The rooms, top to bottom; a room imports only rooms below it (`[tool.importlinter]` in `pyproject.toml` holds this):

    cli -> app -> config -> server | admin -> lab -> exchange
    -> upstream | ledger | capture | dedup | stores | telemetry -> pipeline
    -> translate | providers | admission | policy | routing | pricing -> protocols -> wire -> vocabulary

`docs/life-of-a-request.md` walks one request through them.
"""

__version__ = "0.1.0"
