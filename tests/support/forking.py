"""Commands of `penstock`, each in a process of its own that is forked from one in which everything is imported: starting an interpreter and importing
is nearly all that a short command costs. What a command is given (arguments, environment, directory, standard streams) and what becomes of it
(exit code, output) is as at a shell. Not for what an interpreter reads at its own start (`PYTHON...`, the locale), nor for what `ps` shows.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any, NoReturn

_LIMIT_S = 200
"""Seconds after which a command is ended by a signal, whoever has forgotten it."""
_LATER = ("alembic.command", "alembic.config", "genai_prices.data", "pydantic.json_schema", "pydantic.main", "pydantic.type_adapter", "rich.table")
"""What a command itself imports only where it needs it: for ledgers that are new, for prices, for tables."""
_parent: subprocess.Popen[str] | None = None
_alone = threading.Lock()


class Forked:
    """A command that runs, as `subprocess.Popen` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Below zero: the signal that ended it."""

    def poll(self) -> int | None:
        if self.returncode is None and (said := _ask({"wait": self.pid})):
            self.returncode = int(said)
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)


def start(
    command: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path, *,
    script: Path | None = None, limit_s: int = _LIMIT_S,
) -> Forked:  # fmt: skip
    """`out` and `err`: files, made where they are missing, or FIFOs, which are waited for. `script`: run in its place. `limit_s`: 0 is none."""
    asked = {"argv": [command, *arguments], "env": dict(env), "cwd": str(cwd), "out": str(out), "err": str(err), "limit": limit_s}
    return Forked(int(_ask({**asked, "script": str(script) if script is not None else None})))


def run(command: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Exit code, output, errors. A command that a signal ended has its number below zero."""
    with tempfile.TemporaryDirectory() as directory:
        out, err = Path(directory) / "out", Path(directory) / "err"
        code = start(command, arguments, env, cwd, out, err).wait(_LIMIT_S)
        return code, out.read_text(), err.read_text()


def _ask(question: Mapping[str, Any]) -> str:
    with _alone:
        process = _started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()


def _started() -> subprocess.Popen[str]:
    global _parent
    if _parent is None or _parent.poll() is not None:
        # In an environment like that of whoever is at the shell: modules may look at it when they are imported.
        plain = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        _parent = subprocess.Popen([sys.executable, "-P", __file__], env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(_parent.kill)
    return _parent


def _serve() -> None:
    for name in ("penstock.app", "penstock.ledger.query", "penstock.ledger.story", *_LATER):
        import_module(name)
    from penstock.cli import main

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            over, status = os.waitpid(asked["wait"], os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if over else "", flush=True)
            continue
        child = os.fork()
        if child == 0:
            _become(asked, main)
        print(child, flush=True)


def _become(asked: dict[str, Any], main: Any) -> NoReturn:
    code = 1
    try:
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        streams = os.open(os.devnull, os.O_RDONLY), *(os.open(asked[name], os.O_WRONLY | os.O_CREAT, 0o600) for name in ("out", "err"))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, 64)
        # Anew, as at a start: what is there was made for this process's own streams.
        sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = asked["argv"]
        import signal

        signal.alarm(asked["limit"])
        if asked["script"] is None:
            main()
        else:
            run_path(asked["script"], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


if __name__ == "__main__":
    _serve()
