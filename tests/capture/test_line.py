"""The thread behind captures and dumps."""

from __future__ import annotations

import threading

from penstock.capture.line import Line


def test_one_after_the_other_and_the_old_looked_after_behind_each() -> None:
    told: list[str] = []
    line = Line[str]("line", told.append, lambda: told.append("prune"))
    assert line.flush(), "nothing waits where nothing runs"
    line.put("a")
    line.put("b")
    assert line.flush()
    assert told == ["prune", "a", "prune", "b", "prune"]
    line.put("c")
    line.close()
    assert told[-2:] == ["c", "prune"]
    assert not any(thread.name == "line" for thread in threading.enumerate())


def test_who_waits_for_what_takes_too_long_hears_so() -> None:
    free = threading.Event()

    def keep(_: str) -> None:
        free.wait(10.0)

    line = Line[str]("line", keep, lambda: None)
    line.put("a")
    assert not line.flush(0.01)
    line.put("b")
    assert len(line) >= 1
    free.set()
    assert line.flush()
    line.close()
