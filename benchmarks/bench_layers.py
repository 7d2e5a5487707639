"""Every algorithm on every layer of the shipped networks, with one thread and with all.

Weights are constant and prepared, as in a layer. The machine's peak is measured right before each case, so that the
share of it is a ratio of two things measured under the same conditions.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from numbaconv import networks, parallel
from numbaconv.networks import Layer
from numbaconv.peak import measure_peak
from numbaconv.planner import allowed, plan_problem
from numbaconv.problem import ConvProblem

_THREADS = sorted({1, parallel.max_threads()})


def _cases() -> list[object]:
    """Each distinct shape of the networks once, under the first name that it has; the reference is left out."""
    found: dict[ConvProblem, tuple[str, Layer]] = {}
    for network in networks.NETWORKS:
        for layer in networks.with_options(networks.load(network), constant_weight=True):
            found.setdefault(layer.problem, (network, layer))
    return [
        pytest.param(layer, name, threads, id=f"{network}-{layer.name}-{name}-{threads}t")
        for network, layer in found.values()
        for name in allowed(layer.problem)
        if name != "reference"
        for threads in _THREADS
    ]


@pytest.mark.parametrize(("layer", "algorithm", "threads"), _cases())
def bench_layer(benchmark: BenchmarkFixture, layer: Layer, algorithm: str, threads: int) -> None:
    problem = layer.problem
    plan = plan_problem(problem, algorithm=algorithm, threads=threads)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in (problem.input_shape, problem.weight_shape))
    y = np.empty(problem.output_shape, np.float32)
    plan(x, w, out=y)
    peak = measure_peak(problem.dtype, threads)
    benchmark(plan, x, w, out=y)
    benchmark.extra_info.update(layer=str(problem), algorithm=algorithm, threads=threads)
    if benchmark.enabled:
        rate = problem.flops / benchmark.stats["median"]
        benchmark.extra_info.update(gflops=rate / 1e9, percent_of_peak=100 * rate / peak)
