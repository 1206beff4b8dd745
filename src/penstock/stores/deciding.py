"""What a turn of `budgets` decides, in memory: it is told how the budgets stand and what is on file, and says what is to be written."""

from __future__ import annotations

import time
from dataclasses import dataclass

from penstock.admission.budget.account import NOTHING, Answer, Charge, Share, Shares, Spent, Wish, grant, grant_more
from penstock.admission.budget.spec import Budget
from penstock.stores.advances import Advance, most_of
from penstock.stores.statements import Filed, Key, Place
from penstock.stores.turns import Extend, Recall, Reserve, Settle, Take, Turns, Work, wishes_of


@dataclass(slots=True)
class State:
    """Of one budget in one window, within a transaction."""

    spent: int
    held: int
    """By everybody."""
    spent_by: int = 0
    """What this transaction adds."""
    held_by: int = 0


@dataclass(slots=True)
class _Ahead:
    """What is given out of one budget ahead of its turns, as a turn sees it."""

    advance: Advance | None
    budget: Budget
    wish: Wish
    """Any of it."""
    taken: int = 0
    """Came out of the advance, and is put on file now."""
    demand: int = 0
    """That, and what waited for this turn."""
    asking: bool = False
    """Somebody waits for this turn: the advance is given back before it is decided."""
    kept: int = 0
    """What stays on file for the advance: what is left, and what came out of it and is put on file later."""
    left: int = 0
    more: int = 0


class Batch:
    """One turn's work."""

    def __init__(self, work: list[Work], turns: Turns) -> None:
        self.work = work
        self.states: dict[Place, State] = {}
        self.filed: dict[Key, Filed] = {}
        """What the exchanges of this batch have on file: as it is there, then as it is to be."""
        self.new: dict[Key, Wish] = {}
        self.changed: dict[Key, None] = {}
        self.gone: dict[Key, None] = {}
        self._turns = turns
        self._ahead: dict[Place, _Ahead] = {}
        with turns.lock:
            self._look_ahead()
        self.places = sorted(self._ahead)

    def _look_ahead(self) -> None:
        ahead, advances = self._ahead, self._turns.advances
        for one in self.work:
            for wish in wishes_of(one):
                place = wish.place
                seen = ahead.get(place)
                if seen is None:
                    advance = advances.at(place)
                    seen = ahead[place] = _Ahead(advance, (advance.wish if advance is not None else wish).budget, wish)
                match one:
                    case Take():
                        seen.taken += one.amount if one.advance is seen.advance else 0
                        seen.demand += one.amount
                    case Reserve():
                        seen.demand += wish.amount
                        seen.asking, seen.budget = True, wish.budget
                    case Extend():
                        seen.demand += one.more
                        seen.asking = True
                    case Recall():
                        seen.asking = True
                    case Settle():
                        pass
        for seen in ahead.values():
            if seen.advance is not None:
                if seen.asking:
                    seen.advance.left = 0
                seen.left = seen.advance.left
                seen.kept = seen.left + seen.advance.on_the_way - seen.taken

    def known(self) -> list[str]:
        """Whose shares may be on file."""
        found = [wish.exchange for one in self.work if not _is_new(one) for wish in wishes_of(one)]
        return found + [seen.advance.wish.exchange for seen in self._ahead.values() if seen.advance is not None]

    def decide(self) -> None:
        # What was given out comes first; then what was used: it makes room.
        for one in self.work:
            if isinstance(one, Take):
                self._take(one)
        for one in self.work:
            if isinstance(one, Settle):
                for share, used in one.shares:
                    self._book(share, used, one.charge)
        for place, seen in self._ahead.items():
            if seen.advance is not None:
                self._bring_in_line(place, seen, seen.advance)
        for one in self.work:
            match one:
                case Extend():
                    self._extend(one)
                case Reserve():
                    self._reserve(one)
                case Take() | Settle() | Recall():
                    pass
        now = time.monotonic()
        for place, seen in self._ahead.items():
            if seen.advance is not None:
                self._give_back(place, seen, seen.advance)
            if seen.demand:
                self._advance(place, seen, now)
            if seen.advance is not None:
                self._write_advance(seen, seen.advance)

    def done(self) -> None:
        """It is in the database."""
        turns, now = self._turns, time.monotonic()
        with turns.lock:
            advances = turns.advances
            for place, seen in self._ahead.items():
                advance = seen.advance
                if advance is None:
                    continue
                advance.on_the_way -= seen.taken
                if seen.kept + seen.more:
                    advance.left += seen.more
                    advance.spent = self.states[place].spent
                    if seen.demand:  # what ends needs none
                        advances.keep(advance, now)
                else:
                    advances.close(advance)
            turns.count_unbooked()
            turns.note_filed(sum(isinstance(one, Take) for one in self.work))

    def _take(self, one: Take) -> None:
        key = one.wish.exchange, *one.wish.place
        row, state = self.filed.get(key), self.states[one.wish.place]
        if row is None:
            self.filed[key] = Filed(one.held, None, one.wish.charge)
            self.new[key] = one.wish
            _change(state, 0, one.held)
        elif row.used is None and row.held < one.held:
            _change(state, 0, one.held - row.held)
            row.held = one.held
            if key not in self.new:
                self.changed[key] = None

    def _extend(self, one: Extend) -> None:
        wish, key = one.share.wish, key_of(one.share.wish)
        row, state = self.filed.get(key), self.states[wish.place]
        # One that is over, by our own word or by somebody's who took us for dead, gets nothing more.
        running = row is not None and row.used is None
        one.found = grant_more(wish, state.spent, state.held, one.more) if running else 0
        if row is not None and one.found:
            row.held += one.found
            if key not in self.new:
                self.changed[key] = None
            _change(state, 0, one.found)

    def _reserve(self, one: Reserve) -> None:
        states, filed = self.states, self.filed
        if one.tried and any(key_of(wish) in filed for wish in one.wishes):
            # It had been set aside, all of it.
            one.found = Shares([Share(wish, filed[key_of(wish)].held, states[wish.place].spent) for wish in one.wishes])
            return
        one.found = self._granted(one)
        if isinstance(one.found, Shares):
            for share in one.found.shares:
                key = key_of(share.wish)
                if key not in filed:  # two budgets of one name are kept as one
                    filed[key] = Filed(share.amount, None, share.wish.charge)
                    self.new[key] = share.wish
                    _change(states[share.wish.place], 0, share.amount)

    def _granted(self, one: Reserve) -> Answer:
        shares: list[Share] = []
        for wish in one.wishes:
            state = self.states[wish.place]
            amount = grant(wish, state.spent, state.held)
            if amount is None:
                return Spent(wish)
            shares.append(Share(wish, amount, state.spent))
        return Shares(shares)

    def _book(self, share: Share, used: int, charge: Charge) -> None:
        key, state = key_of(share.wish), self.states[share.wish.place]
        row = self.filed.get(key)
        booked = row.used if row is not None else None
        _change(state, used - (booked or 0), -row.held if row is not None and booked is None else 0)
        if row is None and not used:
            return
        self.filed[key] = Filed(row.held if row is not None else 0, used, charge)
        if row is None:  # it was let in without a share, because the budgets could not be asked
            self.new[key] = share.wish
        elif used:
            if key not in self.new:
                self.changed[key] = None
            self.gone.pop(key, None)  # it was given back as what nobody asks for any more
        else:
            self.changed.pop(key, None)
            if self.new.pop(key, None) is None:
                self.gone[key] = None
            else:
                del self.filed[key]

    def _bring_in_line(self, place: Place, seen: _Ahead, advance: Advance) -> None:
        """What is on file for the advance is to be what is left of it."""
        row = self.filed.get(advance.key)
        if row is not None and row.used is not None:
            # Somebody took us for dead: nothing is set aside for it any more. What came out of it stands for itself.
            seen.kept = seen.left = 0
            return
        _change(self.states[place], 0, seen.kept - (row.held if row is not None else 0))

    def _give_back(self, place: Place, seen: _Ahead, advance: Advance) -> None:
        """What is more than there should be, since less is left of the budget."""
        state = self.states[place]
        more = seen.left - most_of(seen.budget.amount - state.spent - state.held + seen.left)
        if more > 0:
            with self._turns.lock:  # meanwhile some of it may have been given out
                more = min(more, advance.left)
                advance.left -= more
            seen.left -= more
            seen.kept -= more
            _change(state, 0, -more)

    def _advance(self, place: Place, seen: _Ahead, now: float) -> None:
        state = self.states[place]
        if seen.advance is not None:
            row = self.filed.get(seen.advance.key)
            if row is not None and row.used is not None:
                return
        wanted = self._turns.advances.wanted(place, seen.demand, seen.budget.amount - state.spent - state.held, now)
        seen.more = max(0, wanted - seen.left)
        if not seen.more:
            return
        if seen.advance is None:
            seen.advance = Advance(seen.wish)
            with self._turns.lock:  # known from now on: nobody may ever hear that it is on file
                self._turns.advances.add(seen.advance)
        seen.advance.set_anew(seen.budget)
        _change(state, 0, seen.more)

    def _write_advance(self, seen: _Ahead, advance: Advance) -> None:
        key, held = advance.key, seen.kept + seen.more
        row = self.filed.get(key)
        if row is None:
            if held:
                self.filed[key] = Filed(held, None, NOTHING)
                self.new[key] = advance.wish
        elif row.used is None and held:
            if row.held != held:
                row.held = held
                self.changed[key] = None
        else:
            self.gone[key] = None


def _is_new(one: Work) -> bool:
    """There is nothing on file of its exchange."""
    match one:
        case Reserve():
            return not one.tried
        case Take():
            return not one.tried and not one.grown
        case Extend() | Settle() | Recall():
            return False


def key_of(wish: Wish) -> Key:
    return wish.exchange, *wish.place


def _change(state: State, spent: int, held: int) -> None:
    state.spent += spent
    state.spent_by += spent
    state.held += held
    state.held_by += held
