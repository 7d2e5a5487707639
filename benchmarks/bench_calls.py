"""What a call costs when there is next to nothing to compute: arguments, plan, driver, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

import numbaconv as nc

Array = np.ndarray[Any, Any]


def _operands() -> tuple[Array, Array]:
    return np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)


def bench_tiny_conv2d(benchmark: BenchmarkFixture) -> None:
    x, w = _operands()
    benchmark(lambda: nc.conv2d(x, w, padding=1))


def bench_tiny_layer(benchmark: BenchmarkFixture) -> None:
    x, w = _operands()
    benchmark(nc.Conv2d(w, padding=1), x)


def bench_estimate(benchmark: BenchmarkFixture) -> None:
    """A plan from the cost model, the checking of its arguments left out."""
    from numbaconv.planner import plan_problem
    from numbaconv.problem import ConvProblem

    benchmark(plan_problem, ConvProblem.parse("mb1ic64ih56oc64oh56kh3ph1"))
