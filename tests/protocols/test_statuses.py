"""Statuses of errors that came without one, by their words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.protocols import REGISTRY
from penstock.protocols.contract import ProtocolSpec
from penstock.protocols.statuses import fault_of, message_of, status_of
from penstock.vocabulary.errors import Fault, FaultKind, UpstreamError
from penstock.vocabulary.ids import Operation, ProtocolId

SPECS = pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.id.value)
WORD = st.none() | st.text(max_size=8) | st.sampled_from(["overloaded_error", "429", "rate_limit_exceeded", "UNAVAILABLE", "99", "700"])
ERRORS = st.builds(UpstreamError, message=st.none() | st.text(max_size=8), type=WORD, code=WORD, param=WORD, status=st.none() | st.integers(-5, 1000))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamError(type="invalid_request_error"), 400),
        (UpstreamError(type="authentication_error"), 401),
        (UpstreamError(type="billing_error"), 402),
        (UpstreamError(type="permission_error"), 403),
        (UpstreamError(type="not_found_error"), 404),
        (UpstreamError(type="request_too_large"), 413),
        (UpstreamError(type="rate_limit_error"), 429),
        (UpstreamError(type="api_error"), 500),
        (UpstreamError(type="timeout_error"), 504),
        (UpstreamError(type="overloaded_error"), 529),
        (UpstreamError(type="server_error"), 500),
        (UpstreamError(type="tokens", code="rate_limit_exceeded"), 429),
        (UpstreamError(type="insufficient_quota", code="insufficient_quota"), 429),
        (UpstreamError(type="insufficient_quota", code="project_spend_limit_exceeded"), 429),
        (UpstreamError(type="invalid_request_error", code="invalid_api_key"), 401),
        (UpstreamError(type="invalid_request_error", code="model_not_found"), 404),
        (UpstreamError(type="invalid_request_error", code="context_length_exceeded"), 400),
        (UpstreamError(code="server_is_overloaded"), 503),
        (UpstreamError(code="server_error"), 500),
        (UpstreamError(type="RESOURCE_EXHAUSTED"), 429),
        (UpstreamError(type="DEADLINE_EXCEEDED"), 504),
        (UpstreamError(type="UNAVAILABLE", status=503), 503),
        (UpstreamError(type="overloaded_error", status=503), 503),
        (UpstreamError(code="503"), 503),
        (UpstreamError(code="200", type="api_error"), 500),
        (UpstreamError(status=200, type="api_error"), 500),
        (UpstreamError(type="new_word", code="newer"), 502),
        (UpstreamError(), 502),
    ],
)
def test_words(error: UpstreamError, status: int) -> None:
    assert status_of(error) == status


@SPECS
@pytest.mark.parametrize(("status", "kind"), [(403, FaultKind.FORBIDDEN), (429, FaultKind.RATE_LIMITED)])
def test_what_a_policy_cut_is_called_as_its_status_is(spec: ProtocolSpec, status: int, kind: FaultKind) -> None:
    """Clients that go by the words find the same as those that go by the status."""

    def words(kind: FaultKind) -> Any:
        error = json.loads(spec.error_body(Fault(kind, status, "No."), ""))["error"]
        return error.get("type"), error.get("status")

    assert words(FaultKind.CUT) == words(kind)


@pytest.mark.parametrize("kind", FaultKind)
def test_openai_s_protocols_say_the_same_before_the_first_byte(kind: FaultKind) -> None:
    specs = (REGISTRY[ProtocolId.OPENAI_CHAT], REGISTRY[ProtocolId.OPENAI_RESPONSES])
    one, other = (json.loads(spec.error_body(Fault(kind, 429, "No."), "px-1")) for spec in specs)
    assert one == other


def test_a_message_is_the_providers_or_the_name_of_the_status() -> None:
    assert message_of(UpstreamError(message="m"), 500) == "m"
    assert message_of(UpstreamError(), 429) == "Too Many Requests"
    assert message_of(UpstreamError(message=""), 529) == "Overloaded"


def test_as_a_fault() -> None:
    fault = fault_of(UpstreamError(message="m", type="t", code="rate_limit_exceeded", param="p"))
    assert (fault.kind, fault.status, fault.message, fault.type, fault.code, fault.param) == (
        FaultKind.RATE_LIMITED, 429, "m", "t", "rate_limit_exceeded", "p",
    )  # fmt: skip
    assert fault_of(UpstreamError(status=502)).kind is FaultKind.UPSTREAM_BROKEN
    assert fault_of(UpstreamError(status=422)).kind is FaultKind.BAD_REQUEST


def fields(spec: ProtocolSpec, body: bytes) -> dict[str, Any]:
    return json.loads(body)["error"]


@SPECS
def test_an_error_of_the_first_frame_as_a_body(spec: ProtocolSpec) -> None:
    error = UpstreamError(message="Slow \u00e9 down.", type="rate_limit_error", code="rate_limit_exceeded", param="model")
    status, body = spec.error_of(error, "px-1")
    assert status == 429
    told = fields(spec, body)
    assert told["message"] == "Slow \u00e9 down."
    match spec.id:
        case ProtocolId.OPENAI_CHAT | ProtocolId.OPENAI_RESPONSES:
            assert (told["type"], told["code"], told["param"]) == ("rate_limit_error", "rate_limit_exceeded", "model")
        case ProtocolId.ANTHROPIC_MESSAGES:
            assert (json.loads(body)["type"], told["type"], json.loads(body)["request_id"]) == ("error", "rate_limit_error", "px-1")
        case ProtocolId.GEMINI:
            assert (told["code"], told["status"], told["details"][0]["reason"]) == (429, "rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize("depth", [1, 80, 100_000])
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_else_a_provider_said_stays(depth: int, size: int) -> None:
    """OpenRouter's `metadata` and its numeric code, Google's `details`. Nothing of what is long or deep can raise."""
    metadata = b'{"provider_name": "x", "raw": %b"%b"%b}' % (b"[" * depth, b"y" * size, b"]" * depth)
    told: dict[ProtocolId, bytes] = {
        ProtocolId.OPENAI_CHAT: b'{"error": {"message": "m", "code": 429, "metadata": %b}}' % metadata,
        ProtocolId.GEMINI: b'{"error": {"code": 429, "message": "m", "status": "ABORTED", "details": [{"retryDelay": "7s", "a": %b}]}}' % metadata,
    }
    for protocol, body in told.items():
        spec = REGISTRY[protocol]
        observer = spec.observer(Operation.CHAT)
        observer.observe_error(429, body)
        assert observer.error is not None
        status, out = spec.error_of(observer.error, "px-1")
        assert status == 429
        if depth > 80:
            continue
        before, after = json.loads(body)["error"], json.loads(out)["error"]
        assert after["message"] == "m"
        if size > 1:
            assert "metadata" not in after
        elif protocol is ProtocolId.GEMINI:
            assert after == {**before, "details": [*before["details"], {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "px-1"}]}
        else:
            assert after == {**before, "type": "rate_limit_error", "param": None, "request_id": "px-1"}


@SPECS
def test_nothing_is_invented(spec: ProtocolSpec) -> None:
    for status in (400, 401, 429, 500):
        told = fields(spec, spec.error_of(UpstreamError(message="m", status=status), "")[1])
        assert told.get("param") is None
        assert told.get("code") in (None, status)
        assert not told.get("details")


@SPECS
@given(error=ERRORS)
def test_any_error_is_read_back_with_its_status(spec: ProtocolSpec, error: UpstreamError) -> None:
    status, body = spec.error_of(error, "px-1")
    assert 400 <= status <= 599
    observer = spec.observer(Operation.CHAT)
    observer.observe_error(status, body)
    assert observer.error is not None
    assert observer.error.status == status
    assert observer.error.message == message_of(error, status)
