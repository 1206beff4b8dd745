"""The time of an exchange whose request comes bit by bit, read whole or sent on: whose it is, and that none goes on for ever."""

from __future__ import annotations

from penstock.exchange.conduct import Conduct
from penstock.exchange.gateway import LOOK
from tests.exchange.test_watching import STEP, only, ran_out
from tests.support.exchanges import Asker, House


def slowly(house: House, body: bytes) -> Asker:
    """A request whose body takes its client three seconds."""
    asker = house.open("POST", "/v1/chat/completions", length=len(body))
    asker.body(body[:5])
    house.loop.wait(3.0)
    return asker.body(body[5:]).end()


def test_the_time_that_a_client_takes_for_a_request_that_is_read_whole() -> None:
    with only(first_content=1.0) as house:
        asker = slowly(house, b'{"model":"m","messages":[]}')
        house.loop.wait(0.8)
        assert asker.reply.status is None
        ran_out(house, asker, house.last, "first_content", 0.2)
        assert asker.reply.status == 504


def test_a_true_status_is_possible_for_as_long_behind_a_request_that_comes_slowly() -> None:
    with House(conduct=Conduct(keepalive=None, early_head=2.0)) as house:
        asker = slowly(house, b'{"model":"m","messages":[],"stream":true}')
        house.loop.wait(1.8)
        assert asker.reply.status is None
        assert house.until(lambda: asker.reply.status, 1.0) <= 0.2 + LOOK + STEP
        assert asker.reply.status == 200


def test_an_upload_is_not_the_providers_time() -> None:
    with only(first_content=1.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=4)
        asker.body(b"ab")
        house.loop.wait(3.0)
        assert asker.reply.status is None
        asker.body(b"cd").end()
        ran_out(house, asker, house.last, "first_content", 1.0)
        assert asker.reply.status == 504


def test_nor_is_it_where_the_answer_has_begun() -> None:
    with only(first_content=1.0, idle=1.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=8)
        asker.body(b"ab")
        house.last.answer(200, [(b"content-type", b"text/plain")]).body(b"so far")
        for piece in (b"cd", b"ef", b"gh"):
            house.loop.wait(0.8)
            asker.body(piece)
        asker.end()
        house.loop.wait(0.8)
        assert not asker.reply.over
        house.last.body(b" so good").end()
        assert asker.reply.body == b"so far so good"
        assert house.row().outcome == "COMPLETE"
        house.check_quiet()


def test_what_the_provider_does_not_take_is_its_time() -> None:
    with only(first_content=1.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=8)
        asker.body(b"ab")
        house.run(house.last.to.upload_paused)
        house.loop.wait(0.8)
        house.run(house.last.to.upload_resumed)
        asker.body(b"cd")
        house.run(house.last.to.upload_paused)
        ran_out(house, asker, house.last, "first_content", 1.0)
        assert asker.reply.status == 504


def test_an_answer_stands_still_and_so_does_the_upload() -> None:
    """Its client is not watched any more: the answer has begun."""
    with only(idle=1.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=8)
        asker.body(b"ab")
        house.last.answer(200, [(b"content-type", b"text/plain")]).body(b"so far")
        house.loop.wait(0.5)
        asker.body(b"cd")
        ran_out(house, asker, house.last, "idle", 1.0)


def test_the_limit_for_all_is_not_put_off_by_an_upload() -> None:
    with only(first_content=60.0, max_duration=3.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=4)
        house.loop.wait(2.0)
        asker.body(b"abcd").end()
        ran_out(house, asker, house.last, "max_duration", 1.0)


def test_but_no_upload_goes_on_for_ever_where_there_is_a_limit_for_all() -> None:
    with only(max_duration=2.0) as house:
        asker = house.open("POST", "/openai/v1/files", length=4)
        asker.body(b"ab")
        ran_out(house, asker, house.last, "max_duration", 2.0)
        assert asker.reply.status == 504
