"""Every path that clients use, and those that they should not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.providers import Kind, Provider, ProviderSettings, build
from penstock.routing import Allowed, Endpoint, Refusal, resolve
from penstock.routing.endpoints import FIXED
from penstock.routing.paths import is_plain
from penstock.vocabulary.ids import Operation, ProtocolId

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI


def _provider(name: str, kind: Kind, protocols: frozenset[ProtocolId] | None = None, path: str = "") -> Provider:
    return build(ProviderSettings(name=name, kind=kind, base_url="https://h.example" + path, protocols=protocols))


PROVIDERS = {
    "openai": _provider("openai", "openai"), "anthropic": _provider("anthropic", "anthropic"), "gemini": _provider("gemini", "gemini"),
    "codex": _provider("codex", "openai", frozenset({RESPONSES})), "confined": _provider("confined", "openai", path="/team-a/v1"),
}

BOTH = [  # with and without /v1
    ("POST", "/chat/completions", CHAT, Operation.CHAT, "peek"),
    ("POST", "/completions", CHAT, Operation.COMPLETIONS, "peek"),
    ("POST", "/responses", RESPONSES, Operation.RESPONSES, "peek"),
    ("POST", "/responses/compact", RESPONSES, Operation.RESPONSES, "peek"),
    ("POST", "/responses/input_tokens", RESPONSES, Operation.COUNT_TOKENS, "peek"),
    ("POST", "/messages", MESSAGES, Operation.MESSAGES, "peek"),
    ("POST", "/messages/count_tokens", MESSAGES, Operation.COUNT_TOKENS, "peek"),
    ("GET", "/messages/batches", MESSAGES, Operation.BATCHES, "none"),
    ("POST", "/messages/batches", MESSAGES, Operation.BATCHES, "stream"),
    ("GET", "/messages/batches/b1/results", MESSAGES, Operation.BATCHES, "none"),
    ("POST", "/embeddings", CHAT, Operation.EMBEDDINGS, "peek"),
    ("POST", "/moderations", CHAT, Operation.MODERATIONS, "peek"),
    ("GET", "/models", CHAT, Operation.MODELS, "none"),
    ("HEAD", "/models", CHAT, Operation.MODELS, "none"),
    ("GET", "/models/gpt-4o", CHAT, Operation.MODELS, "none"),
    ("GET", "/models/org/model:free", CHAT, Operation.MODELS, "none"),
    ("DELETE", "/models/ft:gpt-4o:acme::7", CHAT, Operation.MODELS, "none"),
    ("POST", "/files", CHAT, Operation.FILES, "stream"),
    ("GET", "/files", CHAT, Operation.FILES, "none"),
    ("GET", "/files/f1/content", CHAT, Operation.FILES, "none"),
    ("DELETE", "/files/f1", CHAT, Operation.FILES, "none"),
    ("POST", "/uploads", CHAT, Operation.FILES, "stream"),
    ("POST", "/uploads/u1/parts", CHAT, Operation.FILES, "stream"),
    ("POST", "/batches", CHAT, Operation.BATCHES, "stream"),
    ("POST", "/batches/b1/cancel", CHAT, Operation.BATCHES, "stream"),
    ("POST", "/audio/speech", CHAT, Operation.AUDIO, "peek"),
    ("POST", "/audio/transcriptions", CHAT, Operation.AUDIO, "stream"),
    ("POST", "/audio/translations", CHAT, Operation.AUDIO, "stream"),
    ("POST", "/images/generations", CHAT, Operation.IMAGES, "peek"),
    ("POST", "/images/edits", CHAT, Operation.IMAGES, "stream"),
    ("POST", "/images/variations", CHAT, Operation.IMAGES, "stream"),
    ("POST", "/models/gemini-2.5-pro:generateContent", GEMINI, Operation.GENERATE, "peek"),
    ("POST", "/models/gemini-2.5-pro:streamGenerateContent", GEMINI, Operation.GENERATE, "peek"),
    ("POST", "/models/gemini-2.5-pro%3AgenerateContent", GEMINI, Operation.GENERATE, "peek"),
    ("POST", "/models/gemini-2.5-pro:countTokens", GEMINI, Operation.COUNT_TOKENS, "peek"),
    ("POST", "/models/e:embedContent", GEMINI, Operation.EMBEDDINGS, "peek"),
    ("POST", "/models/e:batchEmbedContents", GEMINI, Operation.EMBEDDINGS, "peek"),
    ("POST", "/tunedModels/t1:generateContent", GEMINI, Operation.GENERATE, "peek"),
]

BETA = [  # below /v1beta and /v1alpha
    ("POST", "/models/gemini-2.5-pro:generateContent", Operation.GENERATE, "peek"),
    ("POST", "/models/gemini-2.5-pro:streamGenerateContent", Operation.GENERATE, "peek"),
    ("POST", "/models/gemini-2.5-pro:countTokens", Operation.COUNT_TOKENS, "peek"),
    ("POST", "/models/e:embedContent", Operation.EMBEDDINGS, "peek"),
    ("POST", "/tunedModels/t1:streamGenerateContent", Operation.GENERATE, "peek"),
    ("GET", "/models", Operation.MODELS, "none"),
    ("HEAD", "/models", Operation.MODELS, "none"),
    ("GET", "/models/gemini-2.5-pro", Operation.MODELS, "none"),
    ("POST", "/models/imagen:predict", Operation.OTHER, "peek"),
    ("POST", "/models/m:inventedTomorrow", Operation.OTHER, "stream"),
    ("GET", "/models/veo/operations/o1", Operation.OTHER, "none"),
    ("GET", "/files/f1", Operation.FILES, "none"),
    ("POST", "/batches/b1:cancel", Operation.BATCHES, "stream"),
    ("PATCH", "/cachedContents/c1", Operation.OTHER, "stream"), ("POST", "/cachedContents", Operation.OTHER, "peek"),
]


@pytest.mark.parametrize(("method", "path", "protocol", "operation", "body"), BOTH)
@pytest.mark.parametrize("version", ["", "/v1"])
def test_openai_and_anthropic_paths(method: str, path: str, protocol: ProtocolId, operation: Operation, body: str, version: str) -> None:
    found = resolve(method, version + path, False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.protocol, found.operation, found.body, found.path, found.provider, found.verbatim) == (protocol, operation, body, version + path,
        None, False)


@pytest.mark.parametrize(("method", "path", "operation", "body"), BETA)
@pytest.mark.parametrize("version", ["/v1beta", "/v1alpha"])
def test_gemini_paths(method: str, path: str, operation: Operation, body: str, version: str) -> None:
    assert resolve(method, version + path, False, PROVIDERS) == Endpoint(GEMINI, operation, version + path,
        body)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("path", "operation", "body"), [
    ("/publishers/google/models/gemini-2.5-pro:generateContent", Operation.GENERATE, "peek"),
    ("/publishers/google/models/gemini-2.5-pro:streamGenerateContent", Operation.GENERATE, "peek"),
    ("/publishers/google/models/gemini-2.5-pro%3AcountTokens", Operation.COUNT_TOKENS, "peek"),
    ("/publishers/google/models/e:embedContent", Operation.EMBEDDINGS, "peek"),
    ("/publishers/google/models/imagen:predict", Operation.OTHER, "peek"),
    ("/endpoints/123:generateContent", Operation.GENERATE, "peek"),
])
@pytest.mark.parametrize("version", ["/v1", "/v1beta1", "/v1beta", ""])
def test_gemini_behind_a_project_as_vertex_ai_has_it(path: str, operation: Operation, body: str, version: str) -> None:
    """Below a provider's name, too: what is not recognised there is neither guarded nor counted."""
    whole = f"{version}/projects/p/locations/eu{path}"
    wanted = Endpoint(GEMINI, operation, whole, body)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert resolve("POST", whole, False, PROVIDERS) == wanted
    assert resolve("POST", f"/gemini{whole}", False, PROVIDERS) == replace(wanted, provider="gemini", verbatim=True)


@pytest.mark.parametrize("version", ["/v1", "/v1beta1", ""])
def test_gemini_behind_its_publisher_alone_as_a_key_of_vertex_ai_has_it(version: str) -> None:
    whole = f"{version}/publishers/google/models/gemini-2.5-pro:generateContent"
    wanted = Endpoint(GEMINI, Operation.GENERATE, whole, "peek")
    assert resolve("POST", whole, False, PROVIDERS) == wanted
    assert resolve("POST", f"/gemini{whole}", False, PROVIDERS) == replace(wanted, provider="gemini", verbatim=True)


@pytest.mark.parametrize(("path", "operation"), [
    ("/openai/v4/chat/completions", Operation.CHAT), ("/openai/v3/embeddings", Operation.EMBEDDINGS), ("/openai/V2//Responses/", Operation.RESPONSES),
    ("/openai/v1beta/chat/completions", Operation.CHAT), ("/anthropic/v2/messages", Operation.MESSAGES),
    ("/openai/v4/chat/completions/c1", Operation.RESPONSE_ITEM), ("/openai/v2/responses/r1", Operation.RESPONSE_ITEM),
    ("/gemini/v1beta2/models/m:generateContent", Operation.GENERATE), ("/openai/v4/else", Operation.OTHER), ("/openai/v4", Operation.OTHER),
    ("/openai/openai/deployments/gpt-4o/chat/completions", Operation.CHAT), ("/openai/beta/completions", Operation.COMPLETIONS),
    ("/openai/openai/deployments/e/embeddings", Operation.EMBEDDINGS), ("/openai/a//Chat/Completions/", Operation.CHAT),
    ("/openai/api/projects/p/openai/responses", Operation.RESPONSES), ("/anthropic/anthropic/v1/messages", Operation.MESSAGES),
    ("/openai/v1/threads/t1/messages", Operation.OTHER), ("/anthropic/chat/completions", Operation.OTHER), ("/openai/chat/complete", Operation.OTHER),
])  # fmt: skip
def test_below_a_provider_what_stands_in_front_makes_no_other_path(path: str, operation: Operation) -> None:
    """Another version (`https://open.bigmodel.cn/api/paas/v4` has it in its base URL, and takes the path with it as well as without), or anything."""
    found = resolve("POST", path, False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.operation, found.verbatim, f"/{found.provider}{found.path}") == (operation, True, path)


@pytest.mark.parametrize("path", ["/v1/projects", "/v1/projects/p/locations", "/v1/projects/p/publishers/anthropic/models/claude:rawPredict"])
def test_what_else_stands_behind_a_project_is_nothing_of_gemini_s(path: str) -> None:
    assert isinstance(resolve("POST", path, False, PROVIDERS), Refusal)
    found = resolve("POST", f"/gemini{path}", False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert found.operation is Operation.OTHER


def test_gemini_uploads() -> None:
    assert resolve("POST", "/upload/v1beta/files", False, PROVIDERS) == Endpoint(GEMINI, Operation.FILES, "/upload/v1beta/files", "stream")


@pytest.mark.parametrize(("method", "path", "response_id"), [
    ("GET", "/v1/responses/resp_1", "resp_1"), ("DELETE", "/v1/responses/resp_1", "resp_1"), ("POST", "/v1/responses/resp_1/cancel", "resp_1"),
    ("GET", "/responses/resp%5F1/input_items", "resp_1"), ("HEAD", "/v1/responses/resp_1", "resp_1"),
])
def test_a_response_s_id_is_told(method: str, path: str, response_id: str) -> None:
    found = resolve(method, path, False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.operation, found.protocol, found.response_id) == (Operation.RESPONSE_ITEM, RESPONSES, response_id)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude", "/v1/files", "/v1/files/f1"])
def test_anthropic_version_tells_shared_paths_apart(path: str) -> None:
    ours, theirs = resolve("GET", path, True, PROVIDERS), resolve("GET", path, False, PROVIDERS)
    assert isinstance(ours, Endpoint)
    assert isinstance(theirs, Endpoint)
    assert (ours.protocol, theirs.protocol) == (MESSAGES, CHAT)
    chat = resolve("POST", "/v1/chat/completions", True, PROVIDERS)
    assert isinstance(chat, Endpoint)
    assert chat.protocol is CHAT


@pytest.mark.parametrize(("method", "path", "protocol", "allow"), [
    ("GET", "/v1/chat/completions", CHAT, ("OPTIONS", "POST")),
    ("HEAD", "/v1/chat/completions", CHAT, ("OPTIONS", "POST")),
    ("PUT", "/v1/messages", MESSAGES, ("OPTIONS", "POST")),
    ("GET", "/v1/responses", RESPONSES, ("OPTIONS", "POST")),
    ("POST", "/v1/models", CHAT, ("GET", "HEAD", "OPTIONS")),
    ("PATCH", "/v1/responses/r", RESPONSES, ("DELETE", "GET", "HEAD", "OPTIONS", "POST")),
    ("GET", "/v1beta/models/m:generateContent", GEMINI, ("OPTIONS", "POST")),
    ("GET", "/v1/models/m:generateContent", GEMINI, ("OPTIONS", "POST")),
    ("POST", "/v1beta/models", GEMINI, ("GET", "HEAD", "OPTIONS")),
    ("GET", "/openai", CHAT, ("OPTIONS", "POST")),
])
def test_wrong_methods(method: str, path: str, protocol: ProtocolId, allow: tuple[str, ...]) -> None:
    found = resolve(method, path, False, PROVIDERS)
    assert isinstance(found, Refusal)
    assert (found.fault.status, found.protocol, found.allow) == (405, protocol, allow)
    assert resolve("OPTIONS", path, False, PROVIDERS) == Allowed(allow)


@pytest.mark.parametrize(("path", "has_version", "protocol"), [
    ("/", False, CHAT), ("", False, CHAT), ("/v1", False, CHAT), ("/v1/assistants", False, CHAT), ("/v2/chat/completions", False, CHAT),
    ("/v1/responses/", False, RESPONSES), ("/v1/messages/x", False, MESSAGES), ("/v1/assistants", True, MESSAGES), ("/api/hello", False, MESSAGES),
    ("/v1beta/nothing", False, GEMINI), ("/v1beta", False, GEMINI), ("/x/models/m:generateContent", False, GEMINI), ("/nobody/v1/models", False,
    CHAT),
    ("//v1/messages", False, MESSAGES), ("/openaix", False, CHAT), ("/v1/chat/completions/", False, CHAT), ("/health", False, CHAT),
])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_unknown_paths_in_the_nearest_shape(method: str, path: str, has_version: bool, protocol: ProtocolId) -> None:
    found = resolve(method, path, has_version, PROVIDERS)
    assert isinstance(found, Refusal)
    assert (found.fault.status, found.protocol, found.allow) == (404, protocol, ())


@pytest.mark.parametrize(("path", "meant"), [
    ("/v1/v1/messages", "/v1/messages"), ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"), ("//v1/messages", "/v1/messages"),
    ("/v1/chat/completions/", "/v1/chat/completions"), ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
    ("/v1/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"), ("/v1beta/openai/chat/completions", "/v1/chat/completions"),
    ("/v1/v1/models", "/v1/models"), ("/api/v1/responses", "/v1/responses"), ("/v2/completions", "/v1/completions"),
    ("/", None), ("/v1", None), ("/nothing", None), ("/v1/assistants", None), ("/nobody/x/y", None), ("/v1beta/nothing", None),
])
def test_of_an_unknown_path_it_is_said_which_was_meant(path: str, meant: str | None) -> None:
    found = resolve("POST", path, False, PROVIDERS)
    assert isinstance(found, Refusal)
    hint = f"If {meant} is meant, look at what the client's base URL ends with."
    assert hint in found.fault.message if meant is not None else "is meant" not in found.fault.message
    assert found.fault.message.startswith(f"there is nothing at {path}. ")


@pytest.mark.parametrize(("path", "protocol", "operation", "main"), [
    ("/openai", CHAT, Operation.CHAT, "/v1/chat/completions"), ("/openai/", CHAT, Operation.CHAT, "/v1/chat/completions"),
    ("/anthropic", MESSAGES, Operation.MESSAGES, "/v1/messages"), ("/codex", RESPONSES, Operation.RESPONSES, "/v1/responses"),
])
def test_a_provider_s_name_alone_is_its_main_endpoint(path: str, protocol: ProtocolId, operation: Operation, main: str) -> None:
    assert resolve("POST", path, False, PROVIDERS) == Endpoint(protocol, operation, main, "peek", provider=path.strip("/"))


def test_gemini_s_name_alone_names_no_model() -> None:
    found = resolve("POST", "/gemini", False, PROVIDERS)
    assert isinstance(found, Refusal)
    assert found.fault.status == 404
    assert "/gemini/v1beta/models/{model}:generateContent" in found.fault.message


@pytest.mark.parametrize(("method", "provider", "rest", "protocol", "operation", "body"), [
    ("POST", "openai", "/v1/chat/completions", CHAT, Operation.CHAT, "peek"),
    ("POST", "openai", "/chat/completions", CHAT, Operation.CHAT, "peek"),
    ("POST", "openai", "/v1/responses", RESPONSES, Operation.RESPONSES, "peek"),
    ("GET", "openai", "/v1/models", CHAT, Operation.MODELS, "none"),
    ("POST", "openai", "/v1/messages", CHAT, Operation.OTHER, "stream"),
    ("GET", "openai", "/v1/chat/completions", CHAT, Operation.RESPONSE_ITEM, "none"),
    ("GET", "openai", "/v1/chat/completions/chatcmpl-1", CHAT, Operation.RESPONSE_ITEM, "none"),
    ("POST", "openai", "/v1/chat/completions/chatcmpl-1", CHAT, Operation.RESPONSE_ITEM, "stream"),
    ("GET", "openai", "/v1/conversations/conv_1/items", RESPONSES, Operation.RESPONSE_ITEM, "none"),
    ("GET", "codex", "/v1/chat/completions/chatcmpl-1", CHAT, Operation.OTHER, "none"),
    ("PATCH", "openai", "/anything/%2Fat//all", CHAT, Operation.OTHER, "stream"),
    ("POST", "codex", "/v1/chat/completions", CHAT, Operation.OTHER, "stream"),
    ("POST", "anthropic", "/v1/messages", MESSAGES, Operation.MESSAGES, "peek"),
    ("POST", "anthropic", "/v1/messages/count_tokens", MESSAGES, Operation.COUNT_TOKENS, "peek"),
    ("GET", "anthropic", "/api/oauth/profile", MESSAGES, Operation.OTHER, "none"),
    ("POST", "gemini", "/v1beta/models/m:streamGenerateContent", GEMINI, Operation.GENERATE, "peek"),
    ("POST", "gemini", "/v1beta/interactions", GEMINI, Operation.OTHER, "stream"),
])
def test_below_a_provider_s_name(method: str, provider: str, rest: str, protocol: ProtocolId, operation: Operation, body: str) -> None:
    found = resolve(method, f"/{provider}{rest}", False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.protocol, found.operation, found.body, found.path, found.provider, found.verbatim) == (protocol, operation, body, rest, provider,
        True)


@pytest.mark.parametrize(("provider", "rest", "protocol", "operation"), [
    ("openai", "//v1/chat/completions", CHAT, Operation.CHAT), ("openai", "/v1/chat/completions/", CHAT, Operation.CHAT),
    ("openai", "/v1//chat///completions", CHAT, Operation.CHAT), ("openai", "/v1/ch%61t/completions", CHAT, Operation.CHAT),
    ("openai", "/v1/chat%2Fcompletions", CHAT, Operation.CHAT), ("openai", "/v1/Chat/Completions", CHAT, Operation.CHAT),
    ("openai", "/v1/chat/completions;x=1", CHAT, Operation.CHAT), ("openai", "/v1/responses//", RESPONSES, Operation.RESPONSES),
    ("openai", "/v1/responses/compact/", RESPONSES, Operation.RESPONSES), ("openai", "/v1/responses/%2F", RESPONSES, Operation.RESPONSES),
    ("anthropic", "/v1/messages/", MESSAGES, Operation.MESSAGES), ("anthropic", "/v1/%6Dessages", MESSAGES, Operation.MESSAGES),
    ("gemini", "/v1beta/models/m:generate%43ontent", GEMINI, Operation.GENERATE), ("gemini", "//v1beta/models/m:generateContent", GEMINI,
    Operation.GENERATE),
    ("gemini", "/v1beta/models/m:generateContent/", GEMINI, Operation.GENERATE),
])  # fmt: skip
def test_another_spelling_of_a_path_is_the_same_path(provider: str, rest: str, protocol: ProtocolId, operation: Operation) -> None:
    """Servers take these for the path that they mean, or send their clients there: rules, limits and guards must see what is asked for."""
    found = resolve("POST", f"/{provider}{rest}", False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.protocol, found.operation, found.body, found.path, found.verbatim) == (protocol, operation, "peek", rest, True)


def test_without_a_provider_other_spellings_are_nothing_else_either() -> None:
    for path in ("/v1/responses//", "/v1/responses/compact/", "/v1/responses/%2F", "/v1/chat/completions/"):
        assert isinstance(resolve("POST", path, False, PROVIDERS), Refusal), path
    found = resolve("POST", "/v1beta/models/m:generate%43ontent", False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert found.operation is Operation.GENERATE


def test_a_response_below_a_provider_s_name_keeps_its_id() -> None:
    found = resolve("GET", "/openai/v1/responses/resp_1", False, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.operation, found.response_id) == (Operation.RESPONSE_ITEM, "resp_1")


@pytest.mark.parametrize(("method", "path", "version", "protocol", "operation", "id"), [
    ("GET", "/openai/v1/files/file-1/content", False, CHAT, Operation.FILES, "file-1"),
    ("DELETE", "/openai/files/file-1", False, CHAT, Operation.FILES, "file-1"),
    ("GET", "/openai/v1/files/file-1", True, CHAT, Operation.FILES, "file-1"),
    ("GET", "/anthropic/v1/files/file-1", False, MESSAGES, Operation.FILES, "file-1"),
    ("POST", "/openai/v1/batches/batch_1/cancel", False, CHAT, Operation.BATCHES, "batch_1"),
    ("GET", "/anthropic/v1/messages/batches/msgbatch_1/results", False, MESSAGES, Operation.BATCHES, "msgbatch_1"),
    ("DELETE", "/openai/v1/batches/batch_1", False, CHAT, Operation.OTHER, "batch_1"),
    ("GET", "/openai/V1/Files/file-1", False, CHAT, Operation.OTHER, "file-1"),
    ("GET", "/openai/v1/files%5Cfile-1", False, CHAT, Operation.FILES, "file-1"),
    ("GET", "/openai/v1\\files\\file-1/content", False, CHAT, Operation.FILES, "file-1"),
    ("GET", "/openai/v1/vector_stores/vs_1%5cfiles%2Ffile-1", False, CHAT, Operation.OTHER, "file-1"),
    ("POST", "/openai/v1/chat%5Ccompletions", False, CHAT, Operation.CHAT, None),
    ("GET", "/openai/v1/vector_stores/vs_1/files/file-1/content", False, CHAT, Operation.OTHER, "file-1"),
    ("GET", "/openai/openai/v1/responses/resp_1", False, RESPONSES, Operation.RESPONSE_ITEM, "resp_1"),
    ("GET", "/openai/v1/Responses/resp_1", False, RESPONSES, Operation.RESPONSE_ITEM, "resp_1"),
    ("PATCH", "/openai/v1/responses/resp_1", False, CHAT, Operation.OTHER, "resp_1"),
    ("POST", "/openai/openai/v1/responses/compact", False, CHAT, Operation.OTHER, "compact"),  # no answer that was made before
    ("GET", "/codex/v1/files/file-1", False, CHAT, Operation.OTHER, "file-1"),
    ("GET", "/openai/v1/files", False, CHAT, Operation.FILES, None),
    ("POST", "/anthropic/v1/files", False, MESSAGES, Operation.FILES, None),
])  # fmt: skip
def test_below_a_provider_s_name_an_id_is_told_however_it_is_asked_for(
    method: str, path: str, version: bool, protocol: ProtocolId, operation: Operation, id: str | None
) -> None:
    found = resolve(method, path, version, PROVIDERS)
    assert isinstance(found, Endpoint)
    assert (found.protocol, found.operation, found.response_id) == (protocol, operation, id)
    assert f"/{found.provider}{found.path}" == path


def test_oauth_goes_to_anthropic() -> None:
    expected = Endpoint(MESSAGES, Operation.OTHER, "/api/oauth/usage", "none", provider="anthropic", verbatim=True)
    assert resolve("GET", "/api/oauth/usage", False, PROVIDERS) == expected
    renamed = {"o": PROVIDERS["openai"], "claude": _provider("claude", "anthropic")}
    found = resolve("POST", "/api/oauth/token", False, renamed)
    assert isinstance(found, Endpoint)
    assert (found.provider, found.body) == ("claude", "stream")
    assert isinstance(resolve("GET", "/api/oauth/usage", False, {"o": PROVIDERS["openai"]}), Refusal)


def test_legacy_argo_s_own_paths_are_there_where_it_is() -> None:
    named = {**PROVIDERS, "argo": _provider("argo", "argo_legacy", frozenset({CHAT, RESPONSES}))}
    for path in ("/v1/chat", "/v1/embed"):
        expected = Endpoint(CHAT, Operation.OTHER, path, "peek", provider="argo")
        assert resolve("POST", path, False, named) == resolve("POST", f"/argo{path}", False, named) == expected
        assert resolve("OPTIONS", path, False, named) == Allowed(("OPTIONS", "POST"))
        refused = resolve("GET", path, False, named)
        assert isinstance(refused, Refusal)
        assert (refused.fault.status, refused.allow) == (405, ("OPTIONS", "POST"))
        nobody = resolve("POST", path, False, PROVIDERS)
        assert isinstance(nobody, Refusal)
        assert nobody.fault.status == 404


def test_options_behaves() -> None:
    assert resolve("OPTIONS", "/v1/models", False, PROVIDERS) == Allowed(("GET", "HEAD", "OPTIONS"))
    assert isinstance(resolve("OPTIONS", "/openai/x", False, PROVIDERS), Allowed)
    assert isinstance(resolve("OPTIONS", "/api/oauth/x", False, PROVIDERS), Allowed)
    assert isinstance(resolve("OPTIONS", "*", False, PROVIDERS), Allowed)


TRICKS = [
    "/..", "/../x", "/x/../../team-b", "/%2e%2e/x", "/%2E./x", "/.%2e", "/%252e%252e/x", "/%25252e%25252e/x", "/..%2fx", "/..%5cx", "/..\\x",
    "/x\\..\\y",
    "/..;/x", "/%2e%2e;a=b/x", "/./x", "/x/.", "/%00", "/x%0d%0aHost:%20y", "/x y", "/caf\xe9", "/\x7f", "/..%252fx", "/%2525252525252e%2e",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("prefix", ["", "/confined", "/v1/files", "/v1/models", "/v1beta/models", "/api/oauth"])
def test_no_path_leaves_its_place(prefix: str, trick: str) -> None:
    found = resolve("GET", prefix + trick, False, PROVIDERS)
    assert isinstance(found, Refusal)
    assert found.fault.status == 400


@pytest.mark.parametrize("path", ["/v1/models/gemini-2.5", "/v1/models/a..b", "/v1/files/.hidden", "/v1/files/...", "/v1/files/a%2Fb",
    "/v1/files/a%20b%25", "/v1/files/a;b"])
def test_dots_that_are_part_of_a_name_pass(path: str) -> None:
    assert isinstance(resolve("GET", path, False, PROVIDERS), Endpoint)


@given(st.lists(st.sampled_from(["a", "..", ".", "%2e", "%2E%2e", "/", "%2f", "\\", "%5c", "%25", "2e", ";", "v1"]), max_size=12))
def test_what_is_plain_stays_below_its_prefix_however_it_is_decoded(parts: list[str]) -> None:
    from posixpath import normpath
    from urllib.parse import unquote

    rest = "/" + "".join(parts)
    if is_plain(rest):
        decoded = rest
        for _ in range(5):
            assert normpath("/team-a" + decoded.replace("\\", "/")).startswith("/team-a")
            decoded = unquote(decoded)


@given(method=st.sampled_from(["GET", "POST", "HEAD", "DELETE", "BREW", ""]), path=st.text(max_size=60), version=st.booleans())
def test_every_path_has_an_answer(method: str, path: str, version: bool) -> None:
    found = resolve(method, path, version, PROVIDERS)
    assert isinstance(found, Endpoint | Refusal | Allowed)
    if isinstance(found, Refusal):
        assert len(found.fault.message) < 400
        assert found.fault.message.isprintable()


def test_every_fixed_path_stands_with_and_without_its_version() -> None:
    assert {path for path in FIXED if path.startswith("/v1/")} == {"/v1" + path for path in FIXED if not path.startswith("/v1/")}
