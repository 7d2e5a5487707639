"""Winograd convolution F(m, r), output channels in lanes at every stage.

Outputs are cut in tiles of m x m; each is a transform away from n * n products, n = m + r - 1, that sum over channels.
So the work is n * n matrix products of tiles by output channels, with r = 3 2.25 (m = 2) to 5.1 (m = 6) times fewer
multiplications than the direct sum. A task takes a block of tiles and some panels of output channels:

1. stage the input block channels-last, with its padding (as `direct` does);
2. transform every tile, B^T d B, on vectors of channels, to ``[n * n][tiles][C]``;
3. per panel, n * n products of these with packed weights ``[n * n][C][nr]``: tiles are broadcast, channels in lanes;
4. transform back, A^T M A, on vectors of output channels, to rows of pixels channels-last;
5. transpose these to NCHW, adding bias and clipping on the way.

Everything between x and y stays in L2. Kernels of 1 x r and r x 1 are the same with one transform left out. A dilated
kernel sees every d-th pixel, so that d * d tiles lie in each other: each is a strided view of the staged block. Source:
Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). A NaN or Inf in the input spreads
over the tiles that see it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from numbaconv.algorithms.algorithm import NOT_STRICT, Algorithm, Array, Packing, Schedule
from numbaconv.algorithms.staging import channels_last_stager, pitch_apart
from numbaconv.algorithms.winograd_weights import winograd_packing
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cost import Work
from numbaconv.geometry import ceil_div, even_block, locate, read
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit
from numbaconv.simd.linear import transform
from numbaconv.simd.tile import add, add_to_columns, clip, rank1, zeros
from numbaconv.simd.tile_memory import load_tile, store_part, store_tile, transpose
from numbaconv.workspace import LINE

#: Tile shapes (mr, nv) of the products; mr Winograd tiles by nv vectors of output channels.
TILES = {"avx512": ((14, 2), (12, 2), (10, 2), (8, 2), (8, 3)), "neon": ((12, 2), (6, 4)), "avx2": ((6, 2), (4, 3))}
#: Bounds of the error, max |y - y64| / max |y64|, in float32, by the inputs of a tile along an axis and the number of
#: axes that are filtered.
ERRORS = {(6, 2): 4e-6, (8, 2): 2e-5, (4, 2): 2e-6, (8, 1): 4e-6, (6, 1): 2e-6, (4, 1): 2e-6}
#: The longest kernel: F(2, 7) is the largest for which there are points.
_MOST_TAPS = 7
#: What each accuracy allows.
ERROR_BOUNDS = {"fast": 2e-5, "default": 4e-6}
#: Winograd tiles that a block has at most: a panel of weights is loaded once for all of them.
_MOST_TILES = 56
#: Register tiles that are worth measuring for each size of Winograd tile.
_MOST_CANDIDATES = 2
_OUTPUT, _INPUT = 0, 2
#: Channels summed at a stretch: with 512 channels F(4, 3) has an error of 1.1e-6 so, and 3.3e-6 in one sum.
_SUM_BLOCK = 128
#: Vector FMAs that a transform costs as much as, for each of its n * n values: loads, stores and arithmetic.
_TRANSFORM_FMAS = 6.0


class Settings(NamedTuple):
    """F(m, r) by tiles of ``mr`` and ``nv``; blocks of rows and columns of units, and panels of output channels."""

    m: int
    mr: int
    nv: int
    block_p: int
    block_q: int
    block_k: int


def _axes(problem: ConvProblem) -> int:
    """How many axes are filtered."""
    return sum(size > 1 for size in problem.kernel_size)


class _Tiling(NamedTuple):
    """How F(m, r) cuts the outputs: ``rows`` by ``columns`` units of dh by dw tiles that lie in each other.

    A tile has mh by mw outputs, as far apart as the dilations dh and dw, and takes ``points`` products a channel.
    """

    mh: int
    mw: int
    dh: int
    dw: int
    points: int
    rows: int
    columns: int


def _tiling(problem: ConvProblem, m: int) -> _Tiling:
    (_, R, S), (_, P, Q) = problem.kernel_size, problem.out_size
    mh, dh = (m, problem.dilation[1]) if R > 1 else (1, 1)
    mw, dw = (m, problem.dilation[2]) if S > 1 else (1, 1)
    points = (mh + R - 1) * (mw + S - 1)
    return _Tiling(mh, mw, dh, dw, points, ceil_div(P, mh * dh), ceil_div(Q, mw * dw))


@functools.cache
def _kernel(mh: int, mw: int, R: int, S: int, mr: int, nv: int, lanes: int, line: int) -> Dispatcher:
    """The kernel of F(mh x mw, R x S); ``line`` is a cache line in elements."""
    stage = channels_last_stager(lanes)
    nh = mh + R - 1
    nw = mw + S - 1
    nr = nv * lanes

    def winograd(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
        """One block of tiles for some panels of output channels.

        ``x`` is NCHW, ``y`` NKPQ; ``w`` is [G][panels][nh * nw][C][nr] (``winograd_packing``). In ``workspace`` are
        the block staged, [rows][columns][pitch]; its tiles transformed, [nh * nw][tiles][pitch]; one panel's products,
        [nh * nw][tiles][nr]; and its outputs, [rows][columns][lanes], with a half-transformed tile behind them. The
        pitch is whole vectors: channels beyond C are junk, which no product reads. A register tile of the last
        Winograd tiles overlaps the one before.
        """
        g = read(geometry)
        C, K = g.C, g.K
        n, group, _, p_task, q_task, k_task = locate(task, g)
        # Of a dilated kernel, dh * dw tiles lie in each other, as many steps apart as it has.
        dh = 1 if R == 1 else g.dilation_h
        dw = 1 if S == 1 else g.dilation_w
        tall, wide = mh * dh, mw * dw
        height = min(g.block_p, (g.P + tall - 1) // tall - p_task * g.block_p) * tall
        width = min(g.block_q, (g.Q + wide - 1) // wide - q_task * g.block_q) * wide
        p0 = p_task * g.block_p * tall
        q0 = q_task * g.block_q * wide
        tiles = height // mh * (width // mw)
        rows = height + (R - 1) * dh
        columns = width + (S - 1) * dw
        pitch = g.pitch
        stage(
            x, g.H * g.W, (n * g.G + group) * C * g.H * g.W, g.H, g.W, p0 - g.pad_h, 1, q0 - g.pad_w, 1,
            C, pitch, rows, columns, workspace, 0,
        )  # fmt: skip

        # Each part begins where the largest block's would, so that its planes are where the sizes foresee.
        padded_tiles = max(g.block_p * dh * g.block_q * dw, mr)
        plane = ((padded_tiles * pitch + line - 1) // line | 1) * line
        product_plane = ((padded_tiles * nr + line - 1) // line | 1) * line
        transformed = (g.block_p * tall + (R - 1) * dh) * (g.block_q * wide + (S - 1) * dw) * pitch
        products = transformed + nh * nw * plane
        outputs = products + nh * nw * product_plane
        half = outputs  # the half-transformed tile, [nh][nw][lanes], is gone before there are outputs

        to = transformed
        for p_tile in range(0, height, mh):
            top = p_tile // tall * tall + p_tile % tall // mh
            for q_tile in range(0, width, mw):
                corner = (top * columns + q_tile // wide * wide + q_tile % wide // mw) * pitch
                for c in range(0, C, lanes):
                    for j in range(nw):
                        transform(_INPUT, mh, R, workspace, corner + j * dw * pitch + c, columns * dh * pitch,
                                  workspace, half + j * lanes, nw * lanes, lanes)  # fmt: skip
                    for i in range(nh):
                        transform(_INPUT, mw, S, workspace, half + i * nw * lanes, lanes,
                                  workspace, to + c + i * nw * plane, plane, lanes)  # fmt: skip
                to += pitch

        panels = (K + nr - 1) // nr
        low, high = x.dtype.type(g.low), x.dtype.type(g.high)
        out_rows = min(height, g.P - p0)
        out_columns = min(width, g.Q - q0)
        for panel in range(k_task * g.block_k, min(panels, (k_task + 1) * g.block_k)):
            for point in range(nh * nw):
                weights = ((group * panels + panel) * nh * nw + point) * C * nr
                for tile_block in range(0, tiles, mr):
                    tile = max(0, min(tile_block, tiles - mr))
                    pixels = transformed + point * plane + tile * pitch
                    sums = products + point * product_plane + tile * nr
                    for c_block in range(0, C, _SUM_BLOCK):
                        acc = zeros(x, mr, nv, lanes)
                        for c in range(c_block, min(C, c_block + _SUM_BLOCK)):
                            acc = rank1(acc, workspace, pixels + c, pitch, w, weights + c * nr)
                        if c_block > 0:
                            acc = add(acc, load_tile(workspace, sums, nr, mr, nv, lanes))
                        store_tile(acc, workspace, sums, nr)
            for vector in range(nv):
                k = panel * nr + vector * lanes
                if k >= K:
                    break
                half = outputs + height * width * lanes
                at = products + vector * lanes
                for p_tile in range(0, height, mh):
                    top = p_tile // tall * tall + p_tile % tall // mh
                    for q_tile in range(0, width, mw):
                        for j in range(nw):
                            transform(_OUTPUT, mh, R, workspace, at + j * product_plane, nw * product_plane,
                                      workspace, half + j * lanes, nw * lanes, lanes)  # fmt: skip
                        corner = outputs + (top * width + q_tile // wide * wide + q_tile % wide // mw) * lanes
                        for i in range(mh):
                            transform(_OUTPUT, mw, S, workspace, half + i * nw * lanes, lanes,
                                      workspace, corner + i * dh * width * lanes, dw * lanes, lanes)  # fmt: skip
                        at += nr
                channels = min(lanes, K - k)
                for i in range(out_rows):
                    at = (((n * g.G + group) * K + k) * g.P + p0 + i) * g.Q + q0
                    for j in range(0, out_columns, lanes):
                        pixels = load_tile(workspace, outputs + (i * width + j) * lanes, lanes, lanes, 1, lanes)
                        block = clip(transpose(add_to_columns(pixels, bias, group * K + k, channels)), low, high)
                        if channels == lanes and j + lanes <= out_columns:
                            store_tile(block, y, at + j, g.P * g.Q)
                        else:
                            store_part(block, y, at + j, g.P * g.Q, 0, channels, out_columns - j)

    return jit(winograd)


def _sizes(problem: ConvProblem, settings: Settings, machine: Machine) -> tuple[int, int]:
    """Elements of a worker's workspace, and from one staged pixel to the next."""
    m, mr, nv, block_p, block_q, _ = settings
    lanes, line = machine.lanes(problem.dtype), LINE // ITEM_SIZE[problem.dtype]
    mh, mw, dh, dw, points, _, _ = _tiling(problem, m)
    _, R, S = problem.kernel_size
    pitch = _pitch(problem, machine)
    tiles = max(block_p * dh * block_q * dw, mr)
    height, width = block_p * dh * mh, block_q * dw * mw
    staged = (height + (R - 1) * dh) * (width + (S - 1) * dw) * pitch
    planes = points * sum((ceil_div(tiles * each, line) | 1) * line for each in (pitch, nv * lanes))
    outputs = (height * width + max(points, lanes)) * lanes
    return staged + planes + outputs, pitch


def _pitch(problem: ConvProblem, machine: Machine) -> int:
    """Elements from one staged pixel to the next: whole vectors of channels."""
    lanes = machine.lanes(problem.dtype)
    return pitch_apart(ceil_div(problem.in_channels // problem.groups, lanes) * lanes, ITEM_SIZE[problem.dtype])


def applicable(problem: ConvProblem) -> str | None:
    kernel = problem.kernel_size
    taps = set(kernel[1:]) - {1}
    if kernel[0] != 1 or len(taps) != 1 or max(taps) > _MOST_TAPS:
        return (
            f"it is for kernels of r x r, 1 x r and r x 1 with r from 2 to {_MOST_TAPS}, and here it is "
            f"{' x '.join(map(str, kernel))}"
        )
    if max(problem.stride) > 1:
        return "it is for unit stride"
    if problem.in_size[0] > 1 or any(problem.padding[0]):
        return "it is for two spatial axes, and here there are three"
    if problem.accuracy == "strict":
        return NOT_STRICT
    if problem.in_channels == problem.groups:
        return "with one input channel per group there are no products to save"
    return None


def candidates(problem: ConvProblem, machine: Machine, threads: int) -> Iterator[Settings]:
    """Tile sizes that the accuracy allows, with register tiles; fewest multiplications first."""
    bound = ERROR_BOUNDS[problem.accuracy]
    K, lanes = problem.out_channels // problem.groups, machine.lanes(problem.dtype)
    images = max(1, problem.batch) * problem.groups
    found: list[tuple[int, int, int, int]] = []
    for n, axes in ERRORS:
        m = n + 1 - max(problem.kernel_size)
        if axes == _axes(problem) and m > 1 and (ERRORS[n, axes] <= bound or problem.dtype == "float64"):
            cut = _tiling(problem, m)
            # Of a few rows of tiles, one thread has more than another.
            tiles = -(-images * cut.rows // threads) * cut.columns * cut.dh * cut.dw
            products = sorted(
                (cut.points * -(-tiles // mr) * mr * -(-K // (nv * lanes)) * nv, m, mr, nv)
                for mr, nv in TILES[machine.tiles]
            )
            found += products[:_MOST_CANDIDATES]
    return (_blocks(problem, m, mr, nv, machine, threads) for _, m, mr, nv in sorted(found))


def _blocks(problem: ConvProblem, m: int, mr: int, nv: int, machine: Machine, threads: int) -> Settings:
    """Blocks of a few tile rows, whose transforms fit L2, so many that no thread is left with more than another."""
    cut = _tiling(problem, m)
    each = cut.dh * cut.dw
    block_q = even_block(cut.columns, max(1, _MOST_TILES // each))
    images = max(1, problem.batch) * problem.groups * ceil_div(cut.columns, block_q)
    panels = ceil_div(problem.out_channels // problem.groups, nv * machine.lanes(problem.dtype))
    # Weights that do not fit L3 are better loaded for more tiles at once, even if these do not fit L2.
    weights = cut.points * problem.in_channels * problem.out_channels // problem.groups * ITEM_SIZE[problem.dtype]
    spare = problem.workspace_limit - (0 if problem.constant_weight else weights)
    limit = min((4 if 2 * weights > machine.l3 else 2) * machine.l2, spare // threads) // ITEM_SIZE[problem.dtype]
    most = 1
    while most < min(cut.rows, _MOST_TILES // (block_q * each)):
        if _sizes(problem, Settings(m, mr, nv, most + 1, block_q, 1), machine)[0] > limit:
            break
        most += 1

    def longest(block_p: int) -> tuple[int, int]:
        """Register tiles of the thread that has most, and among equal ones the fewer blocks."""
        tiles = block_p * block_q * each
        return ceil_div(images * ceil_div(cut.rows, block_p), threads) * ceil_div(tiles, mr), -block_p

    block_p = min(range(1, most + 1), key=longest)
    # A cut of the panels repeats the transforms of the input, so it is only made where threads would have no work, or
    # where weights come from memory: each thread then loads a part of them, once.
    pieces = min(panels, ceil_div(threads, images * ceil_div(cut.rows, block_p)))
    if weights > machine.l3 and panels >= threads:
        block_p, pieces = most, threads
    return Settings(m, mr, nv, block_p, block_q, ceil_div(panels, pieces))


def schedule(problem: ConvProblem, settings: Settings, machine: Machine) -> Schedule:
    m, _, nv, block_p, block_q, block_k = settings
    cut = _tiling(problem, m)
    block_p, block_q = min(block_p, max(1, cut.rows)), min(block_q, max(1, cut.columns))
    panels = ceil_div(problem.out_channels // problem.groups, nv * machine.lanes(problem.dtype))
    workspace, pitch = _sizes(problem, settings._replace(block_p=block_p, block_q=block_q), machine)
    return Schedule.of(
        problem, workspace,
        tasks_g=problem.groups, tasks_p=ceil_div(cut.rows, block_p), tasks_q=ceil_div(cut.columns, block_q),
        tasks_k=ceil_div(panels, block_k),
        block_p=block_p, block_q=block_q, block_k=block_k, pitch=pitch,
    )  # fmt: skip


def estimate(problem: ConvProblem, settings: Settings, machine: Machine, threads: int) -> float:
    m, mr, nv, block_p, block_q, block_k = settings
    lanes, size = machine.lanes(problem.dtype), ITEM_SIZE[problem.dtype]
    _, _, dh, dw, points, rows, columns = _tiling(problem, m)
    _, P, Q = problem.out_size
    C, K = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    images = problem.batch * problem.groups
    panels = ceil_div(K, nv * lanes)
    blocks = images * ceil_div(rows, block_p) * ceil_div(columns, block_q)
    tiles = images * rows * columns * dh * dw
    repeats = ceil_div(panels, block_k)
    register_tiles = blocks * ceil_div(block_p * block_q * dh * dw, mr) * points * panels
    transforms = tiles * points * (ceil_div(C, lanes) * repeats + panels * nv)
    return Work(
        blocks * repeats,
        fmas=register_tiles * C * mr * nv + transforms * _TRANSFORM_FMAS,
        tiles=register_tiles,
        moved=images * (P * Q * K + P * Q * C * repeats),
        streamed=blocks * panels * nv * lanes * points * C * size,
        # A transformed weight takes twice as long as one that is laid out.
        prepared=0 if problem.constant_weight else 2 * problem.groups * panels * nv * lanes * points * C,
    ).seconds(machine, threads)


def packing(problem: ConvProblem, settings: Settings, machine: Machine) -> Packing:
    return winograd_packing(problem, _tiling(problem, settings.m)[:2], settings.nv, machine.lanes(problem.dtype))


def _kernel_of(problem: ConvProblem, settings: Settings, lanes: int) -> Dispatcher:
    cut, (_, R, S) = _tiling(problem, settings.m), problem.kernel_size
    return _kernel(cut.mh, cut.mw, R, S, settings.mr, settings.nv, lanes, LINE // ITEM_SIZE[problem.dtype])


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
    error_bound=lambda problem, settings: ERRORS[settings.m + max(problem.kernel_size) - 1, _axes(problem)],
)
