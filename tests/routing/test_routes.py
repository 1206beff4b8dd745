"""Who takes a model."""

from __future__ import annotations

import pytest

from penstock.providers import KINDS, Kind, Provider, ProviderSettings, build
from penstock.routing import Choice, Glob, Hints, Mismatch, NoRoute, Route, Router
from penstock.vocabulary.ids import Operation, ProtocolId

CHAT, RESPONSES, MESSAGES, GEMINI = ProtocolId.OPENAI_CHAT, ProtocolId.OPENAI_RESPONSES, ProtocolId.ANTHROPIC_MESSAGES, ProtocolId.GEMINI


def _provider(name: str, kind: Kind, protocols: frozenset[ProtocolId] | None = None) -> Provider:
    return build(ProviderSettings(name=name, kind=kind, base_url=KINDS[kind].default_base_url, protocols=protocols))


OPENAI, ANTHROPIC, GOOGLE = _provider("openai", "openai"), _provider("anthropic", "anthropic"), _provider("gemini", "gemini")
GROQ = _provider("groq", "openai", frozenset({CHAT}))
DEMO = _provider("demo", "openai")
ALL = [OPENAI, ANTHROPIC, GOOGLE, GROQ]


def router(*routes: tuple[str, str] | tuple[str, str, str], providers: list[Provider] = ALL, demo: Provider | None = DEMO) -> Router[Provider]:
    return Router([Route(Glob(route[0]), route[1], route[2] if len(route) == 3 else None) for route in routes], providers, demo)


def taken(found: Choice[Provider] | Mismatch | NoRoute) -> tuple[str, str | None]:
    assert isinstance(found, Choice), found
    return found.provider.name, found.model_upstream


@pytest.mark.parametrize(("protocol", "operation", "name"), [
    (CHAT, Operation.CHAT, "openai"), (RESPONSES, Operation.RESPONSES, "openai"), (MESSAGES, Operation.MESSAGES, "anthropic"),
    (GEMINI, Operation.GENERATE, "gemini"), (CHAT, Operation.EMBEDDINGS, "openai"),
])
def test_without_routes_the_first_that_speaks_the_protocol(protocol: ProtocolId, operation: Operation, name: str) -> None:
    assert taken(router().choose(protocol, operation, "m")) == (name, "m")
    if name == "openai":
        assert taken(router(providers=[GROQ, OPENAI]).choose(protocol, operation, "m"))[0] == ("groq" if protocol is CHAT else "openai")


def test_the_first_match_wins_and_renames() -> None:
    routes = router(("fast", "groq", "llama-3.1-8b"), ("*", "openai"), ("fast", "openai"))
    assert taken(routes.choose(CHAT, Operation.CHAT, "fast")) == ("groq", "llama-3.1-8b")
    assert taken(routes.choose(CHAT, Operation.CHAT, "slow")) == ("openai", "slow")
    chosen = routes.choose(CHAT, Operation.CHAT, "fast")
    assert isinstance(chosen, Choice)
    assert chosen.renamed
    assert chosen.route == Route(Glob("fast"), "groq", "llama-3.1-8b")


def test_without_a_match_the_first_of_the_protocol() -> None:
    assert taken(router(("claude-*", "anthropic")).choose(CHAT, Operation.CHAT, "gpt-4o")) == ("openai", "gpt-4o")


def test_the_sentence_of_a_mismatch() -> None:
    assert router(("claude-*", "anthropic")).choose(CHAT, Operation.CHAT, "claude-sonnet-4-5") == Mismatch(
        "model 'claude-sonnet-4-5' is served by provider 'anthropic' (anthropic_messages); this path speaks openai_chat. "
        "Use /v1/messages, or route the model to an openai provider.")


def test_a_key_in_the_place_of_a_name_is_not_quoted() -> None:
    mismatch = router(("sk-*", "anthropic")).choose(CHAT, Operation.CHAT, "sk-ant-api03-abcdefgh12345678")
    assert isinstance(mismatch, Mismatch)
    assert mismatch.message.startswith("model 'sk-ant-***' is served by")


@pytest.mark.parametrize(("provider", "protocol", "operation", "end"), [
    ("anthropic", RESPONSES, Operation.RESPONSES, "this path speaks openai_responses. Use /v1/messages, or route the model to an openai provider."),
    ("anthropic", GEMINI, Operation.GENERATE, "this path speaks gemini. Use /v1/messages, or route the model to a gemini provider."),
    ("openai", MESSAGES, Operation.MESSAGES,
     "(openai_chat, openai_responses); this path speaks anthropic_messages. Use /v1/chat/completions or /v1/responses, "
     "or route the model to an anthropic provider."),
    ("openai", GEMINI, Operation.GENERATE, "Use /v1/chat/completions or /v1/responses, or route the model to a gemini provider."),
    ("gemini", CHAT, Operation.CHAT, "Use /v1beta/models/m:generateContent, or route the model to an openai provider."),
    ("gemini", MESSAGES, Operation.COUNT_TOKENS, "Use /v1beta/models/m:countTokens, or route the model to an anthropic provider."),
    ("groq", RESPONSES, Operation.RESPONSES, "Use /v1/chat/completions, or route the model to a provider that speaks openai_responses."),
    ("groq", MESSAGES, Operation.COUNT_TOKENS, "this path speaks anthropic_messages. Route the model to an anthropic provider."),
    ("anthropic", CHAT, Operation.EMBEDDINGS, "this path speaks openai_chat. Route the model to an openai provider."),
])
def test_hints_of_mismatches(provider: str, protocol: ProtocolId, operation: Operation, end: str) -> None:
    found = router(("m", provider)).choose(protocol, operation, "m")
    assert isinstance(found, Mismatch)
    assert found.message.endswith(end)


def test_a_later_route_wins_over_a_mismatch() -> None:
    routes = router(("claude-*", "anthropic"), ("gpt-*", "openai"), ("claude-s*", "groq", "claude"))
    assert taken(routes.choose(CHAT, Operation.CHAT, "claude-sonnet")) == ("groq", "claude")
    assert taken(routes.choose(MESSAGES, Operation.MESSAGES, "claude-sonnet")) == ("anthropic", "claude-sonnet")
    assert isinstance(routes.choose(CHAT, Operation.CHAT, "claude-opus"), Mismatch)


def test_the_demo_model() -> None:
    assert taken(router().choose(CHAT, Operation.CHAT, "demo")) == ("demo", "demo")
    assert taken(router(("claude-*", "anthropic")).choose(CHAT, Operation.CHAT, "demo")) == ("demo", "demo")
    assert taken(router(("*", "openai")).choose(CHAT, Operation.CHAT, "demo")) == ("openai", "demo")
    assert taken(router(("*", "anthropic")).choose(CHAT, Operation.CHAT, "demo")) == ("demo", "demo")
    assert taken(router(("x", "demo", "demo")).choose(CHAT, Operation.CHAT, "x")) == ("demo", "demo")
    assert taken(router().choose(CHAT, Operation.CHAT, "demo2")) == ("openai", "demo2")
    assert taken(router(demo=None).choose(CHAT, Operation.CHAT, "demo")) == ("openai", "demo")


def test_demo_is_never_a_fallback() -> None:
    found = router(providers=[ANTHROPIC]).choose(CHAT, Operation.CHAT, "m")
    assert found == NoRoute(
        "no provider speaks openai_chat, which this path does; there is 'anthropic' (anthropic_messages). Add an openai provider.")
    assert taken(router(providers=[DEMO, OPENAI]).choose(CHAT, Operation.CHAT, "m")) == ("openai", "m")


def test_without_a_model_the_hints_in_their_order() -> None:
    routes = router(("*", "openai"))

    def choose(protocol: ProtocolId, **hints: str) -> tuple[str, str | None]:
        return taken(routes.choose(protocol, Operation.FILES, None, Hints(**hints)))

    assert choose(CHAT, ledger_provider="groq", header_provider="openai") == ("groq", None)
    assert choose(CHAT, ledger_provider="gone", header_provider="groq") == ("groq", None)
    assert choose(CHAT, ledger_provider="anthropic") == ("openai", None)
    assert choose(CHAT, header_provider="groq") == ("groq", None)
    assert choose(MESSAGES) == ("anthropic", None)


def test_a_header_that_names_the_wrong_provider_is_told() -> None:
    unknown = router().choose(CHAT, Operation.FILES, None, Hints(header_provider="nobody"))
    assert isinstance(unknown, NoRoute)
    assert "'nobody'" in unknown.message
    assert "'openai'" in unknown.message
    other = router().choose(CHAT, Operation.FILES, None, Hints(header_provider="anthropic"))
    assert isinstance(other, Mismatch)
    assert other.message.startswith("x-penstock-provider names 'anthropic' (anthropic_messages); this path speaks openai_chat.")


def test_hints_do_not_count_where_there_is_a_model() -> None:
    assert taken(router().choose(CHAT, Operation.CHAT, "m", Hints("groq", "groq"))) == ("openai", "m")


def test_names_chosen_by_clients_do_not_fill_the_memory() -> None:
    routes = router()
    for number in range(5000):
        routes.choose(CHAT, Operation.CHAT, f"m{number}")
    routes.choose(CHAT, Operation.CHAT, "m" * 1000)
    memory = routes._cache  # pyright: ignore[reportPrivateUsage]
    assert len(memory) <= 2048
    assert all(len(model) <= 200 for _, _, model in memory)
    assert routes.choose(CHAT, Operation.CHAT, "same") is routes.choose(CHAT, Operation.CHAT, "same")


def test_long_model_names_do_not_make_long_messages() -> None:
    found = router(("*", "gemini")).choose(CHAT, Operation.CHAT, "m" * 100_000)
    assert isinstance(found, Mismatch)
    assert len(found.message) < 600
