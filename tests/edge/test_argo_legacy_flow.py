"""Legacy Argo while it goes on: each piece at once, waiting clients, clients that leave, long answers, its own paths."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.lab.scripted import Do, ScriptedServer, Visit, chunk, head, whole
from tests.support.argo import BASE, CHAT, EMBED, RAW_HEAD, STREAM, TEXT, Legacy, argo, pieces
from tests.support.gateway import gateway, providers_at, run
from tests.support.http import ask, request
from tests.support.sdk import Lockstep, Mode, each_mode, openai_sdk, pages, site

ASKED: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@each_mode
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_each_piece_is_an_event_at_once(tmp_path: Path, mode: Mode, size: int) -> None:
    """The gateway sends the next piece when the client has seen this one; what is held is half a character."""

    async def main() -> None:
        steps: list[tuple[bytes, int]] = []
        came, shown = b"", ""
        for piece in pieces(TEXT, size):
            came += piece
            new = came.decode("utf-8", "ignore")
            before = steps[-1][1] if steps else 0
            steps.append((piece, before + (new != shown) + (not shown and bool(new))))  # the first with the role before it
            shown = new
        lock = Lockstep(RAW_HEAD, steps)
        async with site(tmp_path, pages({f"POST {STREAM}": lock}), argo) as here, openai_sdk(here.url, mode) as sdk:
            chunks = await sdk.many(lambda c: c.chat.completions.create(**ASKED), lock.seen)
            assert "".join(one.choices[0].delta.content or "" for one in chunks) == TEXT
            assert len(chunks) == steps[-1][1] + 1
            assert lock.waits > len(steps) // 2

    run(main())


def test_whoever_waits_for_a_whole_answer_is_kept_alive(tmp_path: Path) -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def slow(visit: Visit) -> None:
            await visit.body()
            await visit.send(head(200, "content-type: application/json", "connection: close"))
            await seen.wait()
            await visit.send(json.dumps({"response": TEXT}).encode())
            visit.close()

        more = {"early_head": "50ms", "keepalive": "50ms"}
        async with site(tmp_path, ScriptedServer(slow), lambda port: argo(port, real_stream=False), more) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request("POST", "/v1/chat/completions", json.dumps(ASKED).encode()))
            async with asyncio.timeout(10):
                got = await reader.readuntil(b": keep-alive\n\r\n")
                got += await reader.readuntil(b": keep-alive\n\r\n")
                seen.set()
                got += await reader.readuntil(b"[DONE]")
            writer.close()
            assert got.startswith(b"HTTP/1.1 200 ")
            row = await here.last_row()
            assert (row["outcome"], row["streamed"]) == ("COMPLETE", True)

    run(main())


def test_an_answer_that_fails_behind_an_early_head_is_told_in_band(tmp_path: Path) -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def slow(visit: Visit) -> None:
            await visit.body()
            await seen.wait()
            await visit.send(whole(b'{"response":null}'))

        async with site(tmp_path, ScriptedServer(slow), lambda port: argo(port, real_stream=False), {"early_head": "50ms"}) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request("POST", "/v1/chat/completions", json.dumps(ASKED).encode()))
            async with asyncio.timeout(10):
                await reader.readuntil(b": keep-alive\n\r\n")
                seen.set()
                rest = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            assert b"holds no response" in rest
            assert b"[DONE]" not in rest
            assert (await here.last_row())["outcome"] == "UPSTREAM_ERROR"

    run(main())


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("says", [b"", b"x"])
def test_a_client_that_leaves_takes_the_provider_with_it(tmp_path: Path, real: bool, says: bytes) -> None:
    async def main() -> None:
        begin = RAW_HEAD if real else head(200, "content-type: application/json", "transfer-encoding: chunked")
        upstream = ScriptedServer([Do.READ, begin, *([chunk(says)] if says else []), Do.WAIT_FOR_CLIENT])
        async with site(tmp_path, upstream, lambda port: argo(port, real_stream=real)) as here:
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request("POST", "/v1/chat/completions", json.dumps(ASKED).encode()))
            asked = await upstream.asked(1)
            await asked.arrived.wait()
            writer.close()
            async with asyncio.timeout(5):
                await asked.over.wait()
            row = await here.last_row()
            assert row["outcome"] == "CLIENT_GONE"
            assert here.running.app.gateway.held.used == 0

    run(main())


def test_a_long_answer_goes_in_portions_as_the_client_takes_them(tmp_path: Path) -> None:
    text = "word " * 200_000

    async def main() -> None:
        upstream = ScriptedServer([Do.READ, whole(json.dumps({"response": text}).encode())])
        async with site(tmp_path, upstream, lambda port: argo(port, real_stream=False)) as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=1 << 16)
            writer.write(request("POST", "/v1/chat/completions", json.dumps(ASKED).encode()))
            held = here.running.app.gateway.held
            got = 0
            tail = b""
            async with asyncio.timeout(50):
                while b"[DONE]" not in tail:
                    piece = await reader.read(1 << 16)
                    assert piece
                    got += len(piece)
                    tail = (tail + piece)[-64:]
                    if got < 1 << 20:
                        await asyncio.sleep(0)  # the client is slower than the gateway, which must wait for it
            writer.close()
            row = await here.last_row()
            assert row["outcome"] == "COMPLETE"
            assert got > row["bytes_out"] > 20 * len(text)
            assert held.used == 0

    run(main())


def test_a_whole_answer_has_a_limit(tmp_path: Path) -> None:
    async def main() -> None:
        upstream = ScriptedServer([Do.READ, whole(json.dumps({"response": "x" * 5000}).encode())])
        more = {"limits": {"max_frame": 2048}}
        async with site(tmp_path, upstream, lambda port: argo(port, real_stream=False), more) as here:
            answer = await ask(here.port, "POST", "/v1/chat/completions", ASKED)
            assert (answer.status, "2048 bytes" in answer.json()["error"]["message"]) == (502, True)
            row = await here.last_row()
            assert (row["outcome"], row["ended_by"]) == ("CUT", "gateway")
            assert here.running.app.gateway.held.used == 0

    run(main())


@pytest.mark.parametrize("real", [True, False])
def test_gzip_that_nobody_asked_for(tmp_path: Path, real: bool) -> None:
    async def main() -> None:
        data = gzip.compress(TEXT.encode() if real else json.dumps({"response": TEXT}).encode())
        lines = "content-type: text/plain" if real else "content-type: application/json", "content-encoding: gzip"
        upstream = ScriptedServer([Do.READ, whole(data, 200, *lines)], [Do.READ, whole(data[:-9], 200, *lines)])
        async with site(tmp_path, upstream, lambda port: argo(port, real_stream=real)) as here:
            async with openai_sdk(here.url, "async") as sdk:
                chunks = await sdk.many(lambda c: c.chat.completions.create(**ASKED))
                assert "".join(one.choices[0].delta.content or "" for one in chunks) == TEXT
            cut = await ask(here.port, "POST", "/v1/chat/completions", ASKED)
            assert b"[DONE]" not in cut.body
            assert (await here.last_row())["outcome"] == "UPSTREAM_LOST"

    run(main())


def test_its_own_bodies_pass_as_they_are(tmp_path: Path) -> None:
    """But for who asks, and the model's id."""

    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here:
            raw = b'{ "model":"argo:gpt-4o", "system" : "s", "prompt":["\\u00e9"], "x": 1.50}'
            answer = await ask(here.port, "POST", "/v1/chat", raw=raw)
            assert answer.json() == {"response": TEXT}
            sent = here.last_asked().body
            assert sent.count(b'"user":"ada",') == 1
            assert sent.replace(b'"user":"ada",', b"") == raw.replace(b"argo:gpt-4o", b"gpt4o")
            answer = await ask(here.port, "POST", "/v1/chat", {"user": "mallory", "model": "gpt4o", "messages": [], "stream": True})
            assert (answer.header("content-type"), answer.body.decode()) == ("text/plain; charset=utf-8", TEXT)
            assert json.loads(here.last_asked().body) == {"user": "ada", "model": "gpt4o", "messages": [], "stream": True}
            answer = await ask(here.port, "POST", "/argo/v1/embed", {"model": "v3small", "prompt": ["hi"]})
            assert answer.json() == {"embedding": [[0.5, -0.25, 2.0]]}
            assert upstream.paths() == [CHAT, STREAM, EMBED]
            for wrong in (b"[1]", b"nothing", b""):
                answer = await ask(here.port, "POST", "/v1/chat", raw=wrong)
                assert (answer.status, "error" in answer.json()) == (400, True)
            rows = await here.running.rows()
            assert [row["outcome"] for row in rows] == ["COMPLETE"] * 3 + ["REFUSED"] * 3

    run(main())


def test_below_its_name_it_serves_the_same_and_its_own_api(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here:
            answer = await ask(here.port, "POST", "/argo/v1/chat/completions", {**ASKED, "stream": False})
            assert answer.json()["choices"][0]["message"]["content"] == TEXT
            own = {"user": "eve", "model": "gpt4o", "prompt": ["hi"]}
            answer = await ask(here.port, "POST", f"/argo{CHAT.removeprefix(BASE)}", own, {"authorization": "Bearer x"})
            assert answer.json() == {"response": TEXT}
            assert json.loads(here.last_asked().body) == own
            assert all(name.lower() != "authorization" for name, _ in here.last_asked().headers)
            assert upstream.paths() == [CHAT, CHAT]

    run(main())


@pytest.mark.parametrize(("guard", "status"), [({}, 403), ({"on": ["request"]}, 200), ({"on_error": "open"}, 200), ({"action": "audit"}, 200)])
def test_what_no_guard_can_read_is_no_way_around_a_guard(tmp_path: Path, guard: dict[str, Any], status: int) -> None:
    async def main() -> None:
        guards = {"guards": [{"name": "house", "words": ["wörld"], "action": "reject", **guard}]}
        async with site(tmp_path, upstream := Legacy(), argo, guards) as here:
            for path in ("/v1/chat", "/argo/v1/chat", f"/argo{CHAT.removeprefix(BASE)}", f"/argo{STREAM.removeprefix(BASE)}"):
                for stream in (True, False):
                    answer = await ask(here.port, "POST", path, {"user": "ada", "model": "gpt4o", "prompt": ["hi"], "stream": stream})
                    assert answer.status == status, path
                    assert ("wörld" in answer.body.decode() or "w\\u00f6rld" in answer.body.decode()) == (status == 200)
            assert len(upstream.paths()) == (0 if status == 403 else 8)
            counted = [json.loads(row["findings"] or "[]") for row in await here.running.rows()]
            if "on_error" in guard:
                assert counted == [[{"guard": "house", "action": "let_go", "where": "response", "hits": 1}]] * 8
            else:
                assert not [one for found in counted for one in found if one["action"] == "let_go"]
            if status == 403:
                row = (await here.running.rows())[-1]
                assert (row["outcome"], row["rule"]) == ("REFUSED", "house")
                assert row["cause"] == "guard 'house' rejected the request: its answer would be in Argo's own words, which nobody here reads"
            assert (await ask(here.port, "POST", "/v1/embed", {"model": "v3small", "prompt": ["hi"]})).status == 200
            assert (await ask(here.port, "GET", "/argo/api/v1/models/")).status == 200

    run(main())


def test_without_such_a_provider_its_paths_are_nobodys(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway(tmp_path, providers_at(9)) as running:
            for path in ("/v1/chat", "/v1/embed"):
                assert (await ask(running.port, "POST", path, {"model": "x"})).status == 404

    run(main())


def test_only_posts(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, Legacy(), argo) as here:
            answer = await ask(here.port, "GET", "/v1/chat")
            assert (answer.status, answer.header("allow")) == (405, "OPTIONS, POST")
            assert (await ask(here.port, "POST", "/v1/responses/compact", {"model": "gpt-4o", "input": "x"})).status == 404

    run(main())


def test_one_piece_a_byte_in_every_protocol(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, Legacy(size=1), argo) as here, openai_sdk(here.url, "async") as sdk:
            chunks = await sdk.many(lambda c: c.completions.create(model="gpt-4o", prompt="hi", stream=True))
            assert "".join(one.choices[0].text for one in chunks) == TEXT
            _, final = await sdk.helped(lambda c: c.responses.stream(model="gpt-4o", input="hi"), lambda s: s.get_final_response())
            assert final.output_text == TEXT

    run(main())


def test_a_model_newer_than_the_gateway_is_found_in_argo_s_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), argo) as here:
            for _ in range(2):
                answer = await ask(here.port, "POST", "/v1/chat/completions", {**ASKED, "model": "argo:claude-opus-4.1", "stream": False})
                assert answer.json()["choices"][0]["message"]["content"] == TEXT
            assert [body["model"] for body in upstream.bodies()] == ["claudeopus41"] * 2
            assert [asked.method for asked in upstream.log] == ["GET", "POST", "POST"]

    run(main())


@pytest.mark.parametrize(("path", "asks"), [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}), ("/v1/completions", {"prompt": "hi"}),
    ("/v1/responses", {"input": "hi"}),
])  # fmt: skip
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_it_is_told_again_in_the_form_that_is_asked_for(tmp_path: Path, path: str, asks: dict[str, Any], real: bool, first: bool) -> None:
    """Raw text, a stream, to who wants a body; and the other way round."""

    async def main() -> None:
        async with site(tmp_path, upstream := Legacy(), lambda port: argo(port, real_stream=real), {"dedup": "always"}) as here:
            answers = [
                await ask(here.port, "POST", path, {"model": "gpt-4o", "stream": streamed, **asks})
                for streamed in (first, not first, first, not first)
            ]
            assert [answer.header("x-penstock-replay") for answer in answers] == [None, "hit", "hit", "hit"]
            kinds = ["text/event-stream" if streamed else "application/json" for streamed in (first, not first) * 2]
            assert [answer.header("content-type") for answer in answers] == kinds
            assert (answers[0].body, answers[1].body) == (answers[2].body, answers[3].body)
            for answer in answers:
                if answer.header("content-type") == "application/json":
                    assert TEXT in json.dumps(answer.json(), ensure_ascii=False)
            assert upstream.paths() == [STREAM if real and first else CHAT]

    run(main())
