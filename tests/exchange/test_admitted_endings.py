"""Every ending of the closed list, in any order and any time: what was granted is given back, and what is charged is what the rows say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from penstock.admission.budget.spec import make_budget
from penstock.admission.limits.spec import make_limit
from penstock.admission.rules import All, make_test
from penstock.admission.settings import AdmissionSettings, Mode
from penstock.ledger.entry import Entry
from tests.exchange.test_permits import InTime
from tests.support.admitted import Admitted
from tests.support.exchanges import Asker

_NOT_GEMINI = All((make_test("!provider", ["gemini"]),))
REQUESTS = make_limit("requests", 400, "month")
TOKENS = make_limit("tokens", 10**9, "month", ("route",))
SETTINGS = AdmissionSettings(
    mode=Mode.OPTIONAL,
    limits=(
        REQUESTS, TOKENS, make_limit("requests", 8, "second", ("provider",)), make_limit("output_tokens", 3000, "minute", ("protocol",)),
        make_limit("input_tokens", 500, "minute", when=_NOT_GEMINI), make_limit("streams", 6, ""),
    ),
    budgets=(
        make_budget("tokens", "4000", "day", "block", (), "all"), make_budget("tokens", "700", "day", "cut", ("provider",), "each", _NOT_GEMINI),
        make_budget("money", "1", "total", "audit", (), "money"),
    ),
)  # fmt: skip


class Admitting(InTime):
    """All that may happen to exchanges, with everything of admission on; the keeper of budgets answers when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.admitted = Admitted(SETTINGS, house=self.house, price=3)
        self.charged: Counter[str] = Counter()
        settled = self.house.book.note_settled

        def note(entry: Entry) -> None:
            settled(entry)
            if entry.charged_input is not None:
                self.charged["requests"] += 1
                self.charged["tokens"] += entry.charged_input + (entry.charged_output or 0)
                self.charged["micros"] += entry.charged_micros or 0

        self.house.book.note_settled = note  # type: ignore[method-assign]

    @rule(at_once=st.booleans(), ahead=st.booleans())
    def the_keeper_answers(self, at_once: bool, ahead: bool) -> None:
        self.admitted.keeper.at_once, self.admitted.keeper.ahead = at_once, ahead
        self.admitted.keeper.answer_all()

    @rule(fails=st.sampled_from([False, False, False, True]))
    def the_database_is_well_or_not(self, fails: bool) -> None:
        self.admitted.keeper.fails = fails

    @rule(wrong=st.sampled_from([b"Bearer sk-pst-nobody", b"Bearer sk-own"]))
    def somebody_shows_something(self, wrong: bytes) -> None:
        body: dict[str, Any] = {"model": "a", "stream": True, "messages": []}
        asker: Asker = self.house.post("/v1/chat/completions", body, [(b"authorization", wrong)])
        self.askers.append(asker)

    def teardown(self) -> None:
        admitted, house = self.admitted, self.house
        keeper = admitted.keeper
        keeper.at_once = True
        keeper.answer_all()
        keeper.answer_all()
        super().teardown()
        assert admitted.limits.held() == 0, "no reservation and no permit is left"
        assert keeper.set_aside == 0
        now = house.loop.now
        # What stands in limits and budgets is what stands in the rows, to the token.
        assert admitted.limits.spent(REQUESTS, (), now) == self.charged["requests"]
        routes: Any = ["", *"abcde"]
        assert sum(admitted.limits.spent(TOKENS, (route,), now) for route in routes) == self.charged["tokens"]
        spent = Counter[str]()
        for (name, _, _), amount in keeper.spent.items():
            spent[name] += amount
        assert spent["all"] == self.charged["tokens"]
        assert spent["money"] == self.charged["micros"]
        asked = [exchange.entry for asker in self.askers if (exchange := asker.intake.exchange).provider is not None]
        assert all(row.charged_input is not None for row in asked if row.upstream_status is not None), "nobody is forgotten"


TestAdmitting = Admitting.TestCase
TestAdmitting.settings = settings(max_examples=settings.default.max_examples if settings.default else 100, stateful_step_count=30)
