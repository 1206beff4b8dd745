"""Keys that look like nothing, quoted by the provider that was sent them: nobody else reads them."""

from __future__ import annotations

from base64 import b64decode
from typing import Any
from urllib.parse import quote

import pytest

from penstock.exchange.conduct import Conduct, Retries
from penstock.exchange.contract import Headers
from penstock.ledger.entry import COLUMNS, Entry
from penstock.telemetry.lines import exchange_json, exchange_text
from penstock.vocabulary.ids import ProtocolId
from tests.laws.talk import DIALECTS, Dialect, sse
from tests.support.exchanges import CHUNK, DONE, REQUESTS, STOP, House

HOUSE, CLIENT = "pa/ss+wort7", "tiger-22"
"""Of no maker's form, and short."""
EACH = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.protocol.value)
QUOTES = [HOUSE, quote(HOUSE, safe=""), HOUSE.replace("/", "\\/"), f"<{HOUSE}>"]
JSON: Headers = [(b"content-type", b"application/json")]
KINDS = ("openai", "anthropic", "gemini")


def made(key: str | None = HOUSE, conduct: Conduct | None = None) -> House:
    keys: dict[str, Any] = {kind: {"api_key": key} for kind in KINDS}
    return House(conduct=conduct, **keys)


def says(quoted: str) -> str:
    return f"You were not let in as {quoted}, sorry."


def check_row(row: Entry, *secrets: str) -> None:
    kept = "\n".join(str(getattr(row, column)) for column in COLUMNS)
    kept += exchange_json(row).decode() + exchange_text(row).decode()
    kept += b64decode(row.tail_bytes or "").decode()
    for secret in secrets:
        assert secret not in kept
    assert not row.known, "it is forgotten with the exchange"


@EACH
@pytest.mark.parametrize("quoted", QUOTES)
def test_the_house_s_key_in_an_error_s_body(dialect: Dialect, quoted: str) -> None:
    with made() as house:
        asker, ask = house.whole(dialect.protocol)
        body = {"error": {"message": says(quoted), "type": quoted, "code": 401, "status": quoted}}
        ask.answer_json(body, 401)
        row = house.row()
        check_row(row, quoted.strip("<>"), HOUSE)
        assert row.error_message is not None
        assert row.error_message.startswith("You were not let in as ")
        assert "***" in row.error_message
        assert asker.reply.json() == body, "these bytes are the provider's own"


@EACH
def test_the_client_s_own_key(dialect: Dialect) -> None:
    with made(None) as house:
        path, body = REQUESTS[dialect.protocol]
        house.post(path, body, [(b"authorization", b"Bearer " + CLIENT.encode())])
        house.last.answer_json({"error": {"message": says(CLIENT), "type": "t", "code": 401}}, 401)
        check_row(house.row(), CLIENT)
        assert house.row().error_message == says("***")


def test_a_key_in_the_query_and_one_in_a_header_of_the_configuration() -> None:
    with House(gemini={"api_key": None, "headers": (("x-house-token", HOUSE),)}) as house:
        path, body = REQUESTS[ProtocolId.GEMINI]
        house.post(f"{path}&key={CLIENT}", body)
        house.last.answer_json({"error": {"message": f"{CLIENT} and {HOUSE}", "code": 401}}, 401)
        assert house.row().error_message == "*** and ***"


@EACH
@pytest.mark.parametrize("early", [False, True])
def test_a_page_is_told_in_words_of_ours(dialect: Dialect, early: bool) -> None:
    with made(conduct=Conduct(early_head=5.0 if early else None)) as house:
        asker, ask = house.stream(dialect.protocol)
        if early:
            house.loop.wait(6.0)
        ask.answer(403, [(b"content-type", b"text/html")]).body(f"<p>{says(HOUSE)}</p>".encode()).end()
        assert b"You were not let in as ***, sorry." in asker.reply.body
        check_row(house.row(), HOUSE)


@EACH
def test_an_error_behind_an_early_head_is_told_in_words_of_ours(dialect: Dialect) -> None:
    with made(conduct=Conduct(early_head=5.0)) as house:
        asker, ask = house.stream(dialect.protocol)
        house.loop.wait(6.0)
        ask.answer_json({"error": {"message": says(HOUSE), "type": "t", "code": 401}}, 401)
        assert b"You were not let in as ***, sorry." in asker.reply.body
        check_row(house.row(), HOUSE)


@EACH
def test_half_a_key_where_the_text_was_cut(dialect: Dialect) -> None:
    for before in range(480, 500):
        with made() as house:
            asker, ask = house.stream(dialect.protocol)
            ask.answer(500, [(b"content-type", b"text/plain")]).body(f"{'x' * before} {HOUSE} and more{'y' * 99}".encode()).end()
            for told in (asker.reply.body.decode(), str(house.row().error_message)):
                assert "x" * before in told
                assert HOUSE[:6] not in told


@EACH
def test_an_error_event_and_the_last_bytes(dialect: Dialect) -> None:
    with made(conduct=Conduct(tail_content=True)) as house:
        _, ask = house.stream(dialect.protocol)
        error = {"message": says(HOUSE), "type": HOUSE, "code": HOUSE}
        ask.answer().body(dialect.head(), sse({**error, "type": "error", "error": error}, "error")).end()
        row = house.row()
        assert row.tail_bytes is not None
        check_row(row, HOUSE)
        assert row.error_message == says("***")


@EACH
@pytest.mark.parametrize("gathered", [False, True])
def test_an_event_that_becomes_a_whole_error_is_told_in_words_of_ours(dialect: Dialect, gathered: bool) -> None:
    with made(conduct=Conduct(nonstream="force" if gathered else "passthrough")) as house:
        asker, ask = house.whole(dialect.protocol) if gathered else house.stream(dialect.protocol)
        error = {"message": says(HOUSE), "type": "t", "code": HOUSE, "details": [HOUSE]}
        ask.answer().body(sse({**error, "type": "error", "error": error}, "error"))
        assert asker.reply.status not in (None, 200)
        assert b"You were not let in as ***, sorry." in asker.reply.body
        assert HOUSE.encode() not in asker.reply.body
        check_row(house.row(), HOUSE)


def test_tries() -> None:
    with made(conduct=Conduct(retries=Retries(first_frame=1))) as house:
        _, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(sse({"error": {"message": "no", "type": HOUSE}}))
        house.until(lambda: len(house.asks) == 2)
        house.last.answer().body(CHUNK + STOP + DONE).end()
        assert "***" in (house.row().tries or "")
        check_row(house.row(), HOUSE)


def test_what_is_no_secret_stays() -> None:
    """A key that is the provider's name, as servers without keys have it; and short words."""
    with House(openai={"api_key": "openai"}) as house:
        house.chat()
        house.last.answer_json({"error": {"message": "openai said no", "type": "t"}}, 401)
        assert house.row().error_message == "openai said no"
    with House(openai={"api_key": "none"}) as house:
        house.chat()
        house.last.answer_json({"error": {"message": "there is none", "type": "t"}}, 401)
        assert house.row().error_message == "there is none"


def test_a_user_s_name_is_no_secret() -> None:
    with House(openai={"api_key": None, "user_from_key": True}) as house:
        path, body = REQUESTS[ProtocolId.OPENAI_CHAT]
        house.post(path, body, [(b"authorization", b"Bearer " + CLIENT.encode())])
        house.last.answer_json({"error": {"message": says(CLIENT), "type": "t"}}, 401)
        assert house.row().error_message == says(CLIENT)


def test_a_good_answer_looks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object) -> None:
        pytest.fail("a good answer quotes nobody")

    monkeypatch.setattr("penstock.exchange.asking.credentials_of", look)
    with made() as house:
        _, ask = house.stream(ProtocolId.OPENAI_CHAT)
        ask.answer().body(CHUNK + STOP + DONE).end()
        assert house.row().outcome == "COMPLETE"
