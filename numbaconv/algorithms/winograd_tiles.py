"""How Winograd's tiles cover an image, and which of them a point of the transforms has products for.

Of the points of F(m, r) infinity, the last, is seen by a tile's last output alone. So where the image needs one output
less of a tile, its products at infinity are left out, and all else stays as it is: 14 outputs are 5 + 5 + 4 by F(5, 3),
and take 7 + 7 + 6 products, which makes 400 along two axes, where three tiles of 5 make 441. The last tiles are short,
as many as the image has outputs too few.
"""

from __future__ import annotations

from typing import NamedTuple

from numbaconv.geometry import Cut, unit_start
from numbaconv.runtime import shared


class Block(NamedTuple):
    """Some of the units from the ``first`` on: ``size`` outputs from ``start`` on, and ``tiles``, the last ``short``.

    With what the last one is short of, they span ``extent`` outputs.
    """

    first: int
    start: int
    size: int
    extent: int
    tiles: int
    short: int


@shared
def block_of(task: int, units: int, cut: Cut) -> Block:
    """The block of a task, of so many ``units`` or what is left of them.

    Examples
    --------
    >>> from numbaconv.geometry import cut_outputs
    >>> block_of(1, 2, cut_outputs(14, 5, 1))
    Block(first=2, start=10, size=4, extent=5, tiles=1, short=1)
    """
    first = task * units
    end = min(cut.units, first + units)
    start = unit_start(first, cut)
    short = max(0, end - max(first, cut.units - cut.short))
    size = min(cut.size, unit_start(end, cut)) - start
    extent = unit_start(end - 1, cut) + cut.side * cut.step - start
    return Block(first, start, size, extent, (end - first) * cut.step, short * cut.step)


@shared
def tile_start(tile: int, block: Block, cut: Cut) -> int:
    """The first output of a tile, counted from the block's; what a short one has beyond its own, the next one has."""
    return unit_start(block.first + tile // cut.step, cut) - block.start + tile % cut.step


@shared
def tile_slot(row: int, column: int, rows: Block, columns: Block) -> int:
    """Where the tile of a row and a column is among the block's, so that those of every point are neighbours.

    Those of short columns come first, and of these those of short rows; in the other columns these are the last.
    """
    whole = columns.tiles - columns.short
    if column < whole:
        return rows.tiles * columns.short + row * whole + column
    return (row + rows.short) % rows.tiles * columns.short + column - whole


@shared
def slots_seen(rows: Block, columns: Block, last_row: bool, last_column: bool) -> tuple[int, int]:
    """First slot, and the one after the last, of the tiles that a point has products for.

    The points of the ``last_row`` and the ``last_column`` are at infinity along an axis.

    Examples
    --------
    >>> from numbaconv.geometry import cut_outputs
    >>> rows = columns = block_of(0, 3, cut_outputs(14, 5, 1))
    >>> [slots_seen(rows, columns, *last) for last in ((False, False), (True, False), (False, True), (True, True))]
    [(0, 9), (1, 7), (3, 9), (3, 7)]
    """
    begin = (rows.tiles if last_column else rows.short if last_row else 0) * columns.short
    end = rows.tiles * columns.tiles
    if last_row:
        end -= rows.short * (columns.tiles - columns.short)
    return begin, end
