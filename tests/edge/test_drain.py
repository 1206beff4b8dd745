"""A gateway that is told to stop while two hundred streams run: those that end within `drain` arrive whole, the others end in their protocol's
words, each has its row, and the process leaves with 0."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

from penstock.lab.scripted import SSE_HEAD, Do, ScriptedServer, chunk, whole
from tests.support.asking import nobody
from tests.support.corpus import Case, cases
from tests.support.endings import LATE_S, check_body, check_words
from tests.support.gateway import providers_at, run
from tests.support.http import Answer, ask, read_answer, request
from tests.support.process import Process, rows_in, serving, spilled_in
from tests.support.storm import Fate, scatter, storming
from tests.support.verdicts import by_plan, check_answer, check_row

STREAMS = 200
DRAIN_S = 4.0
LASTING = 2.0
"""Seconds that a stream takes which ends by itself: less than the drain, on a busy machine, too."""
BUSY_S = 5.0
"""What this machine may take from a timer while it plays provider, gateway and two hundred clients."""
AT_ONCE_S = 2.0


@asynccontextmanager
async def draining(directory: Path, port: int, drain: float, more: Mapping[str, Any] | None = None) -> AsyncGenerator[tuple[Process, int]]:
    """A gateway, and the port of its admin plane."""
    admin = nobody()
    settings = {"admin": f"127.0.0.1:{admin}", "timers": {"drain": drain}, "keepalive": "off", "early_head": "off", **(more or {})}
    async with serving(directory, providers_at(port), settings) as gateway:
        yield gateway, admin


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def turned_away(gateway: Process, admin: int) -> None:
    """Wait until nobody listens on the data plane; by then, and from the first refusal on, the admin plane has said that it is not ready."""
    async with asyncio.timeout(10):
        while not await refused(gateway.port):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await not_ready(admin)


async def not_ready(admin: int) -> None:
    ready = await ask(admin, "GET", "/ready")
    assert (ready.status, ready.json()["reasons"], ready.header("retry-after")) == (503, ["draining"], "1")
    assert (await ask(admin, "GET", "/health")).status == 200


def test_two_hundred_streams(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(11), STREAMS, [Fate.COMPLETE, Fate.RUNNING], lasting=LASTING)
        async with storming(plans) as (storm, port), draining(tmp_path, port, DRAIN_S) as (gateway, admin):
            loop = asyncio.get_running_loop()
            assert (await ask(admin, "GET", "/ready")).status == 200
            clients = storm.begin(gateway.port)
            await asyncio.gather(*(plan.arrived.wait() for plan in plans))
            told = loop.time()
            gateway.signal(signal.SIGTERM)
            await turned_away(gateway, admin)
            assert any(plan.over_at is None for plan in storm[Fate.COMPLETE]), "the stop came too late to show anything"
            await storm.over(storm[Fate.COMPLETE])
            # Whoever goes on is waited for, up to its time and no longer.
            assert not any(plan.over_at for plan in storm[Fate.RUNNING])
            await not_ready(admin)
            assert await refused(gateway.port)
            await asyncio.gather(*clients)
            assert await gateway.ended() == 0, gateway.stderr
            rows = by_plan(rows_in(gateway.data_dir))
            assert len(rows) == STREAMS
            for plan in storm[Fate.COMPLETE]:
                check_answer(plan)
                check_row(rows[plan.model], plan, "COMPLETE")
            for plan in storm[Fate.RUNNING]:
                assert (plan.status, plan.clean) == (200, True), plan.model
                before = plan.case.body[: plan.at]
                assert bytes(plan.body[: plan.at]) == before
                check_words(plan.case.recording.protocol, before, bytes(plan.body[plan.at :]), rows[plan.model]["id"])
                check_row(rows[plan.model], plan, "SHUTDOWN")
                assert rows[plan.model]["ended_by"] == "gateway"
                assert plan.over_at is not None
                assert DRAIN_S - 0.1 <= plan.over_at - told <= DRAIN_S + LATE_S + BUSY_S
            assert not spilled_in(gateway.data_dir)
            assert "Traceback" not in gateway.stderr

    run(main())


def test_a_second_signal_ends_all_of_them_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(12), STREAMS, [Fate.RUNNING, Fate.GONE_WAITING], lasting=0.5)
        waiting = [plan for plan in plans if plan.fate is Fate.GONE_WAITING]
        for plan in waiting:  # these stay, and wait for a head that never comes
            plan.case = next(case for case in _one_of_each() if case.recording.protocol == plan.case.recording.protocol)
        async with storming([plan for plan in plans if plan.fate is Fate.RUNNING]) as (storm, port):
            storm.plans |= {plan.number: plan for plan in waiting}
            async with draining(tmp_path, port, 60.0) as (gateway, admin):
                loop = asyncio.get_running_loop()
                running = storm.begin(gateway.port, storm[Fate.RUNNING])
                held = [asyncio.create_task(_asked(gateway.port, plan.question()), name=plan.model) for plan in waiting]
                async with asyncio.timeout(20):
                    await asyncio.gather(*(plan.arrived.wait() for plan in plans))
                    while not all(len(plan.body) == plan.at for plan in storm[Fate.RUNNING]):  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                gateway.signal(signal.SIGTERM)
                await turned_away(gateway, admin)
                second = loop.time()
                gateway.signal(signal.SIGTERM)
                answers = await asyncio.gather(*held)
                await asyncio.gather(*running)
                assert await gateway.ended() == 0, gateway.stderr
                assert loop.time() - second < AT_ONCE_S
                rows = by_plan(rows_in(gateway.data_dir))
                assert len(rows) == STREAMS
                assert {row["outcome"] for row in rows.values()} == {"SHUTDOWN"}
                for plan, answer in zip(waiting, answers, strict=True):
                    assert (answer.status, answer.clean, rows[plan.model]["status"]) == (503, True, 503)
                    check_body(plan.case.recording.protocol, 503, answer.json(), rows[plan.model]["id"])
                for plan in storm[Fate.RUNNING]:
                    assert plan.clean
                    check_words(plan.case.recording.protocol, plan.case.body[: plan.at], bytes(plan.body[plan.at :]), rows[plan.model]["id"])

    run(main())


def test_a_terminal_that_is_closed_ends_streams_as_any_stop_does(tmp_path: Path) -> None:
    async def main() -> None:
        plans = scatter(random.Random(13), 8, [Fate.RUNNING], lasting=0.5)
        settings = {"timers": {"drain": 0.2}}
        async with storming(plans) as (storm, port):
            with _hang_up(signal.SIG_DFL):
                gateway = await Process.start(tmp_path, providers_at(port), settings, anew=True)
            try:
                running = storm.begin(gateway.port, storm[Fate.RUNNING])
                async with asyncio.timeout(20):
                    await asyncio.gather(*(plan.arrived.wait() for plan in plans))
                gateway.signal(signal.SIGHUP)
                async with asyncio.timeout(20):
                    await asyncio.gather(*running)
                assert await gateway.ended() == 0, gateway.stderr
            finally:
                await gateway.end()
            assert {row["outcome"] for row in rows_in(gateway.data_dir)} == {"SHUTDOWN"}
            assert all(plan.clean for plan in plans)

    run(main())


def test_one_that_was_begun_with_nohup_does_not_hear_its_terminal(tmp_path: Path) -> None:
    async def main() -> None:
        with _hang_up(signal.SIG_IGN):
            gateway = await Process.start(tmp_path, providers_at(nobody()), anew=True)
        try:
            gateway.signal(signal.SIGHUP)
            for _ in range(3):
                assert (await ask(gateway.port, "GET", "/health")).status == 200
            gateway.signal(signal.SIGTERM)
            assert await gateway.ended() == 0, gateway.stderr
        finally:
            await gateway.end()

    run(main())


@contextmanager
def _hang_up(handler: signal.Handlers) -> Generator[None]:
    """What a process that is started within does with SIGHUP at first: it inherits that, and these tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _one_of_each() -> list[Case]:
    return list({case.recording.protocol: case for case in cases()}.values())


async def _asked(port: int, question: bytes) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question)
    async with asyncio.timeout(30):
        answer = await read_answer(reader)
    writer.close()
    return answer


def test_a_client_that_does_not_read_is_no_reason_to_stay(tmp_path: Path) -> None:
    """Its connection is full, so that not even the error goes out; and neither does the process wait for it for ever."""
    frame = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000)

    async def main() -> None:
        server = ScriptedServer([Do.READ, SSE_HEAD, *[chunk(frame)] * 400, Do.WAIT_FOR_CLIENT])
        async with draining(tmp_path, await server.start(), 0.5, {"timers": {"drain": 0.5, "client_stall": 2}}) as (gateway, admin):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
            writer.write(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true,"messages":[]}'))
            await reader.readuntil(b"\r\n\r\n")
            cast("asyncio.Transport", writer.transport).pause_reading()
            loop = asyncio.get_running_loop()
            told = loop.time()
            gateway.signal(signal.SIGTERM)
            await turned_away(gateway, admin)
            assert await gateway.ended(15) == 0, gateway.stderr
            assert loop.time() - told < 10
            [row] = rows_in(gateway.data_dir)
            assert (row["outcome"], row["ended_by"]) == ("SHUTDOWN", "gateway")
            assert (await server.asked(1)).lost_at is not None
            writer.close()
        server.close()

    run(main())


def test_who_reads_slowly_gets_all_of_what_has_ended(tmp_path: Path) -> None:
    """Its row is there, and half of its answer waits for it in this process."""
    body = b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"%b"}],"stop_reason":"end_turn",' % (
        b"x" * 400_000) + b'"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}'

    async def main() -> None:
        server = ScriptedServer([Do.READ, whole(body)])
        # By `force` a body leaves in one piece, and the exchange has ended with it.
        async with draining(tmp_path, await server.start(), 60.0, {"anthropic_stream_mode": "force"}) as (gateway, admin):
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", gateway.port))
            reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
            writer.write(request("POST", "/v1/messages", b'{"model":"m","max_tokens":9,"messages":[]}'))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            gateway.signal(signal.SIGTERM)
            await turned_away(gateway, admin)
            await asyncio.sleep(1.5)  # it stands still for longer than a client that is only to be closed may
            told = b""
            async with asyncio.timeout(20):
                while piece := await reader.read(65536):
                    told += piece
            assert told == body
            assert await gateway.ended() == 0, gateway.stderr
            [row] = rows_in(gateway.data_dir)
            assert row["outcome"] == "COMPLETE"
            writer.close()
        server.close()

    run(main())


def test_idle_connections_are_closed_and_running_ones_take_no_second_request(tmp_path: Path) -> None:
    async def main() -> None:
        go = asyncio.Event()
        [case] = [case for case in cases() if case.name == "openai_chat/test_dbos_agent_run_stream_0"]

        async def answer(visit: Any) -> None:
            await visit.body()
            await visit.send(SSE_HEAD + chunk(case.recording.frames[0].raw))
            await go.wait()
            await visit.send(chunk(case.body[len(case.recording.frames[0].raw) :]) + b"0\r\n\r\n")

        server = ScriptedServer(answer)
        async with draining(tmp_path, await server.start(), 60.0) as (gateway, admin):
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            idle_writer.write(request("GET", "/health"))
            assert (await read_answer(idle)).status == 200
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            path, body = case.request()
            question = request("POST", path, str(body).replace("'", '"').replace("True", "true").encode())
            writer.write(question)
            await server.asked(1)
            gateway.signal(signal.SIGTERM)
            await turned_away(gateway, admin)
            async with asyncio.timeout(5):
                assert await idle.read() == b""
            writer.write(question)
            go.set()
            first = await read_answer(reader)
            assert (first.status, first.body, first.clean) == (200, case.body, True)
            async with asyncio.timeout(5):
                second = await read_answer(reader)
                assert second.status in (0, 503), "it was told to go away, or simply left"
            assert await gateway.ended() == 0, gateway.stderr
            assert len(server.log) == 1
            for one in (writer, idle_writer):
                one.close()
        server.close()

    run(main())
