"""Winograd's weights: G g G^T for every pair of channels, in panels of output channels."""

from __future__ import annotations

import functools

import numpy as np

from numbaconv.algorithms.algorithm import Array, Packing, Schedule
from numbaconv.cooktoom import point_count
from numbaconv.geometry import ceil_div, geometry, read
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.linear import transform
from numbaconv.simd.vec import get, put

_WEIGHT = 1


@functools.cache
def _packer(mh: int, mw: int, R: int, S: int, sh: int, sw: int, nv: int, lanes: int) -> Dispatcher:
    nh = point_count(mh, R, sh)
    nw = point_count(mw, S, sw)
    nr = nv * lanes

    def pack(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One panel of a group: ``w`` [G * K][C][R * S] to ``y`` [G][panels][nh * nw][C][nr], zeros beyond K.

        In float64 until it is written: transformed in float32, the weights alone double the error of F(6, 3).
        """
        g = read(geometry)
        C, K = g.C, g.K
        panels = (K + nr - 1) // nr
        group = task // panels
        raw = np.zeros(R * S * lanes)
        half = np.empty(nh * S * lanes)
        whole = np.empty(nh * nw * lanes)
        for vector in range(nv):
            k = task % panels * nr + vector * lanes
            channels = max(0, min(lanes, K - k))
            for c in range(C):
                for lane in range(lanes):
                    source = ((group * K + k + lane) * C + c) * R * S
                    for tap in range(R * S):
                        value = get(w, source + tap) if lane < channels else w.dtype.type(0)
                        put(raw, tap * lanes + lane, np.float64(value))
                for s in range(S):
                    transform(_WEIGHT, mh, R, sh, raw, s * lanes, S * lanes, half, s * lanes, S * lanes, lanes)
                for i in range(nh):
                    transform(_WEIGHT, mw, S, sw, half, i * S * lanes, lanes, whole, i * nw * lanes, lanes, lanes)
                at = (task * nh * nw * C + c) * nr + vector * lanes
                for point in range(nh * nw):
                    for lane in range(lanes):
                        put(y, at + point * C * nr + lane, w.dtype.type(get(whole, point * lanes + lane)))

    return jit(pack)


def winograd_packing(
    problem: ConvProblem, tile: tuple[int, int], strides: tuple[int, int], nv: int, lanes: int
) -> Packing:
    """Transform and pack the weight for output tiles of ``tile`` and panels of ``nv`` vectors."""
    (mh, mw), (sh, sw), (_, R, S) = tile, strides, problem.kernel_size
    points = point_count(mh, R, sh) * point_count(mw, S, sw)
    panels = ceil_div(problem.out_channels // problem.groups, nv * lanes) * problem.groups
    return Packing(
        layout=("winograd", tile, strides, nv * lanes),
        elements=panels * nv * lanes * points * (problem.in_channels // problem.groups),
        schedule=Schedule(panels, 0, geometry(problem)),
        kernel=lambda: _packer(mh, mw, R, S, sh, sw, nv, lanes),
    )
