"""By whose word somebody was refused: what stands in the row for whoever counts and explains."""

from __future__ import annotations

import json

import pytest

from penstock.admission.issuers import read_keys
from penstock.admission.settings import AdmissionSettings
from penstock.exchange.gateway import Settings
from penstock.ledger.entry import Maker
from penstock.vocabulary.ids import ProtocolId
from tests.exchange.test_admitting import BEARER, KEYS, RPM, a_budget, ask, budgeted, refused
from tests.support.admitted import KEY, NOW, Admitted, key
from tests.support.exchanges import CHUNK, House
from tests.support.tokens import claims, issuer, jwk, jwks, sign


def test_who_leaves_before_being_refused_was_not() -> None:
    """A refusal at the head waits for a small body."""
    with Admitted(keys=KEYS) as a:
        asker = a.house.open("POST", "/v1/chat/completions", [], length=20)
        asker.body(b"half")
        asker.leave()
        row = a.house.row()
        assert (row.outcome, row.refused_by, row.rule) == ("CLIENT_GONE", None, None)


def test_a_token_that_is_not_good_is_told_by_its_issuer() -> None:
    with Admitted(AdmissionSettings(issuers=(issuer(),)), issuers={issuer().issuer: read_keys(jwks(jwk("RSA", "k1")), issuer())}) as a:
        stale = sign(claims(exp=NOW - 1000))
        refused(ask(a.house, ProtocolId.OPENAI_CHAT, [(b"authorization", b"Bearer " + stale)]), 401, "it has expired", "jwt", issuer().issuer)


def test_the_one_token_of_the_gateway_is_told_too() -> None:
    with House(Settings(token="secret")) as house:
        reply = house.chat().reply
        row = house.book.settled[-1]
        assert (reply.status, row.refused_by, row.rule) == (401, "token", "token")


def test_what_a_budget_refuses_is_told_as_counting_against_no_limit() -> None:
    with Admitted(budgeted(a_budget(), limits=(RPM,)), KEYS) as a:
        first = ask(a.house, ProtocolId.OPENAI_CHAT, BEARER)
        a.house.last.answer().body(CHUNK * 200).lose()
        assert first.reply.header(b"x-ratelimit-remaining-requests") == b"1"
        for _ in range(3):
            reply = refused(ask(a.house, ProtocolId.OPENAI_CHAT, BEARER), 429, "budget 'purse'", "budget", "purse")
            assert reply.header(b"x-ratelimit-remaining-requests") == b"1"
        a.check()


OTHER = "sk-pst-other"


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/openai/v1/responses", "/v1/responses/compact", "/v1/responses/input_tokens"])
def test_nobody_goes_on_from_a_response_of_another_key(path: str, stored: bool) -> None:
    with Admitted(keys={**KEYS, OTHER: key("key_2")}) as a:
        made = a.house.book.stored if stored else a.house.book.known
        made["resp_1"] = Maker("openai", "key_1", None)
        body = json.dumps({"model": "gpt-4o", "previous_response_id": "resp_1", "input": "go on"}).encode()
        for before in range(2):  # (the head is known the second time)
            asker = a.house.open("POST", path, [(b"authorization", b"Bearer " + OTHER.encode())], length=len(body)).body(body).end()
            a.house.loop.settle()
            told = refused(asker, 400, "another key or user", "key", "key_2").json()["error"]
            assert told["message"] == "Previous response with id 'resp_1' not found."
            assert (told["type"], told["param"], told["code"]) == ("invalid_request_error", "previous_response_id", "previous_response_not_found")
            assert len(a.house.asks) == before
            a.house.open("POST", path, BEARER, length=len(body)).body(body).end()
            a.house.loop.settle()
            assert len(a.house.asks) == before + 1, "its own key goes on"
            a.house.last.lose()
        a.check()


@pytest.mark.parametrize("before", ["resp_2", "", None, 7, ["resp_1"]])
def test_what_nobody_here_has_made_is_for_the_provider_to_know(before: object) -> None:
    with Admitted(keys=KEYS) as a:
        body = json.dumps({"model": "gpt-4o", "previous_response_id": before, "input": "go on"}).encode()
        a.house.open("POST", "/v1/responses", BEARER, length=len(body)).body(body).end()
        a.house.loop.settle()
        assert len(a.house.asks) == 1
        a.house.last.lose()
        a.check()


THINGS = [
    ("GET", "/v1/files/x_1/content", "File"), ("DELETE", "/openai/v1/files/x_1", "File"), ("GET", "/openai/files/x_1", "File"),
    ("GET", "/anthropic/v1/files/x_1", "File"), ("POST", "/openai/v1/uploads/x_1/complete", "File"), ("GET", "/openai/v1/batches/x_1", "Batch"),
    ("POST", "/openai/v1/batches/x_1/cancel", "Batch"), ("GET", "/anthropic/v1/messages/batches/x_1/results", "Batch"),
    ("GET", "/openai/v1/vector_stores/vs_1/files/x_1/content", "Object"), ("GET", "/openai/openai/v1/responses/x_1", "Response"),
]  # fmt: skip


@pytest.mark.parametrize("sent", [b"", b"{}"])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("method", "path", "what"), THINGS)
def test_what_another_key_has_put_there_is_not_there(method: str, path: str, what: str, stored: bool, sent: bytes) -> None:
    """Also below a provider's name; and also to who sends a body with it, which waits until the ledger has been asked."""
    with Admitted(keys={**KEYS, OTHER: key("key_2")}) as a:
        made = a.house.book.stored if stored else a.house.book.known
        made["x_1"] = Maker(path.split("/")[1], "key_1", None)
        for id, shown, asked in (("x_1", OTHER.encode(), 0), ("x_1", KEY.encode(), 1), ("x_2", OTHER.encode(), 2)):
            at = path.replace("x_1", id)
            asker = a.house.open(method, at, [(b"authorization", b"Bearer " + shown)], length=len(sent) or None).body(sent).end()
            a.house.loop.settle()
            assert len(a.house.asks) == asked
            if not asked:
                told = refused(asker, 404, "another key or user", "key", "key_2").json()["error"]
                assert told["message"] == f"{what} with id 'x_1' not found."
                continue
            assert (a.house.last.uploaded or a.house.last.rest[-len(sent):]) == sent or not sent
            asker.leave()
        a.check()
