"""What the gateway and its models ask of messages, `system` and `prompt`. The order of the steps is its own proxy's."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, cast

from penstock.protocols.contract import BadRequest

Fields = dict[str, Any]
CONTINUE: Final = "[continue]"
_NO_SYSTEM: Final = ("o1mini", "o1preview")
_SYSTEMS: Final = ("system", "developer")


class Family(Enum):
    """Whose model it is, which decides how tools are told."""

    OPENAI = "gpt"
    CLAUDE = "claude"
    GEMINI = "gemini"
    OTHER = ""
    """Tools can only be told in words."""


def family_of(model: str) -> Family:
    """By the model's internal id."""
    low = model.lower()
    return next((family for family in (Family.CLAUDE, Family.GEMINI, Family.OPENAI) if family.value in low), Family.OTHER)


def takes_no_system(model: str) -> bool:
    """The first models of the o-series refuse system messages."""
    return model.lower().replace("-", "").endswith(_NO_SYSTEM)


def read_messages(fields: Fields) -> list[Fields] | None:
    """A copy of the messages, whose members may be set; `None` where there are none. Raises `BadRequest`."""
    value = fields.get("messages")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in cast("list[Any]", value)):
        raise BadRequest("The field 'messages' must be a list of objects.")
    return [dict(message) for message in cast("list[Fields]", value)]


def put_right(messages: list[Fields], model: str, family: Family) -> list[Fields]:
    """Messages as the model takes them."""
    if family in (Family.CLAUDE, Family.GEMINI) and not any(message.get("role") == "user" for message in messages):
        messages.append({"role": "user", "content": CONTINUE})
    if family is Family.GEMINI:
        for message in messages:
            if message.get("role") in _SYSTEMS and isinstance(message.get("content"), list):
                message["content"] = "\n\n".join(texts_of(message["content"])).strip()
    if takes_no_system(model):
        for message in messages:
            if message.get("role") in _SYSTEMS:
                message["role"] = "user"
    return messages


def join_prompt(fields: Fields, model: str) -> None:
    """`system` becomes one text and `prompt` a list of one, in place. Raises `BadRequest`."""
    system, prompt = fields.get("system"), fields.get("prompt")
    if system is not None:
        fields["system"] = "\n\n".join(dict.fromkeys(_strings(system, "system"))).strip()
    if prompt is not None:
        fields["prompt"] = ["\n\n".join(_strings(prompt, "prompt"))]
    if takes_no_system(model) and prompt is not None and fields.get("system"):
        fields["prompt"] = [fields.pop("system"), *fields["prompt"]]


def _strings(value: Any, name: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return cast("list[str]", value)
    raise BadRequest(f"The field {name!r} must be a text or a list of texts: this provider takes no tokens.")


def id_in(fields: Fields, name: str) -> Any:
    """What may be looked up by; what a list or an object stands for is nothing."""
    value = fields.get(name)
    return None if isinstance(value, (list, dict)) else value


def texts_of(content: Any) -> list[str]:
    """The texts in a message's content, whichever of its forms it has."""
    if isinstance(content, str):
        return [content]
    found: list[str] = []
    for part in cast("list[Any]", content) if isinstance(content, list) else []:
        text = cast("Fields", part).get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            found.append(text)
    return found
