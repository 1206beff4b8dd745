"""`prices` and what else costs: read exactly, refused in words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from penstock.config import Config, ConfigErrors, load
from penstock.pricing import OwnPrice, Rates
from penstock.routing import Glob


def loaded(directory: Path, text: str) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return load(file, environ={"HOME": str(directory)})


def refused(directory: Path, entry: str) -> str:
    with pytest.raises(ConfigErrors) as found:
        loaded(directory, f"prices:\n  - {entry}\n")
    [error] = found.value.errors
    return str(error).partition("penstock.yaml:")[2]


def test_every_key_of_a_price(tmp_path: Path) -> None:
    config = loaded(tmp_path, """
prices:
  - {provider: "v*", model: "llama-*", tier: batch, input: 0.10, output: "0.4", cache_read: 0.02, cache_write: 0.3, cache_write_1h: 0.5,
     audio_input: 1, reasoning: 0.7, audio_output: 2, web_search: 10, image_input: 11, image_output: 12, video_input: 13, video_output: 14,
     cache_read_audio: 15, cache_read_image: 16, cache_read_video: 17, long: {above: 200000, input: 1, output: 2}}
  - {model: "claude-*", discount: 15%}
  - {provider: proxy, like: openai, discount: -0.1}
  - {provider: local, input: 0}
""")
    rates = Rates(*(Decimal(rate) for rate in ("0.10", "0.02", "0.3", "0.5", "1", "0.4", "0.7", "2", "10", *map(str, range(11, 18)))))
    assert config.prices == (
        OwnPrice(Glob("v*"), Glob("llama-*"), "batch", rates, 200_000, Rates(Decimal(1), output=Decimal(2))),
        OwnPrice(model=Glob("claude-*"), factor=Decimal("0.85")),
        OwnPrice(Glob("proxy"), like="openai", factor=Decimal("1.1")),
        OwnPrice(Glob("local"), rates=Rates(Decimal(0))),
    )  # fmt: skip
    assert (config.preview, loaded(tmp_path, "ledger: {preview: 200}\n").preview) == (None, 200)


@pytest.mark.parametrize(("entry", "told"), [
    ("{model: x}",
     "2: prices[0]: has neither a price nor a discount; add input and output (US dollars per million tokens), discount: 15%, or like: openai"),
    ("{model: x, output: 1}", "2: prices[0]: has prices, but none of input; add input: 0 where it is free"),
    ("{input: 1, like: openai}",
     "2: prices[0].like: takes the prices of a list, and there are prices of its own beside it; keep one of the two"),
    ("{input: 1, long: {above: 5}}", "2: prices[0].long: needs above (tokens of context), prices, and prices of short contexts beside it"),
    ("{discount: 10%, long: {above: 5, input: 1}}",
     "2: prices[0].long: needs above (tokens of context), prices, and prices of short contexts beside it"),
    ("{input: cheap}", "2: prices[0].input: 'cheap' is no price; write US dollars per million tokens, like 0.25"),
    ("{input: -1}", "2: prices[0].input: '-1' is no price; write US dollars per million tokens, like 0.25"),
    ("{discount: 200%}", "2: prices[0].discount: '200%' is no discount; write a part of the price of at most 100%, like 15%"),
    ("{discount: much}", "2: prices[0].discount: 'much' is no discount; write a part of the price, like 15%"),
    ("{inputs: 1}", "2: prices[0].inputs: is no key of prices[0]; did you mean 'input'?"),
])  # fmt: skip
def test_what_is_no_price(tmp_path: Path, entry: str, told: str) -> None:
    assert refused(tmp_path, entry) == told


def test_prices_must_be_a_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="prices: must be a list, like"):
        loaded(tmp_path, "prices: {input: 1}\n")
    assert loaded(tmp_path, "prices:\n").prices == ()


def test_cache_markers_by_route_and_never_while_transparent(tmp_path: Path) -> None:
    text = "routes:\n  - {model: a, provider: anthropic, cache_markers: on}\n  - {model: b, provider: anthropic}\n"
    config = loaded(tmp_path, text)
    assert [conduct.cache_markers for conduct in (*config.route_conduct, config.conduct)] == [True, False, False]
    config = loaded(tmp_path, "transparent: true\n" + text)
    assert not any(conduct.cache_markers for conduct in config.route_conduct)
    assert any("cache_markers: has no effect while transparent" in note for note in config.notes)
    with pytest.raises(ConfigErrors, match="cache_markers: 'sometimes' is neither on nor off"):
        loaded(tmp_path, "cache_markers: sometimes\n")


def test_a_list_of_nobody_s_is_noted(tmp_path: Path) -> None:
    config = loaded(tmp_path, "prices: [{provider: a, like: openai}, {provider: b, like: opnai}]\n")
    [note] = config.notes
    assert "penstock.yaml:1: prices[1].like: there is no price list of 'opnai', so it prices nothing; did you mean 'openai'?" in note
