"""The texts of a stream, judged frame by frame: what every protocol's editor has in common.

An editor is asked of each frame what becomes of it. Most often nothing: then the frame is the provider's own bytes. Where text is held or masked,
the frame is told again with that text changed and every other field kept; a frame whose text is held as a whole leaves with an empty one. What
was held leaves in the next frame of its text or, where the text ends first, in a frame made for it before the one that ends it: the frame that
brought it, again, with what is left.

Nothing is decoded twice but frames that a typed decoder (`quick`) found suspicious or could not take.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from penstock.policy.beside import tells_failure
from penstock.policy.bodies import drop_logprobs, mask_place
from penstock.policy.channels import ArgumentsChannel, Channel, TextChannel
from penstock.policy.guards import Rules, closed_guard, let_pass
from penstock.policy.matcher import Findings, Hold, Rejection
from penstock.policy.places import Kind, Object, Place
from penstock.policy.rules import Rule, Scope
from penstock.protocols.contract import Observer
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any

Told = tuple[bytes, bytes]
"""Name and data of one frame."""
_SPELT_OUT = re.compile(rb'logprobs(?:Result)?"\s*:\s*[^\sn]')
_ESCAPED_LETTER = re.compile(rb"\\u00[67]")
"""With it a name may be spelled otherwise than we look for it."""
MOST_TEXTS = 1024
"""Texts of one answer that are open at the same time; no provider has a hundredth of it."""


class Flow(NamedTuple):
    """More of the text `key` stands at `place`."""

    key: Hashable
    place: Place


class End(NamedTuple):
    """The text `key` ends with this frame."""

    key: Hashable


class Whole(NamedTuple):
    """A text that is all there."""

    place: Place
    again: bool = False
    """It has been told before: what is found in it was counted then."""


class Untold(NamedTuple):
    """`holder[key]` spells out what stands in no text of this frame (`tokens`): `kept` is put in its place."""

    holder: Object
    key: str
    kept: object = None


Step = Flow | End | Whole | Untold


class Edit(NamedTuple):
    """`before`: frames to go out before this one. `data`: of this one; `None`: as it came."""

    before: list[Told]
    data: bytes | None


class Seen(NamedTuple):
    """An ordinary frame, with one text, that `quick` found suspicious."""

    data: bytes
    key: Hashable
    field: bytes
    """The name of the member that holds the text."""
    text: str


def hashable(value: Any) -> Any:
    """What a provider may have put where a number or a name belongs, so that it can be a part of a key."""
    return str(cast("object", value)) if isinstance(value, list | dict) else value


class Editor(ABC):
    """One answer's. After `findings.rejection` nothing is to be given out but `stop`."""

    def __init__(self, rules: Rules, findings: Findings, hold: Hold) -> None:
        self.rules = rules
        self.findings = findings
        self.hold = hold
        self.channels: dict[Hashable, Channel] = {}
        self._origins: dict[Hashable, bytes] = {}
        """Of each text of which some is held: the frame that brought it."""
        self.suspended: set[Hashable] = set()
        """Texts that another one has interrupted: what is held of them waits for more of them as long as it may, and then leaves as if they had
        ended, for it is not their guard that cannot decide."""
        self.seen: Seen | None = None
        self.holds = any(rule.holds for found in rules.values() for rule in found)
        self._spoken: tuple[Rule, ...] = rules.get(Scope.ASSISTANT, ())
        self._thought: tuple[Rule, ...] = rules.get(Scope.REASONING, ())

    # -- by protocol ------------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def quick(self, name: bytes, data: bytes, now: float) -> bool:
        """Is this an ordinary frame with text that may leave as it is? Then its text has been judged. One that may not is left in `seen`."""

    @abstractmethod
    def put(self, frame: Object, text: str) -> None:
        """Set the text of an ordinary frame."""

    @abstractmethod
    def steps(self, name: bytes, frame: Object) -> Iterator[Step]:
        """What the frame does, in order."""

    @abstractmethod
    def made(self, key: Hashable, text: str, origin: Object) -> tuple[bytes, Object]:
        """`origin`, a frame that brought text of `key`, again, with nothing in it but `text`."""

    @abstractmethod
    def stop(self, observer: Observer) -> list[Told] | None:
        """The frames that end the answer by the protocol's own word for a policy's; `None`: there is none in this state."""

    # -- frame by frame ---------------------------------------------------------------------------------------------------------------

    def edit(self, name: bytes, data: bytes, now: float) -> Edit | None:
        """What becomes of the frame; `None`: it leaves as it came. Where it is rejected, nothing of it may leave."""
        if (self.seen is None or self.seen.data is not data) and self.quick(name, data, now):
            return None
        seen, self.seen = self.seen, None
        before: list[Told] = []
        try:
            if seen is not None and seen.data is data:
                return self._edit_ordinary(seen, now)
            return self._edit_any(name, data, before, now)
        except Exception:  # no shape of a provider's frame may end in one
            self.cannot("a frame of it could not be judged")
        if self.findings.rejection is not None:
            return Edit([], None)
        return Edit(before, None) if before else None

    def _edit_any(self, name: bytes, data: bytes, before: list[Told], now: float) -> Edit | None:
        try:
            frame = decode_any(data)
        except UNREADABLE:
            return self._unread(data, now)
        if not isinstance(frame, dict):
            return self._unread(data, now)
        fields = cast("Object", frame)
        changed = self._walk(name, fields, data, before, now)
        rejection = self.findings.rejection
        if rejection is not None:
            if tells_failure(fields):  # what failed does not end as an answer does
                self.findings.rejection = replace(rejection, in_stream="error")
            return Edit([], None)
        if not changed:
            return Edit(before, None) if before else None
        drop_logprobs(fields)
        return Edit(before, encode_any(fields))

    def judge(self, data: bytes, key: Hashable, field: bytes, text: str) -> bool:
        """May an ordinary frame with this text leave as it is?"""
        if not self._spoken:
            return True
        channel = self.channels.get(key)
        if channel is None:
            return False
        if channel.passes(text):
            return True
        self.seen = Seen(data, key, field, text)
        return False

    def _edit_ordinary(self, seen: Seen, now: float) -> Edit | None:
        channel = self.channels[seen.key]
        if self.suspended:
            self.suspended.discard(seen.key)
        out = channel.push(seen.text, now)
        if self.findings.rejection is not None:
            return Edit([], None)
        if channel.holding:
            self._origins[seen.key] = seen.data
        elif self._origins:
            self._origins.pop(seen.key, None)
        if out is seen.text:
            return None
        # Most often the text is spelled as we would spell it, and no other byte need be touched. It stands there, and nowhere else, where the name of
        # its member is told once in the whole frame, and no name can be spelled with escapes.
        spelt, told, field = encode_any(seen.text), encode_any(out), b'"' + seen.field + b'"'
        if seen.data.count(field) == 1 and _SPELT_OUT.search(seen.data) is None and _ESCAPED_LETTER.search(seen.data) is None:
            for colon in (b":", b": "):
                if field + colon + spelt in seen.data:
                    return Edit([], seen.data.replace(field + colon + spelt, field + colon + told))
        frame = cast("Object", decode_any(seen.data))
        self.put(frame, out)
        drop_logprobs(frame)
        return Edit([], encode_any(frame))

    def _unread(self, data: bytes, now: float) -> Edit | None:
        if data.strip() in (b"", b"[DONE]"):
            before = self.flush(now)
            return Edit(before, None) if before else None
        self.cannot("a frame of it could not be read")
        return None

    def _walk(self, name: bytes, frame: Object, data: bytes, before: list[Told], now: float) -> bool:
        changed = False
        here: dict[Hashable, Place] = {}
        for step in self.steps(name, frame):
            match step:
                case Flow(key, place):
                    rules = self.rules.get(place.scope)
                    if rules:
                        here[key] = place
                        changed = self._flow(key, place, rules, data, now) or changed
                case End(key):
                    rest = self._finish(key, now)
                    place = here.get(key)
                    if rest and place is not None:
                        place.holder[place.key] += rest
                        changed = True
                    elif rest:
                        before.append(self._made(key, rest))
                    self._origins.pop(key, None)
                case Whole(place, again):
                    rules = self.rules.get(place.scope)
                    if rules:
                        findings = Findings(slow=self.findings.slow) if again else self.findings
                        changed = mask_place(place.holder, place.key, place.kind, rules, findings) or changed
                        self.findings.slow = findings.slow
                        if again and findings.rejection is not None:
                            self.findings.hits.update(findings.hits)
                            self.findings.rejection = findings.rejection
                case Untold(holder, key, kept):
                    if self.holds:
                        holder[key], changed = kept, True
            if self.findings.rejection is not None:
                return False
        return changed

    def _flow(self, key: Hashable, place: Place, rules: Sequence[Rule], data: bytes, now: float) -> bool:
        channel = self.channels.get(key)
        if channel is None:
            channel = self.open(key, rules, arguments=place.kind is Kind.ARGUMENTS)
            if channel is None:
                return False
        if self.suspended:
            self.suspended.discard(key)
        text: Any = place.holder[place.key]
        out = channel.push(text, now)
        if channel.holding:
            self._origins[key] = data
        else:
            self._origins.pop(key, None)
        if out is text:
            return False
        place.holder[place.key] = out
        return True

    def open(self, key: Hashable, rules: Sequence[Rule], *, arguments: bool = False) -> Channel | None:
        if len(self.channels) >= MOST_TEXTS:
            self.cannot("it has too many texts at the same time")
            return None
        made = ArgumentsChannel if arguments else TextChannel
        channel = self.channels[key] = made(rules, self.findings, self.hold)
        return channel

    def _finish(self, key: Hashable, now: float) -> str:
        channel = self.channels.pop(key, None)
        self.suspended.discard(key)
        return "" if channel is None else channel.finish(now)

    def _made(self, key: Hashable, text: str) -> Told:
        try:
            name, frame = self.made(key, text, cast("Object", decode_any(self._origins[key])))
        except Exception:  # as in `edit`: the quick decoder took what no other takes
            self.cannot("a frame of it could not be judged")
            name, frame = self.made(key, text, {})
        drop_logprobs(frame)
        return name, encode_any(frame)

    def cannot(self, why: str) -> None:
        """Something cannot be judged: it is rejected, unless every guard is open."""
        rule = closed_guard(self.rules)
        if rule is None:
            let_pass(self.findings, self.rules)
        elif self.findings.rejection is None:
            self.findings.rejection = Rejection(rule.guard, why, rule.message, rule.in_stream)

    # -- beyond frames ----------------------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> list[Told]:
        """Every text has ended: what is left of them."""
        frames: list[Told] = []
        for key in list(self.channels):
            rest = self._finish(key, now)
            if rest:
                frames.append(self._made(key, rest))
            self._origins.pop(key, None)
        return [] if self.findings.rejection is not None else frames

    def deadline(self) -> float | None:
        """When something has been held for as long as it may be."""
        if not self._origins:
            return None
        return min((due for key in self._origins if (due := self.channels[key].deadline()) is not None), default=None)

    def expire(self, now: float) -> list[Told]:
        frames: list[Told] = []
        for key in list(self._origins):
            channel = self.channels[key]
            due = channel.deadline()
            rest = channel.finish(now) if key in self.suspended and due is not None and now >= due else channel.expire(now)
            if rest:
                frames.append(self._made(key, rest))
            if not channel.holding:
                del self._origins[key]
        return [] if self.findings.rejection is not None else frames
