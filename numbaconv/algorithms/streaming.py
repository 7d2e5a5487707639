"""Outputs that are larger than what the caches keep, written past them, a whole line in each store.

A line that is written whole need not be read before, nor does it take the place of what the caches hold. With one
thread of Intel Granite Rapids 24 GB/s are written so, however much it is; by usual stores 65 GB/s of what L2 holds, 29
of what L3 has, and 8 to 16 of what comes and goes through memory, from some 40 MB on. 1 x 1 of 64 to 128 channels at
448 x 448 takes 32 ms there by `direct`, 43 by `im2col`, and 20 so.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any

from numbaconv.algorithms.staging import vectors_fill_lines
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.geometry import spatial
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile_memory import store_tile, stream_tile
from numbaconv.workspace import LARGE_BYTES, LINE

#: Bytes of input and output that L3 does not hold together where it is slow, and shared by others. What is written past
#: the caches comes from memory for the next layer: on Granite Rapids 64 images of 28 x 28, 64 to 128 channels and back
#: by 1 x 1, 37 MiB each, take 22 to 38 % less time so, and 32 images as long; 16 images of 224 x 224 from 3 to 32
#: channels, 34 MiB, and 3 x 3 of each channel, would take 23 to 49 % more.
FAR_BYTES = 36 << 20
#: Tiles that are many in a row. At 4096 x 4096 a filter of 3 x 3 takes a third less time past the caches on AMD Zen 5,
#: and at 2048 x 2048 7 to 21 % less on Zen 4. But 4 images of 224 x 224 with 64 channels by `depthwise`, 7 tiles, took
#: 2.8 ms on Zen 5, and would take 3.9; on Zen 4, where they take 9.5, it would be 6.3. Where a row does not begin with
#: a line, it takes a tile more: with one thread of Granite Rapids 8 images of 224 x 224 from 3 to 64 channels, 7 tiles
#: by `rows`, take 11 % less past the caches if all begin with one, and 26 more if not; and 112 x 112 by `winograd` 7 %
#: less, and 5 more.
_MANY_TILES = 14


def output_bytes(problem: ConvProblem) -> int:
    """Bytes of the output."""
    return prod(problem.output_shape) * ITEM_SIZE[problem.dtype]


def is_large(problem: ConvProblem, machine: Machine) -> bool:
    """Whether L3 may not hold the output beside the input."""
    together = prod(problem.input_shape) * ITEM_SIZE[problem.dtype] + output_bytes(problem)
    return output_bytes(problem) >= LARGE_BYTES and (together >= FAR_BYTES or not machine.slow_l3)


def may_stream(problem: ConvProblem, machine: Machine, Q: int, nr: int) -> bool:
    """Whether an output of vectors of pixels, in rows of ``Q`` and tiles of ``nr``, is written past the caches.

    That is where L3 is slow, and lines begin at the same pixels of all channels. Where rows are short, it has to begin
    with a line, too, which is known at a call only; those that a call makes do.
    """
    lanes = machine.lanes(problem.dtype)
    planes = vectors_fill_lines(lanes, problem.dtype) and prod(spatial(problem)[1]) % lanes == 0
    return machine.slow_l3 and planes and (has_long_rows(Q, nr) or Q % lanes == 0) and is_large(problem, machine)


def written_through(problem: ConvProblem, machine: Machine, past: bool) -> float:
    """Bytes that come and go through memory, if they are not written past the caches."""
    return 0.0 if past or not machine.slow_l3 or not is_large(problem, machine) else float(output_bytes(problem))


@shared
def has_long_rows(Q: int, nr: int) -> bool:
    """Whether a row of ``Q`` pixels is many tiles of ``nr``."""
    return nr * _MANY_TILES <= Q


@shared
def mostly_lines(y: Array, Q: int, nr: int, lanes: int) -> bool:
    """Whether most vectors of rows of ``Q`` pixels, in tiles of ``nr``, are lines: they are long, or begin with one."""
    return has_long_rows(Q, nr) or (Q % lanes == 0 and y.ctypes.data % LINE == 0)


@shared
def behind_line(a: Array, at: int, lanes: int, wanted: bool) -> int:
    """How many elements ``a[at]`` is behind the beginning of a line; 0 if that is not ``wanted``."""
    return (a.ctypes.data // a.itemsize + at) % lanes if wanted else 0


@functools.cache
def tile_writer(streams: bool) -> Dispatcher:
    """The kernel piece that writes a whole tile, which may be past the caches if lines are streamed."""

    def write(tile: Any, y: Array, at: int, step: int, past: bool) -> None:
        """To ``y[at:]``, rows a ``step`` apart; ``past`` the caches where vectors of them are lines."""
        if streams and past:
            stream_tile(tile, y, at, step)
        else:
            store_tile(tile, y, at, step)

    return jit(write, inline="always")
