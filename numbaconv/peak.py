"""The measured peak of this machine: what register tiles reach that never leave the L1 cache."""

from __future__ import annotations

import functools

import numpy as np

from numbaconv import parallel, runtime
from numbaconv.arrays import Array
from numbaconv.geometry import GEOMETRY
from numbaconv.machine import this_machine
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.tile import rank1, zeros
from numbaconv.simd.tile_memory import store_tile
from numbaconv.timing import time_in_turn
from numbaconv.workspace import aligned_empty

#: A tile that neither spills nor waits: 12 accumulators are 1.5 times what 4 cycles and 2 ports need.
_MR, _NV = 6, 2
#: Length of the sums, and of them a task: operands of 16 KiB at most, a task of some 50 microseconds.
_KC = 128
_SUMS = 1024


@functools.cache
def _kernel(lanes: int) -> Dispatcher:
    nr = _NV * lanes

    def peak(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """Products of ``x`` [_MR][_KC] and ``w`` [_KC][nr], all of them alike, into ``workspace`` [_MR][nr]."""
        for _ in range(_SUMS):
            acc = zeros(x, _MR, _NV, lanes)
            for k in range(_KC):
                acc = rank1(acc, x, k, _KC, w, k * nr)
            store_tile(acc, workspace, 0, nr)

    return jit(peak)


@functools.cache
def measured_peak(dtype: str, threads: int) -> float:
    """`measure_peak`, once in a process."""
    return measure_peak(dtype, threads)


def measure_peak(dtype: str, threads: int) -> float:
    """The most FLOP/s that ``threads`` threads reached in fused multiply-adds of ``dtype``.

    Takes some 0.1 s, the first time also that of compiling a small kernel. It is the best of the rounds, as a limit
    is what is reached undisturbed.
    """
    lanes = this_machine().lanes(dtype)
    nr = _NV * lanes
    tasks = 8 * threads
    x, w, rest = (aligned_empty(size, dtype) for size in (_MR * _KC, _KC * nr, 1))
    x[:], w[:] = 1, 1
    workspaces = aligned_empty(threads * _MR * nr, dtype).reshape(threads, -1)
    address = runtime.kernel_address(_kernel(lanes), dtype, GEOMETRY)
    geometry = np.zeros(1, GEOMETRY)

    def run() -> None:
        parallel.drive(address, tasks, x, w, rest, rest, workspaces, geometry)

    seconds = time_in_turn({"peak": run}, rounds=40)["peak"].least
    return 2.0 * _MR * nr * _KC * _SUMS * tasks / seconds
