"""The provider's keys, `legacy_argo` and `real_stream`: file, environment, command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.config import Config, ConfigErrors, load
from penstock.config.argo_text import NOTICES

ARGO: dict[str, Any] = {"protocol": "argo_legacy", "base_url": "https://argo.example/argoapi", "user": "ada"}


def read(tmp_path: Path, file: dict[str, Any], environ: dict[str, str] | None = None, **overrides: Any) -> Config:
    path = tmp_path / "penstock.yaml"
    path.write_text(yaml.safe_dump(file, sort_keys=False))
    return load(path, environ={"HOME": str(tmp_path), **(environ or {})}, overrides=overrides)


def errors_of(tmp_path: Path, file: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path, file, **more)
    return str(caught.value)


def test_a_provider(tmp_path: Path) -> None:
    (settings,) = read(tmp_path, {"providers": {"argo": ARGO}}).providers
    assert (settings.kind, settings.user, settings.base_url, settings.real_stream) == ("argo_legacy", "ada", ARGO["base_url"], None)
    (settings,) = read(tmp_path, {"providers": {"argo": {**ARGO, "real_stream": False}}}).providers
    assert settings.real_stream is False


def test_its_makers_address_is_the_default(tmp_path: Path) -> None:
    (settings,) = read(tmp_path, {"providers": {"argo": {"protocol": "argo_legacy", "user": "ada"}}}).providers
    assert settings.base_url == "https://apps-dev.inside.anl.gov/argoapi"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": None}, "is empty"), ({"user": "ada lovelace"}, "holds a blank"), ({"user": "cels"}, "nobody's name"),
        ({"api_key": "sk-x"}, "knows no keys"), ({"auth": "bearer"}, "knows no keys"),
    ],
)  # fmt: skip
def test_what_it_cannot_be(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert said in errors_of(tmp_path, {"providers": {"argo": {**ARGO, **change}}})


def test_somebody_must_ask(tmp_path: Path) -> None:
    assert "has no user" in errors_of(tmp_path, {"providers": {"argo": {"protocol": "argo_legacy"}}})
    (settings,) = read(tmp_path, {"providers": {"argo": {"protocol": "argo_legacy", "user_from": "api_key"}}}).providers
    assert settings.user_from_key


def test_everything_goes_there(tmp_path: Path) -> None:
    file = {"providers": {"o": {"protocol": "openai"}, "argo": ARGO, "other": ARGO}, "routes": [{"model": "gpt-*", "provider": "o"}]}
    for found in (
        read(tmp_path, {**file, "legacy_argo": True}), read(tmp_path, file, {"PENSTOCK_LEGACY_ARGO": "1"}), read(tmp_path, file, legacy_argo=True),
    ):  # fmt: skip
        assert [settings.name for settings in found.providers] == ["argo"]
        assert found.routes == found.route_conduct == ()
        assert set(found.provider_conduct) == {"argo"}
    assert len(read(tmp_path, file).providers) == 3


def test_without_a_provider_the_environment_says_who_and_where(tmp_path: Path) -> None:
    (settings,) = read(tmp_path, {}, {"ARGO_USER": "ada"}, legacy_argo=True).providers
    assert (settings.name, settings.user, settings.base_url) == ("argo", "ada", "https://apps-dev.inside.anl.gov/argoapi")
    assert settings.notices == NOTICES, "there is no file in which they could be said"
    (settings,) = read(tmp_path, {}, {"ARGO_USER": "ada", "ARGO_BASE_URL": "http://127.0.0.1:9/x"}, legacy_argo=True).providers
    assert settings.base_url == "http://127.0.0.1:9/x"
    assert "set ARGO_USER" in errors_of(tmp_path, {}, legacy_argo=True)
    assert "ARGO_USER" in errors_of(tmp_path, {}, environ={"ARGO_USER": "a b"}, legacy_argo=True)


def test_the_command_line_beats_what_the_provider_says(tmp_path: Path) -> None:
    file = {"providers": {"argo": {**ARGO, "real_stream": True}}}
    assert read(tmp_path, file, real_stream=False).providers[0].real_stream is False
    assert read(tmp_path, file, {"PENSTOCK_REAL_STREAM": "no"}).providers[0].real_stream is False
    assert read(tmp_path, {**file, "real_stream": False}).providers[0].real_stream is False
    assert read(tmp_path, {**file, "real_stream": False}, real_stream=True).providers[0].real_stream is True


def test_elsewhere_it_has_no_effect_and_says_so(tmp_path: Path) -> None:
    found = read(tmp_path, {"providers": {"o": {"protocol": "openai", "real_stream": False}}}, real_stream=False)
    notes = [note for note in found.notes if "pseudo_stream" in note]
    assert [note.replace(":", "").split()[0] for note in notes] == ["providers.o.real_stream", "--pseudo-stream"]
    assert all("has no effect" in note for note in notes)
    assert not any("real_stream" in note for note in read(tmp_path, {"providers": {"argo": ARGO}}, real_stream=False).notes)


def test_its_user_is_not_lent_to_strangers(tmp_path: Path) -> None:
    assert "'argo' has a user" in errors_of(tmp_path, {"listen": "0.0.0.0:4270", "providers": {"argo": ARGO}})
    assert read(tmp_path, {"listen": "0.0.0.0:4270", "token": "t" * 20, "providers": {"argo": ARGO}}).providers
