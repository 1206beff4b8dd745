"""`/metrics`: who may read it, that Prometheus' own parser reads it, and that it says what happened."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from penstock.admin import AdminListener, Deps, Readings, make_app
from penstock.admin.metrics import CONTENT_TYPE, write
from penstock.lab.scripted import LAST_CHUNK, SSE_HEAD, Do, ScriptedServer, chunk, whole
from penstock.ledger.entry import Entry
from penstock.ledger.writer import Counters
from penstock.telemetry.log import Log
from penstock.telemetry.metrics import Family, Metrics, Sample
from penstock.vocabulary.outcome import EndedBy, Ending, Outcome
from tests.support.gateway import Running, gateway, providers_at, run
from tests.support.http import ask, request

TOKEN = "t" * 43
BEARER = {"authorization": f"Bearer {TOKEN}"}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def deps(families: Callable[[], Any] = tuple, readings: Readings | None = None) -> Deps:
    def none(*_: Any, **__: Any) -> Any:
        raise AssertionError("the ledger is not asked")

    return Deps(
        "1.2.3", "i1", TOKEN, none, none, none, draining=lambda: False, ledger_failing=lambda: True, clock=lambda: 1_700_000_000.5,
        families=families, readings=readings)  # fmt: skip


def parse(text: str) -> Series:
    """Every series, read by Prometheus' own parser; each once, and each of a metric with type and help."""
    found: Series = {}
    assert text.endswith("\n")
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def at(found: Series, name: str, **labels: str) -> float:
    return sum(value for (told, given), value in found.items() if told == name and given >= labels.items())


async def scrape(deps: Deps, **headers: str) -> httpx.Response:
    listener = AdminListener("127.0.0.1", 0)
    port = await listener.start(make_app(deps))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            return await client.get("/metrics", headers={**BEARER, **headers})
    finally:
        await listener.stop()


def test_who_may_read_it() -> None:
    async def main() -> None:
        listener = AdminListener("127.0.0.1", 0)
        port = await listener.start(make_app(deps()))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
                for method in ("GET", "POST", "HEAD"):
                    answer = await client.request(method, "/metrics", headers=headers)
                    assert answer.status_code == 401
                    assert "penstock_" not in answer.text
            assert (await client.get("/metrics", headers={**BEARER, "host": "evil.test"})).status_code == 403
            assert (await client.post("/metrics", headers=BEARER)).status_code == 405
            assert (await client.get("/metrics/", headers=BEARER)).status_code == 404
            answer = await client.get("/metrics?x=1", headers=BEARER)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == CONTENT_TYPE
            assert answer.headers["cache-control"] == "no-store"
            assert (await client.head("/metrics", headers=BEARER)).content == b""
        await listener.stop()

    asyncio.run(main())


def test_what_is_now() -> None:
    counters = Counters(written=10, spilled=5, failures=6, refused=8, late_settles=2)
    now = Readings(
        exchanges_open=lambda: 3, client_connections=lambda: 4, upstream_open=lambda: 7, upstream_idle=lambda: 2, upstream_dialing=lambda: 1,
        ledger_queued=lambda: 9, ledger_torn=lambda: 1, ledger_counters=lambda: counters, log_dropped=lambda: 11)  # fmt: skip
    found = parse(asyncio.run(scrape(deps(readings=now))).text)
    assert found["penstock_info", frozenset({("version", "1.2.3"), ("instance", "i1")})] == 1
    told = {name: value for (name, labels), value in found.items() if not labels and name.startswith("penstock_")}
    assert told == {
        "penstock_draining": 0, "penstock_ledger_failing": 1, "penstock_exchanges_open": 3, "penstock_client_connections": 4,
        "penstock_ledger_queue_length": 9, "penstock_ledger_rows_written_total": 10, "penstock_ledger_rows_spilled_total": 5,
        "penstock_ledger_rows_drained_total": 0, "penstock_ledger_failures_total": 6, "penstock_ledger_refused_total": 8,
        "penstock_ledger_late_settles_total": 2, "penstock_ledger_crashed_total": 0, "penstock_ledger_torn_lines_total": 1,
        "penstock_log_dropped_lines_total": 11,
    }  # fmt: skip
    assert [at(found, "penstock_upstream_connections", state=state) for state in ("in_use", "idle", "dialing")] == [5, 2, 1]
    assert at(found, "process_start_time_seconds") == 1_700_000_000.5
    assert at(found, "process_cpu_seconds_total") > 0


def settled(ending: Ending = Ending.COMPLETE, **values: Any) -> Entry:
    entry = Entry("px-1", 0.0)
    entry.provider, entry.client_protocol, entry.operation, entry.streamed, entry.duration_ms = "a", "openai_chat", "chat", True, 12.0
    for name, value in values.items():
        setattr(entry, name, value)
    entry.settle(Outcome(ending, "why", EndedBy.UPSTREAM), 1.0)
    return entry


def test_counts_and_histograms_are_read_back_as_they_were_counted() -> None:
    metrics = Metrics(("a",))
    metrics.note([settled(ttft_ms=ms, input_tokens=3) for ms in (1.0, 70.0, 1_000_000.0)])
    found = parse(asyncio.run(scrape(deps(metrics.families))).text)
    ours = {(f.name + s.suffix, frozenset(s.labels)): s.value for f in metrics.families() for s in f.samples}
    assert ours.items() <= found.items()
    assert at(found, "penstock_ttft_seconds_bucket", le="+Inf") == at(found, "penstock_ttft_seconds_count") == 3


def test_no_word_of_a_client_becomes_a_label() -> None:
    metrics = Metrics(("a",))
    word = "a-clients-own-word"
    metrics.note([settled(ending, model=word, requested_model=word, provider=word, path=word, client_protocol=word, operation=word,
                          error_type=word, key_fingerprint=word) for ending in Ending])  # fmt: skip
    assert word not in asyncio.run(scrape(deps(metrics.families))).text


@example('",m="x', '\\n"', 0.0)
@example("\\", "\n\\", 1e300)
@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_any_text_in_a_label_or_a_help_is_read_back(label: str, help: str, value: float) -> None:
    text = write(Family("x", "gauge", help, [Sample("", (("l", label), ("m", "")), value), Sample("", (), 1)]))
    # Only a line feed ends a line of the format; the parser is fed line by line as it splits them itself.
    assert text.count("\n") == 4
    (family,) = text_string_to_metric_families(text)
    assert [(s.labels, s.value) for s in family.samples] == [({"l": label, "m": ""}, value), ({}, 1.0)]


CHUNK: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
END: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 5, "completion_tokens": 7}}  # fmt: skip
BODY = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 11, "completion_tokens": 13},
                   "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}).encode()  # fmt: skip


def frame(data: Any) -> bytes:
    return chunk(b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n")


STREAM = [Do.READ, SSE_HEAD, frame(CHUNK), frame(END), frame(b"[DONE]"), LAST_CHUNK]
SCRIPTS = (
    STREAM, STREAM, [Do.READ, whole(BODY)], [Do.READ, SSE_HEAD, frame(CHUNK), LAST_CHUNK], [Do.READ, SSE_HEAD, frame(CHUNK), Do.FLUSH, Do.RESET],
    [Do.READ, whole(b'{"error":{"message":"slow down"}}', 429)], [Do.READ, SSE_HEAD, frame(CHUNK), Do.WAIT_FOR_CLIENT],
)  # fmt: skip
QUESTION: dict[str, Any] = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}


async def play(running: Running) -> None:
    """One exchange for each script, one that is refused, one of the demo; the last of the scripts' is left by its client."""
    for number in range(len(SCRIPTS) - 1):
        await ask(running.port, "POST", "/v1/chat/completions", {"model": "m", "messages": []} if number == 2 else QUESTION)
    await ask(running.port, "POST", "/v1/nothing/of/ours", {})
    await ask(running.port, "POST", "/v1/chat/completions", {**QUESTION, "model": "demo"})
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(request("POST", "/v1/chat/completions", json.dumps(QUESTION).encode()))
    await reader.readuntil(b"Hi")
    writer.close()
    await running.quiet()


@pytest.mark.parametrize("level", ["info", "error"])
def test_the_counts_are_those_of_the_ledger(tmp_path: Path, level: Any) -> None:
    async def main() -> None:
        server = ScriptedServer(*SCRIPTS)
        port = await server.start()
        # Without tries after the first, and with nothing said for us, so that each question plays one script.
        async with gateway(tmp_path, {"openai": providers_at(port)["openai"]}) as running:
            app = running.app
            metrics = Metrics(("openai", "demo"))
            out = io.StringIO()
            log = Log(out, replace(app.log.settings, level=level), metrics)
            log.start()
            app.gateway.on_settled = log.note
            await play(running)
            rows = await running.rows()
            log.close()
            text = (await scrape(deps(metrics.families))).text
        server.close()

        found = parse(text)
        exchanges = {key[1]: value for key, value in found.items() if key[0] == "penstock_exchanges_total"}
        told: Counter[tuple[str, ...]] = Counter()
        for labels, value in exchanges.items():
            by = dict(labels)
            told[by["provider"], by["protocol"], by["outcome"], by["ended_by"]] += int(value)
        names = ("provider", "client_protocol", "outcome", "ended_by")
        assert told == Counter(tuple(row[name] or "none" for name in names) for row in rows)
        assert {row["outcome"] for row in rows} == {"COMPLETE", "TRUNCATED", "UPSTREAM_LOST", "UPSTREAM_ERROR", "CLIENT_GONE", "REFUSED"}
        for outcome, cause in (("TRUNCATED", "after_content"), ("UPSTREAM_LOST", "after_content"), ("UPSTREAM_ERROR", "status_429"),
                               ("CLIENT_GONE", "after_content"), ("REFUSED", "status_404")):  # fmt: skip
            assert at(found, "penstock_exchanges_total", outcome=outcome, cause=cause) == 1
        for direction in ("input", "output", "cache_read", "cache_write", "reasoning"):
            sums = {name: sum(row[f"{direction}_tokens"] or 0 for row in rows if row["provider"] == name) for name in ("openai", "demo")}
            assert {name: at(found, "penstock_tokens_total", provider=name, direction=direction) for name in sums} == sums
        assert at(found, "penstock_tokens_total", provider="openai", direction="input") == 21
        for way in ("in", "out"):
            assert at(found, "penstock_bytes_total", direction=way) == sum(row[f"bytes_{way}"] or 0 for row in rows)
        streams = [row for row in rows if row["streamed"]]
        assert at(found, "penstock_ttft_seconds_count") == len([row for row in streams if row["ttft_ms"] is not None]) >= 6
        assert at(found, "penstock_largest_gap_seconds_count") == len(streams)
        assert at(found, "penstock_duration_seconds_count") == len(rows)
        assert at(found, "penstock_retries_total") == sum(row["retries"] or 0 for row in rows)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        assert [(line["id"], line["outcome"]) for line in lines] == ([(row["id"], row["outcome"]) for row in rows] if level == "info" else [])

    run(main())
