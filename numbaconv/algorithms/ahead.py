"""Lines that products will read, asked for ahead: far or by passes, from memory or L3 into L2, or near, into L1."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, jit, shared
from numbaconv.simd.tile import rank1
from numbaconv.simd.tile_memory import prefetch, prefetch_rows

#: Rows of a panel ahead of which a kernel whose weights come from L3 asks for them, into L2. The processor's own
#: prefetching ends with a page. In `strassen`, where others use L3 too, 1024 to 2048 channels at 7 x 7 with stride 2
#: take 8 % less on AMD Zen 4 so, and 512 to 2048 3 to 6; with vectors of 32 bytes 23 and 4, and with 64 rows 18 and 2.
#: In `winograd`, 512 channels at 14 x 14 take 2.3 ms on AMD Zen 5 without, and 1.36 so; 256 take 5 to 7 % more there if
#: asked for as far ahead as the next point's.
_FAR = 128
#: Bytes of a prepared weight that are many. To ask for fewer takes time for nothing: 2 % of 1024 to 256 channels at
#: 14 x 14 and 256 to 128 at 56 x 56 with two threads of AMD Zen 5, and 5 % of 8 images of 64 at 56 x 56, 3 x 3.
_MANY_BYTES = 2 << 20
#: Steps ahead of which pixels are asked for into L1, where 8, 16 and 32 are alike; and weights, wherever they are: with
#: those of L3 asked for far ahead, too, Intel Ice Lake takes 1 to 11 % more of most layers of 7 x 7 and 14 x 14.
#: Products of pixels from L2 ran at 0.70 of its peak in tiles of 14 x 2, and at 0.88 so, since one from a line that is
#: on its way takes the place of others, it seems: 1 x 1 layers take 7 to 33 % less, of which 0 to 5 % for the weights,
#: and 15 to 30 where these are many. On Granite Rapids they ran at 0.80, and at 0.91 so: 5 to 20 % less. In `im2col`,
#: whose panels are whole lines one after the other, it would take 0 to 4 % more.
_NEAR, _NEAR_WEIGHTS = 16, 64


class Asks(NamedTuple):
    """What a kernel asks for: weights ``far`` ahead, or the next piece of them ``by_passes``; ``near``, or not.

    Near are weights and pixels where each step reads lines of its own. ``in_turn`` are pixels whose lines last for many
    steps.
    """

    far: bool
    near: bool
    by_passes: bool
    in_turn: bool


def asks_of(problem: ConvProblem, elements: int, machine: Machine) -> Asks:
    """What the kernel asks for whose prepared weight has so many elements.

    Of a weight that L2 does not keep, passes over a piece of it, by tile after tile of pixels, ask for the next piece
    in equal shares. Else the first waits for L3, and the others do not. On Intel's Granite Rapids `winograd`'s layers
    of 512 channels take 4 to 14 % less so, `strassen`'s of 7 x 7 6 to 13, and `direct`'s 8 to 15; as much as 15 to 40 %
    after others had the caches. On AMD Zen 5, whose L3 is fast, no layer gains so, and one of two passes takes 6 to
    13 % more. There, and on all others, they ask far ahead. Ice Lake has no loads to spare for it.
    """
    many = elements * ITEM_SIZE[problem.dtype] >= _MANY_BYTES
    near = machine.asks_near
    spare = near and not machine.few_loads
    return Asks(many and not near, near, many and spare, spare)


@shared
def asked_share(nr: int, passes: int, asked: int, end: int) -> int:
    """Elements for which each of so many passes asks in a step, of rows of ``nr``, from ``asked`` on.

    None if all to the ``end`` of the next piece are asked for; nor by the only pass, which would ask too far ahead:
    512 channels at 7 x 7 take 10 % more so.

    Examples
    --------
    >>> [asked_share(32, passes, 0, 32 * 128) for passes in (1, 2, 7, 100)]
    [0, 16, 5, 1]
    >>> asked_share(32, 100, 32 * 128, 32 * 128)
    0
    """
    return (nr + passes - 1) // passes if passes > 1 and asked < end else 0


@functools.cache
def asker(nr: int, lanes: int, asks: Asks) -> Dispatcher:
    """The kernel piece that asks for `asked_share` of a row of packed weights from ``w[at]``, if by passes."""
    by_passes = asks.by_passes
    most = (nr // lanes + 1) // 2 * lanes

    def ask(w: Array, at: int) -> None:
        if by_passes:
            prefetch(w, at, most, 2)

    return jit(ask, inline="always")


@functools.cache
def rows_asker(mr: int, line: int, asks: Asks) -> Dispatcher:
    """The kernel piece that asks for a tile's pixels, rows of channels, of a ``line`` of so many elements further on.

    In each step for a row in turn, so that each line is asked for once, and for some of the rows behind the tile's.
    With pixels in L2 `winograd`'s layers of 512 channels at 28 x 28 and at 14 x 14 take 5 to 6 % less on Intel Granite
    Rapids so, 256 at 56 x 56 5, and 128 at 56 x 56 with stride 2 8; others are level.
    """
    in_turn, each = asks.in_turn, (mr + line - 1) // line

    def ask(pixels: Array, first: int, c: int, step: int) -> None:
        """Step ``c``, for rows that are ``step`` apart and begin at ``pixels[first]``."""
        if in_turn:
            row = c & (line - 1)
            prefetch_rows(pixels, first + row * step + c - row + line, line * step, each, 1)

    return jit(ask, inline="always")


@functools.cache
def multiplier(mr: int, nr: int, lines: int, asks: Asks) -> Dispatcher:
    """The kernel piece that is `rank1` with a row of packed weights, and asks for what is far ahead and near.

    Near, it asks for the ``mr`` pixels of a later step, too, that are so many ``lines``, 2 where they may lie
    across two, or 0 where each is in a line of its own, which many steps share.
    """

    far, near = asks.far, asks.near

    def multiply(acc: Any, pixels: Array, pixel: int, step: int, distance: int, w: Array, weight: int) -> Any:
        """Add the product of ``pixels[pixel + i * step]`` and ``w[weight:]``; the next one's lie ``distance`` on."""
        if far:
            prefetch(w, weight + _FAR * nr, nr, 2)
        if near:
            prefetch(w, weight + _NEAR_WEIGHTS * nr, nr, 1)
            prefetch_rows(pixels, pixel + _NEAR * distance, mr - 1, lines, 1)
        return rank1(acc, pixels, pixel, step, w, weight)

    return jit(multiply, inline="always")
