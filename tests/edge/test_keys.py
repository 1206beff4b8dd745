"""A key's life by the admin API, over real sockets and in every protocol: what it lets in, what it does not, and until when."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

from tests.edge.test_admission import PROTOCOL
from tests.edge.test_tokens import check_refusal, request_of, site, tell
from tests.support.gateway import Running, run
from tests.support.http import Answer, ask, read_answer, request

NAMES = {"chat": "openai_chat", "responses": "openai_responses", "messages": "anthropic_messages", "gemini": "gemini"}
PLACES = ("authorization", "x-api-key", "x-goog-api-key", "api-key", "x-penstock-key")


class Admin:
    """The admin API, as a program uses it."""

    def __init__(self, running: Running, directory: Path) -> None:
        found = running.app.admin
        assert found is not None
        assert found.port is not None
        self._port = found.port
        self._token = (directory / "data" / "admin.token").read_text().strip()
        self.told: list[str] = []
        """All that it has answered, but for what makes a key."""

    async def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        answer = await ask(self._port, method, "/api/" + path, body, {"authorization": f"Bearer {self._token}"})
        if answer.status >= 400 or "secret" not in answer.json():
            self.told.append(answer.body.decode())
        return answer

    async def make(self, **wanted: Any) -> tuple[str, str]:
        """Id and secret."""
        made = await self("POST", "keys", wanted)
        assert made.status == 201, made.body
        return made.json()["key"]["id"], made.json().get("secret", "")


@PROTOCOL
def test_a_key_s_life(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        async with site(tmp_path, {}) as (running, server):
            admin = Admin(running, tmp_path)

            async def status(key: str | None, model: str = "m") -> int:
                return (await tell(running.port, protocol, key, model)).status

            assert await status(None) == 200, "open, as long as there is no key"
            id, first = await admin.make(name="laptop", owner="ada", project="search", tags=["team"], expires_at=time() + 3600)
            assert (await status(first), await status(None)) == (200, 401)
            path, body, _ = request_of(protocol)
            for place in PLACES:
                shown = f"Bearer {first}" if place == "authorization" else first
                assert (await ask(running.port, "POST", path, body, {place: shown})).status == 200, place
            beside = await ask(running.port, "POST", path, body, {"x-penstock-key": first, "authorization": "Bearer sk-ant-oat01-own-login"})
            assert beside.status == 200
            second = (await admin("POST", f"keys/{id}/rotate", {"grace_seconds": 60})).json()["secret"]
            assert (await status(first), await status(second)) == (200, 200)
            third = (await admin("POST", f"keys/{id}/rotate")).json()["secret"]
            assert (await status(first), await status(second), await status(third)) == (401, 401, 200)
            assert (await admin("DELETE", f"keys/{id}")).json()["key"]["revoked_at"] is not None
            assert await status(third) == 401
            assert (await admin("POST", f"keys/{id}/rotate")).status == 400
            old = "whatever another gateway made"
            digest = sha256(old.encode()).hexdigest()
            assert (await admin("POST", "keys", {"name": "old", "sha256": digest})).status == 201
            assert (await admin("POST", "keys", {"name": "again", "sha256": digest})).status == 400
            assert (await status(old), await status(digest)) == (200, 401)
            listed = (await admin("GET", "keys")).json()["keys"]
            assert [(one["name"], one["revoked_at"] is None) for one in listed] == [("laptop", False), ("old", True)]
            said = json.dumps([[asked.target, asked.headers] for asked in server.log]) + json.dumps(await running.rows()) + "".join(admin.told)
            assert not [key for key in (first, second, third, old) if key in said], "no provider, no row, no list has a key"
            assert "own-login" in said, "the client's own login passes"

    run(main())


@PROTOCOL
def test_what_a_key_is_for(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        provider = {"messages": "anthropic", "gemini": "gemini"}.get(protocol, "openai")
        more = {"routes": [{"model": "cheap-*", "provider": provider}, {"model": "dear-*", "provider": provider}]}
        async with site(tmp_path, more) as (running, server):
            admin = Admin(running, tmp_path)
            others = [name for kind, name in NAMES.items() if kind != protocol]
            for wanted, right, wrong in (
                ({"models": ["cheap-*"]}, "cheap-1", "dear-1"), ({"routes": ["dear-*"]}, "dear-1", "cheap-1"),
                ({"protocols": [NAMES[protocol]]}, "cheap-1", None), ({"protocols": others}, None, "cheap-1"),
            ):  # fmt: skip
                id, key = await admin.make(name="scoped", **wanted)
                if right is not None:
                    assert (await tell(running.port, protocol, key, right)).status == 200
                if wrong is not None:
                    asked = len(server.log)
                    check_refusal(await tell(running.port, protocol, key, wrong), protocol, 403)
                    row = await running.last_row()
                    assert (row["outcome"], row["rule"], len(server.log)) == ("REFUSED", id, asked)
            for wanted, why in (({"limits": ["requests=1/hour"]}, "limit"), ({"budgets": ["tokens=5/total"]}, "budget")):
                _, key = await admin.make(name="bounded", **wanted)
                _, free = await admin.make(name="free")
                assert (await tell(running.port, protocol, key)).status == 200
                await running.quiet()
                refused = await tell(running.port, protocol, key)
                row = await running.last_row()
                assert (refused.status, row["outcome"], row["cause"].startswith(why)) == (429, "REFUSED", True), row["cause"]
                assert (await tell(running.port, protocol, free)).status == 200
            [spent] = (await admin("GET", "budgets")).json()["budgets"]
            assert spent["spent"] == 8

    run(main())


def test_a_key_expires_while_its_client_stays_connected(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, {}) as (running, _):
            admin = Admin(running, tmp_path)
            ends = time() + 1.5
            _, key = await admin.make(name="short", expires_at=ends)
            path, body, _ = request_of("chat")
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            seen: list[int] = []
            while not seen or seen[-1] == 200:
                writer.write(request("POST", path, json.dumps(body).encode(), {"authorization": f"Bearer {key}"}))
                seen.append((await read_answer(reader)).status)
                assert time() < ends + 5.0
                await asyncio.sleep(0.05)
            assert seen[0] == 200
            assert seen[-1] == 401
            assert time() >= ends
            writer.close()

    run(main())

