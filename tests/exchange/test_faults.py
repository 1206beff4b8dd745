"""What we say when there is nothing better to say."""

from __future__ import annotations

import json

import pytest

from penstock.exchange import faults
from penstock.protocols import REGISTRY
from penstock.upstream.contract import Loss, LossKind
from penstock.vocabulary.errors import Fault, FaultKind
from penstock.vocabulary.ids import ProtocolId

OURS = {name: fault for name, fault in vars(faults).items() if isinstance(fault, Fault)}


@pytest.mark.parametrize("kind", LossKind)
def test_every_loss_has_a_status_and_names_the_provider_and_the_cause(kind: LossKind) -> None:
    fault = faults.lost(Loss(kind, "the cause in words"), "openai")
    assert fault.status == (504 if kind is LossKind.CONNECT_TIMEOUT else 502)
    assert fault.kind is (FaultKind.UPSTREAM_TIMEOUT if fault.status == 504 else FaultKind.UPSTREAM_BROKEN)
    assert "'openai'" in fault.message
    assert "the cause in words" in fault.message
    reached = kind not in (LossKind.CONNECT, LossKind.CONNECT_TIMEOUT, LossKind.TLS)
    assert fault.message.startswith("The answer of" if reached else "Could not reach")


def test_the_ending_of_an_answer_that_never_began() -> None:
    """Which timer, where it was one."""
    timed_out = faults.outcome_of(Loss(LossKind.CONNECT_TIMEOUT, "5 s"))
    assert (timed_out.ending, timed_out.cause, timed_out.ended_by) == ("TIMED_OUT", "connect: 5 s", "gateway")
    lost = faults.outcome_of(Loss(LossKind.TLS, "expired"))
    assert (lost.ending, lost.cause, lost.ended_by) == ("UPSTREAM_LOST", "expired", "upstream")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, FaultKind.BAD_REQUEST), (413, FaultKind.TOO_LARGE), (431, FaultKind.HEADERS_TOO_LARGE), (408, FaultKind.TIMEOUT_OF_CLIENT)],
)
def test_a_request_that_is_refused_for_its_form(status: int, kind: FaultKind) -> None:
    assert faults.of_form(status, "why") == Fault(kind, status, "why")


def test_truncated_and_too_large() -> None:
    assert faults.truncated("it ended early", "openai").status == 502
    assert "it ended early" in faults.truncated("it ended early", "openai").message
    assert (faults.too_large(5).status, faults.too_large(5).kind) == (413, FaultKind.TOO_LARGE)
    assert "5 bytes" in faults.too_large(5).message


@pytest.mark.parametrize("name", OURS)
def test_sentences_are_for_people(name: str) -> None:
    """And they claim no word of a provider's."""
    fault = OURS[name]
    assert fault.message.endswith(".")
    assert (fault.type, fault.code, fault.param) == (None, None, None)
    assert fault.status in (415, 500, 503)


@pytest.mark.parametrize("protocol", REGISTRY)
@pytest.mark.parametrize("name", OURS)
def test_they_are_told_in_every_protocol(protocol: ProtocolId, name: str) -> None:
    error = json.loads(REGISTRY[protocol].error_body(OURS[name], "px-1"))["error"]
    assert error["message"] == OURS[name].message
