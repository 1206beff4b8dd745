"""No secret leaves the house: whatever goes wrong, none stands in what was printed, logged, kept or answered. Real processes, real sockets."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.support.needs import lacking
from tests.support.operator import Operator, Provider, ask, free_port

PART = "SenTineL"
"""Stands in every secret of this file, so that one search finds them all."""
OURS = {
    "OPENAI_API_KEY": f"sk-proj-{PART}0openai0aBcDeFgHiJkLmNoPqRsTuVw",
    "ANTHROPIC_API_KEY": f"sk-ant-api03-{PART}0anthropic0aBcDeFgHiJkLmNo",
    "GEMINI_API_KEY": f"AIza{PART}0gemini0aBcDeFgHiJkLmNoPqRs",
}
TOKEN = f"{PART}-of-the-gateway-0123456789abcdef0123"
CLIENTS = (f"sk-{PART}0client0aBcDeFgHiJkLmNoPqRsTuVw", f"sk-ant-oat01-{PART}0login0aBcDeFg", f"{PART}0f3b2c1d4e5f60718293a4b5c6d7e8f9")
CHAT = b'{"model":"m","stream":true,"messages":[]}'


def kept(operator: Operator) -> dict[str, bytes]:
    """Everything that the gateway wrote into its data directory but the tokens, whose files are for that."""
    return {str(path): path.read_bytes() for path in operator.data.rglob("*") if path.is_file() and path.name not in ("token", "admin.token")}


def leaks(operator: Operator, *answers: bytes) -> list[str]:
    """Where a secret stands."""
    said = "\n".join([*operator.said, operator.run("exchanges", "--json", "--last", "1000").out, operator.run("exchanges").out])
    for by in ("model", "provider", "day", "outcome", "operation"):
        said += operator.run("usage", "--by", by).out + operator.run("usage", "--json", "--by", by).out
    found = [line for line in said.splitlines() if PART in line]
    found += [name for name, content in kept(operator).items() if PART.encode() in content]
    return found + [answer.decode("latin-1") for answer in answers if PART.encode() in answer]


def test_neither_keys_nor_tokens_nor_queries_are_shown_whatever_the_ending(operator: Operator, provider: Provider) -> None:
    base = provider.base.removesuffix("/v1")
    bases = {"OPENAI_BASE_URL": f"{base}/v1", "ANTHROPIC_BASE_URL": base, "GOOGLE_GEMINI_BASE_URL": base}
    answers: list[bytes] = []
    with operator.serve("--token", TOKEN, env={**OURS, **bases}) as gateway:
        def send(method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> None:
            answers.append(gateway.ask(method, path, body, {"x-penstock-token": TOKEN, **(headers or {})}).raw)

        # What a provider says may quote the key that it was sent; to the client it goes as it is, to the ledger it must not.
        for secret in (*OURS.values(), *CLIENTS):
            for status, kind, body in [
                (401, "application/json", json.dumps({"error": {"message": f"Incorrect API key provided: {secret}.", "code": "invalid_api_key"}})),
                (400, "application/json", json.dumps({"error": {"message": f"header authorization: Bearer {secret} is bad", "type": "x"}})),
                (500, "text/plain", f"GET /v1/x?key={secret} failed"),
                (200, "text/event-stream", f'event: error\ndata: {json.dumps({"error": {"message": f"no such api key: {secret}"}})}\n\n'),
            ]:  # fmt: skip
                provider.answer = (status, {"content-type": kind}, body.encode())
                gateway.ask("POST", "/v1/chat/completions", CHAT, {"x-penstock-token": TOKEN})
                gateway.ask("POST", "/v1/messages", b'{"model":"m","stream":true,"max_tokens":1,"messages":[]}', {"x-penstock-token": TOKEN})
        provider.answer = (200, {"content-type": "application/json"}, b"{}")
        for secret in (*CLIENTS, TOKEN):
            for headers in (
                {"authorization": f"Bearer {secret}"}, {"x-api-key": secret}, {"x-goog-api-key": secret}, {"api-key": secret},
                {"authorization": f"Basic {secret}"}, {"proxy-authorization": f"Bearer {secret}"}, {"cookie": f"session={secret}"},
            ):  # fmt: skip
                send("POST", "/v1/chat/completions", CHAT, headers)
            for path in ("/v1beta/models/m:generateContent", "/v1beta/models", "/openai/v1/files", "/nothing/there", "/v1/messages", "/health"):
                send("POST", f"{path}?key={secret}", b"{}")
                send("GET", f"{path}?alt=sse&key={secret}&access_token={secret}")
            gateway.ask("GET", "/v1/models", None, {"authorization": f"Bearer {secret}x"})  # a wrong token
            answers.append(gateway.ask("GET", f"/v1/models?key={secret}x").raw)
            send("POST", "/v1/chat/completions", b'{"model": not json', {"authorization": f"Bearer {secret}"})
            with socket.create_connection(("127.0.0.1", gateway.port), 10) as plain:
                lines = [f"GET /v1/models?key={secret} HTTP/1.1", "host: localhost", f"authorization: Bearer {secret}", "bad header", "", ""]
                plain.sendall("\r\n".join(lines).encode())
                answers.append(plain.recv(65536))
            answers.append(ask(gateway.admin, "GET", f"/api/usage?token={secret}&by={secret}", None, {"authorization": f"Bearer {secret}"}).raw)
        gateway.end()
    rows = operator.exchanges("--last", "1000")
    assert len(rows) > 50
    assert any("***" in str(row["error_message"]) for row in rows), "providers' words are kept, without the key in them"
    assert not leaks(operator, *answers)
    assert any(PART in str(seen.headers) for seen in provider.seen), "the providers did get their keys"


def test_nor_when_a_provider_cannot_be_reached_or_a_proxy_has_a_login(operator: Operator) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    answers: list[bytes] = []
    for env in (
        {"OPENAI_BASE_URL": f"{gone}/v1", "GOOGLE_GEMINI_BASE_URL": gone},
        {"OPENAI_BASE_URL": "http://llm.example/v1", "HTTP_PROXY": f"http://user:{PART}@{gone[7:]}", "http_proxy": f"http://user:{PART}@{gone[7:]}"},
        {"HTTPS_PROXY": f"http://user:{PART}@{gone[7:]}"},
        {"HTTPS_PROXY": f"http://{PART}:{PART}@proxy.invalid:8080"},
        {"HTTPS_PROXY": f"socks9://user:{PART}@proxy.invalid:8080"},
    ):  # fmt: skip
        with operator.serve(env={**OURS, **env}) as gateway:
            answers.append(gateway.ask("POST", "/v1/chat/completions", CHAT, {"authorization": f"Bearer {CLIENTS[0]}"}).raw)
            answers.append(gateway.ask("POST", f"/v1beta/models/m:generateContent?key={CLIENTS[2]}", b"{}").raw)
            answers.append(gateway.ask("GET", "/v1/models").raw)
            gateway.end()
    rows = operator.exchanges()
    assert {row["outcome"] for row in rows if row["method"] == "POST"} == {"UPSTREAM_LOST"}
    assert not leaks(operator, *answers)


def test_nor_in_what_is_said_of_a_wrong_configuration(operator: Operator) -> None:
    file = operator.home / "wrong.yaml"
    key = OURS["OPENAI_API_KEY"]
    for text in (
        f"providers:\n  openai: {{protocol: openai, base_url: 'https://user:{PART}@h/v1', api_key: '{key}'}}\n",
        f"providers:\n  openai: {{protocol: openai, base_url: 'https://h/v1?key={PART}', api_key: '{key}'}}\n",
        f"providers:\n  openai: {{protocol: openai, api_key: '{key} {key}'}}\n", f"providers:\n  openai: {{protocol: openai, apikey: '{key}'}}\n",
        f"providers:\n  {key}: {{protocol: openai}}\n", f"providers:\n  openai: {{protocol: '{key}'}}\n",
        f"providers:\n  openai: {{protocol: openai, auth: '{key}', headers: {{authorization: 'Bearer {key}'}}}}\n",
        f"providers:\n  openai: {{protocol: openai, api_key_file: {file}.key}}\n", f"token: [{TOKEN}]\n", f"token: '{TOKEN} x'\n",
        f"listen: '{key}'\n", f"routes: [{{model: x, provider: {key}}}]\n", f"ledger: {{url: 'mysql://user:{PART}@h/db'}}\n",
        f"providers:\n  '{key}\n",
    ):  # fmt: skip
        file.write_text(text)
        (operator.home / "wrong.yaml.key").write_text(f"{key}\n{key}\n")
        done = operator.run("check", str(file))
        assert done.code == 2, text
        assert PART not in done.out + done.err, text
    for variable in ("OPENAI_API_KEY", "PENSTOCK_TOKEN", "OPENAI_BASE_URL", "PENSTOCK_LISTEN", "PENSTOCK_LEDGER_URL"):
        done = operator.run("check", env={variable: f"{key} {key}"})
        assert (done.code, PART in done.out + done.err) == (2, False), variable
    assert PART not in operator.run("serve", "--token", f"{key} x").err


def test_nor_in_what_is_said_of_a_ledger_that_is_not_there(operator: Operator) -> None:
    url = f"postgresql://user:{PART}@127.0.0.1:{free_port()}/db"
    for command in (("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"), ("usage",), ("exchanges",)):
        done = operator.run(*command, env={"PENSTOCK_LEDGER_URL": url})
        assert done.code == 1
        assert PART not in done.out + done.err
        assert "Traceback" not in done.err


def test_a_process_shows_its_keys_to_nobody_else(operator: Operator) -> None:
    if not Path("/proc/self").is_dir():
        lacking("no /proc here")
    with operator.serve(env=OURS, anew=True) as gateway:
        assert PART not in Path(f"/proc/{gateway.process.pid}/cmdline").read_text()
