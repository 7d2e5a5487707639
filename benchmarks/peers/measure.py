"""Turns and rounds: who is measured when, and what becomes of the times."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.engines import ENGINES, PEERS, Call
from numbaconv.networks import Layer
from numbaconv.peak import measure_peak

#: Seconds before each turn: ONNX Runtime's idle threads spin for tens of milliseconds, and after a pause of 5 ms the
#: next engine measured half its undisturbed speed.
PAUSE = 0.06
#: Seconds of calls in a turn, and calls before it that are not measured.
TURN = 0.06
WARM_CALLS = 2
#: Largest difference of two engines' results, relative to the largest output.
_AGREE = 1e-4


@dataclass(frozen=True)
class Result:
    """Seconds of a call by engine, one value a round, and the peak measured beside them in FLOP/s."""

    layer: Layer
    seconds: dict[str, list[float]]
    peak: float

    def ratio(self, ours: str, peers: Iterable[str]) -> float:
        """Median over rounds of the best of ``peers`` over ``ours``; above 1, ours is faster."""
        names = [name for name in peers if name in self.seconds]
        rounds = zip(*(self.seconds[name] for name in names), strict=True)
        return statistics.median(min(times) / own for times, own in zip(rounds, self.seconds[ours], strict=True))

    def median(self, engine: str) -> float:
        return statistics.median(self.seconds[engine])

    def best_peer(self) -> str:
        return min((name for name in self.seconds if name in PEERS), key=self.median)


def measure(layer: Layer, engines: Iterable[str], threads: int, rounds: int) -> Result:
    """Measure the engines on a layer, in turn and round by round, after comparing what they compute."""
    problem = layer.problem
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in (problem.input_shape, problem.weight_shape))
    bias = rng.standard_normal(problem.out_channels, np.float32)
    calls = {name: ENGINES[name](problem, x, w, bias, threads) for name in engines}
    _compare(problem.output_shape, calls)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            seconds[name].append(_turn(call))
    time.sleep(PAUSE)
    return Result(layer, seconds, measure_peak(problem.dtype, threads))


def _turn(call: Call) -> float:
    """Median time of the calls of one turn."""
    for _ in range(WARM_CALLS):
        call()
    times: list[float] = []
    end = time.perf_counter() + TURN
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _compare(shape: tuple[int, ...], calls: dict[str, Call]) -> None:
    results = {name: np.array(np.asarray(call()), np.float32).reshape(shape) for name, call in calls.items()}
    first, *others = results
    scale = np.abs(results[first]).max()
    for name in others:
        difference = np.abs(results[name] - results[first]).max() / scale
        if not difference < _AGREE:
            raise AssertionError(f"{name} and {first} differ by {difference:.1e} of the largest output")


def geometric_mean(results: Iterable[Result], ours: str, peers: Iterable[str]) -> float:
    """Geometric mean of the ratios, each layer weighted by how often it occurs."""
    names = list(peers)
    pairs = [(result.layer.count, math.log(result.ratio(ours, names))) for result in results]
    return math.exp(sum(count * value for count, value in pairs) / sum(count for count, _ in pairs))


def as_json(result: Result) -> dict[str, Any]:
    problem = result.layer.problem
    return {
        "name": result.layer.name, "descriptor": str(problem), "count": result.layer.count, "flops": problem.flops,
        "peak_flops": result.peak, "seconds": result.seconds,
    }  # fmt: skip
