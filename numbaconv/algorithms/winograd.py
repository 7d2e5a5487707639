"""Winograd convolution F(m, r), output channels in lanes at every stage.

Outputs are cut in tiles of m x m; each is a transform away from n * n products, n = m + r - 1, that sum over channels.
So the work is n * n matrix products of tiles by output channels, with r = 3 2.25 (m = 2) to 5.1 (m = 6) times fewer
multiplications than the direct sum. A task takes a block of tiles and some panels of output channels:

1. stage some channels of the input block, channels-last and with its padding (as `direct` does);
2. transform every tile, B^T d B, on vectors of these, to ``[n * n][tiles][C]``, and go on with the next channels;
3. per panel, n * n products of these with packed weights ``[n * n][C][nr]`` (or such as are transformed now, if they
   change and are needed once): tiles are broadcast, channels in lanes;
4. transform back, A^T M A, on vectors of output channels, to rows of pixels channels-last;
5. transpose these to NCHW, adding bias and clipping on the way.

Everything between x and y stays in L2, or nearly. A tile may have another m along each axis, and 1 along one: then the
sum along it is the direct one, and that of a single tap is no transform at all. A dilated kernel sees every d-th pixel,
so that d * d tiles lie in each other: each is a strided view of the staged block. With a stride the phases of inputs
and taps (`cooktoom.py`) are such views, too, and channels of their own: 3 x 3 with stride 2 is 2 x 2 of four times the
channels, without the products of taps that a phase has not, 1.8 times fewer than the direct sum's for m = 4. Where an
image is no whole tiles, the last ones have fewer products (`winograd_tiles.py`). Source: Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks" (CVPR 2016). A NaN or Inf in the input spreads over the tiles that see it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from heapq import nsmallest
from itertools import product
from math import hypot, inf, prod
from typing import NamedTuple

from numbaconv.algorithms.ahead import Asks, asked_share, asker, asks_of, multiplier, rows_asker
from numbaconv.algorithms.algorithm import ERROR_BOUNDS, NOT_STRICT, Algorithm, Packing, Schedule
from numbaconv.algorithms.staging import channels_last_stager, pitch_apart
from numbaconv.algorithms.streaming import behind_line, may_stream, mostly_lines, tile_writer, written_through
from numbaconv.algorithms.winograd_tiles import block_of, slots_seen, tile_slot, tile_start
from numbaconv.algorithms.winograd_weights import panel_transformer, scratch_sizes, winograd_packing
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.cooktoom import INPUT, OUTPUT, amplification, phases, phases_seen, point_count, product_count, tile_sizes
from numbaconv.cost import (
    MEMORY_BYTES,
    STREAM_BYTES,
    TILE_OVERHEAD,
    Work,
    from_l3,
    laying_cycles,
    preparing_cycles,
    share,
    step_fmas,
)
from numbaconv.geometry import Cut, ceil_div, cut_outputs, even_block, inputs_seen, locate, read
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.linear import transform
from numbaconv.simd.tile import add, add_to_columns, clip, zeros
from numbaconv.simd.tile_memory import fence, load_tile, store_part, store_tile, transpose
from numbaconv.simd.vec import in_register
from numbaconv.workspace import LINE

#: Tile shapes (mr, nv) of the products; mr Winograd tiles by nv vectors of output channels. Those of one vector are for
#: 16 channels and 48: on AMD Zen 5 32 groups of 16 at 14 x 14 take 22 % less so, and 48 at 28 x 28 11.
TILES = {
    "avx512": ((14, 2), (13, 2), (12, 2), (10, 2), (9, 2), (8, 2), (8, 3), (14, 1), (9, 1)),
    "neon": ((12, 2), (6, 4)),
    "avx2": ((6, 2), (4, 3)),
}
#: By the channels that are summed at a stretch, the error, max |y - y64| / max |y64|, in float32 for each unit of
#: `amplification`, which was 2.0 to 2.8e-7 and 1.1 to 1.6e-7 as measured. Shorter sums take 6 % longer.
_ERRORS = {128: 3.2e-7, 32: 2.0e-7}
#: Taps of a phase, at most: F(2, 7) is the longest for which there are points, and code grows with the taps.
_MOST_TAPS = 7
#: Channels that the products of fewer take as long as: what they store does not stay in L1.
_LEAST_DEPTH = 10
#: Times as long as in `direct` an FMA takes, whose weights serve more pixels.
_SLOWER = 1.12
#: Winograd tiles that a block has at most: a panel of weights is loaded once for all of them.
_MOST_TILES = 56
#: Winograd tiles that are looked at more closely: those with the least to do.
_MOST_CANDIDATES = 4
#: Times as large the error is, at most, where weights are transformed in float32: of 3 x 3 with stride 2 and 256
#: channels by (2, 6) outputs 2.8e-6 was measured, and 1.9e-6 with float64; others are alike within a third.
_SINGLE_ERROR = 1.4
#: Times as long as one that is laid out a weight takes that is transformed, in float32 and in float64.
_PREPARED = {True: 1.0, False: 2.0}
#: Cycles of a task beside its tiles. Without, 2 images of 8 x 7 pixels and 4 channels were foretold to take as long as
#: by `inner`, and take 0.2 to 0.7 us more on AMD Zen 4.
_TASK_CYCLES = 1000.0
#: Vector FMAs that a transform costs as much as, for each of its n * n values: loads, stores and arithmetic. Along an
#: axis of more points than 16 registers hold it is times as many: by tiles so chosen, 64 channels at 56 x 56 and at
#: 224 x 224 take 8 to 18 % less on AMD Zen 3. By 1.3 grouped layers gain nothing, and by 1.4 8 images take 12 to 17 %
#: more.
_TRANSFORM_FMAS = 6.0
_SPILLED, _MOST_POINTS = 1.35, 6
#: Times as many where loads are few, as on Intel Ice Lake, or L2 is late, as on Granite Rapids.
_LATE_TRANSFORMS = 1.9
#: Bytes of the channels that are staged at a time, or a vector of them. With one thread of Intel Granite Rapids 64
#: channels at 112 x 112 take 5 % less so than all at once, at 224 x 224 6, and 128 at 28 x 28 3; with two threads 3, 5
#: and 6, and 256 at 14 x 14 as long. By single vectors 512 at 14 x 14 would take 3 to 4 % more; and with a stride,
#: where blocks see more pixels, 128 at 56 x 56 3, and compiled for AVX2 8 to 13.
_STAGED_BYTES = 32 << 10
#: Part of L2 that a task's workspace may have, so that tiles stay there while weights pass through.
_L2_OF_TILES = 0.75


@shared
def spanned(tiles: int, mr: int, low: int) -> int:
    """Rows of the register tiles for so many Winograd tiles: all of ``mr`` rows, but the last of ``low`` if it may.

    Examples
    --------
    >>> [spanned(tiles, 9, 6) for tiles in (0, 4, 7, 9, 15)]
    [0, 6, 9, 9, 15]
    """
    left = tiles % mr
    return tiles - left + (0 if left == 0 else low if left <= low else mr)


def low_rows(mr: int) -> int:
    """Winograd tiles of the lower register tile, for what is left of them behind those of ``mr``.

    Two thirds: of the 9 tiles of 14 x 14 outputs by F(5 x 5, 3), 6 have products at infinity along an axis.
    """
    return ceil_div(2 * mr, 3)


class Settings(NamedTuple):
    """F(mh x mw, r) by tiles of ``mr`` and ``nv``; blocks of rows and columns of units, and panels of channels."""

    mh: int
    mw: int
    mr: int
    nv: int
    block_p: int
    block_q: int
    block_k: int


class _Tiling(NamedTuple):
    """How F(mh x mw, r) cuts the outputs: ``down`` and ``across``, in units of tiles that lie in each other.

    A tile has mh by mw outputs, as far apart as the dilations, of inputs sh and sw times as far apart. Along an axis
    that is not filtered all of these are 1. It has so many ``points``, and takes ``products`` for each input channel,
    of which there are ``phases``. ``seen`` are parts of the products, with the units down and across that have these.
    """

    sh: int
    sw: int
    down: Cut
    across: Cut
    phases: int
    points: int
    products: int
    seen: tuple[tuple[float, int, int], ...]

    @property
    def tiles(self) -> int:
        """Tiles of a unit."""
        return self.down.step * self.across.step

    def depth(self, channels: int) -> float:
        """Products that a point sums, on average."""
        return channels * self.products / self.points

    def of_units(self, block_p: int, block_q: int, most: int) -> list[tuple[float, int]]:
        """Points, and the tiles that have products there, of a block of so many units.

        Of up to ``most`` blocks along an axis, each of a thread, the first counts, which has most; else their average.
        """
        ways = []
        for part, down, across in self.seen:
            points, tiles = self.points * part, self.tiles
            for units, block, seen in ((self.down.units, block_p, down), (self.across.units, block_q, across)):
                if units <= block * max(1, most):
                    tiles *= min(block, seen)
                else:  # most blocks have all tiles of a kind, or none
                    tiles *= block
                    points *= seen / units
            ways.append((points, tiles))
        return ways


@functools.lru_cache(maxsize=1024)
def _tiling(problem: ConvProblem, mh: int, mw: int) -> _Tiling:
    (_, R, S), (_, P, Q) = problem.kernel_size, problem.out_size
    sh, dh = (problem.stride[1], problem.dilation[1]) if R > 1 else (1, 1)
    sw, dw = (problem.stride[2], problem.dilation[2]) if S > 1 else (1, 1)
    down, across = cut_outputs(P, mh, dh), cut_outputs(Q, mw, dw)
    kinds = []
    for cut, m, r, stride in ((down, mh, R, sh), (across, mw, S, sw)):
        last = phases_seen(r, stride, last=True) / product_count(m, r, stride)
        kinds.append([(1.0 - last, cut.units), (last, cut.units - cut.short)] if cut.short else [(1.0, cut.units)])
    return _Tiling(
        sh, sw, down, across, phases(R, sh).number * phases(S, sw).number,
        point_count(mh, R, sh) * point_count(mw, S, sw), product_count(mh, R, sh) * product_count(mw, S, sw),
        tuple((part_h * part_w, rows, columns) for (part_h, rows), (part_w, columns) in product(*kinds)),
    )  # fmt: skip


def _products(seen: list[tuple[float, int]], mr: int, nv: int, machine: Machine) -> tuple[float, float]:
    """Vector FMAs of a channel's products for a panel, of points and tiles of a block; and register tiles of these."""
    low = low_rows(mr)
    step, low_step = step_fmas(mr, nv, machine), step_fmas(low, nv, machine)
    fmas = register_tiles = 0.0
    for points, tiles in seen:
        whole, left = divmod(spanned(tiles, mr, low), mr)
        fmas += points * (whole * step + (low_step if left else 0.0))
        register_tiles += points * (whole + (left > 0))
    return fmas, register_tiles


def _amplification(problem: ConvProblem, mh: int, mw: int) -> float:
    (_, R, S), (_, sh, sw) = problem.kernel_size, problem.stride
    return amplification(mh, R, sh) * amplification(mw, S, sw)


def _sum_block(problem: ConvProblem, mh: int, mw: int) -> int:
    """Channels summed at a stretch: as many as the accuracy allows."""
    allowed = ERROR_BOUNDS[problem.accuracy] / _amplification(problem, mh, mw)
    return max(_ERRORS, key=lambda length: (_ERRORS[length] <= allowed or problem.dtype == "float64", length))


def _error(problem: ConvProblem, mh: int, mw: int) -> float:
    """In float32, for tiles of mh x mw outputs of weights that are transformed in float64."""
    return _amplification(problem, mh, mw) * _ERRORS[_sum_block(problem, mh, mw)]


def _is_single(problem: ConvProblem, mh: int, mw: int) -> bool:
    """Whether weights are transformed in float32: such as change, where the accuracy allows it."""
    singles = problem.dtype == "float32" and not problem.constant_weight
    return singles and _SINGLE_ERROR * _error(problem, mh, mw) <= ERROR_BOUNDS[problem.accuracy]


def _error_bound(problem: ConvProblem, mh: int, mw: int) -> float:
    """In float32, for tiles of mh x mw outputs."""
    larger = _SINGLE_ERROR if _is_single(problem, mh, mw) else 1.0
    return max(ERROR_BOUNDS["strict"], larger * _error(problem, mh, mw))


def _sides(problem: ConvProblem, axis: int) -> list[int]:
    """Outputs that a Winograd tile may have along an axis: 1 is the direct sum."""
    return tile_sizes(problem.kernel_size[axis], problem.stride[axis])


class Layout(NamedTuple):
    """A workspace of so many ``elements``.

    How many channels are staged at a time, the distances of pixels, tiles and planes, and where each part begins.
    """

    some: int
    pitch: int
    tile_pitch: int
    plane: int
    product_plane: int
    transformed: int
    products: int
    outputs: int
    elements: int


@shared
def workspace_layout(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, dh: int, dw: int, mr: int, nr: int, lanes: int, itemsize: int,
    block_p: int, block_q: int, C: int,
) -> Layout:  # fmt: skip
    """The workspace for blocks of block_p by block_q units.

    As many channels are staged at a time as stay in L1 until they are transformed, and with a stride all. Pixels and
    tiles are whole vectors of channels, but that pixels of few channels lie close where neighbours are phases, which
    then fill vectors. Parts begin with a cache line: where all behind the pixels lay across two, 3 to 64 channels of
    7 x 7 with stride 2 took 18 % longer on AMD Zen 5. Planes are an odd number of lines apart, so that they do not meet
    in a few sets of the caches.
    """
    line = LINE // itemsize
    row_phases, taps_h, _ = phases(R, sh)
    column_phases, taps_w, _ = phases(S, sw)
    height, width = block_p * dh * mh, block_q * dw * mw
    # Phases that have a tap less than others read as much as these, and no product sees it.
    rows = inputs_seen(height, sh, row_phases * taps_h, dh)
    columns = inputs_seen(width, sw, column_phases * taps_w, dw)
    some = C
    if sh * sw == 1:
        some = min(C, max(1, _STAGED_BYTES // (rows * columns * lanes * itemsize)) * lanes)
    last = C - (C // some - 1) * some
    pitch = C
    if last > lanes or column_phases == 1 or dw > 1:
        pitch = pitch_apart((last + lanes - 1) // lanes * lanes, itemsize)
    span = column_phases * C if pitch == C and dw == 1 else C
    beyond = (lanes - span % lanes) % lanes  # what the last vector of the last phase writes behind it
    depth = (row_phases * column_phases * C + beyond + lanes - 1) // lanes * lanes
    tile_pitch = pitch_apart(depth, itemsize)
    tiles = (block_p * dh * block_q * dw + mr - 1) // mr * mr
    plane = ((tiles * tile_pitch + line - 1) // line | 1) * line
    product_plane = ((tiles * nr + line - 1) // line | 1) * line
    transformed = (rows * columns * pitch + line - 1) // line * line
    points = point_count(mh, R, sh) * point_count(mw, S, sw)
    products = transformed + points * plane
    outputs = products + points * product_plane
    elements = (outputs + (height * width + max(points, lanes)) * lanes + line - 1) // line * line
    return Layout(some, pitch, tile_pitch, plane, product_plane, transformed, products, outputs, elements)


@functools.cache
def _kernel(
    mh: int, mw: int, R: int, S: int, sh: int, sw: int, mr: int, nv: int, lanes: int, itemsize: int, sum_block: int,
    asks: Asks, streams: bool, fused: bool,
) -> Dispatcher:  # fmt: skip
    """The kernel of F(mh x mw, R x S) with strides sh and sw.

    With ``fused``, weights are as they come, and each panel of them is transformed in front of its products.
    """
    stage = channels_last_stager(lanes)
    row_phases, taps_h, _ = phases(R, sh)
    column_phases, taps_w, _ = phases(S, sw)
    nh = point_count(mh, R, sh)
    nw = point_count(mw, S, sw)
    product_planes = product_count(mh, R, sh) * product_count(mw, S, sw)
    nr = nv * lanes
    low_mr = low_rows(mr)
    ask = asker(nr, lanes, asks)
    write = tile_writer(streams)

    def products_of(rows: int) -> Dispatcher:
        """The kernel piece that sums the products of ``rows`` Winograd tiles at a point."""
        multiply, ask_pixels = multiplier(rows, nr, 0, asks), rows_asker(rows, LINE // itemsize, asks)

        def sum_tile(
            workspace: Array, pixels: int, tile_pitch: int, w: Array, weights: int, depth: int, sums: int, more: bool,
            asked: int, each: int,
        ) -> None:  # fmt: skip
            """Sum ``depth`` channels to ``workspace[sums:]``, and with ``more`` to what is there.

            Ask for as many times ``each`` of the weights from ``asked`` on.
            """
            # Asking far, every pass over the tiles asks for all lines of its weights: where others use L3 too, 256
            # channels at 14 x 14, a single pass, took 0.92 ms on AMD Zen 4 with every other line asked for, 0.61 with
            # none, and 0.57 so. By the first pass alone 512 take 7 to 60 % more.
            acc = zeros(workspace, rows, nv, lanes)
            pitch = in_register(tile_pitch)  # with it on the stack layers took 5 to 20 % more on AMD Zen 3
            for c in range(depth):
                ask(w, asked + c * each)
                ask_pixels(workspace, pixels, c, pitch)
                acc = multiply(acc, workspace, pixels + c, pitch, 1, w, weights + c * nr)
            if more:
                acc = add(acc, load_tile(workspace, sums, nr, rows, nv, lanes))
            store_tile(acc, workspace, sums, nr)

        return jit(sum_tile, inline="always")

    sum_tile, sum_low_tile = products_of(mr), products_of(low_mr)
    transform_panel = panel_transformer(mh, mw, R, S, sh, sw, nv, lanes, LINE // itemsize)
    scratch_elements, _ = scratch_sizes(mh, mw, R, S, sh, sw, nr, lanes, LINE // itemsize)

    def winograd(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of tiles for some panels of output channels.

        ``x`` is NCHW, ``y`` NKPQ; ``w`` is [G][panels][products][C][nr] (``winograd_packing``), for each of nh * nw
        points the phases that have a product there. In ``workspace`` are some channels of the block staged,
        [rows][columns][pitch]; its tiles transformed, [nh * nw][tiles][tile_pitch], phase after phase, of C channels
        each; one panel's products, [nh * nw][tiles][nr]; and its outputs, [rows][columns][lanes], with a
        half-transformed tile behind them. If ``fused``, ``w`` is KCRS, and behind these are a panel's
        weights, [products][C][nr], and what `panel_transformer` needs.
        What the pitches have beyond the channels is junk, which no product reads, and so are the products of tiles that
        a point does not see, which no output is made of that is not written again.
        """
        g = read(geometry)
        C, K = g.C, g.K
        n, group, _, p_task, q_task, k_task = locate(task, g)
        # Of a dilated kernel, dh * dw tiles lie in each other, as many steps apart as it has.
        dh = 1 if R == 1 else g.dilation_h
        dw = 1 if S == 1 else g.dilation_w
        cut_p, cut_q = cut_outputs(g.P, mh, dh), cut_outputs(g.Q, mw, dw)
        down, across = block_of(p_task, g.block_p, cut_p), block_of(q_task, g.block_q, cut_q)
        rows = inputs_seen(down.extent, sh, R, dh)
        columns = inputs_seen(across.extent, sw, S, dw)
        # Each part begins where the largest block's would.
        parts = workspace_layout(mh, mw, R, S, sh, sw, dh, dw, mr, nr, lanes, itemsize, g.block_p, g.block_q, C)
        some, pitch, tile_pitch, plane, product_plane, transformed, products, outputs, _ = parts
        # Phases of columns that lie side by side are transformed as one, of more channels.
        spans = 1 if pitch == C and dw == 1 else column_phases
        half = outputs  # the half-transformed tile, [nh][nw][lanes], is gone before there are outputs
        for piece in range(C // some):
            c = piece * some
            # The last ones are up to twice as many, as fewer than a vector would take long to stage.
            channels = some if piece + 1 < C // some else C - c
            stage(
                x, g.H * g.W, ((n * g.G + group) * C + c) * g.H * g.W, g.H, g.W, down.start * g.stride_h - g.pad_h,
                g.stride_h // sh, across.start * g.stride_w - g.pad_w, g.stride_w // sw, channels, pitch, rows, columns,
                workspace, 0,
            )  # fmt: skip
            for p_tile in range(down.tiles):
                top = tile_start(p_tile, down, cut_p)
                for q_tile in range(across.tiles):
                    corner = (top * sh * columns + tile_start(q_tile, across, cut_q) * sw) * pitch
                    to = transformed + tile_slot(p_tile, q_tile, down, across) * tile_pitch + c
                    below = sh * dh * columns * pitch
                    for phase in range(row_phases * spans):
                        source = corner + (phase // spans * dh * columns + phase % spans * dw) * pitch
                        slot = to + phase * (column_phases * C // spans)
                        for vector in range(0, column_phases * channels // spans, lanes):
                            for j in range(nw):
                                transform(INPUT, mh, taps_h, True, workspace, source + j * sw * dw * pitch + vector,
                                          below, workspace, half + j * lanes, nw * lanes, lanes)  # fmt: skip
                            for i in range(nh):
                                transform(INPUT, mw, taps_w, True, workspace, half + i * nw * lanes, lanes,
                                          workspace, slot + vector + i * nw * plane, plane, lanes)  # fmt: skip

        panels = (K + nr - 1) // nr
        slots = spanned(down.tiles * across.tiles, mr, mr)
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        # Behind the rest of the workspace are a panel's weights transformed, and what that takes.
        w_panels, packed = (workspace, parts.elements) if fused else (w, 0)
        scratch = packed + product_planes * C * nr
        between = scratch + scratch_elements
        past = streams and mostly_lines(y, across.size, lanes, lanes)
        for panel in range(k_task * g.block_k, min(panels, (k_task + 1) * g.block_k)):
            weights = packed if fused else (group * panels + panel) * product_planes * C * nr
            if fused:
                first = (group * K + panel * nr) * C * R * S
                transform_panel(w, first, K - panel * nr, C, workspace, packed, workspace, scratch, workspace, between)
            for point in range(nh * nw):
                # Phases whose products are summed lie side by side, at least those of the same rows.
                last_row, last_column = point // nw == nh - 1, point % nw == nw - 1
                begin, end = slots_seen(down, across, last_row, last_column)
                span = spanned(end - begin, mr, low_mr)
                begin = min(begin, slots - span)
                seen_h, seen_w = phases_seen(R, sh, last_row), phases_seen(S, sw, last_column)
                runs, length = (1, seen_h * seen_w * C) if seen_w == column_phases else (seen_h, seen_w * C)
                for run in range(runs):
                    for c_block in range(0, length, sum_block):
                        pixels = transformed + point * plane + run * column_phases * C + c_block
                        factors = weights + (run * length + c_block) * nr
                        depth = min(sum_block, length - c_block)
                        asked, passes = factors + depth * nr, (span + mr - 1) // mr
                        end = asked + depth * nr
                        for tile in range(begin, begin + span, mr):
                            at = pixels + tile * tile_pitch
                            sums = products + point * product_plane + tile * nr
                            more = run + c_block > 0
                            each = asked_share(nr, passes, asked, end)
                            if begin + span - tile >= mr:
                                sum_tile(workspace, at, tile_pitch, w_panels, factors, depth, sums, more, asked, each)
                            else:
                                sum_low_tile(
                                    workspace, at, tile_pitch, w_panels, factors, depth, sums, more, asked, each
                                )
                            asked += depth * each
                weights += runs * length * nr
            for vector in range(nv):
                k = panel * nr + vector * lanes
                if k >= K:
                    break
                half = outputs + down.extent * across.extent * lanes
                for p_tile in range(down.tiles):
                    top = tile_start(p_tile, down, cut_p)
                    for q_tile in range(across.tiles):
                        at = products + tile_slot(p_tile, q_tile, down, across) * nr + vector * lanes
                        for j in range(nw):
                            transform(OUTPUT, mh, taps_h, True, workspace, at + j * product_plane, nw * product_plane,
                                      workspace, half + j * lanes, nw * lanes, lanes)  # fmt: skip
                        corner = outputs + (top * across.extent + tile_start(q_tile, across, cut_q)) * lanes
                        below = dh * across.extent * lanes
                        for i in range(mh):
                            transform(OUTPUT, mw, taps_w, True, workspace, half + i * nw * lanes, lanes,
                                      workspace, corner + i * below, dw * lanes, lanes)  # fmt: skip
                channels = min(lanes, K - k)
                for i in range(down.size):
                    at = (((n * g.G + group) * K + k) * g.P + down.start + i) * g.Q + across.start
                    for q in range(-behind_line(y, at, lanes, past), across.size, lanes):
                        j = max(0, q)
                        count = min(q + lanes, across.size) - j
                        source = outputs + (i * across.extent + j) * lanes
                        pixels = load_tile(workspace, source, lanes, lanes, 1, lanes)
                        block = clip(transpose(add_to_columns(pixels, bias, group * K + k, channels)), low, high)
                        if channels == lanes and count == lanes:
                            write(block, y, at + j, g.P * g.Q, past)
                        else:
                            store_part(block, y, at + j, g.P * g.Q, 0, channels, count)
        if streams:
            fence()

    return jit(winograd)


def _tiles_workspace(problem: ConvProblem, settings: Settings, machine: Machine) -> int:
    """Elements of a worker's workspace, but for weights that are transformed there."""
    mh, mw, mr, nv, block_p, block_q, _ = settings
    lanes, itemsize = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    cut, (_, R, S) = _tiling(problem, mh, mw), problem.kernel_size
    return workspace_layout(
        mh, mw, R, S, cut.sh, cut.sw, cut.down.step, cut.across.step, mr, nv * lanes, lanes, itemsize, block_p, block_q,
        problem.in_channels // problem.groups,
    ).elements  # fmt: skip


def _workspace(problem: ConvProblem, settings: Settings, machine: Machine) -> int:
    """Elements of a worker's workspace."""
    elements = _tiles_workspace(problem, settings, machine)
    if not _is_fused(problem, settings):
        return elements
    mh, mw, _, nv, *_ = settings
    lanes, (_, R, S) = machine.lanes(problem.dtype), problem.kernel_size
    cut = _tiling(problem, mh, mw)
    C, _ = problem.group_channels
    scratch = scratch_sizes(mh, mw, R, S, cut.sh, cut.sw, nv * lanes, lanes, LINE // ITEM_SIZE[problem.dtype])
    return elements + cut.products * C * nv * lanes + sum(scratch)


def _may_stream(problem: ConvProblem, settings: Settings, machine: Machine) -> bool:
    lanes, cut = machine.lanes(problem.dtype), _tiling(problem, settings.mh, settings.mw)
    row = min(problem.out_size[2], settings.block_q * settings.mw * cut.across.step)
    return may_stream(problem, machine, row, lanes)


def _is_fused(problem: ConvProblem, settings: Settings) -> bool:
    """Whether each panel of weights is transformed by the task that needs it, in front of its products.

    Of weights that change, if no other task needs it: where the tiles of an image are one block, and there is one
    image. All of them would go to L3 and come back; a panel stays in L2. With one thread of Intel Granite Rapids 256
    channels at 14 x 14 take 11 % less so, 512 9 and 128 at 28 x 28 8; with two threads 11 and 12, and the last 2 more.
    """
    mh, mw, _, _, block_p, block_q, _ = settings
    cut = _tiling(problem, mh, mw)
    return cut.down.units <= block_p and cut.across.units <= block_q and _may_be_fused(problem, mh, mw)


def _may_be_fused(problem: ConvProblem, mh: int, mw: int) -> bool:
    """Whether weights may be transformed in front of their products, if one block has all tiles.

    They change, there is one image, and their arithmetic is of the problem's own type, as what the workspace holds is.
    """
    once = problem.batch == 1 and not problem.constant_weight
    return once and (problem.dtype == "float64" or _is_single(problem, mh, mw))


def applicable(problem: ConvProblem) -> str | None:
    longest = max(phases(problem.kernel_size[axis], problem.stride[axis]).taps for axis in (1, 2))
    if problem.kernel_size[0] > 1 or longest > _MOST_TAPS or max(max(_sides(problem, axis)) for axis in (1, 2)) == 1:
        return (
            f"it is for kernels of up to {_MOST_TAPS} taps for each step of the stride, and more than one, and here "
            f"are {' x '.join(map(str, problem.kernel_size))} with strides {' x '.join(map(str, problem.stride))}"
        )
    if problem.in_size[0] > 1 or any(problem.padding[0]):
        return "it is for two spatial axes, and here there are three"
    if problem.accuracy == "strict":
        return NOT_STRICT
    if problem.in_channels == problem.groups:
        return "with one input channel per group there are no products to save"
    return None


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """Winograd tiles that the accuracy allows, with the register tile and blocks that suit each; the fastest first."""
    bound = inf if problem.dtype == "float64" else ERROR_BOUNDS[problem.accuracy]
    pairs = product(_sides(problem, 1), _sides(problem, 2))
    allowed = [pair for pair in pairs if max(pair) > 1 and _error_bound(problem, *pair) <= bound]
    promise = ((_promise(problem, *pair, machine, threads), *pair) for pair in allowed)
    likely = nsmallest(_MOST_CANDIDATES, promise)
    return (settings for _, settings in sorted(_blocks(problem, mh, mw, machine, threads) for _, mh, mw in likely))


def _promise(problem: ConvProblem, mh: int, mw: int, machine: Machine, threads: int) -> tuple[float, float]:
    """Bytes beyond the workspace's limit; and cycles of each thread.

    If no thread had more tiles than another, and no register tile a row that is not needed.
    """
    cut, lanes = _tiling(problem, mh, mw), machine.lanes(problem.dtype)
    C, K = problem.group_channels
    images = problem.batch * problem.groups
    tiles = images * cut.down.units * cut.across.units * cut.tiles
    seen = images * sum(part * rows * columns for part, rows, columns in cut.seen) * cut.tiles
    products = seen * max(cut.depth(C), _LEAST_DEPTH) * K / lanes / machine.fma_per_cycle / threads
    fmas = _transform_fmas(problem, mh, mw, machine)
    transforms = tiles * (cut.phases * C + K) / lanes * fmas / machine.fma_per_cycle / threads
    weights, size = _weights(problem, cut), ITEM_SIZE[problem.dtype]
    fetching = cut.depth(C) * K * size / MEMORY_BYTES if _fetched(problem, weights, machine) else 0.0
    beyond, preparing = 0, 0.0
    fused = _may_be_fused(problem, mh, mw) and cut.down.units * cut.across.units * cut.tiles <= _MOST_TILES
    if not problem.constant_weight:
        preparing = _preparing_cycles(problem, mh, mw, machine, fused) / threads
        elements = weights + threads * _tiles_workspace(problem, _smallest(problem, mh, mw, machine), machine)
        beyond = max(0, elements * size - problem.workspace_limit)
    waiting = 0.0 if fused else from_l3(weights * size, 1.0, machine) / machine.l3_per_cycle / threads
    products = hypot(cut.points * products, cut.points * fetching, waiting)
    return beyond, products + cut.points * transforms + preparing


def _smallest(problem: ConvProblem, mh: int, mw: int, machine: Machine) -> Settings:
    """Blocks of one row of units, with room for any register tile."""
    cut, shapes = _tiling(problem, mh, mw), TILES[machine.tiles]
    block_q = even_block(cut.across.units, _MOST_TILES // cut.tiles)
    return Settings(mh, mw, max(mr for mr, _ in shapes), max(nv for _, nv in shapes), 1, block_q, 1)


def _transform_fmas(problem: ConvProblem, mh: int, mw: int, machine: Machine) -> float:
    """Vector FMAs that take as long as a transform of one vector, by each of its points; it is loads for the most."""
    (_, R, S), (_, sh, sw) = problem.kernel_size, problem.stride
    most = _MOST_POINTS if machine.registers == 16 else inf
    axes = (_SPILLED if points > most else 1.0 for points in (point_count(mh, R, sh), point_count(mw, S, sw)))
    slow = _LATE_TRANSFORMS if machine.asks_near else 1.0
    return _TRANSFORM_FMAS * slow * sum(axes) / 2


def _weights(problem: ConvProblem, cut: _Tiling) -> int:
    """Elements of a group's transformed weight."""
    C, K = problem.group_channels
    return cut.products * C * K


def _fetched(problem: ConvProblem, weights: int, machine: Machine) -> bool:
    """Whether so many transformed weights come from memory at every call, as L3 does not keep them."""
    return 2 * weights * ITEM_SIZE[problem.dtype] > machine.l3


def _prepared(problem: ConvProblem, mh: int, mw: int, machine: Machine) -> float:
    """Weights that take as long to lay out as these to transform, twice as many where they are written to memory.

    512 to 512 channels of F(2 x 3, 3), 21 MB, took 0.5 to 0.6 ns each on AMD Zen 3, and 256 to 256, 5 MB, 0.22.
    """
    weights = _weights(problem, _tiling(problem, mh, mw))
    each = _PREPARED[_is_single(problem, mh, mw)] * (2 if _fetched(problem, weights, machine) else 1)
    return each * problem.groups * weights


def _preparing_cycles(problem: ConvProblem, mh: int, mw: int, machine: Machine, fused: bool) -> float:
    """Cycles for transforming a weight that changes."""
    elements = _prepared(problem, mh, mw, machine)
    return laying_cycles(elements, machine) if fused else preparing_cycles(elements, problem.dtype, machine)


def _times_from_l3(weights: int, problem: ConvProblem, machine: Machine) -> float:
    """Times as long as from L2 that so many transformed weights take to arrive: beyond it they come from L3.

    128 channels at 56 x 56 with stride 2 took a third longer in blocks of 4 tiles, a panel's pixels for as many FMAs as
    weights, than in one of 28.
    """
    return 2.0 if weights * ITEM_SIZE[problem.dtype] > machine.l2 else 1.0


def _returning(tiles: int, workspace: int, cut: _Tiling, problem: ConvProblem, machine: Machine) -> float:
    """Bytes of so many tiles that come from L3 for each panel, as L2 has no room for all of a task's workspace.

    On Intel Granite Rapids 128 channels at 56 x 56 with stride 2 take 1.19 ms in one block of 49 tiles of 4 x 4, for
    which 0.84 were foretold without, and 1.08 in blocks of 56 of 2 x 2.
    """
    size = ITEM_SIZE[problem.dtype]
    fits = workspace * size <= machine.l2 * _L2_OF_TILES
    return 0 if fits else cut.points * tiles * cut.phases * problem.group_channels[0] * size


def _blocks(problem: ConvProblem, mh: int, mw: int, machine: Machine, threads: int) -> tuple[float, Settings]:
    """Blocks of a few tile rows, so many that no thread is left with more than another.

    Before them, the cycles of the thread that has most to do.
    """
    cut = _tiling(problem, mh, mw)
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    C, K = problem.group_channels
    smallest = _smallest(problem, mh, mw, machine)
    block_q = smallest.block_q
    images = max(1, problem.batch) * problem.groups * ceil_div(cut.across.units, block_q)
    depth = cut.depth(C)
    weights = _weights(problem, cut)
    fetched = _fetched(problem, weights, machine)
    # Weights are better loaded for more tiles at once, even if these do not fit L2: 512 to 512 channels at 28 x 28 took
    # 3.6 ms in blocks of 28 tiles, and 2.9 ms with all 49; 128 at 56 x 56 with stride 2, 13 % less by 14 than by 7.
    spare = problem.workspace_limit - (0 if problem.constant_weight else weights * size)
    limit = min(6 * machine.l2, spare // threads) // size

    def workspace(block_p: int) -> int:
        return _tiles_workspace(problem, smallest._replace(block_p=block_p), machine)

    rows = cut.down.units
    most = min(rows, _MOST_TILES // (block_q * cut.tiles))
    most = next((block_p for block_p in range(most, 1, -1) if workspace(block_p) <= limit), 1)
    loaded = from_l3(weights * size, 1.0, machine)
    streaming = _times_from_l3(weights, problem, machine) * depth * lanes * size / STREAM_BYTES
    fetching = depth * lanes * size / MEMORY_BYTES * threads if fetched else 0.0
    overhead = ceil_div(cut.phases * C, _sum_block(problem, mh, mw)) * TILE_OVERHEAD
    transform = _transform_fmas(problem, mh, mw, machine) / machine.fma_per_cycle
    ways = []
    for block_p in {ceil_div(rows, ceil_div(rows, longest)) for longest in range(1, most + 1)}:
        tiles = block_p * block_q * cut.tiles
        blocks = images * ceil_div(rows, block_p)
        returning = _returning(tiles, workspace(block_p), cut, problem, machine)
        seen = cut.of_units(block_p, block_q, threads // images)
        for mr, nv in TILES[machine.tiles]:
            fmas, register_tiles = _products(seen, mr, nv, machine)
            panels = ceil_div(K, nv * lanes)
            # Pieces of the panels repeat the transforms of the input, but each thread loads a part of the weights only.
            for block_k in {panels, ceil_div(panels, threads)}:
                vectors = block_k * nv
                steps = fmas / nv * max(depth, _LEAST_DEPTH)
                products = vectors * max(steps / machine.fma_per_cycle, cut.points * streaming)
                settings = Settings(mh, mw, mr, nv, block_p, block_q, block_k)
                fused = _is_fused(problem, settings)
                waiting = ((0.0 if fused else loaded / panels) + returning) * block_k / machine.l3_per_cycle
                products = hypot(products, vectors * cut.points * fetching, waiting)
                products += register_tiles * block_k * overhead
                transforms = cut.points * tiles * (cut.phases * C / lanes + min(vectors, K / lanes)) * transform
                tasks = ceil_div(blocks * ceil_div(panels, block_k), threads)
                cycles = tasks * (products + transforms)
                if not problem.constant_weight:
                    cycles += _preparing_cycles(problem, mh, mw, machine, fused) / threads
                ways.append((cycles, settings))
    return min(ways)


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    mh, mw, _, nv, block_p, block_q, block_k = settings
    cut = _tiling(problem, mh, mw)
    rows, columns = cut.down.units, cut.across.units
    block_p, block_q = min(block_p, rows), min(block_q, columns)
    panels = ceil_div(problem.out_channels // problem.groups, nv * machine.lanes(problem.dtype))
    return Schedule.of(
        problem, _workspace(problem, settings._replace(block_p=block_p, block_q=block_q), machine),
        tasks_g=problem.groups, tasks_p=ceil_div(rows, block_p), tasks_q=ceil_div(columns, block_q),
        tasks_k=ceil_div(panels, block_k),
        block_p=block_p, block_q=block_q, block_k=block_k,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    mh, mw, mr, nv, block_p, block_q, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    cut = _tiling(problem, mh, mw)
    rows, columns = cut.down.units, cut.across.units
    _, P, Q = problem.out_size
    C, K = problem.group_channels
    images = problem.batch * problem.groups
    panels = ceil_div(K, nv * lanes)
    blocks = images * ceil_div(rows, block_p) * ceil_div(columns, block_q)
    tiles = images * rows * columns * cut.tiles
    repeats = ceil_div(panels, block_k)
    weights = panels * nv * lanes * cut.products * C
    loaded = blocks * weights * size
    staged = images * P * Q * cut.sh * cut.sw * C * repeats
    workspace = _tiles_workspace(problem, settings, machine)
    returning = _returning(block_p * block_q * cut.tiles, workspace, cut, problem, machine)
    seen = cut.of_units(block_p, block_q, threads // max(1, images))
    fmas, register_tiles = (blocks * panels * n for n in _products(seen, mr, nv, machine))
    transforms = tiles * cut.points * (ceil_div(cut.phases * C, lanes) * repeats + panels * nv)
    fused, given = _is_fused(problem, settings), prod(problem.weight_shape) // problem.groups
    prepared = 0.0 if problem.constant_weight else _prepared(problem, mh, mw, machine)
    return Work(
        share(threads, images, (rows, block_p), (columns, block_q), (panels, block_k)),
        fmas=_SLOWER * fmas * max(cut.depth(C), _LEAST_DEPTH) + transforms * _transform_fmas(problem, mh, mw, machine),
        tiles=register_tiles * ceil_div(cut.phases * C, _sum_block(problem, mh, mw))
        + blocks * repeats * _TASK_CYCLES / TILE_OVERHEAD,
        moved=images * P * Q * K + (staged if C >= lanes else 0),
        scattered=0 if C >= lanes else staged,
        streamed=loaded if fused else _times_from_l3(weights, problem, machine) * loaded,
        waited=from_l3((given if fused else weights) * size, blocks, machine) + returning * blocks * panels,
        fetched=loaded if _fetched(problem, weights, machine) and not fused else 0,
        prepared=0 if fused else prepared,
        laid=prepared if fused else 0,
        written=written_through(problem, machine, _may_stream(problem, settings, machine)),
    ).seconds(machine, threads, problem.dtype)


def packing(problem: ConvProblem, settings: Settings, machine: Machine) -> Packing | None:
    if _is_fused(problem, settings):
        return None
    mh, mw, _, nv, *_ = settings
    cut = _tiling(problem, mh, mw)
    lanes, single = machine.lanes(problem.dtype), _is_single(problem, mh, mw)
    return winograd_packing(problem, (mh, mw), (cut.sh, cut.sw), nv, lanes, single=single)


def _kernel_of(problem: ConvProblem, settings: Settings, machine: Machine) -> Dispatcher:
    lanes = machine.lanes(problem.dtype)
    mh, mw, mr, nv, *_ = settings
    cut, (_, R, S) = _tiling(problem, mh, mw), problem.kernel_size
    asked = asks_of(problem, problem.groups * _weights(problem, cut), machine)
    itemsize, sum_block = ITEM_SIZE[problem.dtype], _sum_block(problem, mh, mw)
    streams, fused = _may_stream(problem, settings, machine), _is_fused(problem, settings)
    if fused:  # weights that are in L2
        asked = asked._replace(far=False, by_passes=False)
    return _kernel(mh, mw, R, S, cut.sh, cut.sw, mr, nv, lanes, itemsize, sum_block, asked, streams, fused)


WINOGRAD = Algorithm(
    name="winograd",
    summary="F(m, r): transforms and products with channels in lanes, fused per block of tiles",
    applicable=applicable,
    candidates=candidates,
    settings=Settings,
    estimate=estimate,
    schedule=schedule,
    kernel=_kernel_of,
    packing=packing,
    error_bound=lambda problem, settings: _error_bound(problem, settings.mh, settings.mw),
)
