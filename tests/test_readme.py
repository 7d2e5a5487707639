"""Every example of the README runs: its Python as one session, its commands one by one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_python_examples() -> None:
    blocks = _blocks("python")
    assert blocks
    exec(compile("\n".join(blocks), "README.md", "exec"), {})


COMMANDS = [line for block in _blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "numbaconv"
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    run = subprocess.run(
        [sys.executable, "-m", "numbaconv", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_files_it_names_exist() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"make ([a-z-]+)", README):
        assert target in targets
