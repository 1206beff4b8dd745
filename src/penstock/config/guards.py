"""The `guards` of a file, of a provider, or of a route: read, compiled, and wrong with all of its reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, cast

from penstock.config.document import Listing, Node, Scalar, Section
from penstock.config.errors import Place, Problems
from penstock.config.guard_keys import EXAMPLE, GUARD
from penstock.config.walk import Given, read_fields, section_of
from penstock.policy.guards import EVERYWHERE, Guard, Guards
from penstock.policy.matcher import Hold, Rejection
from penstock.policy.outside import Outside
from penstock.policy.recognisers import names_of
from penstock.policy.rules import IN_ANSWERS, Action, BadPattern, Rule, Scope, Terms, built_in, of_pattern, of_words
from penstock.policy.windows import Windows
from penstock.stores.guard_calls import CallLimits
from penstock.stores.guard_formats import Service

T = TypeVar("T")
_BOTH: frozenset[str] = frozenset({"request", "answer"})
_OUTSIDE = ("webhook", "moderation")
_FINDS = ("detect", "patterns", "words", "words_file", *_OUTSIDE)
OPENAI = "https://api.openai.com/v1"
MODERATED = 32
"""Texts of one question to a moderation."""


def read_guards(section: Section, place: Place, absolute: Callable[[Path], Path], problems: Problems) -> tuple[Guard, ...]:
    """What stands under `guards` in `section`; none where it does not."""
    found = next(((node, key.line) for key, node in section.items if key.text == "guards"), None)
    if found is None:
        return ()
    node, line = found
    here = place.below("guards", line)
    if not isinstance(node, Listing):
        if not (isinstance(node, Scalar) and node.tag == "null"):
            problems.add(here, f"must be a list, like {EXAMPLE}")
        return ()
    guards: list[Guard] = []
    names: set[str] = set()
    for index, item in enumerate(node.items):
        below = here.below(f"[{index}]", item.line)
        guard = _read_guard(item, below, absolute, problems)
        if guard is None:
            continue
        if guard.name in names:
            problems.add(below, f"there is another guard {guard.name!r} here; give it another name, for it is told where it strikes")
        names.add(guard.name)
        guards.append(guard)
    return tuple(guards)


def together(guards: Sequence[Guard], given: Mapping[str, Given]) -> Guards | None:
    """All that hold for one exchange; `None`: there are none."""
    if not guards:
        return None
    hold, windows = Hold(), Windows()
    before = given.get("guard_windows.before")
    return Guards(
        guards,
        Hold(_value(given, "guard_hold.chars", int) or hold.chars, _value(given, "guard_hold.time", float) or hold.seconds),
        Windows(
            "size" if _value(given, "guard_windows.by", str) == "size" else "sentence",
            _value(given, "guard_windows.chars", int) or windows.chars,
            windows.before if before is None else _value(given, "guard_windows.before", int) or 0,
            _value(given, "guard_windows.time", float) or windows.seconds,
            _value(given, "guard_windows.held", int) or windows.held,
        ),
    )


def call_limits(given: Mapping[str, Given]) -> CallLimits:
    default = CallLimits()
    return CallLimits(_value(given, "guard_calls.at_once", int) or default.at_once, _value(given, "guard_calls.waiting", int) or default.waiting)


def _read_guard(node: Node, place: Place, absolute: Callable[[Path], Path], problems: Problems) -> Guard | None:
    section = section_of(node, place, problems, EXAMPLE[1:-1])
    if section is None:
        return None
    before = len(problems.found)
    given = read_fields(section, GUARD, place, problems)
    name = _value(given, "name", str)
    if name is None and not any(key.text == "name" for key, _ in section.items):
        problems.add(place, "has no name; add one, like name: secrets")
    if not any(key.text in _FINDS for key, _ in section.items):
        problems.add(place, f"finds nothing; add one of {', '.join(_FINDS)}")
    on = _set(given, "on") or _BOTH
    scopes = frozenset(Scope(word) for word in _set(given, "scope")) or EVERYWHERE
    outside = next((kind for kind in _OUTSIDE if kind in given), None)
    action = Action(_value(given, "action", str) or ("reject" if outside == "moderation" else "mask"))
    if outside is not None:
        _check_outside(outside, section, given, action, place, problems)
    else:
        _check_inside(section, given, problems)
    streamed = "answer" in on and bool(scopes & IN_ANSWERS)
    if "request" not in on and not scopes & IN_ANSWERS:
        problems.add(given["scope"].place, f"names nothing that stands in an answer; there are {', '.join(sorted(IN_ANSWERS))}")
    if name is None or len(problems.found) > before or _value(given, "enabled", bool) is False:
        return None
    sides = cast("frozenset[Literal['request', 'answer']]", on)
    if "uploads" in given and "request" not in sides:
        problems.add(given["uploads"].place, "does not go with on: [answer], for uploads are requests; leave it out")
        return None
    uploads, blind = None, ""
    if _value(given, "uploads", str) == "reject":
        uploads = Rejection(name, "it cannot look into an upload", _value(given, "message", str) or "")
    elif "request" in sides and "uploads" not in given and action is not Action.AUDIT:
        blind = (f"{place}: {name!r} looks into no upload (files, audio, images, batches); uploads: reject refuses them, uploads: pass says that "
                 "they are meant to pass")
    if outside is not None:
        return Guard(name, (), scopes, sides, uploads, blind, _outside(outside, name, given, action))
    terms = Terms(
        name, action, _value(given, "mask", str), _value(given, "on_error", str) != "open", _value(given, "time_limit", float) or 0.05,
        _value(given, "message", str) or "", _value(given, "in_stream", str) or "stop",
    )  # fmt: skip
    rules = _rules(given, terms, absolute, problems, streamed=streamed)
    return Guard(name, tuple(rules), scopes, sides, uploads, blind)


def _check_outside(kind: str, section: Section, given: Mapping[str, Given], action: Action, place: Place, problems: Problems) -> None:
    said = {inner.text for key, node in section.items if key.text == kind and isinstance(node, Section) for inner, _ in node.items}
    for other in (*_FINDS, "mask", "time_limit"):
        if other in given and other != kind:
            problems.add(given[other].place, f"does not go with {kind}; make a guard of its own of it, or leave it out")
    if kind == "webhook" and "url" not in said:
        problems.add(given["webhook"].place, "has no url; add one, like url: https://guard.example.com/judge")
    if "webhook.key_header" in given and "key" not in said:
        problems.add(given["webhook.key_header"].place, "says how a key is sent, but there is none; add key, or leave it out")
    if kind == "moderation" and action is Action.MASK:
        problems.add(given["action"].place, "cannot be mask, for a moderation tells no text to put in the place of one; write reject or audit")


def _check_inside(section: Section, given: Mapping[str, Given], problems: Problems) -> None:
    said = {key.text for key, node in section.items if isinstance(node, Listing) and node.items}
    for name in ("detect", "patterns"):
        if name in given and name not in said and given[name].value == ():
            problems.add(given[name].place, "is empty, so it finds nothing; leave it out, or name something")
    for name in ("timeout", "at_once"):
        if name in given:
            problems.add(given[name].place, "is about questions to a webhook or a moderation, and this guard asks nobody; leave it out")


def _outside(kind: str, name: str, given: Mapping[str, Given], action: Action) -> Outside:
    default = Service("")
    timeout, at_once = _value(given, "timeout", float) or default.timeout, _value(given, "at_once", int) or default.at_once
    key = _value(given, f"{kind}.key", str)
    if kind == "moderation":
        service = Service(
            _value(given, "moderation.base_url", str) or OPENAI, "moderation", key, model=_value(given, "moderation.model", str) or default.model,
            categories=cast("tuple[tuple[str, float | None], ...]", _value(given, "moderation.categories", tuple) or ()), timeout=timeout,
            at_once=at_once,
        )  # fmt: skip
    else:
        header = _value(given, "webhook.key_header", str)
        service = Service(
            _value(given, "webhook.url", str) or "", "agentgateway" if _value(given, "webhook.format", str) == "agentgateway" else "penstock",
            None if header is not None else key, ((header, key),) if header is not None and key is not None else (), _words(given, "webhook.forward"),
            timeout=timeout, at_once=at_once,
        )  # fmt: skip
    return Outside(
        name, service, action, _value(given, "on_error", str) != "open", _value(given, "message", str) or "",
        _value(given, "in_stream", str) or "stop", MODERATED if kind == "moderation" else 1 << 30,
    )  # fmt: skip


def _rules(given: Mapping[str, Given], terms: Terms, absolute: Callable[[Path], Path], problems: Problems, *, streamed: bool) -> list[Rule]:
    rules: list[Rule] = []
    known = dict.fromkeys(name for word in _words(given, "detect") for name in names_of(word))
    rules += [built_in(name, terms) for name in known]
    for index, pattern in enumerate(_words(given, "patterns")):
        try:
            rules.append(of_pattern(pattern, terms, streamed=streamed))
        except BadPattern as error:
            hint = "; or say on: [request]" if "on a stream" in str(error) else ""
            problems.add(given["patterns"].place.below(f"[{index}]"), f"{error}{hint}")
    words = _words(given, "words")
    path = _value(given, "words_file", Path)
    if path is not None:
        try:
            words = (*words, *absolute(path).read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else "it is not UTF-8") or type(error).__name__
            problems.add(given["words_file"].place, f"cannot be read: {why}; write the path of a file with a word in each line")
            return rules
    if "words" in given or path is not None:
        try:
            rules.append(of_words(words, terms))
        except BadPattern as error:
            problems.add(given["words_file" if path is not None else "words"].place, str(error))
    return rules


def _words(given: Mapping[str, Given], name: str) -> tuple[str, ...]:
    return cast("tuple[str, ...]", _value(given, name, tuple) or ())


def _set(given: Mapping[str, Given], name: str) -> frozenset[str]:
    return frozenset(_words(given, name))


def _value(given: Mapping[str, Given], name: str, kind: type[T]) -> T | None:
    found = given.get(name)
    return found.value if found is not None and isinstance(found.value, kind) else None
