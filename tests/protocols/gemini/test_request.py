"""What the path says, and that renaming touches nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols.contract import BadRequest, Peek
from penstock.protocols.gemini.request import is_sse, peek, rename, target
from penstock.vocabulary.ids import Operation
from penstock.vocabulary.said import Said

BODY = b'{"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"x": [1, 2.50, 1e3]}}'
CONFIG = Said(effort=b'{"x": [1, 2.50, 1e3]}')
"""What of it is kept, unread: how hard the model is to think may stand in it."""


@pytest.mark.parametrize(("path", "model", "stream"), [
    ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "gemini-2.5-pro", True),
    ("/v1/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", False),
    ("/v1alpha/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", False),
    ("/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", False),
    ("/v1beta/models/gemini%2D2.5%40001%3AgenerateContent", "gemini-2.5@001", False),
    ("/v1beta/models/google%2Fgemini:streamGenerateContent", "google/gemini", True),
    ("/v1beta/models/google/gemini:streamGenerateContent", "google/gemini", True),
    ("/v1beta/models/ft:mine:generateContent", "ft:mine", False),
    ("/v1beta/tunedModels/mine-1:generateContent", "tunedModels/mine-1", False),
    ("/v1/projects/models/locations/eu/publishers/google/models/gemini-2.0-flash:streamGenerateContent", "gemini-2.0-flash", True),
    ("/v1/projects/p/locations/eu/endpoints/123:generateContent", "endpoints/123", False),
])  # fmt: skip
def test_model_and_stream_stand_in_the_path(path: str, model: str, stream: bool) -> None:
    assert peek(Operation.GENERATE, path, "", BODY) == Peek(model, stream, said=CONFIG)


@pytest.mark.parametrize(("operation", "method"), [
    (Operation.COUNT_TOKENS, "countTokens"), (Operation.EMBEDDINGS, "embedContent"), (Operation.EMBEDDINGS, "batchEmbedContents"),
])  # fmt: skip
def test_the_other_methods_never_stream(operation: Operation, method: str) -> None:
    assert peek(operation, f"/v1beta/models/m:{method}", "alt=sse", BODY) == Peek("m", False, said=CONFIG)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b'{"a":1} x', b"\xff", b"[" * 100_000, b'{"a":' + b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        peek(Operation.GENERATE, "/v1beta/models/m:generateContent", "", body)


@pytest.mark.parametrize(("stated", "model"), [
    ("models/gemini-2.5", "gemini-2.5"), ("gemini-2.5", "gemini-2.5"), ("tunedModels/t", "tunedModels/t"),
    ("projects/p/locations/l/publishers/google/models/gemini-2.5", "gemini-2.5"), (None, None), (5, None), ("", None),
])  # fmt: skip
def test_what_is_cached_names_its_model_in_the_body(stated: object, model: str | None) -> None:
    body = msgspec.json.encode({"contents": [], "model": stated})
    assert peek(Operation.OTHER, "/v1beta/cachedContents", "", body) == Peek(model, stream=False)
    renamed = rename(Operation.OTHER, "/v1beta/cachedContents", body, "new")
    assert renamed == ("/v1beta/cachedContents", b'{"contents":[],"model":"models/new"}')


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"[" * 100_000])
def test_what_is_cached_and_cannot_be_read_names_no_model(body: bytes) -> None:
    assert peek(Operation.OTHER, "/v1beta/cachedContents", "", body) == Peek(None, stream=False)


@pytest.mark.parametrize("path", ["/v1beta/models/:generateContent", "/v1beta/models/m", "/v1beta/models/m:", "/v1beta:generateContent", ""])
def test_a_path_without_a_model_is_refused_where_one_is_needed(path: str) -> None:
    with pytest.raises(BadRequest):
        peek(Operation.GENERATE, path, "", BODY)
    assert peek(Operation.MODELS, path, "", b"").model is None


@pytest.mark.parametrize(("path", "model", "expected"), [
    ("/v1beta/models/a:generateContent", "b", "/v1beta/models/b:generateContent"),
    ("/v1beta/models/a%3AgenerateContent", "b", "/v1beta/models/b%3AgenerateContent"),
    ("/v1beta/models/a:generateContent", "tunedModels/b", "/v1beta/tunedModels/b:generateContent"),
    ("/v1beta/tunedModels/a:generateContent", "models/b", "/v1beta/models/b:generateContent"),
    ("/v1beta/models/a:generateContent", "../../x?y#z%", "/v1beta/models/..%2F..%2Fx%3Fy%23z%25:generateContent"),
    ("/p/v1/projects/x/publishers/google/models/a:countTokens", "b@001", "/p/v1/projects/x/publishers/google/models/b@001:countTokens"),
    ("/v1beta/files", "b", "/v1beta/files"),
])  # fmt: skip
def test_rename_changes_the_name_alone(path: str, model: str, expected: str) -> None:
    assert rename(Operation.GENERATE, path, BODY, model) == (expected, BODY)


@given(st.text(min_size=1, max_size=20).filter(lambda m: m.partition("/")[0] not in ("models", "tunedModels", "dynamic", "endpoints")))
def test_a_renamed_path_names_the_new_model(model: str) -> None:
    model = model.encode("utf-8", "replace").decode()
    path, body = rename(Operation.GENERATE, "/v1beta/models/old:streamGenerateContent", BODY, model)
    assert peek(Operation.GENERATE, path, "", body) == Peek(model, True, said=CONFIG)
    assert not set(path) & set("?# \r\n")


@given(st.text(":/%3Aamodels", max_size=40))
def test_a_path_taken_apart_is_the_same_path(path: str) -> None:
    aim = target(path)
    assert aim is None or f"{aim.front}{aim.collection}/{aim.name}{aim.back}" == path


@pytest.mark.parametrize(("query", "sse"), [
    ("alt=sse", True), ("key=x&alt=sse", True), ("?alt=SSE", True), ("%24alt=sse", True), ("alt=json", False), ("", False), ("notalt=sse", False),
    ("alt=sse2", False),
])  # fmt: skip
def test_is_sse(query: str, sse: bool) -> None:
    assert is_sse(query) is sse
