"""Who holds a port is told where the system tells it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.ports import Holder, explain, find_holder, is_taken


def test_a_listener_of_ours_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        assert is_taken("127.0.0.1", port)
        if sys.platform == "linux":
            holder = find_holder(port)
            assert holder is not None
            assert holder.pid == os.getpid()
    assert not is_taken("127.0.0.1", port)
    assert find_holder(port) is None


def test_without_proc_nobody_is_named(tmp_path: Path) -> None:
    assert find_holder(4270, tmp_path) is None


def test_the_tables_of_proc_are_read(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    line = "   0: 0100007F:10AE 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0 100 0 0 10 0\n"
    (tmp_path / "net" / "tcp").write_text(head + line.format("01", 11) + line.format("0A", 22))
    for pid, inode in ((7, 11), (8, 22)):
        fd = tmp_path / str(pid) / "fd"
        fd.mkdir(parents=True)
        (fd / "3").symlink_to(f"socket:[{inode}]")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"a\0long\0" + b"w" * 100)
    (tmp_path / "uptime").touch()
    holder = find_holder(4270, tmp_path)
    assert holder is not None
    assert (holder.pid, len(holder.command), holder.command[:7]) == (8, 80, "a long ")


@pytest.mark.parametrize(("host", "holder", "words"), [
    ("127.0.0.1", None, "127.0.0.1:4270 is in use by another program. To listen elsewhere: penstock serve --listen 127.0.0.1:4280"),
    ("::1", Holder(7, "nginx"), "[::1]:4270 is in use by process 7 (nginx). To listen elsewhere: penstock serve --listen [::1]:4280"),
    ("127.0.0.1", Holder(7, "python penstock serve"), "That is a gateway already: use it, or stop it first."),
])  # fmt: skip
def test_the_sentence_names_port_holder_and_option(host: str, holder: Holder | None, words: str) -> None:
    assert words in explain("--listen", host, 4270, holder)


def test_replay_on_a_port_in_use_says_who_and_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "a.sse").write_bytes(b'data: {"object":"chat.completion.chunk","choices":[]}\n\n')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [str(Path(sys.executable).with_name("penstock")), "replay", str(tmp_path), "--listen", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use by" in done.stderr
    assert "--listen" in done.stderr
    assert "Traceback" not in done.stderr
