"""Depthwise convolution, pixels in lanes: one input channel per group, so no reduction over channels.

Also the classical image filter, a single-channel image under one kernel. A task copies the rows that its block of
output sees into a padded block in L1; with a column stride the copy sorts columns by their remainder, so that the
taps of neighbouring pixels are neighbours again and every load is a vector.
"""

from __future__ import annotations

import functools
from math import prod
from typing import NamedTuple

from numbaconv.algorithms.algorithm import Algorithm, Array, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cost import Work
from numbaconv.geometry import ceil_div, even_block, geometry, locate, spatial
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.tile import add_to_rows, clip, rank1, zeros
from numbaconv.simd.tile_memory import store_part, store_tile

#: Vectors of pixels in a tile, most first: the widest that a row fills well.
_VECTORS = (4, 2, 1)
#: Output columns of a block: a staged row of them is 8 KiB in float32.
_MOST_COLUMNS = 2048


class Settings(NamedTuple):
    """Tile of ``nv`` vectors of pixels; blocks of groups, rows and columns."""

    nv: int
    block_g: int
    block_p: int
    block_q: int


class _Staged(NamedTuple):
    """The staged block is [T][rows][column stride][pitch]."""

    rows: int
    pitch: int


def _staged(problem: ConvProblem, settings: Settings, lanes: int) -> _Staged:
    (_, R, S), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    _, P, Q = spatial(problem)[1]
    block_p, block_q = min(settings.block_p, P), min(settings.block_q, Q)
    rows = block_p if R == 1 else (block_p - 1) * sh + (R - 1) * dh + 1
    nr = settings.nv * lanes
    return _Staged(rows, ceil_div(block_q, nr) * nr + (S - 1) * dw // sw)


@functools.cache
def _kernel(nv: int, lanes: int) -> Dispatcher:
    nr = nv * lanes

    def depthwise(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of rows and columns of some groups. ``x`` is NGDHW, ``w`` (G K)1TRS, ``y`` N(G K)OPQ.

        ``workspace`` holds the block staged. Lanes beyond a row's end compute what is not stored.
        """
        g = geometry[0]
        K, T, R, S = g.K, g.T, g.R, g.S
        n, g_task, o, p_task, q_task, _ = locate(task, g)
        p0 = p_task * g.block_p
        q0 = q_task * g.block_q
        bp = min(g.block_p, g.P - p0)
        bq = min(g.block_q, g.Q - q0)
        row_step = 1 if R == 1 else g.stride_h
        rows = (bp - 1) * row_step + (R - 1) * g.dilation_h + 1
        phases = g.stride_w
        left = q0 * phases - g.pad_w
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        zero = x.dtype.type(0)
        for group in range(g_task * g.block_g, min(g.G, (g_task + 1) * g.block_g)):
            for staged in range(T * rows):
                depth = o * g.stride_d - g.pad_d + staged // rows * g.dilation_d
                row = p0 * g.stride_h - g.pad_h + staged % rows * (g.stride_h // row_step)
                source = (((n * g.G + group) * g.D + depth) * g.H + row) * g.W + left
                inside = 0 <= depth < g.D and 0 <= row < g.H
                for phase in range(phases):
                    first = min(g.pitch, max(0, (phases - 1 - left - phase) // phases)) if inside else g.pitch
                    end = max(first, min(g.pitch, (g.W - 1 - left - phase) // phases + 1))
                    to = (staged * phases + phase) * g.pitch
                    for j in range(first):
                        workspace[to + j] = zero
                    if phases == 1:
                        for j in range(first, end):
                            workspace[to + j] = x[source + j]
                    else:
                        for j in range(first, end):
                            workspace[to + j] = x[source + phase + j * phases]
                    for j in range(end, g.pitch):
                        workspace[to + j] = zero
            for k in range(group * K, (group + 1) * K):
                for p in range(bp):
                    at = (((n * g.G * K + k) * g.O + o) * g.P + p0 + p) * g.Q + q0
                    for q in range(0, bq, nr):
                        acc = zeros(x, 1, nv, lanes)
                        weight = k * T * R * S
                        for t in range(T):
                            for r in range(R):
                                line = (t * rows + p * row_step + r * g.dilation_h) * phases
                                for s in range(S):
                                    column = s * g.dilation_w
                                    tap = (line + column % phases) * g.pitch + column // phases + q
                                    acc = rank1(acc, w, weight, 0, workspace, tap)
                                    weight += 1
                        acc = clip(add_to_rows(acc, bias, k, 0), low, high)
                        if q + nr <= bq:
                            store_tile(acc, y, at + q, 0)
                        else:
                            store_part(acc, y, at + q, 0, 0, 1, bq - q)

    return jit(depthwise)


def applicable(problem: ConvProblem) -> str | None:
    if problem.in_channels != problem.groups:
        per_group = problem.in_channels // problem.groups
        return f"it is for one input channel per group, and here there are {per_group}"
    return None


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> tuple[Settings, ...]:
    """One for each tile width that wastes no more than the narrowest by half."""
    O, P, Q = spatial(problem)[1]
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    found = []
    for nv in _VECTORS:
        if ceil_div(Q, nv * lanes) * nv * lanes > 1.5 * ceil_div(Q, lanes) * lanes:
            continue
        block_q = even_block(Q, _MOST_COLUMNS, nv * lanes)
        row_bytes = problem.kernel_size[0] * problem.stride[1] * problem.stride[2] * block_q * size
        block_p = even_block(P, max(1, machine.l1 // 2 // row_bytes))
        tasks = problem.batch * problem.groups * O * ceil_div(P, block_p) * ceil_div(Q, block_q)
        while tasks < 4 * threads and block_p > 8:
            block_p = ceil_div(block_p, 2)
            tasks *= 2
        # A task of less than some 16 thousand outputs is mostly the cost of being one.
        block_g = max(1, min(problem.groups, 16384 // (block_p * block_q), tasks // (8 * threads)))
        found.append(Settings(nv, block_g, block_p, block_q))
    return tuple(found)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    _, block_g, block_p, block_q = settings
    O, P, Q = spatial(problem)[1]
    rows, pitch = _staged(problem, settings, machine.lanes(problem.dtype))
    cuts = {
        "tasks_g": ceil_div(problem.groups, block_g), "tasks_o": O,
        "tasks_p": ceil_div(P, block_p), "tasks_q": ceil_div(Q, block_q),
    }  # fmt: skip
    workspace = problem.kernel_size[0] * rows * problem.stride[2] * pitch
    record = geometry(problem, **cuts, block_g=block_g, block_p=block_p, block_q=block_q, pitch=pitch)
    return Schedule(problem.batch * prod(cuts.values()), workspace, record)


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    nv, block_g, block_p, block_q = settings
    lanes = machine.lanes(problem.dtype)
    O, P, Q = spatial(problem)[1]
    rows, pitch = _staged(problem, settings, lanes)
    tasks = problem.batch * ceil_div(problem.groups, block_g) * O * ceil_div(P, block_p) * ceil_div(Q, block_q)
    tiles = problem.batch * problem.out_channels * O * P * ceil_div(Q, nv * lanes)
    staged = tasks * min(block_g, problem.groups) * problem.kernel_size[0] * rows * problem.stride[2] * pitch
    unit = problem.stride[2] == 1
    return Work(
        tasks,
        fmas=tiles * prod(problem.kernel_size) * (2 * nv + 1),  # a load that crosses cache lines for each
        tiles=tiles,
        moved=tiles * nv * lanes / 2 + (staged / 2 if unit else 0),
        scattered=0 if unit else staged / 2,
    ).seconds(machine, threads)


DEPTHWISE = Algorithm(
    name="depthwise",
    summary="one input channel per group: pixels in lanes over padded rows in L1",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=lambda settings, lanes: _kernel(settings.nv, lanes),
)
