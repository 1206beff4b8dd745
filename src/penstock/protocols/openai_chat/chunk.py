"""What is read of one chunk of a Chat or Completions stream, and how: typed first, untyped once more where that fails.

The typed decoders name only what is observed, so everything else is skipped without an object being made for it. What differs between
providers is left untyped (`Any`): `content` is a string, null, or Mistral's list of parts; ids are strings or numbers; `finish_reason` is
null, absent, or an empty string in every chunk. Structs take no part in garbage collection (`gc=False`): they live for one frame and
hold no cycles.

Shapes: platform.openai.com/docs/api-reference/chat-streaming and .../completions; the extensions are named where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import astuple, replace

from penstock.protocols.statuses import members_of
from penstock.vocabulary.errors import UpstreamError
from penstock.vocabulary.usage import NO_KINDS, Kinds, Usage

UNREADABLE = (ValueError, RecursionError)
"""What decoders raise for bytes that are not theirs: malformed JSON, broken UTF-8, numbers out of range, nesting without end."""

NO_RAW = Raw()
_SOME_RAW = Raw(b"[null]")
_ID_LIMIT = 512
_MESSAGE_LIMIT = 8192


class Function(Struct, gc=False):
    """`function` or, for custom tools, `custom`, of a call; also the legacy `function_call`."""

    name: Any = None
    arguments: Any = None
    input: Any = None


class CallDelta(Struct, gc=False):
    index: Any = None
    id: Any = None
    function: Function | None = None
    custom: Function | None = None


class Delta(Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    """DeepSeek and most others."""
    reasoning: Any = None
    """Groq, OpenRouter, vLLM."""
    refusal: Any = None
    audio: Any = None
    tool_calls: list[CallDelta] | None = None
    function_call: Function | None = None
    reasoning_details: Raw = NO_RAW
    """OpenRouter; alone where the thought is encrypted."""
    images: Raw = NO_RAW
    """OpenRouter."""


class Choice(Struct, gc=False):
    index: int = 0
    delta: Delta | None = None
    finish_reason: Any = None
    text: Any = None
    """Legacy Completions."""
    error: Any = None
    """OpenRouter."""


class Groq(Struct, gc=False):
    """`x_groq`: Groq's own envelope. Usage comes in it, in the chunk with the finish reason."""

    id: Any = None
    usage: Any = None
    error: Any = None


class Chunk(Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Groq | None = None


class NamedChunk(Chunk, gc=False):
    """A chunk with what is the same in every chunk of a stream, and so is read only until it is known."""

    id: Any = None
    model: Any = None
    created: Any = None
    service_tier: Any = None


class _PlainDelta(Struct, gc=False):
    content: Annotated[str, Meta(min_length=1)]
    tool_calls: None = None
    function_call: None = None


class _PlainChoice(Struct, gc=False):
    delta: _PlainDelta
    index: Literal[0] = 0
    finish_reason: Literal["", None] = None
    error: None = None


class _PlainChunk(Struct, gc=False):
    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None


check_plain = msgspec.json.Decoder(_PlainChunk).decode
"""Raises one of `UNREADABLE` unless the chunk is some text of the first choice and says nothing else of what is observed. That is most chunks of most
streams, and so it is one question."""
decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_named = msgspec.json.Decoder(NamedChunk).decode


def decode_any(data: bytes) -> Any:
    """Any JSON, read leniently: half a surrogate pair, control characters in strings and NaN, which do occur on the wire, are let
    through. Raises one of `UNREADABLE`."""
    try:
        return msgspec.json.decode(data)
    except UNREADABLE:
        return json.loads(data.decode("utf-8", "replace"), strict=False)


def encode_any(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """UTF-8 JSON of what `decode_any` gave. Halves of surrogate pairs, which have no UTF-8, go out as the escapes that
    they came as; integers beyond 64 bits as their digits."""
    try:
        return msgspec.json.encode(value, enc_hook=enc_hook)
    except (UnicodeError, OverflowError):
        return json.dumps(value, default=enc_hook, separators=(",", ":")).encode()


def lenient_chunk(fields: dict[str, Any]) -> NamedChunk:
    """The chunk that `fields` holds as far as its parts have the shape that they should have; the rest counts as absent."""
    groq = fields.get("x_groq")
    return NamedChunk(
        choices=[_choice(item) for item in _dicts(fields["choices"])] if isinstance(fields.get("choices"), list) else None,
        usage=fields.get("usage"),
        error=fields.get("error"),
        x_groq=Groq(id=_dict(groq).get("id"), usage=_dict(groq).get("usage"), error=_dict(groq).get("error")) if isinstance(groq, dict) else None,
        id=fields.get("id"),
        model=fields.get("model"),
        created=fields.get("created"),
        service_tier=fields.get("service_tier"),
    )


def _choice(fields: dict[str, Any]) -> Choice:
    index = count(fields.get("index"))
    delta = fields.get("delta")
    return Choice(
        index=index if index is not None else 0,
        delta=_delta(_dict(delta)) if isinstance(delta, dict) else None,
        finish_reason=fields.get("finish_reason"),
        text=fields.get("text"),
        error=fields.get("error"),
    )


def _delta(fields: dict[str, Any]) -> Delta:
    calls = fields.get("tool_calls")
    call = fields.get("function_call")
    return Delta(
        content=fields.get("content"),
        reasoning_content=fields.get("reasoning_content"),
        reasoning=fields.get("reasoning"),
        refusal=fields.get("refusal"),
        audio=fields.get("audio"),
        tool_calls=[_call(item) for item in _dicts(calls)] if isinstance(calls, list) else None,
        function_call=_function(call),
        reasoning_details=_SOME_RAW if fields.get("reasoning_details") else NO_RAW,
        images=_SOME_RAW if fields.get("images") else NO_RAW,
    )


def _call(fields: dict[str, Any]) -> CallDelta:
    return CallDelta(
        index=fields.get("index"), id=fields.get("id"), function=_function(fields.get("function")), custom=_function(fields.get("custom"))
    )


def _function(value: Any) -> Function | None:
    if not isinstance(value, dict):
        return None
    fields = _dict(value)
    return Function(name=fields.get("name"), arguments=fields.get("arguments"), input=fields.get("input"))


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [_dict(item) for item in cast("list[Any]", value) if isinstance(item, dict)] if isinstance(value, list) else []


_MOST = 1 << 63


def count(value: Any) -> int | None:
    """A count as it may be spelled: `5`, or `5.0`. Anything else, and what is below zero or beyond 64 bits, is unknown."""
    if value is None:
        return None
    if type(value) is int:  # nearly always; a boolean is not of this type
        return value if 0 <= value < _MOST else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST:
        return value
    return None


def word(value: Any, limit: int = _ID_LIMIT) -> str | None:
    """A non-empty string, or the digits of a number; no longer than `limit`, because it is kept."""
    if isinstance(value, str):
        return (value if len(value) <= limit else value[:limit]) or None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return str(value)
    return None


_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST - 1)]


class _Read(Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    video_tokens: _Count | None = None
    cached_tokens_details: None = None


class _Made(Struct, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None


class ChatUsage(Struct, gc=False):
    """`usage` as Chat, Completions and embeddings mostly state it, read typed in one step. Any other spelling is none of these."""

    prompt_tokens: _Count
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Read | None = None
    completion_tokens_details: _Made | None = None
    prompt_cache_hit_tokens: _Count | None = None
    input_tokens: None = None
    output_tokens: None = None
    input_tokens_details: None = None
    input_token_details: None = None
    output_tokens_details: None = None
    output_token_details: None = None


_NOTHING_READ, _NOTHING_MADE = _Read(), _Made()


def usage_of(stated: ChatUsage) -> Usage:
    """As `read_usage` reads the same object."""
    read = stated.prompt_tokens_details or _NOTHING_READ
    made = stated.completion_tokens_details or _NOTHING_MADE
    cached = read.cached_tokens
    usage = Usage(
        stated.prompt_tokens, stated.completion_tokens, cached if cached is not None else stated.prompt_cache_hit_tokens, read.cache_write_tokens,
        None, None, made.reasoning_tokens, read.audio_tokens, made.audio_tokens,
    )  # fmt: skip
    if read.image_tokens is None and made.image_tokens is None and read.video_tokens is None:
        return usage
    return replace(usage, kinds=Kinds(read.image_tokens, made.image_tokens, read.video_tokens))


def read_usage(value: Any) -> Usage | None:
    """The `usage` object of any OpenAI endpoint, `None` where it is none or states no number that we know.

    Chat, Completions, embeddings: `prompt_tokens`, `completion_tokens`; images, transcriptions, speech: `input_tokens`, `output_tokens`
    (their details are `input_tokens_details`, or `input_token_details` for transcriptions). DeepSeek states cache hits as
    `prompt_cache_hit_tokens`. A transcription billed by its duration states no tokens. Tokens of pictures stand in the details of both
    (`image_tokens`: Chat's for the prompt, the images API's and OpenRouter's for the answer too), and are in the totals.
    """
    if not isinstance(value, dict):
        return None
    try:
        return usage_of(msgspec.convert(value, ChatUsage))
    except UNREADABLE:  # half a surrogate pair is no `ValidationError`
        return read_usage_thoroughly(_dict(cast("Any", value)))


def read_usage_thoroughly(fields: dict[str, Any]) -> Usage | None:
    """Of any spelling; what `ChatUsage` takes it reads just so."""
    get = fields.get
    read = _dict(get("prompt_tokens_details") or get("input_tokens_details") or get("input_token_details"))
    made = _dict(get("completion_tokens_details") or get("output_tokens_details") or get("output_token_details"))
    cached, of_cached = count(read.get("cached_tokens")), _dict(read.get("cached_tokens_details"))
    kinds = Kinds(
        count(read.get("image_tokens")), count(made.get("image_tokens")), count(read.get("video_tokens")),
        cache_read_audio=count(of_cached.get("audio_tokens")), cache_read_image=count(of_cached.get("image_tokens")),
    )  # fmt: skip
    usage = Usage(
        input=count(fields["prompt_tokens"] if "prompt_tokens" in fields else get("input_tokens")),
        output=count(fields["completion_tokens"] if "completion_tokens" in fields else get("output_tokens")),
        cache_read=cached if cached is not None else count(get("prompt_cache_hit_tokens")),
        cache_write=count(read.get("cache_write_tokens")),
        reasoning=count(made.get("reasoning_tokens")),
        audio_input=count(read.get("audio_tokens")),
        audio_output=count(made.get("audio_tokens")),
        kinds=None if kinds == NO_KINDS else kinds,
    )
    return usage if usage != _NO_USAGE else None


_NO_USAGE = Usage()


def further(known: Usage, usage: Usage) -> Usage:
    """What is known once `usage` is stated behind `known`: counters do not fall, and what is left out has not changed."""
    if not usage.input and not usage.output and (known.input or known.output):
        return known
    if (
        (usage.cache_read is None and known.cache_read is not None)
        or (usage.reasoning is None and known.reasoning is not None)
        or usage.input is None
        or usage.output is None
        or (usage.cache_write is None and known.cache_write is not None)
        or (usage.audio_input is None and known.audio_input is not None)
        or (usage.audio_output is None and known.audio_output is not None)
        or (usage.kinds is None and known.kinds is not None)
    ):
        return Usage(*[after if after is not None else before for before, after in zip(astuple(known), astuple(usage), strict=True)])
    return usage


def read_error(value: Any, status: int | None = None) -> UpstreamError:
    """The error that `value` tells: the object in `error`, or a bare sentence. `status` is the HTTP status, where that came with it.

    Numeric codes are a status where they look like one: Groq's `status_code`, OpenRouter's and vLLM's `code`.
    """
    if not isinstance(value, dict):
        return UpstreamError(message=word(value, _MESSAGE_LIMIT), status=status)
    fields = _dict(cast("Any", value))
    message = fields.get("message")
    if message is None:
        # FastAPI's shape, which many servers with an OpenAI surface fall back to for what they did not expect.
        message = fields.get("detail")
    if isinstance(message, (dict, list)):
        message = encode_any(message).decode()
    if status is None:
        stated = (count(fields.get(key)) for key in ("status_code", "status", "code"))
        status = next((number for number in stated if number is not None and 100 <= number <= 599), None)
    kind = word(fields.get("type"))
    return UpstreamError(
        message=word(message, _MESSAGE_LIMIT),
        type=None if kind == "error" else kind,  # the type of the event that has no error object inside, not of the error
        code=word(fields.get("code")),
        param=word(fields.get("param")),
        status=status,
        members=_members(fields),
    )


def _members(fields: dict[str, Any]) -> bytes:
    try:
        return members_of(encode_any(fields))
    except (ValueError, RecursionError):  # deeper than can be written
        return b""


def find_error(value: Any) -> Any:
    """The part of an error body that tells the error, whatever wraps it; Gemini's OpenAI surface wraps it in a list."""
    items = cast("list[Any]", value) if isinstance(value, list) else []
    told: Any = items[0] if items else cast("Any", value)
    return _dict(told).get("error") or told
