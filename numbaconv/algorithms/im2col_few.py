"""Pixels that whole panels of `im2col` leave over, if they are few: by inner products, channels in lanes, as `inner`.

7 x 7 pixels are three vectors of 16 and one pixel, which costs as much as a fourth in a masked tile. A row of weights
is multiplied with what these pixels see while it is in L1, just after the last panel's tile. With one thread of Intel
Granite Rapids 1 x 1 of 960 to 320 channels at 7 x 7 took 221 us with a masked tile and takes 169 so, 512 to 2048 899
and 601, and 576 to 160 67 and 49.
"""

from __future__ import annotations

import functools

from numbaconv.algorithms.inner import COPIED, EXPANDED, inner_multiplier, pixels_expander
from numbaconv.algorithms.staging import channels_last_stager
from numbaconv.arrays import Array
from numbaconv.cost import step_fmas
from numbaconv.geometry import pixel_place, read
from numbaconv.machine import Machine
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile_memory import store_tile
from numbaconv.simd.vec import get, put


@shared
def _columns(mr: int) -> int:
    """Output channels of a tile of inner products: the largest power of two that divides ``mr``."""
    return mr & -mr


@shared
def _most(mr: int, lanes: int) -> int:
    """As many pixels as take half as long as a vector of them, or one, which takes no longer.

    Where two FMAs of four cycles finish in one, 8 sums keep the units busy: a pixel takes 9 loads for 8 channels of
    16, and a vector 8 FMAs for each of these. Fewer sums take as long as 8.

    Examples
    --------
    >>> [_most(mr, lanes) for mr, lanes in ((8, 16), (12, 16), (8, 8), (4, 8), (6, 8))]
    [8, 4, 4, 2, 1]
    """
    return max(1, min(8, _columns(mr)) * lanes // 16)


@shared
def few_pixels(pixels: int, in_plane: int, mr: int, nr: int, lanes: int) -> int:
    """How many pixels whole panels of ``nr`` leave over, if they are few; or else 0.

    They are in one plane of the output, the last one, of which there are ``in_plane`` pixels.

    Examples
    --------
    >>> [few_pixels(pixels, pixels, 8, 48, 16) for pixels in (49, 196, 784, 16)]
    [1, 4, 0, 0]
    """
    rest = pixels % nr
    return rest if pixels > nr and rest <= min(_most(mr, lanes), in_plane) else 0


@shared
def few_layout(rows: int, mr: int, nr: int, lanes: int) -> tuple[int, int, int, int]:
    """Where pixels are staged behind a panel of so many ``rows``, how far apart, where their sums are, and the end.

    Behind the last pixel there is room for what a copied row writes there, and behind the sums, [mr][lanes], for those
    of one tile.
    """
    staged = rows * nr
    pitch = (rows + lanes - 1) // lanes * lanes
    sums = staged + _most(mr, lanes) * pitch + max(lanes, COPIED)
    return staged, pitch, sums, sums + mr * lanes + max(lanes, _columns(mr))


def few_vectors(count: int, mr: int, lanes: int, machine: Machine) -> float:
    """Vectors of pixels that take as long as ``count`` pixels."""
    columns = _columns(mr)
    return count * step_fmas(1, columns, machine) / columns / lanes


def few_sums(count: int, mr: int) -> int:
    """Register tiles whose lanes are summed for ``count`` pixels of ``mr`` channels."""
    return count * (mr // _columns(mr))


def few_staging(count: int, flat: bool, lanes: int) -> float:
    """Elements moved to stage ``count`` pixels, for each that one of them sees.

    Of a ``flat`` image a whole block is transposed: with two threads of Granite Rapids 960 to 160 channels at 7 x 7
    took 45 us in four tasks, and 40 were foretold without.
    """
    return (lanes if flat else count * EXPANDED) if count else 0.0


@functools.cache
def few_stager(lanes: int) -> Dispatcher:
    """The kernel piece that stages what few pixels see, compiled into the kernel that calls it."""
    transpose, expand = channels_last_stager(lanes), pixels_expander(COPIED)

    def stage(
        x: Array, geometry: Array, start: int, channels: int, pixel: int, count: int, flat: bool, out: Array,
        staged: int, pitch: int,
    ) -> None:  # fmt: skip
        """Write ``out[staged:]`` as [count][pitch], [channels][T][R][S] of each pitch, for pixels from ``pixel`` on.

        ``x[start:]`` holds the channels as [D][H][W]. Where the image is ``flat``, each pixel sees itself.
        """
        g = read(geometry)
        if flat:
            plane = g.D * g.H * g.W
            transpose(x, plane, start, 1, plane, 0, 1, pixel, 1, channels, pitch, 1, count, out, staged)
        else:
            o, p, q = pixel_place(pixel, g)
            expand(x, geometry, start, o, p, q, count, channels, out, staged, pitch)

    return jit(stage)


@functools.cache
def few_multiplier(mr: int, lanes: int) -> Dispatcher:
    """The kernel piece that multiplies few pixels, as they were staged, and ``mr`` rows of weights."""
    columns = _columns(mr)
    multiply = inner_multiplier(1, columns, lanes)

    def multiply_few(
        workspace: Array, staged: int, pitch: int, count: int, w: Array, weight: int, w_step: int, length: int,
        sums: int,
    ) -> None:  # fmt: skip
        """Write ``workspace[sums:]`` as [mr][lanes], of which ``count`` are sums, of rows from ``staged`` on.

        What is just behind them is overwritten.
        """
        unordered = sums + mr * lanes
        for pixel in range(count):
            for k in range(0, mr, columns):
                row = weight + k * w_step
                total = multiply(workspace, staged + pixel * pitch, pitch, w, row, w_step, columns - 1, length)
                store_tile(total, workspace, unordered, 0)
                for column in range(columns):
                    put(workspace, sums + (k + column) * lanes + pixel, get(workspace, unordered + column))

    return jit(multiply_few)
