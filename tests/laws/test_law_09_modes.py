"""Law 9 for answers that come in another form than their client asked for: as there, with the stream modes on."""

from __future__ import annotations

from hypothesis import settings

from penstock.exchange.conduct import Conduct, Retries
from penstock.pipeline.pseudo import Pace
from penstock.pipeline.timers import Timers
from penstock.vocabulary.ids import ProtocolId
from tests.laws.test_law_09_once import JSON_HEAD, SCRIPTS, Exchanges, Script
from tests.support.answers import ANSWERS
from tests.support.exchanges import SSE, FakeAsk
from tests.support.fuzz import THOROUGH

_HURRIED = Timers(first_content=4.0, idle=2.0, client_stall=3.0)
_BOUNCE = [b'{"error":{"message":"Streaming is ', b'required for operations that may take longer"}}']
_PATHS = {
    b"/chat/completions": ProtocolId.OPENAI_CHAT, b"/responses": ProtocolId.OPENAI_RESPONSES, b"/messages": ProtocolId.ANTHROPIC_MESSAGES,
    b"enerateContent": ProtocolId.GEMINI,
}  # fmt: skip
_TRIES = Retries(connect=1, status=1, first_frame=1)


class InForm(Exchanges):
    """Providers mostly answer in the form in which they are asked, or refuse it."""

    def scripts_for(self, ask: FakeAsk) -> list[Script]:
        protocol = next((protocol for part, protocol in _PATHS.items() if part in ask.target), None)
        if protocol is None:
            return SCRIPTS
        answer = ANSWERS[protocol]
        if b"stream" in ask.target or b'"stream":true' in ask.sent_body.replace(b" ", b""):
            half: Script = ((200, SSE), [*answer.frames[:2]])
            return [((200, SSE), [*answer.frames]), ((200, SSE), [answer.stream, b": behind\n\n"]), half, *SCRIPTS[:4]]
        middle = len(answer.json) // 2
        whole: Script = ((200, JSON_HEAD), [answer.json[:middle], answer.json[middle:]])
        return [whole, whole, ((500, JSON_HEAD), _BOUNCE), ((400, JSON_HEAD), _BOUNCE), *SCRIPTS[4:7]]


class Forced(InForm):
    conduct = Conduct(nonstream="force", pace=Pace(), timers=_HURRIED, early_head=1.0, keepalive=1.0)


class Retried(InForm):
    conduct = Conduct(nonstream="retry", pace=Pace(3, 0.4), timers=_HURRIED, early_head=1.0, keepalive=1.0, retries=_TRIES)


class ReadOn(InForm):
    conduct = Conduct(nonstream="force", pace=Pace(5, 0.2), on_disconnect="drain", drain_seconds=3.0, retries=_TRIES)


_EXAMPLES = settings(max_examples=settings.default.max_examples * (2 if THOROUGH else 1) if settings.default else 40, stateful_step_count=25)
TestForced, TestRetried, TestReadOn = Forced.TestCase, Retried.TestCase, ReadOn.TestCase
TestForced.settings = TestRetried.settings = TestReadOn.settings = _EXAMPLES
