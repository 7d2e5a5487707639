"""A file is replaced whole, where it is and as readable as it was, or left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from numbaconv.files import replaced


def test_a_link_is_followed_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with replaced(link) as file:
        file.write(b"new")
        assert target.read_text() == "old"
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")

    def fail(name: str) -> None:
        with replaced(tmp_path / name) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    for name in ("target", "new"):
        with pytest.raises(KeyboardInterrupt):
            fail(name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("target", "old")]
