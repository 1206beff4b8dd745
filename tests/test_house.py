"""The house itself: what its plan promises of every room, file and page."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "penstock"
PROTOCOL_FILES = ("request", "observe", "assemble", "unfold", "render")
UNTESTED = {"vocabulary"}
"""Rooms without a directory of tests: nothing but frozen words."""
LONGEST = 400
LONGEST_TEST = 600
"""Tests may be longer: much of them is tables."""


def files(*suffixes: str) -> list[Path]:
    """The repository's own files: what git knows or would add; without git, whatever lies in the directories that are ours."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
        found = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        ours = (path for name in ("src", "tests", "docs", "bench", "scripts", ".ci") for path in (ROOT / name).rglob("*"))
        found = [path for path in (*ROOT.iterdir(), *ours) if "__pycache__" not in path.parts]
    return sorted(path for path in found if path.is_file() and not path.is_symlink() and (not suffixes or path.suffix in suffixes))


def texts() -> list[tuple[Path, str]]:
    """Every text that people wrote: recordings and golden files are others' words."""
    found: list[tuple[Path, str]] = []
    for path in files():
        if {"corpus", "golden"} & set(path.relative_to(ROOT).parts):
            continue
        try:
            found.append((path, path.read_text("utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_package_has_a_card() -> None:
    bare = [shown(path) for path in SOURCE.rglob("__init__.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare, "a package's docstring says what enters, what leaves, which laws hold, what is not here"


def test_every_module_says_what_it_is() -> None:
    assert not [shown(path) for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]


def test_files_stay_small() -> None:
    long = {shown(path): count for path in files(".py") if (count := len(path.read_text().splitlines())) > LONGEST and SOURCE in path.parents}
    assert not long, f"a file of more than {LONGEST} lines holds two things"
    assert not [shown(path) for path in files(".py") if len(path.read_text().splitlines()) > LONGEST_TEST]


def test_every_protocol_has_the_same_five_files() -> None:
    folders = [path.parent for path in (SOURCE / "protocols").glob("*/__init__.py")]
    assert folders
    missing = [shown(folder / f"{name}.py") for folder in folders for name in PROTOCOL_FILES if not (folder / f"{name}.py").is_file()]
    assert not missing


def test_every_room_is_tested() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    bare = {room for room in rooms - UNTESTED if not list((ROOT / "tests" / room).rglob("test_*.py"))}
    assert not bare
    assert rooms >= UNTESTED, "a room in the list of exceptions is gone"


def test_the_end_of_time_is_written_once() -> None:
    told = [path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if "253402300799" in path.read_text("utf-8").replace("_", "")]
    assert told == ["vocabulary/moments.py"]


def test_nothing_is_left_for_later() -> None:
    later = re.compile("|".join(rf"\b{word}\b" for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X")))
    ours = [(path, text) for path, text in texts() if SOURCE in path.parents or path.suffix in (".py", ".md")]
    assert not [shown(path) for path, text in ours if later.search(text)]


def test_no_file_speaks_of_one_persons_machine() -> None:
    homes = r"(?:ho" + r"me|Us" + r"ers)/(?!you\b|user\b)\w{3,}"
    private = re.compile(r"(?<![\w.$}~-])/(?:" + "|".join(("ro" + "ot", "wo" + "rk", homes)) + r")/[\w.]")
    found = {shown(path): match[0] for path, text in texts() if (match := private.search(text))}
    assert not found


def test_links_of_the_documents_resolve() -> None:
    link = re.compile(r"\]\(([^)\s]+)\)")
    broken: list[str] = []
    for page in files(".md"):
        if "corpus" in page.parts:
            continue
        prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target in link.findall(prose):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
                broken.append(f"{shown(page)}: {target}")
    assert not broken


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_has_its_sentence() -> None:
    told = project()
    wanted: set[str] = set()
    for requirement in (*told["dependencies"], *(r for extra in told["optional-dependencies"].values() for r in extra)):
        found = re.match(r"[\w.-]+", requirement)
        assert found
        wanted.add(found[0].lower())
    page = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    rows = {name.lower(): reason for name, reason in re.findall(r"^\| `([\w.-]+)` \| (.+) \|$", page, re.MULTILINE)}
    assert set(rows) == wanted
    assert all(reason.endswith(".") for reason in rows.values())


def test_decisions_are_numbered_and_have_their_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]} "), page.name
        parts = [part for part in ("**Question.**", "**Choice.**", "**Price.**", "**What would change our mind.**") if part not in text]
        assert not parts, page.name


@pytest.mark.timeout(120)
def test_the_import_contracts_hold() -> None:
    """By its command, because it configures logging and caches for a process of its own."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
