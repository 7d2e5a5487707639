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

#: By the number of registers, a tile that neither spills nor waits: it has 1.5 times the sums, and more, that 4 cycles
#: and 2 ports need, and as few loads beside them as may be. By 6 x 2 the peak of Intel Ice Lake was a fifth too low.
_TILES = {16: (4, 3), 32: (6, 4)}
#: Length of the sums, and of them a task: operands of 19 KiB at most, a task of 0.1 to 0.5 ms.
_KC = 64
_SUMS = 1024


@functools.cache
def _kernel(mr: int, nv: int, lanes: int) -> Dispatcher:
    nr = nv * lanes

    def peak(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """Products of ``x`` [mr][_KC] and ``w`` [_KC][nr], all of them alike, into ``workspace`` [mr][nr]."""
        for _ in range(_SUMS):
            acc = zeros(x, mr, nv, lanes)
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
    machine = this_machine()
    lanes, (mr, nv) = machine.lanes(dtype), _TILES[machine.registers]
    nr = nv * lanes
    tasks = 8 * threads
    x, w, rest = (aligned_empty(size, dtype) for size in (mr * _KC, _KC * nr, 1))
    x[:], w[:] = 1, 1
    workspaces = aligned_empty(threads * mr * nr, dtype).reshape(threads, -1)
    address = runtime.kernel_address(_kernel(mr, nv, lanes), dtype, GEOMETRY)
    geometry = np.zeros(1, GEOMETRY)

    def run() -> None:
        parallel.drive(address, tasks, x, w, rest, rest, workspaces, geometry)

    seconds = time_in_turn({"peak": run}, rounds=40)["peak"].least
    return 2.0 * mr * nr * _KC * _SUMS * tasks / seconds
