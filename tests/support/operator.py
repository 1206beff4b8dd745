"""A person at a shell: a home of their own, the `penstock` command, and what its processes said."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import forking

PENSTOCK = str(Path(sys.executable).with_name("penstock"))
ASK = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}).encode()
STREAM = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def raw(self) -> bytes:
        """All that came, for looking through it."""
        return b"\n".join([*(f"{name}: {value}".encode("latin-1") for name, value in self.headers), self.body])


def ask(port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, at: str = "127.0.0.1") -> Answer:
    """One request on a connection of its own. The Host header is what `headers` says, else the address."""
    given = {"host": f"{at}:{port}", **({"content-type": "application/json"} if body is not None else {}), **(headers or {})}
    connection = http.client.HTTPConnection(at, port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(slots=True)
class Serving:
    """A `penstock serve` that is ready."""

    process: subprocess.Popen[str] | forking.Forked
    banner: str
    errors: Path
    """Where its standard error goes."""
    port: int
    """0: it listens on a unix socket."""
    admin: int

    @property
    def log(self) -> str:
        return self.errors.read_text()

    @property
    def curl(self) -> str:
        """The line to copy."""
        return next(line for line in self.banner.splitlines() if line.startswith("curl "))

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        return ask(self.port, method, path, body, headers)

    def chat(self, headers: Mapping[str, str] | None = None) -> Answer:
        """An answer of the demo model, whole and at once."""
        return self.ask("POST", "/v1/chat/completions", ASK, headers)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@dataclass(slots=True)
class Operator:
    home: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])
    """What is set besides HOME and PATH."""
    said: list[str] = field(default_factory=list[str])
    """All that any process printed."""

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "penstock"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ.get("PATH", "/usr/bin:/bin"), **self.environ, **(more or {})}

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Done:
        """A command, to its end."""
        code, out, err = forking.run(PENSTOCK, arguments, self.environment(env), cwd or self.home)
        self.said += [out, err]
        return Done(code, out, err)

    @contextmanager
    def serve(
        self, *options: str, command: tuple[str, ...] = ("serve",), env: Mapping[str, str] | None = None, cwd: Path | None = None,
        ports: bool = True, anew: bool = False,
    ) -> Generator[Serving]:  # fmt: skip
        """A gateway, from its banner to its end. `ports`: any free ones, unless `options` say otherwise. `anew`: in an interpreter of its own."""
        arguments = [*command, *(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"] if ports else []), *options]
        errors = self.home / f"stderr-{secrets.token_hex(4)}"
        environment, at = self.environment(env), cwd or self.home
        with tempfile.TemporaryDirectory() as place, errors.open("w") as err:
            if anew:
                process = subprocess.Popen([PENSTOCK, *arguments], env=environment, cwd=at, stdout=subprocess.PIPE, stderr=err, text=True)
                assert process.stdout is not None
                output = process.stdout
            else:
                out = Path(place) / "out"
                os.mkfifo(out)
                process = forking.start(PENSTOCK, arguments, environment, at, out, errors)
                output = out.open()
            with output as said:
                try:
                    text = ""
                    for line in said:
                        text += line
                        if line.startswith("curl "):
                            break
                    else:
                        raise AssertionError("it did not begin to serve: " + text + errors.read_text())
                    self.said.append(text)
                    clients, admin = (re.search(rf"^{name} +http://\S+:(\d+)", text, re.MULTILINE) for name in ("clients", "admin"))
                    yield Serving(process, text, errors, int(clients[1]) if clients else 0, int(admin[1]) if admin else 0)
                finally:
                    process.terminate()
                    process.wait(30)
                    self.said.append(errors.read_text())

    def exchanges(self, *arguments: str) -> list[dict[str, Any]]:
        return self.run("exchanges", "--json", *arguments).rows()

    def token(self, name: str = "admin.token") -> str:
        return (self.data / name).read_text().strip()


@contextmanager
def replaying(*arguments: str) -> Generator[int]:
    """The port of a running `penstock replay`."""
    command = [PENSTOCK, "replay", "--listen", "127.0.0.1:0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"http://\S+:(\d+)", said)
            assert found, said
            yield int(found[1])
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that reached the provider."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class Provider(ThreadingHTTPServer):
    """A provider that answers every request with `answer`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[Seen] = []
        self.answer: Reply = (200, {"content-type": "application/json"}, b"{}")
        self.choose: Callable[[Seen], Reply] | None = None
        """In the place of `answer`."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def do_POST(self) -> None:
        provider = self.server
        assert isinstance(provider, Provider)
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        provider.seen.append(Seen(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, headers, answer = provider.choose(provider.seen[-1]) if provider.choose is not None else provider.answer
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(answer))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_DELETE = do_OPTIONS = do_POST

    def log_message(self, format: str, *args: object) -> None: ...
