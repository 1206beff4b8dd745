"""Providers asked for their models by a command or at the start: each for itself, and what the answers mean."""

from __future__ import annotations

import pytest

from penstock.exchange.probe import Listed, ask_models, judge
from penstock.lab.scripted import Do, ScriptedServer, whole
from penstock.providers import ArgoLegacyProvider, Provider, ProviderSettings, build
from penstock.providers.argo_names import Named
from penstock.upstream.client import Client
from penstock.upstream.settings import Settings
from tests.support.asking import black_hole, nobody
from tests.support.gateway import run


def provider(name: str, port: int, **more: object) -> Provider:
    settings = ProviderSettings(name=name, kind="openai", base_url=f"http://127.0.0.1:{port}", **more)  # pyright: ignore[reportArgumentType]
    return build(settings)


def test_each_is_asked_for_itself_and_they_keep_their_order() -> None:
    async def work() -> None:
        plain = ScriptedServer([Do.READ, whole(b'{"data":[{"id":"m"}]}')])
        argo = ScriptedServer([Do.READ, whole(b'[{"id":"gpt4o","model_name":"GPT-4o"}]')])
        client = Client(Settings())
        with black_hole() as hole:
            found = await ask_models(client, [
                provider("silent", hole), provider("plain", await plain.start()), provider("dead", nobody()),
                provider("argo", await argo.start(), argo_names=True, user="alice"),
            ], 0.2)  # fmt: skip
        assert [one.provider for one in found] == ["silent", "plain", "dead", "argo"]
        assert found[0].failure == "no answer within 0.2 s"
        assert found[1].models == (Named("m", ()),)
        assert found[2].failure == "the provider refused the connection"
        assert found[3].models is not None
        assert found[3].models[0] == Named("gpt4o", ("argo:gpt-4o",))
        assert dict(argo.log[0].headers)["authorization"] == "Bearer alice"
        client.close()
        plain.close()
        argo.close()

    run(work())


@pytest.mark.parametrize(("body", "known"), [(b'{"data":[{"id":"gpt9","model_name":"GPT-9"}]}', "gpt9"), (b'{"detail":"later"}', "gpt-9")])
def test_legacy_argo_knows_what_it_was_asked_for_at_the_start(body: bytes, known: str) -> None:
    async def work() -> None:
        server = ScriptedServer([Do.READ, whole(body)])
        client = Client(Settings())
        argo = build(ProviderSettings(name="argo", kind="argo_legacy", base_url=f"http://127.0.0.1:{await server.start()}", user="alice"))
        assert isinstance(argo, ArgoLegacyProvider)
        await ask_models(client, [argo], 5)
        assert argo.names.id_of("argo:gpt-9") == known
        assert argo.names.id_of("argo:text-embedding-3-small") == "v3small"
        assert (argo.names.id_of("argo:gemini-2.5-pro") == "gemini25pro") == (known == "gpt-9"), "a list takes the place of what was known before"
        client.close()
        server.close()

    run(work())


@pytest.mark.parametrize(("listed", "more", "well"), [
    (Listed("p", ()), {}, True),
    (Listed("p", None, "the provider answered 404", 404), {}, True),
    (Listed("p", None, "the provider answered 405", 405), {}, True),
    (Listed("p", None, "the provider answered 401", 401), {}, True),
    (Listed("p", None, "the provider answered 401", 401), {"api_key": "k"}, False),
    (Listed("p", None, "the provider answered 403", 403), {"user": "u"}, False),
    (Listed("p", None, "the provider answered 403", 403), {"user_from_key": True}, True),
    (Listed("p", None, "the provider answered 500", 500), {}, False),
    (Listed("p", None, "the provider refused the connection"), {}, False),
])
def test_what_an_answer_means(listed: Listed, more: dict[str, object], well: bool) -> None:
    finding = judge(listed, provider("p", 9, **more))
    assert finding.well is well
    assert finding.told
