"""A stream whose texts wait for guards that are asked outside: frames in their order, each until all of its text has been judged.

Rules
-----
- A frame waits in its place until the windows that its text is in are judged; what has no text waits only behind what has. So order, and whatever
  counts frames, stay. A window whose text is replaced has all of the new text in the frame that began it, and none in the others.
- A window is asked as soon as it is closed, while the next one comes: by its size or its sentence (`windows`), with the end of its text, after
  its time, or because as much waits as may. The JSON of a call's arguments is one window, up to its end: only whole it can be replaced.
- A text that is told again (Responses tells each several times) gets the verdicts that it had. What comes whole is one question by itself.
- What is only counted waits for nothing, but the end of the stream waits for its answers.
- A rejection (`Findings.outside`) comes behind the text before it, once that is judged and has left; nothing leaves behind it, nor of its frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any, cast

from penstock.policy.beside import tells_failure
from penstock.policy.bodies import drop_logprobs
from penstock.policy.channels import Channel, TextChannel
from penstock.policy.editing import Editor, End, Flow, Untold, Whole
from penstock.policy.guards import Outsides, closed_outside, let_pass
from penstock.policy.held import Held, Slot, Text, Window
from penstock.policy.matcher import Findings, Hold
from penstock.policy.outside import NO_JSON, Asked, Outside, Question, Verdict, apply, cannot, rejection
from penstock.policy.places import Kind, Object, Place
from penstock.policy.rules import Scope
from penstock.policy.spelt import fits, put_text, read_text
from penstock.policy.windows import Windows, cut, cut_early
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any

MOST_REMEMBERED = 4096
"""Windows of one answer whose verdicts are kept for when their text is told again."""
MOST_TEXTS = 1024
"""Texts that are open at the same time, as in `editing`."""
_OPEN: Channel = TextChannel((), Findings(), Hold())
"""Stands in an editor's `channels` for a text that is open; it is never used."""


class Awaiting:
    """See the rules above. `add` frames, ask what `wants` gives, tell `verdict`; `released` is what may leave."""

    def __init__(self, editor: Editor, told: Editor, outsides: Outsides, windows: Windows, findings: Findings) -> None:
        """`editor`, `told`: of the protocol, for itself alone; the one sees what comes, the other what leaves."""
        self.editor = editor
        self.told = told
        self._outsides = outsides
        self._windows = windows
        self.findings = findings
        self._queue: deque[Held] = deque()
        self._slots: list[Slot] = []
        self._untold = False
        """Both of the frame that is being read."""
        self._size = 0
        self._texts: dict[Hashable, Text] = {}
        self._told: dict[tuple[Scope, bytes], list[Window]] = {}
        self._remembered = 0
        self._asked: dict[int, tuple[Question, Window | None]] = {}
        self._wanted: list[Question] = []
        self._next = 0
        self._doomed = False
        """Something was rejected: it is told when all before it has left."""
        self.ending = False
        """All has come."""
        self.cutting = False
        """A guard of ours ends it behind what has come."""

    # -- what comes -------------------------------------------------------------------------------------------------------------------

    def add(self, frame: Any, name: bytes, data: bytes | None, size: int, now: float) -> None:
        """A frame: `frame` is given back by `released`. `data`: `None` where it has none; `size` in bytes."""
        fields, self._slots, self._untold = None, [], False
        if data is not None and data.strip() not in (b"", b"[DONE]"):
            try:
                read = decode_any(data)
            except UNREADABLE:
                read = None
            if isinstance(read, dict):
                fields = cast("Object", read)
                try:
                    self._read(name, fields, now)
                except Exception:  # as in `editing`
                    self.cannot("a frame of it could not be judged")
            else:
                self.cannot("a frame of it could not be read")
        elif data is not None:
            self.close_all()
        self._queue.append(Held(frame, name, size, fields, self._slots, now, changed=self._untold))
        self._size += size
        if self.full:
            self.close_all()

    def cannot(self, why: str) -> None:
        """Something cannot be judged: it is rejected, unless every guard is open."""
        outside = closed_outside(self._outsides)
        if outside is not None:
            self.findings.outside = self.findings.outside or cannot(outside, why, self.findings)
        else:
            let_pass(self.findings, {}, self._outsides)

    def _read(self, name: bytes, fields: Object, now: float) -> None:
        slots = self._slots
        for step in self.editor.steps(name, fields):
            match step:
                case Flow(key, place):
                    if place.scope in self._outsides:
                        slots.append(self._flow(key, place, now))
                case End(key):
                    self._end(key)
                case Whole(place, again):
                    slot = self._whole(place, again, now) if place.scope in self._outsides else None
                    if slot is not None:
                        slots.append(slot)
                case Untold(holder, key, kept):
                    if any(one.holds for found in self._outsides.values() for one in found):
                        holder[key], self._untold = kept, True

    def _flow(self, key: Hashable, place: Place, now: float) -> Slot:
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= MOST_TEXTS:
                self.cannot("it has too many texts at the same time")
            text = self._texts[key] = Text(place.scope, place.kind)
            self.editor.channels[key] = _OPEN
        said: str = place.holder[place.key]
        text.digest.update(said.encode("utf-8", "surrogatepass"))
        text.waiting += len(said)
        return Slot(place, self._parts(text, said, now), text, False)

    def _parts(self, text: Text, said: str, now: float) -> list[tuple[Window, str]]:
        """`said`, the next of `text`, in the windows that it is in."""
        parts: list[tuple[Window, str]] = []
        while said:
            window = text.open or self._open(text, now)
            had = len(window.text)
            whole = window.text + said
            end = cut(whole, self._windows) if text.kind is Kind.TEXT else None
            if end is None:
                window.text = whole
                parts.append((window, said))
                break
            if end >= had:
                window.text = whole[:end]
                if end > had:
                    parts.append((window, said[: end - had]))
                said = said[end - had :]
                self._close(text)
            else:
                self._close_before(text, end, now)
        return parts

    def _open(self, text: Text, now: float) -> Window:
        window = text.open = Window(text.scope, text.kind, text.before, now, part=bool(text.windows) and text.kind is not Kind.TEXT)
        window.holds = any(one.holds for one in self._outsides.get(text.scope, ()))
        text.windows.append(window)
        return window

    def _whole(self, place: Place, again: bool, now: float) -> Slot | None:
        said = read_text(place)
        if not said:
            return None
        known = self._told.get((place.scope, _digest(said))) if again else None
        if known and known[0].kind is place.kind:
            parts: list[tuple[Window, str]] = []
            at = 0
            for window in known:
                parts.append((window, said[at : at + window.length]))
                at += window.length
            return Slot(place, parts, None, True)
        window = Window(place.scope, place.kind, "", now, part=False)
        window.holds = any(one.holds for one in self._outsides[place.scope])
        window.text = said
        many = 1 + len(said) // self._windows.chars  # as if it had been cut
        if self._remembered + many <= MOST_REMEMBERED:  # it may be told again, too
            self._remembered += many
            self._told[place.scope, _digest(said)] = [window]
        self._ask(window)
        return Slot(place, [(window, said)], None, True)

    def _end(self, key: Hashable) -> None:
        self.editor.channels.pop(key, None)
        text = self._texts.pop(key, None)
        if text is None:
            return
        if text.open is not None:
            self._close(text)
        if self._remembered + len(text.windows) <= MOST_REMEMBERED:
            self._remembered += len(text.windows)
            self._told[text.scope, text.digest.digest()] = text.windows

    def close_all(self) -> None:
        """No window stays open: what has come is all that is asked about for now."""
        for text in self._texts.values():
            if text.open is not None:
                text.open.part = text.kind is not Kind.TEXT and not self.ending
                self._close(text)

    def end(self) -> None:
        """All has come that will."""
        self.ending = True
        self.close_all()

    def _close(self, text: Text) -> None:
        window, text.open = text.open, None
        assert window is not None
        if self._windows.before:
            text.before = (text.before + window.text)[-self._windows.before :]
        self._ask(window)

    # -- questions --------------------------------------------------------------------------------------------------------------------

    def _ask(self, window: Window) -> None:
        window.closed = not self._doomed
        window.length = len(window.text)
        if self._doomed:
            return  # it never leaves
        outsides = self._outsides.get(window.scope, ())
        window.waits = tuple(one for one in outsides if one.holds)
        for one in outsides:
            if not one.holds:
                self._want(one, window, None)
        self._step(window)

    def _step(self, window: Window) -> None:
        """Ask the next of its guards, or none is left."""
        if window.waits:
            self._want(window.waits[0], window, window)
        else:
            window.text = window.before = ""

    def _want(self, outside: Outside, window: Window, asker: Window | None) -> None:
        text = window.text if window.new is None else window.new
        self._next += 1
        question = Question(self._next, outside, "response", (Asked(window.scope, text, window.before),))
        self._asked[question.id] = (question, asker)
        self._wanted.append(question)

    def wants(self) -> list[Question]:
        """Questions that were not asked yet."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def verdict(self, id: int, verdict: Verdict) -> None:
        found = self._asked.pop(id, None)
        if found is None:
            return
        question, window = found
        [told], rejected = apply(question, verdict, self.findings)
        if window is None:
            return
        if told is not None and window.part:
            rejected = rejection(question.outside, "only a part of a call's arguments could be replaced")
        elif told is not None and not fits(window.kind, told):
            rejected = cannot(question.outside, NO_JSON, self.findings)
        elif told is not None:
            window.new = told
        if rejected is not None:
            window.rejected = rejected
            self.close_all()  # what came before it, of other texts
            self._doomed = True
            return
        window.waits = window.waits[1:]
        self._step(window)

    # -- what leaves ------------------------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Is there anything that has not left, or, at the end, was not answered?"""
        return bool(self._queue) or self._counting

    @property
    def asking(self) -> bool:
        """Is a verdict waited for that text waits for?"""
        return any(window is not None for _, window in self._asked.values())

    @property
    def _counting(self) -> bool:
        """Does the end wait for questions that are only counted by? That of a rejection does not."""
        return self.ending and bool(self._asked) and not (self._doomed or self.cutting)

    @property
    def full(self) -> bool:
        return self._size >= self._windows.held

    @property
    def eased(self) -> bool:
        """Is there room again?"""
        return self._size <= self._windows.held // 2

    def released(self, now: float) -> Iterator[tuple[Any, bytes | None]]:
        """Frames that may leave, in their order, with their data where it changed."""
        findings, queue = self.findings, self._queue
        while queue and findings.outside is None and not self._counting:
            held = queue[0]
            stop = next((window for slot in held.slots for window, _ in slot.parts if window.holds and not window.passed), None)
            if stop is not None:
                findings.outside = stop.rejected
                if stop.rejected is not None and held.fields is not None and tells_failure(held.fields):
                    findings.outside = replace(stop.rejected, in_stream="error")
                break
            queue.popleft()
            self._size -= held.size
            if held.late and held.slots:
                findings.held_seconds = max(findings.held_seconds, now - held.at)
            data = self._written(held)
            if held.fields is not None:
                with suppress(Exception):  # as in `editing`
                    for _ in self.told.steps(held.name, held.fields):
                        pass  # so that it knows where the client is
            yield held.frame, data
        for held in reversed(queue):
            if held.late:
                break
            held.late = True
        for text in self._texts.values():
            if text.waiting > findings.held_chars:
                findings.held_chars = text.waiting

    def _written(self, held: Held) -> bytes | None:
        changed = held.changed
        for place, parts, text, again in held.slots:
            told: list[str] = []
            for window, said in parts:
                if window.new is None:
                    told.append(said)
                    continue
                changed = True
                if again or not window.placed:
                    told.append(window.new)
                    window.placed = window.placed or not again
            if text is not None:
                text.waiting -= sum(len(said) for _, said in parts)
            if changed:
                put_text(place, "".join(told))
        if not changed or held.fields is None:
            return None
        drop_logprobs(held.fields)
        return encode_any(held.fields)

    def drop(self) -> None:
        """Nothing of it leaves any more, and nothing is asked."""
        self._queue.clear()
        self._size = 0
        self._asked.clear()
        self._wanted.clear()
        self._texts.clear()

    def deadline(self) -> float | None:
        """When a window has been open for as long as it may."""
        opened = [text.open.opened_at for text in self._texts.values() if text.open is not None and text.kind is Kind.TEXT]
        return min(opened) + self._windows.seconds if opened else None

    def expire(self, now: float) -> None:
        """Windows that have been open for as long as they may are asked about, up to their last white space."""
        for text in self._texts.values():
            window = text.open
            if window is None or text.kind is not Kind.TEXT or now < window.opened_at + self._windows.seconds:
                continue
            self._close_before(text, cut_early(window.text), now)

    def _close_before(self, text: Text, end: int, now: float) -> None:
        """The open window ends before what has come of it: its rest opens the next."""
        window = text.open
        assert window is not None
        rest, window.text = window.text[end:], window.text[:end]
        self._close(text)
        if not rest:
            return
        new = self._open(text, now)
        new.text = rest
        left = len(rest)
        for slots in (self._slots, *(held.slots for held in reversed(self._queue))):
            for slot in reversed(slots):
                if not left:
                    return
                if slot.text is not text:
                    continue
                for at in range(len(slot.parts) - 1, -1, -1):
                    owner, said = slot.parts[at]
                    if owner is not window or not left:
                        continue
                    moved = min(left, len(said))
                    left -= moved
                    split = len(said) - moved
                    slot.parts[at : at + 1] = [*([(window, said[:split])] if split else []), (new, said[split:])]


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

