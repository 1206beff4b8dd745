"""argo-proxy's files of versions 1 to 3: what they become, that each key is told, and that our own check takes the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.config import Address, Config, ConfigErrors, load
from penstock.config.argo import Fate, Imported, translate
from penstock.config.argo_keys import LEGACY_URLS, NOT_NEEDED, VARIABLES
from penstock.config.argo_text import NOTICES
from penstock.config.model import PROTOCOLS, PROVIDER

FILES = sorted((Path(__file__).parent / "argo").glob("*.yaml"))
KNOWN = {field.name for field in PROVIDER} | set(PROTOCOLS)
PROD, DEV = "https://apps.inside.anl.gov/argoapi", "https://apps-dev.inside.anl.gov/argoapi"


def of(name: str) -> Imported:
    file = Path(__file__).parent / "argo" / f"{name}.yaml"
    return translate(file.read_text(), str(file), {})


def needs(imported: Imported) -> set[str]:
    """What the written file uses that this Penstock does not know."""
    written = yaml.safe_load(imported.text)
    return {word for provider in written["providers"].values() for word in (*provider, provider["protocol"]) if word not in KNOWN}


def checked(imported: Imported, directory: Path) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(imported.text)
    return load(file, environ={"HOME": str(directory)})


def fate(imported: Imported, key: str) -> tuple[Fate, str]:
    return next((told.fate, told.words) for told in imported.told if told.key == key)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_key_is_told_once_with_its_line_and_its_reason(file: Path) -> None:
    imported = of(file.stem)
    lines = {line.partition(":")[0]: number for number, line in enumerate(file.read_text().splitlines(), 1) if not line.startswith((" ", "#"))}
    told = [told for told in imported.told if told.line is not None]
    assert {one.key: one.line for one in told} == lines
    assert len(told) == len(lines)
    assert [one.line for one in told] == sorted(lines.values())
    assert all(one.words for one in imported.told)
    assert all(one.fate is not Fate.UNKNOWN or one.key == "my_own_key" for one in told)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_our_own_check_takes_the_result(file: Path, tmp_path: Path) -> None:
    imported = of(file.stem)
    if needs(imported):
        pytest.skip(f"this Penstock does not know {', '.join(sorted(needs(imported)))}")
    config = checked(imported, tmp_path)
    assert {provider.notices for provider in config.providers} == {NOTICES}


def test_version_1(tmp_path: Path) -> None:
    imported = of("v1_urls")
    config = checked(imported, tmp_path)
    assert config.listen == Address("127.0.0.1", 55625)
    argo, anthropic = config.providers
    assert (argo.name, argo.base_url, argo.user, argo.argo_names) == ("argo", f"{DEV}/v1", "alice", True)
    assert (anthropic.name, anthropic.base_url, anthropic.user, anthropic.argo_names) == ("argo-anthropic", DEV, "alice", True)
    assert config.connection_test == 5.0
    assert config.conduct.timers.first_content == 600.0
    assert fate(imported, "host")[0] is Fate.CHANGED
    assert "under your name" in fate(imported, "host")[1]
    assert fate(imported, "argo_url")[0] is Fate.KEPT
    assert fate(imported, "argo_embedding_url")[0] is Fate.CHANGED, "it was at another base"
    assert fate(imported, "argo_stream_url")[0] is Fate.NOT_NEEDED


def test_version_2(tmp_path: Path) -> None:
    imported = of("v2_deprecated")
    config = checked(imported, tmp_path)
    assert (config.listen, config.admin) == (Address("127.0.0.1", 4271), Address("127.0.0.1", 4272)), "the admin plane makes way"
    assert [provider.base_url for provider in config.providers] == [f"{DEV}/v1", DEV]
    assert "pseudo_stream: true" in fate(imported, "real_stream")[1]


def test_version_3(tmp_path: Path) -> None:
    imported = of("v3_full")
    config = checked(imported, tmp_path)
    assert config.resolve == {("apps.inside.anl.gov", 443): "127.0.0.1", ("2001:db8::1", 443): "::1"}
    assert fate(imported, "resolve_overrides")[0] is Fate.CHANGED
    assert "no-port.example.com" in fate(imported, "resolve_overrides")[1]
    assert config.connection_test == 7.0
    assert config.log.file == Path(__file__).parent / "argo" / "v3_full.log"
    assert config.listen == Address("localhost", 44497)
    assert [provider.base_url for provider in config.providers] == [f"{PROD}/v1", PROD]
    assert fate(imported, "my_own_key")[0] is Fate.UNKNOWN
    assert fate(imported, "anthropic_stream_mode") == (Fate.KEPT, "force is the default here too")


def test_with_username_passthrough_no_name_of_the_operators_is_written(tmp_path: Path) -> None:
    imported = of("v3_passthrough")
    assert "alice" not in imported.text
    config = checked(imported, tmp_path)
    assert all(provider.user_from_key and provider.user is None for provider in config.providers)
    assert config.listen == Address("127.0.0.1", 50000)
    assert "everybody could connect" in fate(imported, "host")[1]
    assert config.connection_test is None, "skip_url_validation"


@pytest.mark.parametrize("user", ["user: alice", "username_passthrough: true"])
def test_what_is_said_to_do_for_others_is_enough(tmp_path: Path, user: str) -> None:
    imported = translate(f"host: 0.0.0.0\nport: 50000\n{user}\n", "config.yaml", {})
    words = fate(imported, "host")[1].partition("For others: ")[2]
    listen, _, remedy = words.partition(" together with ")
    text = imported.text.replace("listen: 127.0.0.1:50000", listen)
    with pytest.raises(ConfigErrors, match="others can reach"):
        checked(Imported(text, ()), tmp_path)
    assert checked(Imported(f"{remedy}\n{text}", ()), tmp_path).listen == Address("0.0.0.0", 50000)


def test_a_socket(tmp_path: Path) -> None:
    imported = of("v3_socket")
    config = checked(imported, tmp_path)
    assert config.socket == tmp_path / "run" / "argo.sock"
    assert {provider.user for provider in config.providers} == {"1234"}
    assert fate(imported, "anthropic_stream_mode")[0] is Fate.CHANGED
    assert fate(imported, "port")[0] is Fate.NOT_NEEDED


def test_the_stream_mode_is_the_anthropic_providers() -> None:
    written = yaml.safe_load(of("v3_retry").text)["providers"]
    assert written["argo-anthropic"]["anthropic_stream_mode"] == "retry"
    assert "anthropic_stream_mode" not in written["argo"]


def test_the_legacy_gateway() -> None:
    imported = of("v3_legacy")
    written: dict[str, Any] = yaml.safe_load(imported.text)["providers"]
    assert list(written) == ["argo-legacy", "argo-anthropic"], "the older gateway comes first: it takes what it speaks"
    legacy = {key: value for key, value in written["argo-legacy"].items() if key != "notices"}
    assert legacy == {"protocol": "argo_legacy", "base_url": PROD, "user": "alice", "real_stream": False}
    assert fate(imported, "argo_url") == (Fate.NOT_NEEDED, "it is where the base URL leads")
    assert fate(imported, "argo_embedding_url")[0] is Fate.CHANGED


def test_defaults_that_people_count_on_are_written_and_told(tmp_path: Path) -> None:
    imported = translate("user: alice\n", "/x/config.yaml", {})
    config = checked(imported, tmp_path)
    assert config.listen == Address("127.0.0.1", 44497)
    assert config.providers[0].base_url == f"{DEV}/v1"
    assert {told.key for told in imported.told if told.line is None} == {"host", "port", "argo_base_url", "connection_test_timeout"}


def test_variables_that_argo_proxy_would_have_read_are_told() -> None:
    imported = translate("user: alice\n", "/x/config.yaml", {"ARGO_BASE_URL": "https://x.example", "REAL_STREAM": "", "PORT": "1"})
    assert [told.key for told in imported.told if told.key in VARIABLES] == ["ARGO_BASE_URL"]


@pytest.mark.parametrize(("text", "message"), [
    ("port: 1\n", "has no user"),
    ("user: ''\n", ":1: user: is empty"),
    ("user: a b\n", ":1: user: holds a blank"),
    ("user: cels\n", "'cels' is nobody's name"),
    ("user: [a]\n", ":1: user: must be one name"),
    ("user: a\nport: x\n", ":2: port: 'x' is no number"),
    ("user: a\nport: \u00b2\n", ":2: port: '\u00b2' is no number"),
    ("user: a\nport: " + "9" * 5000 + "\n", ":2: port: '999"),
    ("user: a\nport: 70000\n", "has no port from 0 to 65535"),
    ("user: a\nargo_base_url: ftp://x\n", ":2: argo_base_url: a base URL begins with"),
    ("user: a\nnative_anthropic_base_url: https://v1\n", ":2: native_anthropic_base_url: has a version where its host should be"),
    ("user: a\nnative_openai_base_url: https://v1/messages/\n", ":2: native_openai_base_url: has a version where its host should be"),
    ("user: a\nargo_base_url: http://v1:8080/\n", ":2: argo_base_url: has a version where its host should be"),
    ("user: a\nargo_base_url: https://me:pw@x.example\n", "no user name or password"),
    ("user: a\nconnection_test_timeout: never\n", ":2: connection_test_timeout: 'never' is no duration"),
    ("user: a\nport: {a: 1}\n", ":2: port: must be one value"),
    ("user: a\nuser: b\n", "stands twice"),
    ("\tuser: a\n", "a tab"),
    ("- user\n", "must be a mapping"),
    ("", "has no user"),
])
def test_what_cannot_be_carried_over_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as errors:
        translate(text, "config.yaml", {})
    assert message in str(errors.value)
    assert "pw" not in str(errors.value)


@pytest.mark.parametrize(("written", "base"), [
    ("https://messages", "https://messages"), ("https://h.example/v1/messages", "https://h.example"), ("https://h.example/x/v1/", "https://h.example/x"),
    ("https://h.example/messages", "https://h.example"), ("https://v1.example/v1", "https://v1.example"),
])
def test_of_a_base_url_only_its_path_is_cut(written: str, base: str, tmp_path: Path) -> None:
    config = checked(translate(f"user: a\nnative_anthropic_base_url: {written}\n", "/x/config.yaml", {}), tmp_path)
    assert [provider.base_url for provider in config.providers if provider.kind == "anthropic"] == [base]


@pytest.mark.parametrize("written", ["https://h.example/argoapi", "https://h.example/argoapi/v1", "https://h.example/argoapi/v1/"])
def test_no_version_stands_twice(written: str, tmp_path: Path) -> None:
    text = f"user: a\nargo_base_url: {written}\nargo_embedding_url: https://h.example/argoapi/api/v1/resource/embed/\n"
    imported = translate(text, "/x/config.yaml", {})
    config = checked(imported, tmp_path)
    assert [provider.base_url for provider in config.providers] == ["https://h.example/argoapi/v1", "https://h.example/argoapi"]
    assert fate(imported, "argo_embedding_url")[0] is Fate.NOT_NEEDED


def test_dollar_signs_and_other_signs_stay_what_they_are(tmp_path: Path) -> None:
    imported = translate("user: \"a${b}'c\"\nport: 1\nhost: 127.0.0.1\nsocket: \"/x/${y}: #z\"\n", "/x/config.yaml", {})
    config = checked(imported, tmp_path)
    assert config.providers[0].user == "a${b}'c"
    assert config.socket == Path("/x/${y}: #z")


def test_no_key_is_known_twice() -> None:
    assert not set(NOT_NEEDED) & set(LEGACY_URLS)
