"""Guards in the file: which hold where, and what is wrong with all its reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import Config, ConfigErrors, load
from penstock.policy.matcher import Hold
from penstock.policy.rules import Action, Scope
from penstock.policy.windows import Windows
from penstock.stores.guard_calls import CallLimits
from penstock.stores.guard_formats import Service


def read(directory: Path, text: str) -> Config:
    file = directory / "penstock.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ={"HOME": str(directory)})


def wrong(directory: Path, text: str) -> str:
    with pytest.raises(ConfigErrors) as errors:
        read(directory, text)
    return str(errors.value)


def test_without_guards_there_are_none(tmp_path: Path) -> None:
    config = read(tmp_path, "listen: 4270\n")
    assert config.conduct.guards is None
    assert all(conduct.guards is None for conduct in config.provider_conduct.values())


def test_they_add_up(tmp_path: Path) -> None:
    config = read(tmp_path, """
guards: [{name: top, detect: [card], on: [answer]}, {name: unused, words: [x], enabled: false}]
guard_hold: {chars: 99, time: 3s}
providers:
  openai: {guards: [{name: own, words: [zanzibar], scope: [user, assistant], action: reject}]}
  anthropic: {}
routes:
  - {model: "*", provider: openai, guards: [{name: route, patterns: ['a{1,3}b'], action: audit, on_error: open}]}
""")
    top, openai, route = config.conduct.guards, config.provider_conduct["openai"].guards, config.route_conduct[0].guards
    assert top is not None
    assert openai is not None
    assert route is not None
    assert top.hold == Hold(99, 3.0)
    assert [rule.guard for rule in top.answers[Scope.ASSISTANT]] == ["top"]
    assert not top.judges_requests
    assert [rule.guard for rule in openai.answers[Scope.ASSISTANT]] == ["top", "own"]
    assert [rule.guard for rule in openai.answers[Scope.REASONING]] == ["top"]
    assert list(openai.requests) == [Scope.USER, Scope.ASSISTANT]
    rules = route.answers[Scope.ASSISTANT]
    assert [(rule.guard, rule.action, rule.closed) for rule in rules] == [
        ("top", Action.MASK, True), ("own", Action.REJECT, True), ("route", Action.AUDIT, False)]  # fmt: skip
    assert config.provider_conduct["anthropic"].guards is not None


def test_words_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("blue horizon\n\nzanzibar\n")
    config = read(tmp_path, "guards: [{name: w, words_file: words.txt}]\n")
    assert config.conduct.guards is not None
    assert config.conduct.guards.requests[Scope.USER][0].find.search("the Blue Horizon")


def test_every_error_at_once(tmp_path: Path) -> None:
    told = wrong(tmp_path, """
guards:
  - {name: a, patterns: ['foo$', 'a+', '(?=x)y', '(']}
  - {detect: [emial]}
  - {name: c}
  - {name: d, words: [x]}
  - {name: d, words_file: nowhere.txt}
  - {name: f, words: [x], on: [answer], scope: [user]}
  - {name: g, words: [x], acton: reject}
  - 7
""")
    for part in (
        "guards[0].patterns[0]: cannot be judged on a stream: it asks with '$'",
        "guards[0].patterns[1]: cannot be judged on a stream: it repeats without",
        "guards[0].patterns[2]: cannot be judged on a stream: it looks ahead", "guards[0].patterns[3]: is no regular expression",
        "did you mean 'email'?", "guards[1]: has no name", "guards[2]: finds nothing",
        "guards[4].words_file: cannot be read", "guards[4]: there is another guard 'd' here",
        "guards[5].scope: names nothing that stands in an answer",
        "guards[6].acton: is no key of guards[6]; did you mean 'action'?", "guards[7]: must be a mapping",
    ):  # fmt: skip
        assert part in told, part
    assert "is empty" not in told, "what is misspelt is not missing"


def test_a_pattern_for_requests_alone_may_be_any(tmp_path: Path) -> None:
    config = read(tmp_path, "guards: [{name: a, patterns: ['foo+$'], on: [request]}]\n")
    assert config.conduct.guards is not None
    assert not config.conduct.guards.judges_answers


def test_transparent_and_guards_exclude_each_other(tmp_path: Path) -> None:
    assert "transparent forbids it" in wrong(tmp_path, "transparent: true\nguards: [{name: a, words: [x]}]\n")


def test_guards_must_be_a_list(tmp_path: Path) -> None:
    assert "guards: must be a list" in wrong(tmp_path, "guards: {a: 1}\n")


def test_guards_that_are_asked_outside(tmp_path: Path) -> None:
    config = read(tmp_path, """
guards:
  - {name: hook, webhook: {url: "http://127.0.0.1:9/judge", key: k-1, forward: [X-Tenant]}, on: [answer], timeout: 2s, at_once: 3}
  - {name: agw, webhook: {url: "http://127.0.0.1:9", format: agentgateway, key: k-2, key_header: X-Key}, action: reject, uploads: reject}
  - {name: mod, moderation: {key: k-3, categories: [violence, "sexual/minors>=0.2"]}, on_error: open, scope: [user], uploads: pass}
guard_windows: {by: size, chars: 100, before: off, time: 1s, held: 64KiB}
guard_calls: {at_once: 5, waiting: 7}
""")
    guards = config.conduct.guards
    assert guards is not None
    hook, agw, mod = guards.outsides
    assert hook.service == Service("http://127.0.0.1:9/judge", key="k-1", forward=("x-tenant",), timeout=2.0, at_once=3)
    assert (hook.action, hook.closed, hook.batch) == (Action.MASK, True, 1 << 30)
    assert agw.service == Service("http://127.0.0.1:9", "agentgateway", headers=(("x-key", "k-2"),))
    assert agw.action is Action.REJECT
    assert mod.service == Service("https://api.openai.com/v1", "moderation", "k-3", categories=(("violence", None), ("sexual/minors", 0.2)))
    assert (mod.action, mod.closed, mod.batch) == (Action.REJECT, False, 32)
    assert guards.windows == Windows("size", 100, 0, 1.0, 64 << 10)
    assert config.guard_calls == CallLimits(5, 7)
    assert guards.no_uploads is not None
    assert (guards.no_uploads.guard, config.notes) == ("agw", ())
    assert not any(key in repr(config) for key in ("k-1", "k-2", "k-3"))


def test_what_does_not_go_with_an_outside_guard(tmp_path: Path) -> None:
    told = wrong(tmp_path, """
guards:
  - {name: a, webhook: {format: penstock}}
  - {name: b, webhook: {url: "http://h/"}, detect: [pii], mask: x}
  - {name: c, moderation: {}, action: mask}
  - {name: d, moderation: {categories: ["violence>=2"]}}
  - {name: e, detect: [pii], on: [answer], uploads: reject}
""")
    for words in ("has no url", "detect", "does not go with webhook", "cannot be mask", "is no category", "uploads are requests"):
        assert words in told


@pytest.mark.parametrize("name", [
    "Transfer-Encoding", "content-length", "connection", "upgrade", "te", "trailer", "host", "expect", "proxy-authorization", "content-encoding",
    "Authorization", "x-api-key", "api-key", "x-goog-api-key", "x-penstock-key", "cookie",
])  # fmt: skip
def test_what_belongs_to_a_connection_or_is_a_key_is_not_forwarded(tmp_path: Path, name: str) -> None:
    told = wrong(tmp_path, f"guards: [{{name: a, webhook: {{url: 'http://h/', forward: [x-tenant, {name}]}}}}]\n")
    assert "stays in the house" in told
    assert "x-tenant" not in told


def test_where_a_guard_does_not_look_is_said(tmp_path: Path) -> None:
    [note] = read(tmp_path, "guards: [{name: secrets, detect: [secrets]}]").notes
    assert "'secrets' looks into no upload" in note
    for quiet in ("uploads: pass", "uploads: reject", "on: [answer]", "action: audit"):
        assert read(tmp_path, f"guards: [{{name: secrets, detect: [secrets], {quiet}}}]").notes == ()


@pytest.mark.parametrize(("guard", "told"), [
    ("detect: []", "guards[0].detect: is empty, so it finds nothing"),
    ("words: [a], patterns: []", "guards[0].patterns: is empty, so it finds nothing"),
    ("words: [a], timeout: 5", "guards[0].timeout: is about questions to a webhook or a moderation"),
    ("detect: [ip], at_once: 5", "guards[0].at_once: is about questions to a webhook or a moderation"),
    ("webhook: {url: 'http://127.0.0.1:1', key_header: x-key}", "guards[0].webhook.key_header: says how a key is sent, but there is none"),
])  # fmt: skip
def test_what_would_do_nothing_is_refused(tmp_path: Path, guard: str, told: str) -> None:
    assert told in wrong(tmp_path, f"guards: [{{name: one, {guard}}}]")


@pytest.mark.parametrize(("webhook", "told"), [
    ("url: 'ftp://x'", "guards[0].webhook.url: a base URL begins with"),
    ("url: [a]", "guards[0].webhook.url: must be one value"),
    ("url: 'http://127.0.0.1:1', key: [a], key_header: x-key", "guards[0].webhook.key: must be one value"),
])  # fmt: skip
def test_what_is_there_and_wrong_is_not_told_as_missing_too(tmp_path: Path, webhook: str, told: str) -> None:
    [problem] = wrong(tmp_path, f"guards: [{{name: one, webhook: {{{webhook}}}}}]").splitlines()
    assert told in problem
