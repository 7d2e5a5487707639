"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file that takes the place of ``path`` when the block ends; if that fails, all is as it was before.

    A link is followed, and the permissions of a file that is replaced are kept.

    Raises
    ------
    OSError
        If it cannot be written, or ``path`` is something else than a file, a device for instance.

    Examples
    --------
    >>> with replaced("notes.txt") as file:
    ...     _ = file.write(b"whole")
    >>> Path("notes.txt").read_text()
    'whole'
    """
    target = Path(os.path.realpath(path))
    check_replaceable(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        file = temporary.open("xb")
    except OSError as error:
        error.filename = str(target)
        raise
    try:
        with file:
            yield file
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Refuse a path at which there is something else than a file."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file to write to, got a folder")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path}: expected a file to write to, got a device or the like")
