"""The admin token's file."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.admin.token import FILE, TokenError, is_token, load_token, read_token


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "data"
    assert read_token(home) is None
    token = load_token(home)
    assert len(token) >= 32
    assert load_token(home) == read_token(home) == token
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir()] == [FILE]


def test_all_who_start_at_once_get_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(load_token, [tmp_path] * 32))
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_rights_of_others_are_taken_away(tmp_path: Path) -> None:
    load_token(tmp_path)
    (tmp_path / FILE).chmod(0o644)
    read_token(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "short", "a b" * 20, "é" * 40, "x" * 2000])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(TokenError, match="remove the file"):
        load_token(tmp_path)
    assert (tmp_path / FILE).read_text() == content


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x" * 40)
    (tmp_path / FILE).symlink_to(tmp_path / "other")
    with pytest.raises(TokenError):
        load_token(tmp_path)


def test_something_else_in_its_place_and_a_directory_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    (tmp_path / "a" / FILE).mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / FILE)
    (tmp_path / "file").touch()
    for home in (tmp_path / "a", tmp_path / "b", tmp_path / "file" / "below"):
        with pytest.raises(TokenError) as told:
            load_token(home)
        assert FILE in str(told.value)


def test_only_the_whole_token_is_the_token() -> None:
    assert is_token(b"abc", "abc")
    for given in (b"", b"ab", b"abcd", b"ABC", b"\xff\xfe"):
        assert not is_token(given, "abc")
