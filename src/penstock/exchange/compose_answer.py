"""How the answer of a provider goes to the client, by its head."""

from __future__ import annotations

from typing import NamedTuple

from penstock.exchange.conduct import Conduct
from penstock.exchange.contract import Headers
from penstock.exchange.gateway import Gateway
from penstock.exchange.plan import Plan
from penstock.exchange.telling import UNBUFFERED
from penstock.pipeline.compose import DESCRIBED, PROMISED, Answer, Recipe, decide
from penstock.pipeline.contract import Pipeline
from penstock.pipeline.foreign import may_be_foreign
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.tail import TailBytes
from penstock.protocols.contract import Peek
from penstock.providers import BUFFERING, AnswerNames
from penstock.routing import predicts
from penstock.upstream.contract import ResponseHead
from penstock.wire.encoding import READABLE

_AT_ONCE = Pace()
_OWN = frozenset({b"content-type", b"content-encoding"})


class Course(NamedTuple):
    """What a head says of the answer behind it, together with the request: the same for all whose heads say the same."""

    recipe: Recipe
    array: bool
    """A stream was asked for as a JSON array."""
    foreign: bool
    """`is_foreign`, where that matters."""
    error: bool
    """`is_error` or `may_be_error`, likewise: it is held until it is whole, so that it is told as one however it comes."""
    conduct: Conduct
    """Whose course this is: held, so that its identity stays its own."""

    def make(self, now: float) -> Pipeline:
        return self.recipe.make(now, TailBytes() if self.conduct.tail_content else None)


_MOST, _LONGEST = 64, 200


def course_of(
    gateway: Gateway, plan: Plan, conduct: Conduct, peek: Peek, head: ResponseHead, *, take_usage: bool, folded: bool = False,
    pace: Pace | None = None,
) -> Course:  # fmt: skip
    """The course of this answer. `folded`, `pace`: it was asked for in another form than the client's (`pipeline.compose.Answer`).

    Remembered with the plan, but for errors: there a word more of the head decides, and time is no matter."""
    status = head.status
    if status >= 400:
        return _find_course(gateway, plan, conduct, peek, head, take_usage, folded, pace)
    kind, coding = head.content_type, head.content_encoding
    key = id(conduct), status, kind, coding, head.delimited, peek.stream, peek.usage_asked, take_usage, folded, pace
    course: Course | None = plan.courses.get(key)
    if course is None:
        course = _find_course(gateway, plan, conduct, peek, head, take_usage, folded, pace)
        if len(kind) + len(coding) <= _LONGEST:
            if len(plan.courses) >= _MOST:
                plan.courses.clear()
            plan.courses[key] = course
    return course


def _find_course(
    gateway: Gateway, plan: Plan, conduct: Conduct, peek: Peek, head: ResponseHead, take_usage: bool, folded: bool, pace: Pace | None
) -> Course:  # fmt: skip
    endpoint, asked = plan.endpoint, plan.spec.array_asked
    array = peek.stream and asked is not None and asked(plan.query)
    answer = Answer(
        endpoint.operation, head.status, head.content_type, head.content_encoding, head.delimited, peek.stream, array,
        take_usage=take_usage, stored=endpoint.content, repaired=conduct.terminal == "finish_reason" and not conduct.transparent,
        folded=folded, pace=pace, usage_told=peek.usage_asked, predicted=predicts(endpoint),
    )  # fmt: skip
    recipe = decide(answer, plan.spec, gateway.settings.limits, gateway.held, conduct.guards)
    told = not conduct.transparent
    error = is_error(plan, head) or (peek.stream and not recipe.framed and may_be_error(plan, head))
    return Course(recipe, array, told and is_foreign(plan, head), told and error, conduct)


def is_error(plan: Plan, head: ResponseHead) -> bool:
    """Is it an error in the place of an answer that the protocol describes, in words that can be read?"""
    return head.status >= 400 and plan.endpoint.operation in DESCRIBED and not plan.endpoint.content and head.content_encoding in READABLE


def is_foreign(plan: Plan, head: ResponseHead) -> bool:
    """By its head, is it nobody's word: an error in no protocol's shape, or a page where an answer was promised? It is held until that is known."""
    operation = plan.endpoint.operation
    if plan.endpoint.content or head.content_encoding not in READABLE:
        return False
    if head.status >= 400:
        return operation in DESCRIBED and (may_be_foreign(head.content_type) or head.content_length == 0)
    return operation in PROMISED and head.status == 200 and head.content_type.startswith(b"text/html")


def may_be_error(plan: Plan, head: ResponseHead) -> bool:
    """A JSON body with a good status where a stream was asked for: whoever reads events reads no error in it."""
    json = head.content_type.partition(b";")[0].rstrip().endswith((b"/json", b"+json"))
    return json and 200 <= head.status < 300 and plan.endpoint.operation in PROMISED and head.content_encoding in READABLE


def pace_behind(plan: Plan, head: ResponseHead) -> Pace | None:
    """Of a body that comes in the place of a stream to a client whose stream was opened before: nothing else can be done with it."""
    return _AT_ONCE if may_be_error(plan, head) else None


def names_of(head: ResponseHead, drops: frozenset[bytes]) -> AnswerNames:
    """What becomes of the headers of `head`; `drops`: the gateway's own."""
    names: AnswerNames | None = head.shape.memos.get(drops)
    if names is None:
        head.shape.memos[drops] = names = AnswerNames([name for name, _ in head.headers], drops)
    return names


def headers_down(head: ResponseHead, drops: frozenset[bytes], *, decoded: bool, streamed: bool, transparent: bool) -> Headers:
    """The provider's headers, as the client gets them."""
    names = names_of(head, drops)
    headers = names.headers(head.headers)
    if decoded:
        headers = [pair for pair in headers if pair[0].lower() != b"content-encoding"]
    if streamed and not transparent:
        if not names.buffering:
            return headers + UNBUFFERED
        said = [pair for pair in headers if pair[0].lower() in BUFFERING]
        headers = [pair for pair in headers if pair not in said]
        stated = b", ".join([value for name, value in said if name.lower() == b"cache-control"])
        if not stated:
            headers += UNBUFFERED
        else:
            whole = stated if b"no-transform" in stated.lower() else stated + b", no-transform"
            headers += [(b"cache-control", whole), UNBUFFERED[1]]
    return headers


def headers_beside(head: ResponseHead, drops: frozenset[bytes]) -> Headers:
    """The provider's headers beside a body of ours: what says whose answer it was, and when to come again."""
    return [pair for pair in names_of(head, drops).headers(head.headers) if pair[0].lower() not in _OWN]
