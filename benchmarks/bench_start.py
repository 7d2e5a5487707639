"""Compilation and start, each in a process of its own: a machine's first call, a second process, one kernel alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

_FIRST_CALL = """
import numpy as np, numbaconv as nc
x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
nc.conv2d(x, w, padding=1)
"""
_ONE_ALGORITHM = _FIRST_CALL.replace("padding=1", "padding=1, algorithm={algorithm!r}")
_DEPTHWISE = """
import numpy as np, numbaconv as nc
nc.conv2d(np.ones((1, 8, 56, 56), np.float32), np.ones((8, 1, 3, 3), np.float32), padding=1, groups=8)
"""
_PROGRAMS = {
    "direct": _ONE_ALGORITHM.format(algorithm="direct"),
    "im2col": _ONE_ALGORITHM.format(algorithm="im2col"),
    "depthwise": _DEPTHWISE,
    "reference": _ONE_ALGORITHM.format(algorithm="reference"),
}


def _run(program: str, cache: Path) -> None:
    environment = {**os.environ, "NUMBACONV_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def bench_import(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    benchmark.pedantic(_run, args=("import numbaconv", tmp_path), rounds=5)


def bench_second_process(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Import and first conv2d, the kernels in the disk cache."""
    _run(_FIRST_CALL, tmp_path)
    benchmark.pedantic(_run, args=(_FIRST_CALL, tmp_path), rounds=5)


@pytest.mark.parametrize("algorithm", list(_PROGRAMS))
def bench_first_call(benchmark: BenchmarkFixture, tmp_path: Path, algorithm: str) -> None:
    """Import and first call, nothing cached: compiles the driver, the algorithm's kernel and that of its packing."""
    caches = (tmp_path / str(number) for number in range(10))
    benchmark.pedantic(_run, setup=lambda: ((_PROGRAMS[algorithm], next(caches)), {}), rounds=3)
