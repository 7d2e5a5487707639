"""Reference: the definition of convolution as plain loops, summed in float64. Slow, and evidently right.

Cross-correlation as in torch.nn.functional.conv3d: output pixel (o, p, q) of channel k is the sum over the
channels c of its group and the kernel (t, r, s) of weight times input, where the input is 0 outside its bounds.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Schedule
from numbaconv.arrays import Array
from numbaconv.cost import Work, share
from numbaconv.geometry import locate, read, spatial
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit

#: Vector FMAs that one scalar multiply-add costs as much as: it waits 4 cycles for the sum before it.
_SCALAR_COST = 8.0


class Settings(NamedTuple):
    """Nothing to tune."""


@functools.cache
def _kernel() -> Dispatcher:
    """The kernel; a task is one output row, (n, k, o, p)."""

    def reference(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One row of outputs. ``x``, ``w``, ``y`` are NCDHW, KCTRS and NKOPQ; ``workspace`` is not used."""
        g = read(geometry)
        n, k, o, p, _, _ = locate(task, g)
        first_channel = k // g.K * g.C
        for q in range(g.Q):
            total = 0.0
            for c in range(g.C):
                for t in range(g.T):
                    for r in range(g.R):
                        for s in range(g.S):
                            d = o * g.stride_d - g.pad_d + t * g.dilation_d
                            h = p * g.stride_h - g.pad_h + r * g.dilation_h
                            v = q * g.stride_w - g.pad_w + s * g.dilation_w
                            channel = n * g.G * g.C + first_channel + c
                            pixel = 0.0
                            if 0 <= d < g.D and 0 <= h < g.H and 0 <= v < g.W:
                                pixel = float(x[((channel * g.D + d) * g.H + h) * g.W + v])
                            total += pixel * float(w[(((k * g.C + c) * g.T + t) * g.R + r) * g.S + s])
            total += bias[k]
            if total < g.low:
                total = g.low
            if total > g.high:
                total = g.high
            y[task * g.Q + q] = total

    return jit(reference)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    O, P, _ = spatial(problem)[1]
    return Schedule.of(problem, 0, tasks_g=problem.out_channels, tasks_o=O, tasks_p=P)


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    O, P, _ = spatial(problem)[1]
    tasks = problem.batch * problem.out_channels * O * P
    return Work(share(threads, tasks), fmas=problem.flops / 2 * _SCALAR_COST).seconds(machine, threads, problem.dtype)


REFERENCE = Algorithm(
    name="reference",
    summary="plain loops summed in float64: slow, and evidently right",
    applicable=lambda problem: None,
    candidates=lambda problem, machine, threads: (Settings(),),
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=lambda problem, settings, machine: _kernel(),
)
