"""Room for sockets, made before there are threads."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import serving

ASK = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
import os
from penstock.server.files import make_room
before = sorted(os.listdir("/proc/self/fd"))
make_room()
make_room()
assert sorted(os.listdir("/proc/self/fd")) == before, "none stays open"
print(*resource.getrlimit(resource.RLIMIT_NOFILE), open("/proc/self/status").read())
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="tells by /proc")


def room(status: str) -> int:
    found = re.search(r"FDSize:\s*(\d+)", status)
    assert found is not None
    return int(found[1])


def told_of(pid: int) -> list[str]:
    return [Path(f"/proc/{pid}/{name}").read_text() for name in ("status", "limits")]


@linux
@pytest.mark.parametrize(("limits", "soft"), [((256, 1024), 1024), ((1024, 1024), 1024), ((256, 20_000), 20_000), ((300, 300), 300)])
def test_as_many_as_may_be_and_room_for_them(limits: tuple[int, int], soft: int) -> None:
    told = subprocess.run([sys.executable, "-c", ASK, *map(str, limits)], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split()[:2] == [str(soft), str(limits[1])]
    assert room(told) >= min(soft, 8192)


@linux
def test_the_gateway_makes_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, {"openai": {"protocol": "openai", "base_url": "http://127.0.0.1:9", "api_key": "k"}}) as gateway:
            status, limits = told_of(gateway.pid)
            soft, hard = re.findall(r"Max open files\s+(\S+)\s+(\S+)", limits)[0]
            assert soft == hard or int(soft) >= 65_536
            assert room(status) >= min(int(soft), 8192)

    asyncio.run(main())
