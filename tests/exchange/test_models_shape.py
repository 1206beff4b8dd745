"""Lists of models, from each shape into each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import ModelInfo
from google.genai.types import Model as GoogleModel
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Model as OpenAIModel

from penstock.exchange.models_shape import BadListing, Model, house_models, merge, parse
from penstock.providers import Kind

KINDS: list[Kind] = ["openai", "anthropic", "gemini"]
OPENAI = b'{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system", "extra" : [1.50]}]}'
ANTHROPIC = (
    b'{"data":[{"type":"model","id":"claude-sonnet-4-5","display_name":"Claude Sonnet 4.5","created_at":"2025-09-29T00:00:00Z",'
    b'"lifecycle":"active"}],'
    b'"has_more":false,"first_id":"claude-sonnet-4-5","last_id":"claude-sonnet-4-5"}'
)
GEMINI = b'{"models":[{"name":"models/gemini-2.5-pro","displayName":"Gemini 2.5 Pro","supportedGenerationMethods":["generateContent"]}]}'
LISTS: dict[Kind, bytes] = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI}
IDS: dict[Kind, str] = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-pro"}


def entries(kind: Kind, body: bytes) -> list[dict[str, Any]]:
    whole = msgspec.json.decode(body, type=dict[str, Any])
    return whole["models" if kind == "gemini" else "data"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_in_its_own_shape_stays_byte_for_byte(kind: Kind) -> None:
    (model,) = parse(kind, "p", LISTS[kind])
    raw = LISTS[kind][LISTS[kind].index(b"[") + 1 :]
    assert raw.startswith(model.shaped(kind))
    assert msgspec.json.decode(model.shaped(kind))
    assert model.shaped(kind) in merge(kind, [[model]])


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_official_clients_read_every_shape_of_every_list(kind: Kind, source: Kind) -> None:
    (entry,) = entries(kind, merge(kind, [parse(source, "p", LISTS[source])]))
    match kind:
        case "openai":
            assert OpenAIModel.model_validate(entry, strict=True).id == IDS[source]
        case "anthropic":
            read = ModelInfo.model_validate(entry)
            assert (read.id, read.type) == (IDS[source], "model")
        case "gemini":
            entry.pop("supportedGenerationMethods", None)  # the client reads it into `supported_actions` by itself
            assert GoogleModel.model_validate(entry).name == f"models/{IDS[source]}"
        case "argo_legacy":
            raise AssertionError("no client has a shape of that name")


def test_what_is_known_goes_into_the_other_shape() -> None:
    (claude,) = parse("anthropic", "anthropic", ANTHROPIC)
    assert msgspec.json.decode(claude.shaped("openai")) == {
        "id": "claude-sonnet-4-5", "object": "model", "created": 1759104000, "owned_by": "anthropic",
    }  # fmt: skip
    (gpt,) = parse("openai", "openai", OPENAI)
    assert msgspec.json.decode(gpt.shaped("anthropic")) == {
        "type": "model", "id": "gpt-4o", "display_name": "gpt-4o", "created_at": "2024-05-10T18:50:49Z", "lifecycle": "active",
    }  # fmt: skip
    (gemini,) = parse("gemini", "gemini", GEMINI)
    assert msgspec.json.decode(gemini.shaped("anthropic")) == {
        "type": "model", "id": "gemini-2.5-pro", "display_name": "Gemini 2.5 Pro", "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active",
    }  # fmt: skip
    # No path here makes Gemini's clients reach another protocol's model: it is named, and no method is promised.
    assert msgspec.json.decode(gpt.shaped("gemini")) == {"name": "models/gpt-4o", "displayName": "gpt-4o"}


def test_of_one_name_the_first_one_stands_whatever_its_prefix() -> None:
    first = parse("openai", "a", b'{"data":[{"id":"models/x","who":1}]}')
    second = parse("gemini", "b", b'{"models":[{"name":"models/x"},{"name":"models/y"}]}')
    body = merge("openai", [first, second, house_models(["y", "demo", "demo"])])
    assert [entry["id"] for entry in entries("openai", body)] == ["models/x", "y", "demo"]
    assert entries("openai", body)[0]["who"] == 1
    assert entries("openai", body)[1]["owned_by"] == "b"


@pytest.mark.parametrize("kind", KINDS)
def test_no_models_are_a_list_too(kind: Kind) -> None:
    assert entries(kind, merge(kind, [])) == []
    whole = msgspec.json.decode(merge("anthropic", []))
    assert whole == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_anthropic_names_the_ends() -> None:
    whole = msgspec.json.decode(merge("anthropic", [house_models(["a", "b", "c"])]))
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == ("a", "c", False)


@pytest.mark.parametrize("body", [b'[{"id":"m"}]', b'{"data":[{"id":"m"},{"id":""}]}', b'{"data":[{"id":"m"},{"id":7},3,null,{},{"id":"models/"}]}'])
def test_odd_lists_are_read_as_far_as_they_go(body: bytes) -> None:
    assert [model.id for model in parse("openai", "p", body)] == ["m"]


def test_odd_members_cost_nothing_but_themselves() -> None:
    (model,) = parse("openai", "p", b'{"data":[{"id":"m","created":"yesterday","display_name":[]}]}')
    assert (model.created, model.title) == (None, None)
    for created_at in ("soon", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00Z"):
        (model,) = parse("anthropic", "p", msgspec.json.encode({"data": [{"id": "m", "created_at": created_at}]}))
        assert msgspec.json.decode(model.shaped("openai"))["created"] >= 0
    (model,) = parse("openai", "p", b'{"data":[{"id":"m","created":99999999999999999}]}')
    assert msgspec.json.decode(model.shaped("anthropic"))["created_at"] == "1970-01-01T00:00:00Z"


def test_ollama_without_a_model_has_an_empty_list() -> None:
    assert parse("openai", "p", b'{"object":"list","data":null}') == ()


def test_a_refusal_that_comes_with_200_is_no_list_and_google_leaves_out_what_is_empty() -> None:
    for kind in KINDS:
        with pytest.raises(BadListing):
            parse(kind, "p", b'{"error":{"message":"no"}}')
    assert parse("gemini", "p", b"{}") == ()
    assert [model.id for model in parse("gemini", "p", b'{"models":[{"name":"models/m"}],"error":null}')] == ["m"]


@pytest.mark.parametrize("body", [
    b"", b"<html>", b'{"data":3}', b"{}", b'{"models":[]}', b'{"detail":"no"}',
    b"null", b'{"data":[{"id":"\xff"}]}', b'{"data":' + b"[" * 100_000,
])
def test_what_is_no_list_says_so(body: bytes) -> None:
    with pytest.raises(BadListing):
        parse("openai", "p", body)


@given(st.binary(), st.sampled_from(KINDS))
def test_no_bytes_raise_anything_else(body: bytes, kind: Kind) -> None:
    try:
        models = parse(kind, "p", body)
    except BadListing:
        return
    for shape in KINDS:
        msgspec.json.decode(merge(shape, [models]))


@given(st.lists(st.text(min_size=1), unique=True), st.sampled_from(KINDS))
def test_every_name_survives_every_shape(names: list[str], kind: Kind) -> None:
    names = [name for name in names if not name.startswith("models/")]
    models = [Model(name, "p") for name in names]
    again = parse(kind, "p", merge(kind, [models]))
    assert [model.id for model in again] == names
