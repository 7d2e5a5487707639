"""Kernels on disk: compiled once for all processes, and what is wrong with the files costs time, not results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import numbaconv

#: Convolves by a plan with a packed weight, and prints how many kernels were compiled.
PROGRAM = """
import numpy as np, numba
from numba.core.compiler import CompileResult
import numbaconv as nc
from numbaconv.jitcache import KernelCache

compiled = []
save = KernelCache.save_overload
def counted(self, sig, data):
    compiled.append(self)
    save(self, sig, data)
KernelCache.save_overload = counted
y = nc.conv2d(np.ones((1, 8, 6, 6), np.float32), np.ones((4, 8, 3, 3), np.float32), algorithm="direct")
assert (y == 72).all()
print(len(compiled))
"""


def compiled(cache: Path, expect_warning: str = "") -> int:
    """Number of kernels that a new process compiles; other warnings than the one expected are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", f"default:{expect_warning}:RuntimeWarning" if expect_warning else "error",
         "-c", PROGRAM],
        capture_output=True, text=True, timeout=120, env={**os.environ, "NUMBACONV_CACHE_DIR": str(cache)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == bool(expect_warning), done.stderr
    assert expect_warning in done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that one process has filled."""
    folder = tmp_path_factory.mktemp("cache")
    assert compiled(folder) == len(kernels(folder)) > 2
    return folder


def kernels(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "kernels").rglob("*") if path.is_file())


def test_second_process_compiles_nothing(cache: Path) -> None:
    before = [(path, path.stat().st_mtime_ns) for path in kernels(cache)]
    assert compiled(cache) == 0
    assert [(path, path.stat().st_mtime_ns) for path in kernels(cache)] == before


def test_files_are_named_by_their_kernels(cache: Path) -> None:
    names = {path.name.split("-")[0] for path in kernels(cache)}
    assert {"direct", "pack"} <= names
    assert "_kernel" not in names


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\x00" * 100, lambda data: b"cos\nabort\n."],
    ids=["empty", "truncated", "zeros", "another pickle"],
)
def test_damaged_file_is_replaced(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    """One kernel is compiled again, and none after that."""
    victim = next(path for path in kernels(cache) if path.name.startswith("direct-"))
    victim.write_bytes(damage(victim.read_bytes()))
    assert compiled(cache) == 1
    assert compiled(cache) == 0


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file stands where the folder would be, which stops root too: said once, and computed all the same."""
    (tmp_path / "file").write_text("")
    assert compiled(tmp_path / "file" / "cache", "compiled kernels are not kept") > 2


#: Prints the key of a copy of the package, whose sources change in some way between being read and being hashed.
EDITED = """
import pathlib, numbaconv
source = pathlib.Path(numbaconv.__file__).parent / "simd" / "tile.py"
assert source.is_relative_to(pathlib.Path.cwd()), source
source.write_text(source.read_text() + {addition!r})
from numbaconv.jitcache import kernel_fingerprint
print(kernel_fingerprint())
"""


def test_key_is_of_the_sources_that_run(tmp_path: Path) -> None:
    """A process whose sources are edited after it read them must not leave old kernels under the new ones' key.

    The next process, which reads them edited, has another.
    """
    shutil.copytree(Path(numbaconv.__file__).parent, tmp_path / "numbaconv")
    keys = [
        subprocess.run(
            [sys.executable, "-c", EDITED.format(addition=addition)], cwd=tmp_path, capture_output=True, text=True,
            check=True,
        ).stdout
        for addition in ("", "# edited", "")
    ]  # fmt: skip
    assert keys[0] == keys[1] != keys[2]


_ONE_TILE = """
import sys
from dataclasses import replace
from numbaconv.algorithms import im2col
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.verify import verify_plan
plan = plan_problem(ConvProblem.parse("mb1ic16ih20oc16kh3ph1", accuracy="strict"), algorithm="im2col")
for tile in sys.argv[2:]:
    mr, nv = map(int, tile.split("x"))
    tiled = replace(plan, settings=plan.settings._replace(mr=mr, nv=nv))
    tiled.compile()
    assert sys.argv[1] == "compile" or verify_plan(tiled).ok, tile
"""


def test_kernels_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    """Each brings a helper of its own width, to which Numba gives the same number in its process."""
    environment = {**os.environ, "NUMBACONV_CACHE_DIR": str(tmp_path)}
    for arguments in (["compile", "8x3"], ["compile", "12x2"], ["compile", "6x4"], ["run", "12x2", "6x4", "8x3"]):
        subprocess.run([sys.executable, "-c", _ONE_TILE, *arguments], check=True, env=environment)


def test_key_is_of_numba_s_options() -> None:
    """Kernels of a process that does not optimise, or checks bounds, are not those of others."""
    program = "from numbaconv.jitcache import kernel_fingerprint\nprint(kernel_fingerprint())"
    options = ("OPT=3", "OPT=0", "OPT=max", "BOUNDSCHECK=1", "DEBUGINFO=1")
    keys = [
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **dict([f"NUMBA_{option}".split("=")])},
            capture_output=True, text=True, check=True,
        ).stdout
        for option in options
    ]  # fmt: skip
    assert len(set(keys)) == len(options)
