"""Questions to guards outside: what is sent, what an answer means, and that they are bounded in time and number."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.policy.outside import PASSED, Asked, Outside, Question, Said, Verdict, Where
from penstock.policy.rules import Scope
from penstock.providers.contract import Origin
from penstock.stores.guard_calls import CallLimits, GuardCalls, Nobody, PostError
from penstock.stores.guard_formats import About, Format, Service, path_of, read, write

ABOUT = About("px-1", "m", ((b"X-Tenant", b"blue"), (b"Authorization", b"Bearer secret")))
TEXTS = (Asked(Scope.USER, "one", "zero "), Asked(Scope.TOOL_RESULTS, "two"))


def question(service: Service, where: Where = "request", id: int = 1) -> Question:
    return Question(id, Outside("g", service), where, TEXTS)


def asked(format: Format, where: Where) -> Any:
    service = Service("http://h/x", format)
    return json.loads(write(service, question(service, where), ABOUT))


def test_what_is_sent() -> None:
    assert asked("penstock", "request") == {
        "version": 1, "id": "px-1", "guard": "g", "where": "request", "model": "m",
        "texts": [{"scope": "user", "text": "one", "before": "zero "}, {"scope": "tool_results", "text": "two"}],
    }  # fmt: skip
    assert asked("agentgateway", "request") == {"body": {"messages": [{"role": "user", "content": "one"}, {"role": "tool", "content": "two"}]}}
    assert [one["message"]["content"] for one in asked("agentgateway", "response")["body"]["choices"]] == ["one", "two"]
    assert asked("moderation", "response") == {"model": "omni-moderation-latest", "input": ["zero one", "two"]}


def test_half_a_pair_can_be_asked_about() -> None:
    service = Service("http://h")
    half = Question(1, Outside("g", service), "response", (Asked(Scope.USER, "a\ud83d"),))
    assert json.loads(write(service, half, ABOUT))["texts"][0]["text"] == "a?"


MASKED = Verdict(Said.MASK, ["1", "2"])
OURS: list[tuple[object, Verdict | Said]] = [
    ({"action": "pass"}, PASSED), ({"action": "mask", "texts": ["1", "2"]}, MASKED), ({"action": "reject", "message": "no"}, Said.REJECT),
    ({"action": "mask", "texts": ["1"]}, Said.ERROR), ({"action": "mask"}, Said.ERROR), ({"action": "x"}, Said.ERROR), ({}, Said.ERROR),
    ([], Said.ERROR), ({"action": "mask", "texts": [1, 2]}, Said.ERROR),
]  # fmt: skip
AGENTGATEWAY: list[tuple[object, Verdict | Said]] = [
    ({"action": {}}, PASSED), ({"action": {"reason": "fine"}}, PASSED), ({"action": {"body": "no", "status_code": 403}}, Said.REJECT),
    ({"action": {"body": {"messages": [{"role": "user", "content": "1"}, {"role": "tool", "content": "2"}]}}}, MASKED),
    ({"action": {"body": {"messages": [{"content": "1"}]}}}, Said.ERROR), ({"action": {"body": {"choices": []}}}, Said.ERROR),
    ({"action": {"reject": {"body": "no"}}}, Said.ERROR), ({"action": "pass"}, Said.ERROR), ({}, Said.ERROR), ("x", Said.ERROR),
]  # fmt: skip


@pytest.mark.parametrize(("format", "answer", "wanted"), [
    *(("penstock", *row) for row in OURS), *(("agentgateway", *row) for row in AGENTGATEWAY),
])  # fmt: skip
def test_what_an_answer_means(format: Format, answer: object, wanted: Verdict | Said) -> None:
    service = Service("http://h", format)
    found = read(service, question(service), json.dumps(answer).encode())
    assert found == wanted if isinstance(wanted, Verdict) else found.said is wanted


def moderated(*scores: float, categories: tuple[tuple[str, float | None], ...] = ()) -> Verdict:
    service = Service("http://h", "moderation", categories=categories)
    results = [{"flagged": s > 0.5, "categories": {"violence": s > 0.5}, "category_scores": {"violence": s}} for s in scores]
    return read(service, question(service), json.dumps({"results": results}).encode())


def test_what_a_moderation_means() -> None:
    assert moderated(0.1, 0.2) == PASSED
    assert moderated(0.1, 0.9) == Verdict(Said.REJECT, why="it is violence")
    assert moderated(0.1, 0.4, categories=(("violence", 0.3),)).said is Said.REJECT
    assert moderated(0.1, 0.9, categories=(("violence", 0.95),)) == PASSED
    assert moderated(0.1, 0.9, categories=(("violence", None),)).said is Said.REJECT
    assert moderated(0.1, 0.2, categories=(("hate", None),)).said is Said.ERROR
    assert moderated(0.1, 0.2, categories=(("hate", 0.1),)).said is Said.ERROR
    assert moderated(0.1).said is Said.ERROR


@given(body=st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["action", "body", "texts", "results", "flagged", "messages", "choices", "status_code"]), inner)).map(
            lambda value: json.dumps(value).encode()))
def test_no_answer_raises_and_no_garbage_passes(body: bytes) -> None:
    for format in ("penstock", "agentgateway", "moderation"):
        service = Service("http://h", format)
        found = read(service, question(service), body)
        if found.said is Said.PASS:
            assert b"pass" in body or b"action" in body


class Posts:
    """Whoever sends: keeps what was sent, and answers when told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[Origin, tuple[bytes, bytes, bytes]]] = []
        self.go = asyncio.Event()
        self.running = self.most = 0
        self.answer: tuple[int, bytes] | Exception = (200, b'{"action":"pass"}')

    async def __call__(self, origin: Origin, request: tuple[bytes, bytes, bytes], limit: int) -> tuple[int, bytes]:
        self.sent.append((origin, request))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_one_question_from_its_request_to_its_verdict() -> None:
    async def main() -> None:
        posts, found = Posts(), list[Verdict]()
        posts.go.set()
        calls = GuardCalls(posts, agent="penstock/x")
        service = Service("https://h:8443/v1", "agentgateway", "k", (("X-Own", "1"),), forward=("x-tenant",))
        calls.ask(question(service), ABOUT, found.append)
        while not found:  # noqa: ASYNC110  # the task is ready; it only needs its turns
            await asyncio.sleep(0)
        [(origin, (method, target, rest))] = posts.sent
        assert (origin, method, target) == (Origin("https", "h", 8443), b"POST", b"/v1/request")
        head, _, body = rest.partition(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
        assert lines[b"authorization"] == b"Bearer k"
        assert (lines[b"x-tenant"], lines[b"x-own"], lines[b"host"]) == (b"blue", b"1", b"h:8443")
        assert lines[b"content-length"] == str(len(body)).encode()
        assert path_of(service, question(service, "response")) == "/response"

    asyncio.run(main())


@pytest.mark.parametrize(("answer", "why"), [
    ((500, b'{"action":"pass"}'), "it answered 500"), ((204, b""), "it answered 204"), ((200, b"<html>"), "not what it should be"),
    (PostError("the guard refused the connection"), "could not be asked: the guard refused"), (KeyError("x"), "a mistake of the gateway"),
])  # fmt: skip
def test_whatever_goes_wrong_is_an_error(answer: tuple[int, bytes] | Exception, why: str) -> None:
    async def main() -> None:
        posts, found = Posts(), list[Verdict]()
        posts.answer = answer
        posts.go.set()
        GuardCalls(posts).ask(question(Service("http://h")), ABOUT, found.append)
        while not found:  # noqa: ASYNC110  # the task is ready; it only needs its turns
            await asyncio.sleep(0)
        assert found[0].said is Said.ERROR
        assert why in found[0].why

    asyncio.run(main())


def test_time_and_number_are_bounded_and_a_question_can_be_given_up() -> None:
    async def main() -> None:
        posts, found = Posts(), list[tuple[int, Verdict]]()
        calls = GuardCalls(posts, CallLimits(at_once=3, waiting=2))
        slow, hasty = Service("http://h", at_once=2, timeout=60.0), Service("http://other", timeout=0.01)

        def ask(id: int, service: Service) -> Any:
            return calls.ask(question(service, id=id), ABOUT, lambda verdict: found.append((id, verdict)))

        give_up = [ask(id, slow) for id in range(4)]
        ask(4, hasty)
        ask(5, slow)  # five wait or are under way
        for _ in range(9):
            await asyncio.sleep(0)
        assert [(id, verdict.why) for id, verdict in found] == [(5, "too many questions wait for guards")]
        assert posts.running == 3
        while len(found) < 2:  # noqa: ASYNC110  # its own time is what is tested
            await asyncio.sleep(0.005)
        assert (found[1][0], found[1][1].why) == (4, "it gave no answer within 0.01 s")
        give_up[0]()
        posts.go.set()
        while calls.open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert sorted(id for id, _ in found) == [1, 2, 3, 4, 5]
        assert posts.most == 3
        assert posts.running == 0
        calls.close()

    asyncio.run(main())


def test_where_nobody_can_be_asked_that_is_an_error() -> None:
    async def main() -> None:
        found: list[Verdict] = []
        Nobody().ask(question(Service("http://h")), ABOUT, found.append)
        await asyncio.sleep(0)
        assert found[0].said is Said.ERROR

    asyncio.run(main())
