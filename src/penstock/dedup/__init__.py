"""Answers that are told again: to a client that asks once more for what it has just been given, or is being given.

Enters: who asks for what (`Record`), and what comes of it. Leaves: an earlier request whose answer this one may have (`Desk.find`).

Holds: what two requests must have in common (`fingerprint`), what counts as evidence of a retry and what is under way (`desk`, `record`), what is
kept of a whole answer, as plain data, and what a store of them must be able to do (`store`), such a store in memory (`memory`), what is noted of a
stream (`notes`): in a log of all streams (`segments`), and in little room (`tape`) in a file (`shelf`) where the log has no more for it. Nobody
else's answer, ever: identity, method, path, query, headers and body decide, and what cannot be compared is another request. Only whole, good answers
are kept.

Not here: how an answer is followed while it is made, and told in another form (`exchange.joining`, `exchange.gathering`); the rows of replays.
"""

from penstock.dedup.desk import Desk, Evidence, Match, Mode, Rules, make_desk
from penstock.dedup.fingerprint import digest_of_head, evidence_of, with_address
from penstock.dedup.memory import MemoryAnswers, Room
from penstock.dedup.notes import Notes
from penstock.dedup.record import Record
from penstock.dedup.segments import SegmentLog
from penstock.dedup.shelf import Shelf
from penstock.dedup.store import AnswerStore, Claim, Conflict, Fields, Fits, Form, Headers, Kept, Place, Wanted
from penstock.dedup.tape import Reel

__all__ = [
    "AnswerStore", "Claim", "Conflict", "Desk", "Evidence", "Fields", "Fits", "Form", "Headers", "Kept", "Match", "MemoryAnswers", "Mode", "Notes",
    "Place", "Record", "Reel", "Room", "Rules", "SegmentLog", "Shelf", "Wanted", "digest_of_head", "evidence_of",
    "make_desk", "with_address",
]  # fmt: skip
