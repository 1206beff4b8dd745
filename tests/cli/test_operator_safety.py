"""Safe from the start, as the person who runs Penstock and whoever attacks them see it. Real processes, real sockets."""

from __future__ import annotations

import json
import re
import socket

import pytest

from tests.support.operator import ASK, Operator, Provider, ask, free_port

EVIL = {"origin": "https://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class TestHost:
    def test_only_our_own_names_are_answered_on_both_planes(self, operator: Operator) -> None:
        with operator.serve(env={"PENSTOCK_HOSTS": "gate.example, *.lan.example"}) as gateway:
            token = bearer(operator.token())
            for host, status in [
                ("localhost", 200), (f"localhost:{gateway.port}", 200), ("127.0.0.1", 200), ("[::1]:1", 200), ("app.localhost", 200),
                ("gate.example", 200), ("GATE.example:80", 200), ("a.lan.example", 200),
                ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403), ("lan.example", 403),
                ("gate.example.evil.example", 403), ("10.0.0.1", 403), ("0.0.0.0", 403),
            ]:  # fmt: skip
                for port, method, path in [
                    (gateway.port, "GET", "/v1/models"), (gateway.port, "OPTIONS", "/v1/messages"), (gateway.admin, "GET", "/health"),
                    (gateway.admin, "GET", "/api/usage"),
                ]:  # fmt: skip
                    found = ask(port, method, path, None, {"host": host, **token}).status
                    assert found == (204 if status == 200 and method == "OPTIONS" else status), (host, method, path)

    def test_a_request_without_a_host_or_with_two_is_refused(self, operator: Operator) -> None:
        with operator.serve() as gateway:
            for port, path in ((gateway.port, "/v1/models"), (gateway.admin, "/health")):
                for hosts in ("", "host: localhost\r\nhost: evil.example\r\n", "host:\r\n"):
                    with socket.create_connection(("127.0.0.1", port), 10) as plain:
                        plain.sendall(f"GET {path} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n".encode())
                        assert plain.recv(12)[9:] in (b"400", b"403"), (port, hosts)


class TestOtherOrigins:
    def test_no_answer_lets_another_origin_read_it(self, operator: Operator, provider: Provider) -> None:
        lax = {"access-control-allow-origin": "*", "Access-Control-Allow-Headers": "*"}
        provider.answer = (200, {"content-type": "application/json", **lax}, b"{}")
        with operator.serve(env={"OPENAI_BASE_URL": provider.base, "OPENAI_API_KEY": "sk-ours"}) as gateway:
            token = bearer(operator.token())
            answers = [gateway.ask(method, path, body, EVIL) for method, path, body in [
                ("OPTIONS", "/v1/chat/completions", None), ("OPTIONS", "/v1/models", None), ("OPTIONS", "/openai/v1/x", None),
                ("OPTIONS", "/x", None),
                ("POST", "/v1/chat/completions", ASK), ("POST", "/v1/chat/completions", b'{"model":"m","messages":[]}'), ("GET", "/v1/models", None),
                ("GET", "/openai/v1/files", None), ("GET", "/nothing", None), ("DELETE", "/v1/messages", None), ("GET", "/health", None),
            ]]  # fmt: skip
            answers += [ask(gateway.admin, method, path, None, {**EVIL, **token}) for method in ("OPTIONS", "GET", "POST") for path in (
                "/health", "/ready", "/api/usage", "/api/exchanges", "/x",
            )]  # fmt: skip
            assert provider.seen, "a provider's answer was among them"
            names = {name.lower() for answer in answers for name, _ in answer.headers}
            assert not {name for name in names if name.startswith("access-control-")}

    def test_the_origin_of_a_page_does_not_go_upstream(self, operator: Operator, provider: Provider) -> None:
        with operator.serve(env={"OPENAI_BASE_URL": provider.base}) as gateway:
            gateway.ask("POST", "/v1/chat/completions", b'{"model":"m"}', {**EVIL, "referer": "https://evil.example/", "cookie": "a=b"})
        assert not {"origin", "referer", "cookie"} & set(provider.seen[0].headers)


class TestTheAdminToken:
    def test_it_is_made_once_and_the_api_wants_it(self, operator: Operator) -> None:
        with operator.serve() as gateway:
            token = operator.token()
            assert token not in gateway.banner + gateway.log
            gateway.chat()
            for headers in ({}, bearer("x" * 43), {"authorization": token}, {"cookie": f"token={token}"}, {"x-penstock-token": token}):
                for path in ("/api/usage", "/api/exchanges", f"/api/exchanges?token={token}", "/api/nothing"):
                    answer = ask(gateway.admin, "GET", path, None, headers)
                    assert answer.status == 401
                    assert token.encode() not in answer.raw
            assert ask(gateway.admin, "GET", "/health").status == ask(gateway.admin, "GET", "/ready").status == 200
            answer = ask(gateway.admin, "GET", "/api/exchanges?last=1", None, bearer(token))
            assert (answer.status, list(json.loads(answer.body))) == (200, ["exchanges"])
            assert gateway.ask("GET", "/api/usage", None, bearer(token)).status == 404, "the data plane knows nothing of it"
        with operator.serve():
            assert operator.token() == token

    def test_a_damaged_one_is_said_in_a_sentence(self, operator: Operator) -> None:
        operator.data.mkdir(parents=True)
        (operator.data / "admin.token").write_text("short\n")
        done = operator.run("serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        assert done.code == 1
        assert "admin.token is damaged; remove the file" in done.err
        assert "Traceback" not in done.err


class TestListeningToOthers:
    def test_with_a_key_and_no_token_it_is_refused_with_what_to_do(self, operator: Operator) -> None:
        for name, value in (("OPENAI_API_KEY", "sk-ours"), ("GEMINI_API_KEY", "AIza-ours")):
            for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:4270"):
                done = operator.run("serve", "--listen", listen, "--admin", "127.0.0.1:0", env={name: value})
                assert done.code == 2
                assert "--token auto" in done.err
                assert value not in done.err
                assert not operator.data.exists()

    def test_with_a_token_or_where_it_is_said_it_is_not(self, operator: Operator) -> None:
        assert operator.run("serve", "--listen", "0.0.0.0:0").code == 2, "not even without a key to spend"
        file = operator.home / "open.yaml"
        file.write_text("admission: {open: true}\n")
        with operator.serve("--listen", "0.0.0.0:0", "--config", str(file)) as gateway:
            assert gateway.chat().status == 200
            assert f"every other address of this machine (0.0.0.0, port {gateway.port})" in gateway.banner
        with operator.serve("--listen", "0.0.0.0:0", "--token", "auto", env={"OPENAI_API_KEY": "sk-ours"}) as gateway:
            token = operator.token("token")
            assert gateway.chat().status == 401
            assert gateway.chat(bearer("wrong")).status == 401
            for headers in (bearer(token), {"x-api-key": token}, {"x-goog-api-key": token}, {"x-penstock-token": token}, {"api-key": token}):
                assert gateway.chat(headers).status == 200
            assert gateway.ask("GET", f"/v1/models?key={token}").status == 200
            assert gateway.ask("GET", "/health").status == 200
            assert gateway.ask("GET", "/v1/models").status == 401

    def test_the_token_never_goes_upstream(self, operator: Operator, provider: Provider) -> None:
        with operator.serve("--token", "a-token-of-ours", env={"OPENAI_BASE_URL": provider.base}) as gateway:
            body = b'{"model":"m","messages":[]}'
            gateway.ask("POST", "/v1/chat/completions", body, bearer("a-token-of-ours"))
            gateway.ask("POST", "/v1/chat/completions?key=a-token-of-ours&a=b", body, {**bearer("sk-client"), "x-penstock-token": "a-token-of-ours"})
        assert [(seen.path, seen.headers.get("authorization")) for seen in provider.seen] == [
            ("/v1/chat/completions", None), ("/v1/chat/completions?a=b", "Bearer sk-client"),
        ]  # fmt: skip
        assert not any("a-token-of-ours" in str(seen) for seen in provider.seen)


class TestOurselvesAsProvider:
    @pytest.mark.parametrize("base", ["http://127.0.0.1:{}/v1", "http://localhost:{}", "http://127.1:{}", "http://[::ffff:127.0.0.1]:{}"])
    def test_a_base_url_that_is_our_own_listener_is_refused(self, operator: Operator, base: str) -> None:
        port = free_port()
        file = operator.home / "f.yaml"
        file.write_text(f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:0\nproviders:\n  a: {{protocol: openai, base_url: '{base.format(port)}'}}\n")
        done = operator.run("serve", "--config", str(file))
        assert done.code == 2
        assert f"{file}:4: providers.a.base_url: points at this gateway itself (127.0.0.1:{port})" in done.err

    def test_a_variable_meant_for_clients_is_passed_over_with_a_note(self, operator: Operator) -> None:
        port = free_port()
        with operator.serve("--listen", f"127.0.0.1:{port}", env={"OPENAI_BASE_URL": f"http://localhost:{port}/v1"}) as gateway:
            assert "note: OPENAI_BASE_URL points at this gateway itself" in gateway.banner
            assert re.search(r"openai +openai +api\.openai\.com", gateway.banner)
