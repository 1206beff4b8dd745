"""Files that are wrong, each with every message that it gets.

A golden file holds a configuration, a line of dashes, and the messages as `penstock check` prints them (`FILE` stands for the file's
name). `# env: NAME=value` in its first lines sets a variable.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import ConfigErrors, load

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
SEPARATOR = "\n----------\n"


def messages(text: str, directory: Path) -> str:
    environ = {"HOME": str(directory)}
    for line in text.splitlines():
        if line.startswith("# env: "):
            name, _, value = line.removeprefix("# env: ").partition("=")
            environ[name] = value
    file = directory / "penstock.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigErrors) as errors:
        load(file, environ=environ)
    assert all(error.file and error.message for error in errors.value.errors)
    return str(errors.value).replace(str(file), "FILE")


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_every_error_at_once(golden: Path, tmp_path: Path) -> None:
    text, _, expected = golden.read_text(encoding="utf-8").partition(SEPARATOR)
    found = messages(text + "\n", tmp_path)
    assert found == expected.rstrip("\n")
    assert "hunter2" not in found
