from __future__ import annotations

import pytest

from penstock.admission import check

TOKEN = "pst-0123456789"
T = TOKEN.encode()
Header = tuple[bytes, bytes]


@pytest.mark.parametrize("place", [
    (b"Authorization", b"Bearer " + T), (b"authorization", b"bearer " + T), (b"Authorization", T), (b"X-Api-Key", T), (b"api-key", T),
    (b"x-goog-api-key", T), (b"X-Penstock-Token", T),
])
def test_the_token_lets_in_and_goes_no_further(place: Header) -> None:
    verdict = check([(b"A", b"1"), place, (b"B", b"2")], "x=1", TOKEN)
    assert verdict.allowed
    assert (verdict.headers, verdict.query) == ([(b"A", b"1"), (b"B", b"2")], "x=1")


@pytest.mark.parametrize(("query", "left"), [("key=" + TOKEN, ""), (f"alt=sse&key={TOKEN}&b=%20", "alt=sse&b=%20"), ("key=pst%2D0123456789&a", "a")])
def test_gemini_s_query_too(query: str, left: str) -> None:
    verdict = check([], query, TOKEN)
    assert (verdict.allowed, verdict.query) == (True, left)


def test_the_client_s_own_key_beside_it_stays() -> None:
    own: Header = (b"authorization", b"Bearer sk-own")
    assert check([own, (b"x-penstock-token", T)], "key=AIza", TOKEN).headers == [own]
    assert check([own, (b"x-penstock-token", T)], "key=AIza", TOKEN).query == "key=AIza"


def test_a_token_in_every_place_is_taken_out_of_all() -> None:
    verdict = check([(b"authorization", b"Bearer " + T), (b"x-api-key", T), (b"x-penstock-token", T)], f"key={TOKEN}", TOKEN)
    assert (verdict.allowed, verdict.headers, verdict.query) == (True, [], "")


@pytest.mark.parametrize("headers", [
    [], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Bearer ")], [(b"x-penstock-token", T + b"x")], [(b"x-penstock-token", T[:-1])],
    [(b"user-agent", T)], [(b"cookie", T)], [(b"x-penstock-token", T.upper())],
])
def test_anything_else_stays_out(headers: list[Header]) -> None:
    verdict = check(headers, "token=" + TOKEN, TOKEN)
    assert not verdict.allowed
    assert "x-penstock-token" in verdict.message
    assert TOKEN not in verdict.message


def test_without_a_token_everybody_enters_unchanged() -> None:
    headers: list[Header] = [(b"authorization", b"Bearer sk-own")]
    verdict = check(headers, "key=x", None)
    assert (verdict.allowed, verdict.headers, verdict.query) == (True, headers, "key=x")
