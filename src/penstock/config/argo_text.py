"""The text of our file that an argo-proxy configuration becomes."""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from penstock.config.settings import Address

NOTICES = ("IMPORTANT AUTHENTICATION NOTICE FROM ARGO", "AUTHENTICATION NOTICE FROM ARGO")
"""How Argo's gateway begins the text with which it refuses a user, with 200."""
_HEAD = """\
# Made of {file}
# by `penstock config import argo`. `penstock check --probe` tells whether it is right and whether Argo answers;
# docs/from-argo-proxy.md tells what is different.
"""


@dataclass(slots=True)
class Written:
    """What is to be written."""

    file: str
    user: str | None = None
    user_from_key: bool = False
    listen: Address | None = None
    socket: str | None = None
    base: str = ""
    openai_base: str = ""
    anthropic_base: str = ""
    legacy: bool = False
    real_stream: bool = True
    mode: str = "force"
    test: str | None = None
    first_content: str | None = None
    log_file: str | None = None
    resolve: dict[str, str] = field(default_factory=dict[str, str])


def write(written: Written) -> str:
    """Top-level keys, then the providers, each with the comment that it needs."""
    lines: list[str] = [_HEAD.format(file=" ".join(written.file.split()))]
    if written.socket is not None:
        lines.append(f"socket: {_scalar(written.socket)}")
    if written.listen is not None:
        lines.append(f"listen: {_scalar(str(written.listen))}")
        if written.listen.port == 4271:  # the admin plane's, unless it is told otherwise
            lines.append("admin: 127.0.0.1:4272")
    if written.test is not None:
        lines += ["# Each provider is asked for its models when the gateway starts; one that does not answer in this time is a warning.",
                  f"connection_test_timeout: {written.test}"]
    if written.first_content is not None:
        lines.append(f"timers: {{first_content: {written.first_content}}}")
    if written.log_file is not None:
        lines.append(f"log: {{file: {_scalar(written.log_file)}}}")
    if written.resolve:
        lines += ["resolve:", *(f'  "{target}": {_scalar(address)}' for target, address in written.resolve.items())]
    lines += ["providers:", *(_legacy(written) if written.legacy else _openai(written)), *_anthropic(written)]
    return "\n".join(lines) + "\n"


def _openai(written: Written) -> list[str]:
    return [
        "  # Chat, Completions and Embeddings.",
        "  argo:",
        "    protocol: openai_chat",
        f"    base_url: {_scalar(written.openai_base)}",
        *_who(written),
        "    model_names: argo",
        *_notices(),
    ]


def _anthropic(written: Written) -> list[str]:
    mode = [f"    anthropic_stream_mode: {written.mode}"] if written.mode != "force" else []
    return [
        "  # Messages.",
        "  argo-anthropic:",
        "    protocol: anthropic",
        f"    base_url: {_scalar(written.anthropic_base)}",
        *_who(written),
        "    model_names: argo",
        *mode,
        *_notices(),
    ]


def _legacy(written: Written) -> list[str]:
    return [
        "  # Argo's older gateway, with its own JSON.",
        "  argo-legacy:",
        "    protocol: argo_legacy",
        f"    base_url: {_scalar(written.base)}",
        *_who(written),
        f"    real_stream: {'true' if written.real_stream else 'false'}",
        *_notices(),
    ]


def _who(written: Written) -> list[str]:
    return ["    user_from: api_key"] if written.user_from_key else [f"    user: {_scalar(written.user or '')}"]


def _notices() -> list[str]:
    return ["    notices:", *(f"      - {words}" for words in NOTICES)]


def _scalar(text: str) -> str:
    """`text` as a YAML string, quoted where it needs it; a `${` in it stays one."""
    shown = yaml.safe_dump(text.replace("${", "$${"), default_flow_style=True, allow_unicode=True, width=10_000)
    return shown.removesuffix("\n").removesuffix("...").rstrip()
