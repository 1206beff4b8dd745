"""Users: providers that ask who it is by a name, in the body and in the place of a key.

Argo's gateway takes a user name as the credential (Bearer or `x-api-key`), and wants it in the body: `user` at its OpenAI endpoints
(platform.openai.com/docs/api-reference/chat/create#chat-create-user), `metadata.user_id` at its Messages endpoint
(docs.anthropic.com/en/api/messages). A name is no secret, but it is an identity: whose it is, is said by the configuration (`user`) or by
each client (`user_from`), and never by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_plus

import msgspec

from penstock.providers.credentials import ACCOUNT_HEADER, CREDENTIAL_HEADERS, bare, is_login
from penstock.providers.headers import Header
from penstock.vocabulary.ids import Operation
from penstock.wire.json import find_fields, set_field, splice

_ORDER = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_LONGEST = 256
"""Characters of a user's name."""
_NAMED = frozenset({Operation.CHAT, Operation.COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS})
"""Operations whose body has a field `user`."""


class Unnameable(ValueError):
    """The body has no place for a user. Its text is a sentence for the client."""


def user_of(headers: Sequence[Header], query: str, first: str) -> str | None:
    """The user that a client names in the place of a key, without its scheme; `None`: it names none.

    `first`: the header that is looked at first. A login (somebody's subscription) is no name and is not read as one, nor is what holds
    blanks or is longer than any name.
    """
    stated = {name.lower(): value for name, value in reversed(headers)}
    own = first.encode()
    for name in (own, *_ORDER) if own in _ORDER else _ORDER:
        value = bare(stated.get(name, b"").strip())
        if value:
            return None if is_login(value) else _plain(value.decode("latin-1"))
    for part in query.split("&"):
        name, _, text = part.partition("=")
        if name == "key" and text:
            return _plain(unquote_plus(text))
    return None


def names_user(operation: Operation) -> bool:
    """Has the body of this operation a place for a user?"""
    return operation in _NAMED or operation is Operation.MESSAGES


def put_user(operation: Operation, body: bytes, user: str) -> bytes:
    """`body` with `user` where its protocol has it, in the place of whatever was stated there, and no other byte changed.

    Raises `Unnameable` where the body is no JSON object, or states `metadata` that is none.
    """
    name = msgspec.json.encode(user)
    try:
        if operation is not Operation.MESSAGES:
            return set_field(body, "user", name)
        fields = find_fields(body, ("metadata",))
        if not fields:
            return set_field(body, "metadata", b'{"user_id":%b}' % name)
        return splice(body, [(field.start, field.end, _with_user_id(body[field.start : field.end], name)) for field in fields])
    except Unnameable:
        raise
    except ValueError:
        raise Unnameable("The request body must be a JSON object: the user is put into it.") from None


def without_credentials(headers: Sequence[Header]) -> list[Header]:
    """`headers` without any credential, logins among them: whoever asks for a name has no use for them."""
    return [pair for pair in headers if pair[0].lower() not in CREDENTIAL_HEADERS and pair[0].lower() != ACCOUNT_HEADER]


def _with_user_id(metadata: bytes, name: bytes) -> bytes:
    if metadata == b"null":
        return b'{"user_id":%b}' % name
    if not metadata.startswith(b"{"):
        raise Unnameable("The field 'metadata' must be an object: the user is put into it.")
    return set_field(metadata, "user_id", name)


def _plain(text: str) -> str | None:
    """A name that a header and a body can carry."""
    return text if len(text) <= _LONGEST and all("!" <= char <= "~" for char in text) else None
