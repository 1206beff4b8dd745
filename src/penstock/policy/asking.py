"""A whole request or body before guards that are asked outside: every text of it in one question (or few), guard after guard.

A text is judged as one, however long: where a stream has windows, a body has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from penstock.policy.alike import known_alike, misread, names_in
from penstock.policy.bodies import drop_logprobs
from penstock.policy.guards import Outsides, closed_outside, let_pass
from penstock.policy.matcher import Findings, Rejection
from penstock.policy.outside import NO_JSON, Asked, Outside, Question, Verdict, Where, apply, batches, cannot, rejection
from penstock.policy.places import Object, Place
from penstock.policy.spelt import fits, put_text, read_text
from penstock.policy.texts import answer_texts, request_texts
from penstock.protocols.openai_chat.chunk import UNREADABLE, decode_any, encode_any
from penstock.vocabulary.ids import Operation, ProtocolId


class BodyJudge:
    """Ask what `wants` gives and tell `verdict`, until `done`; then `body`, unless `findings.outside` says no."""

    def __init__(
        self, where: Where, protocol: ProtocolId, operation: Operation, body: bytes, outsides: Outsides, order: Sequence[Outside],
        findings: Findings,
    ) -> None:  # fmt: skip
        """`order`: the guards, as they are asked one after the other."""
        self.findings = findings
        self._where: Where = where
        self._body = body
        self._fields: Object | None = None
        self._places: list[Place] = []
        self._texts: list[str] = []
        self._changed = False
        self._next = 0
        self._wanted: list[Question] = []
        self._asked: dict[int, tuple[Question, Sequence[int]]] = {}
        self._order = [one for one in order if one.holds]
        self._at = 0
        """Of `_order`, the one that is asked next."""
        self._outsides = outsides
        if self._read(protocol, operation):
            for one in order:
                if not one.holds:
                    self._ask(one)
            self._go_on()

    def _read(self, protocol: ProtocolId, operation: Operation) -> bool:
        try:
            fields: Any = decode_any(self._body)
        except UNREADABLE:
            fields = None
        if not isinstance(fields, dict):
            return self._give_up()
        self._fields = cast("Object", fields)
        find = request_texts if self._where == "request" else answer_texts
        try:
            if self._where == "request" and self._is_misread(protocol, operation, self._fields):
                return False
            for place in find(protocol, operation, self._fields):
                text = read_text(place) if place.scope in self._outsides else ""
                if text:
                    self._places.append(place)
                    self._texts.append(text)
        except RecursionError:  # requests within requests, deeper than any server reads
            self._places, self._texts, self._changed = [], [], False
            return self._give_up()
        return bool(self._places)

    def _give_up(self) -> bool:
        outside = closed_outside(self._outsides)
        if outside is not None:
            self._reject(cannot(outside, f"the {self._where} could not be read", self.findings))
        else:
            let_pass(self.findings, {}, self._outsides)
        return False

    def _is_misread(self, protocol: ProtocolId, operation: Operation, fields: Object) -> bool:
        names = names_in(self._body)
        self._changed = names is None
        known = known_alike(protocol, operation, fields, names)
        outside = closed_outside(self._outsides) if known is not None else None
        if known is not None and outside is None:
            let_pass(self.findings, {}, self._outsides)
        if known is None or outside is None:
            return False
        self._reject(misread(rejection(outside, ""), known))
        return True

    @property
    def done(self) -> bool:
        return self.findings.outside is not None or not self._asked

    @property
    def body(self) -> bytes:
        """As it may go on."""
        if not self._changed or self._fields is None:
            return self._body
        if self._where == "response":
            drop_logprobs(self._fields)
        return encode_any(self._fields)

    def wants(self) -> list[Question]:
        """Questions that were not asked yet."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def verdict(self, id: int, verdict: Verdict) -> None:
        found = self._asked.pop(id, None)
        if found is None or self.findings.outside is not None:
            return
        question, at = found
        texts, rejected = apply(question, verdict, self.findings)
        self._reject(rejected)
        for index, told in zip(at, texts, strict=True):
            if told is None or told == self._texts[index]:
                continue
            if not fits(self._places[index].kind, told):
                self._reject(cannot(question.outside, NO_JSON, self.findings))
                continue
            self._texts[index] = told
            put_text(self._places[index], told)
            self._changed = True
        if self.findings.outside is None and not any(question.outside.holds for question, _ in self._asked.values()):
            self._go_on()

    def _reject(self, rejected: Rejection | None) -> None:
        self.findings.outside = self.findings.outside or rejected

    def _go_on(self) -> None:
        """The next guard that has something to judge."""
        while self._at < len(self._order):
            one = self._order[self._at]
            self._at += 1
            if self._ask(one):
                return

    def _ask(self, outside: Outside) -> bool:
        mine = [index for index, place in enumerate(self._places) if outside in self._outsides[place.scope]]
        texts = [Asked(self._places[index].scope, self._texts[index]) for index in mine]
        for batch in batches(outside, texts):
            self._next += 1
            question = Question(self._next, outside, self._where, batch)
            taken, mine = mine[: len(batch)], mine[len(batch) :]
            self._asked[question.id] = (question, taken)
            self._wanted.append(question)
        return bool(texts)
