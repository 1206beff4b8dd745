"""The admin token: made at the first start, kept in the data directory, readable by its owner alone."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from typing import Final

FILE: Final = "admin.token"
_SHAPE = re.compile(r"[A-Za-z0-9_-]{32,128}\Z")


class TokenError(Exception):
    """The token cannot be had. Its text is a sentence for the person who runs Penstock; it never holds the token."""


def load_token(data_dir: Path, file: str = FILE) -> str:
    """The token in `file` of this data directory, made where there is none yet. Of processes that start at once, all get the same one.

    Raises `TokenError`. A file that others may read is taken from them.
    """
    found = read_token(data_dir, file)
    if found is not None:
        return found
    path = data_dir / file
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, secrets.token_urlsafe(32))
    except OSError as error:
        raise TokenError(f"the token {path} cannot be written: {error.strerror or error}") from error
    found = read_token(data_dir, file)
    if found is None:
        raise TokenError(f"the token {path} vanished while it was made")
    return found


def read_token(data_dir: Path, file: str = FILE) -> str | None:
    """The token in `file` of this data directory; `None` where none was made yet. Raises `TokenError`."""
    path = data_dir / file
    try:
        # Not through a link: what it points to would be somebody else's choice. Not waiting: a pipe in its place would hold us up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TokenError(f"the token {path} cannot be read: {error.strerror or error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TokenError(f"the token {path} is no file")
        if os.name == "posix" and status.st_mode & 0o077:
            with suppress(OSError):  # somebody else's file: its owner has to do it
                os.fchmod(descriptor, 0o600)
        text = os.read(descriptor, 1024).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    if not _SHAPE.match(text):
        raise TokenError(f"the token {path} is damaged; remove the file, and the next start of the gateway makes a new one")
    return text


def is_token(given: bytes, token: str) -> bool:
    """Compared in a time that tells nothing of the token."""
    return compare_digest(given, token.encode())


def _write_once(path: Path, token: str) -> None:
    """Write the file, whole and 0600 from the moment it has its name, unless it is there by now."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        try:
            os.link(fresh, path)  # unlike a rename, it fails where another process was first
        except FileExistsError:
            pass
        except OSError:
            fresh.replace(path)  # a file system without hard links
    finally:
        fresh.unlink(missing_ok=True)
