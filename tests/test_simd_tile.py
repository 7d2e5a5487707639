"""Tiles against NumPy: products, biases, bounds, and memory, whole and in part.

A tile is read from the middle of NaN and stored into canaries, rows further apart than they are long.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import Any

import numba
import numpy as np
import pytest
from guards import CANARY, Array, Guarded, between_pages, in_nan
from naive import convolve, integers

from numbaconv.simd import tile
from numbaconv.simd import tile_memory as memory
from numbaconv.simd.correlate import (
    Edged,
    Outside,
    add_row,
    add_row_staged,
    correlate,
    correlate_edged,
    correlate_staged,
    correlate_whole,
    in_order,
    store_edges,
)

#: Element type, lanes, rows and vectors: main tiles, more rows than lanes and fewer, a single register.
SHAPES = [
    ("float32", 4, 5, 1),
    ("float32", 8, 6, 2),
    ("float32", 16, 14, 2),
    ("float64", 2, 3, 3),
    ("float64", 4, 6, 2),
    ("float64", 8, 1, 1),
]

every_shape = pytest.mark.parametrize(("dtype", "lanes", "rows", "vectors"), SHAPES)


def matrix(rows: int, columns: int, dtype: str, seed: int = 0) -> Array:
    """Different numbers, none of them 0."""
    return (
        np.random.default_rng(seed).permutation(np.arange(1, rows * columns + 1)).reshape(rows, columns).astype(dtype)
    )


class Target:
    """Memory for rows of ``columns`` elements, ``ld`` apart; what a kernel does not write is a canary."""

    def __init__(self, rows: int, columns: int, dtype: str) -> None:
        self.ld = columns + 3
        self._guarded = Guarded(np.full(rows * self.ld, CANARY, dtype))
        self.flat = self._guarded.array
        self.expected = np.full((rows, self.ld), CANARY, dtype)

    def check(self) -> None:
        np.testing.assert_array_equal(self.flat.reshape(self.expected.shape), self.expected)
        self._guarded.check()


@every_shape
def test_rank1(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    """A product of matrices by rank-one updates, of a left one that lies at a stride and a right one that is packed."""
    kc = 5
    nr = vectors * lanes

    @numba.njit
    def kernel(a: Array, lda: int, b: Array, out: Array, ld: int) -> None:
        acc = tile.zeros(a, rows, vectors, lanes)
        for k in range(kc):
            acc = tile.rank1(acc, a, 1 + k, lda, b, k * nr)
        memory.store_tile(acc, out, 0, ld)

    a, b = integers((rows, kc + 2), dtype), integers((kc, nr), dtype, 1)
    target = Target(rows, nr, dtype)
    kernel(in_nan(a.ravel()), kc + 2, in_nan(b.ravel()), target.flat, target.ld)
    target.expected[:, :nr] = a[:, 1 : 1 + kc] @ b
    target.check()


@every_shape
@pytest.mark.parametrize("left_out", [(1, 0), (0, 1)])
def test_rank1_rows(dtype: str, lanes: int, rows: int, vectors: int, left_out: tuple[int, int]) -> None:
    """The first or last row stays as it was, and what would be added to it is not read."""
    kc, nr = 3, vectors * lanes
    first, end = left_out[0], rows - left_out[1]

    @numba.njit
    def kernel(a: Array, b: Array, out: Array, ld: int) -> None:
        acc = tile.zeros(a, rows, vectors, lanes)
        for k in range(kc):
            acc = tile.rank1_rows(acc, a, k, kc, b, k * nr, first, end)
        memory.store_tile(acc, out, 0, ld)

    a, b = integers((rows, kc), dtype), integers((kc, nr), dtype, 1)
    target = Target(rows, nr, dtype)
    target.expected[:, :nr] = 0
    target.expected[first:end, :nr] = a[first:end] @ b
    a[:first], a[end:] = np.nan, np.nan
    kernel(in_nan(a.ravel()), in_nan(b.ravel()), target.flat, target.ld)
    target.check()


@pytest.mark.parametrize("last", [0, 2, 3])
@pytest.mark.parametrize(("dtype", "lanes"), [*dict.fromkeys(shape[:2] for shape in SHAPES)])
def test_inner(dtype: str, lanes: int, last: int) -> None:
    """Inner products of rows whose end is less than a vector, and where memory ends; beyond ``last`` it is repeated."""
    rows, columns = 3, 4

    @numba.njit
    def kernel(a: Array, b: Array, kc: int, last: int, out: Array, ld: int) -> None:
        acc = tile.zeros(a, rows, columns, lanes)
        for k in range(0, kc - lanes + 1, lanes):
            acc = tile.inner(acc, a, k, kc, b, k, kc, last)
        end = kc // lanes * lanes
        acc = tile.inner_first(acc, a, end, kc, b, end, kc, last, kc - end)
        memory.store_tile(tile.sum_lanes(acc), out, 0, ld)

    for kc in (1, lanes - 1, lanes, 3 * lanes + 1):
        a, b = integers((rows, kc), dtype), integers((last + 1, kc), dtype, 1)
        target = Target(rows, columns, dtype)
        flat = [between_pages(matrix.ravel(), at_end=True) for matrix in (a, b)]
        kernel(*flat, kc, last, target.flat, target.ld)
        target.expected[:, :columns] = (a @ b.T)[:, np.minimum(np.arange(columns), last)]
        target.check()


@every_shape
def test_bias_and_bounds(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    nr = vectors * lanes

    @numba.njit
    def kernel(a: Array, of_rows: Array, step: int, of_columns: Array, count: int, low: Any, high: Any,
               out: Array, ld: int) -> None:  # fmt: skip
        acc = memory.load_tile(a, 0, nr, rows, vectors, lanes)
        acc = tile.add_to_rows(acc, of_rows, 0, step)
        acc = tile.add_to_columns(acc, of_columns, 0, count)
        memory.store_tile(tile.clip(acc, low, high), out, 0, ld)

    a = integers((rows, nr), dtype)
    a[-1, -1] = np.nan
    for count, step, bound in product((-1, 0, 1, nr - 1, nr, nr + 5), (0, 1, 3), (6, np.inf)):
        of_rows, of_columns = integers((rows * step + 1,), dtype, 1), integers((max(1, min(nr, count)),), dtype, 2)
        target, on = Target(rows, nr, dtype), np.arange(nr) < count
        kernel(
            a.ravel(), of_rows, step, between_pages(of_columns, at_end=True), count, -a.dtype.type(bound),
            a.dtype.type(bound), target.flat, target.ld,
        )  # fmt: skip
        biased = a + of_rows[np.arange(rows) * step, None] + np.where(on, np.resize(of_columns, nr), 0)
        target.expected[:, :nr] = np.clip(biased, -bound, bound)
        target.check()


@every_shape
def test_load_columns(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    """The last row ends where memory does."""
    nr = vectors * lanes

    @numba.njit
    def kernel(a: Array, lda: int, count: int, out: Array, ld: int) -> None:
        memory.store_tile(memory.load_columns(a, 0, lda, count, rows, vectors, lanes), out, 0, ld)

    for count in range(1, nr + 1):
        a, target = matrix(rows, count, dtype), Target(rows, nr, dtype)
        kernel(between_pages(a.ravel(), at_end=True), count, count, target.flat, target.ld)
        target.expected[:, :nr] = 0
        target.expected[:, :count] = a
        target.check()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_load_block(dtype: str, lanes: int) -> None:
    """Rows that are not asked for are not read, wherever they would lie, and the last one ends where memory does."""

    @numba.njit
    def kernel(a: Array, lda: int, rows: int, columns: int, out: Array, ld: int) -> None:
        memory.store_tile(memory.load_block(a, 0, lda, rows, columns, lanes), out, 0, ld)

    for rows, columns in product((-1, 0, 1, lanes - 1, lanes, lanes + 3), repeat=2):
        read = slice(max(0, min(lanes, rows))), slice(max(0, min(lanes, columns)))
        a, target = matrix(max(1, min(lanes, rows)), max(1, min(lanes, columns)), dtype), Target(lanes, lanes, dtype)
        kernel(between_pages(a.ravel(), at_end=True), a.shape[1], rows, columns, target.flat, target.ld)
        target.expected[:, :lanes] = 0
        target.expected[read] = a[read]
        target.check()


@every_shape
def test_load_even(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    """A tile of one vector; the last element read is that of the last column."""

    @numba.njit
    def kernel(a: Array, lda: int, count: int, out: Array, ld: int) -> None:
        memory.store_tile(memory.load_even(a, 0, lda, count, rows, lanes), out, 0, ld)

    for count in range(1, lanes + 1):
        a, target = matrix(rows, 2 * count - 1, dtype), Target(rows, lanes, dtype)
        kernel(between_pages(a.ravel(), at_end=True), 2 * count - 1, count, target.flat, target.ld)
        target.expected[:, :lanes] = 0
        target.expected[:, :count] = a[:, ::2]
        target.check()


@every_shape
def test_store_part(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    """Any rows and any columns, none included."""
    nr = vectors * lanes

    @numba.njit
    def kernel(a: Array, out: Array, ld: int, first: int, end: int, columns: int) -> None:
        memory.store_part(memory.load_tile(a, 0, nr, rows, vectors, lanes), out, 0, ld, first, end, columns)

    a = matrix(rows, nr, dtype)
    for first, end, columns in product(range(rows + 1), range(rows + 2), {0, 1, lanes, nr - 1, nr, nr + 9}):
        target = Target(rows, nr, dtype)
        kernel(in_nan(a.ravel()), target.flat, target.ld, first, end, columns)
        target.expected[first:end, : min(nr, columns)] = a[first:end, :columns]
        target.check()


@every_shape
def test_store_transposed(dtype: str, lanes: int, rows: int, vectors: int) -> None:
    """Any range of rows and number of columns, more than there are and none included."""
    nr = vectors * lanes

    @numba.njit
    def kernel(a: Array, out: Array, ld: int, first: int, end: int, columns: int) -> None:
        memory.store_transposed(memory.load_tile(a, 0, nr, rows, vectors, lanes), out, 0, ld, first, end, columns)

    a = matrix(rows, nr, dtype)
    ends = (*range(rows + 1), rows + 5)
    for first, end, columns in product((-3, 0, 1, rows), ends, (*range(nr + 1), nr + 9)):
        target = Target(nr, rows, dtype)
        kernel(in_nan(a.ravel()), target.flat, target.ld, first, end, columns)
        stored = slice(max(0, first), min(rows, end))
        target.expected[:columns, stored] = a[stored, :columns].T
        target.check()


@pytest.mark.parametrize(("dtype", "lanes"), dict.fromkeys(shape[:2] for shape in SHAPES))
def test_transpose(dtype: str, lanes: int) -> None:
    @numba.njit
    def kernel(a: Array, out: Array, ld: int) -> None:
        memory.store_tile(memory.transpose(memory.load_tile(a, 0, lanes, lanes, 1, lanes)), out, 0, ld)

    a, target = matrix(lanes, lanes, dtype), Target(lanes, lanes, dtype)
    kernel(in_nan(a.ravel()), target.flat, target.ld)
    target.expected[:, :lanes] = a.T
    target.check()


def test_only_square_tiles_of_one_vector_transpose() -> None:
    @numba.njit
    def kernel(a: Array) -> None:
        memory.store_tile(memory.transpose(memory.load_tile(a, 0, 4, 3, 1, 4)), a, 0, 4)

    with pytest.raises(numba.TypingError):
        kernel(np.zeros(16, np.float32))


def by_remainder(image: Array, stride: int) -> Array:
    """[rows][stride][pitch]: the columns of a row by their remainder, and NaN behind them."""
    height, width = image.shape
    staged = np.full((height, stride, -(-width // stride) + 1), np.nan, image.dtype)
    for phase in range(stride):
        columns = image[:, phase::stride]
        staged[:, phase, : columns.shape[1]] = columns
    return staged


@functools.cache
def correlation(rows: int, vectors: int, lanes: int, R: int, S: int, sh: int, sw: int, dh: int, dw: int) -> Any:
    @numba.njit
    def kernel(
        w: Array, x: Array, start: int, width: int, window: tuple[int, ...], blank: Array, out: Array, ld: int
    ) -> None:
        acc = tile.zeros(x, rows, vectors, lanes)
        acc = correlate(acc, w, 1, x, start, width, window, blank, (R, S), (sh, sw), (dh, dw))
        memory.store_tile(acc, out, 0, ld)

    return kernel


@functools.cache
def edged_correlation(
    rows: int, vectors: int, lanes: int, R: int, S: int, sh: int, sw: int, dh: int, dw: int, outside: Outside
) -> tuple[int, Any]:
    """Masks that it takes, and what `correlation` compiles, by `correlate_edged`."""
    shape, limits = (vectors, lanes), tuple(outside)

    @numba.njit
    def kernel(
        w: Array, x: Array, start: int, width: int, window: tuple[int, ...], edges: Array, out: Array, ld: int
    ) -> None:
        top, height, begin, end = window
        store_edges(edges, 1, -begin, end - begin, shape, (R, S), (sh, sw), (dh, dw), limits)
        masks = 1 + count * lanes
        edges[masks:] = 0
        acc = tile.zeros(x, rows, vectors, lanes)
        acc = correlate_edged(
            acc, w, 1, x, start, width, top, height, edges, masks, 1, (R, S), (sh, sw), (dh, dw), limits
        )
        memory.store_tile(in_order(acc, sw), out, 0, ld)

    count = len(Edged(lanes, vectors, S, sw, dw, outside).edges)
    return count, kernel


@pytest.mark.parametrize(
    ("taps", "strides", "dilations"),
    [
        ((1, 1), (1, 1), (1, 1)),
        ((3, 3), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (2, 1)),
        ((3, 5), (2, 2), (1, 1)),
        ((5, 5), (1, 1), (1, 1)),
        ((5, 5), (2, 2), (1, 2)),
        ((2, 3), (3, 2), (1, 3)),
        ((3, 2), (1, 3), (2, 2)),
        ((1, 4), (5, 4), (1, 1)),
        ((4, 4), (1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize(("dtype", "lanes", "rows", "vectors"), [SHAPES[1], SHAPES[3], ("float32", 16, 4, 2)])
def test_correlate(
    dtype: str, lanes: int, rows: int, vectors: int, taps: tuple[int, int], strides: tuple[int, int],
    dilations: tuple[int, int],
) -> None:  # fmt: skip
    """A window of the tile, and windows that cut it at each side, with NaN wherever nothing may be read."""
    (R, S), (sh, sw), (dh, dw), nr = taps, strides, dilations, vectors * lanes
    height, width = (rows - 1) * sh + (R - 1) * dh + 1, (nr - 1) * sw + (S - 1) * dw + 1
    w = integers((1, 1, R, S), dtype, 1)
    reach = width + lanes * (sw + 1)
    blank = np.zeros(reach, dtype)
    for top, bottom, left, right in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 2, 1, 0), (2, 1, 0, 3), (0, 0, 5, width - 6)):
        seen = np.zeros((height, width), bool)
        seen[top : height - bottom, left : width - right] = True
        x = integers((1, 1, height, width), dtype) * seen
        around = np.full((height + 4, 2 * reach), np.nan, dtype)
        around[2 : 2 + height, reach : reach + width][seen] = x[0, 0][seen]
        window = (-top, height - top - bottom, left, width - right)
        tile_and_kernel = rows, vectors, lanes, R, S, sh, sw, dh, dw
        kernels = [(blank, correlation(*tile_and_kernel))]
        if sw <= 2:
            masks, kernel = edged_correlation(*tile_and_kernel, Outside(top, bottom, left, right))
            edges = Guarded(np.full(1 + masks * lanes + reach, np.nan, dtype))
            kernels.append((edges.array, kernel))
        for memory_of_edges, kernel in kernels:
            target = Target(rows, nr, dtype)
            kernel(
                np.append(np.full(1, np.nan, dtype), w), around.ravel(), 2 * 2 * reach + reach, 2 * reach, window,
                memory_of_edges, target.flat, target.ld,
            )  # fmt: skip
            target.expected[:, :nr] = convolve(x, w, stride=strides, padding=((0, 0),) * 2, dilation=dilations)[0, 0]
            target.check()
        if sw <= 2:
            edges.check()


@pytest.mark.parametrize(
    ("taps", "strides", "dilations"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((3, 5), (2, 2), (1, 1)),
        ((3, 2), (1, 3), (2, 2)),
        ((1, 4), (5, 4), (1, 1)),
        ((2, 3), (1, 2), (1, 5)),
    ],
)
@pytest.mark.parametrize(("dtype", "lanes", "rows", "vectors"), [SHAPES[1], SHAPES[3], ("float32", 16, 4, 2)])
def test_correlate_staged(
    dtype: str, lanes: int, rows: int, vectors: int, taps: tuple[int, int], strides: tuple[int, int],
    dilations: tuple[int, int],
) -> None:  # fmt: skip
    """Columns sorted by their remainders: of each no more is read than the last tap's vectors see."""
    (R, S), (sh, sw), (dh, dw), nr = taps, strides, dilations, vectors * lanes
    height, width = (rows - 1) * sh + (R - 1) * dh + 1, (nr - 1) * sw + (S - 1) * dw + 1
    w, x = integers((1, 1, R, S), dtype, 1), integers((1, 1, height, width), dtype)
    staged = by_remainder(x[0, 0], sw)

    @numba.njit
    def kernel(w: Array, x: Array, ld: int, out: Array, ld_out: int) -> None:
        acc = tile.zeros(x, rows, vectors, lanes)
        acc = correlate_staged(acc, w, 1, x, 0, ld, (R, S), (sh, sw), (dh, dw))
        memory.store_tile(acc, out, 0, ld_out)

    target = Target(rows, nr, dtype)
    kernel(np.append(np.full(1, np.nan, dtype), w), staged.ravel(), staged.shape[2], target.flat, target.ld)
    target.expected[:, :nr] = convolve(x, w, stride=strides, padding=((0, 0),) * 2, dilation=dilations)[0, 0]
    target.check()


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize(("dtype", "lanes"), dict.fromkeys(shape[:2] for shape in SHAPES))
def test_load_phases(dtype: str, lanes: int, step: int) -> None:
    """Whole, and cut at each side with NaN wherever nothing may be read."""

    @functools.cache
    def kernel(whole: int) -> Any:
        @numba.njit
        def load(a: Array, offset: int, begin: int, end: int, out: Array, ld: int) -> None:
            memory.store_tile(memory.load_phases(a, offset, begin, end, step, lanes, whole), out, 0, ld)

        return load

    a = integers((1, 1, 1, step * lanes), dtype).ravel()
    for begin, end in ((0, a.size), (-3, a.size + 5), (1, a.size - 1), (a.size // 2, a.size), (4, 3)):
        read = a[max(0, begin) : max(0, end)]
        around = np.full(a.size + 8, np.nan, dtype)
        around[4 + max(0, begin) :][: read.size] = read
        whole = int(read.size == a.size)
        target = Target(step, lanes, dtype)
        kernel(whole)(around, 4, begin, end, target.flat, target.ld)
        seen = np.where((np.arange(a.size) >= begin) & (np.arange(a.size) < end), a, 0)
        target.expected[:, :lanes] = seen.reshape(lanes, step).T
        target.check()


@pytest.mark.parametrize(
    ("dtype", "lanes", "rows", "vectors", "parts"),
    [(*shape, parts) for shape in SHAPES for parts in (1, 2, 4) if parts < shape[1]],
)
def test_parts(dtype: str, lanes: int, rows: int, vectors: int, parts: int) -> None:
    """The parts of every vector, one after the other, and the first again."""
    width = lanes // parts

    @numba.njit
    def kernel(a: Array, out: Array, ld: int) -> None:
        acc = memory.load_tile(a, 0, vectors * lanes, rows, vectors, lanes)
        for k in range(parts + 1):
            memory.store_tile(tile.first_part(acc, parts), out, k * rows * ld, ld)
            acc = tile.next_part(acc, parts)

    a, target = matrix(rows, vectors * lanes, dtype), Target((parts + 1) * rows, vectors * width, dtype)
    kernel(in_nan(a.ravel()), target.flat, target.ld)
    for k in range(parts + 1):
        part = a.reshape(rows, vectors, parts, width)[:, :, k % parts].reshape(rows, -1)
        target.expected[k * rows : (k + 1) * rows, : vectors * width] = part
    target.check()


@pytest.mark.parametrize(
    ("taps", "strides", "dilations"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1)),
        ((1, 2), (3, 1), (1, 3)),
        ((2, 3), (1, 2), (2, 2)),
        ((4, 4), (1, 1), (1, 1)),
        ((2, 7), (1, 2), (1, 1)),
    ],
)
@pytest.mark.parametrize(("dtype", "lanes", "parts"), [("float32", 16, 1), ("float32", 16, 2), ("float64", 4, 2)])
@pytest.mark.parametrize(
    ("top", "bottom", "pad", "columns"), [(0, 0, 0, 16), (1, 0, 1, 13), (0, 2, 3, 3), (2, 1, 40, 1)]
)
def test_correlate_whole(
    dtype: str, lanes: int, parts: int, taps: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
    top: int, bottom: int, pad: int, columns: int,
) -> None:  # fmt: skip
    """Images side by side with kernels of their own, cut at each side, with NaN wherever nothing may be read."""
    (R, S), (sh, sw), (dh, dw), rows = taps, strides, dilations, 5
    height, width, ld = (rows - 1) * sh + (R - 1) * dh + 1, 1 << (columns - 1).bit_length(), columns + 2

    @numba.njit
    def kernel(w: Array, x: Array, window: tuple[int, ...], blank: Array, out: Array, ld_out: int) -> None:
        acc = tile.zeros(x, rows, 1, lanes)
        acc = correlate_whole(
            acc, w, 1, R * S + 1, x, 0, height * ld, ld, window, blank, (R, S), (sh, sw), (dh, dw), (width, pad, parts)
        )
        memory.store_tile(acc, out, 0, ld_out)

    w, x = integers((parts, 1, R, S), dtype, 1), integers((1, parts, height, columns), dtype)
    x[:, :, :top] = x[:, :, height - bottom :] = 0
    around = np.full((parts, height, ld), np.nan, dtype)
    around[:, top : height - bottom, :columns] = x[0, :, top : height - bottom]
    apart = np.full((parts, R * S + 1), np.nan, dtype)
    apart[:, 1:] = w.reshape(parts, -1)
    blank = between_pages(np.zeros(columns, dtype), at_end=True)
    target, nr = Target(rows, lanes, dtype), lanes // parts
    kernel(apart.ravel(), around.ravel(), (-top, height - top - bottom, columns), blank, target.flat, target.ld)
    behind = max(0, (nr - 1) * sw + (S - 1) * dw + 1 - pad - columns)  # zeros, so that every lane has a value
    y = convolve(x, w, stride=strides, padding=((0, 0), (pad, behind)), dilation=dilations, groups=parts)
    target.expected[:, :lanes] = y[0, :, :, :nr].transpose(1, 0, 2).reshape(rows, lanes)
    target.check()


@pytest.mark.parametrize(("taps", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 3, 2), (7, 2, 1)])
@pytest.mark.parametrize(("dtype", "lanes", "rows", "vectors"), [SHAPES[1], SHAPES[3], ("float32", 16, 4, 2)])
def test_add_row_staged(dtype: str, lanes: int, rows: int, vectors: int, taps: int, stride: int, dilation: int) -> None:
    """Columns sorted by their remainders: of each no more is read than the last tap's vectors see."""
    nr = vectors * lanes
    width = (nr - 1) * stride + (taps - 1) * dilation + 1
    w, x = integers((rows, 1, 1, taps), dtype, 1), integers((1, 1, 1, width), dtype)
    staged = by_remainder(x[0, 0], stride)

    @numba.njit
    def kernel(w: Array, x: Array, ld: int, out: Array, ld_out: int) -> None:
        acc = tile.zeros(x, rows, vectors, lanes)
        memory.store_tile(add_row_staged(acc, w, 1, taps + 1, x, 0, ld, taps, stride, dilation), out, 0, ld_out)

    apart = np.full((rows, taps + 1), np.nan, dtype)
    apart[:, 1:] = w.reshape(rows, taps)
    target = Target(rows, nr, dtype)
    kernel(apart.ravel(), staged.ravel(), staged.shape[2], target.flat, target.ld)
    target.expected[:, :nr] = convolve(x, w, stride=(1, stride), padding=((0, 0),) * 2, dilation=(1, dilation))[0, :, 0]
    target.check()


@functools.cache
def row_adder(rows: int, vectors: int, lanes: int, taps: int, stride: int, dilation: int) -> Any:
    @numba.njit
    def kernel(w: Array, x: Array, start: int, begin: int, end: int, out: Array, ld: int) -> None:
        acc = tile.zeros(x, rows, vectors, lanes)
        acc = add_row(acc, w, 1, taps + 1, x, start, begin, end, taps, stride, dilation)
        memory.store_tile(acc, out, 0, ld)

    return kernel


@pytest.mark.parametrize(("taps", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 3, 2), (7, 2, 1)])
@pytest.mark.parametrize(("dtype", "lanes", "rows", "vectors"), [SHAPES[1], SHAPES[3], ("float32", 16, 4, 2)])
@pytest.mark.parametrize(("begin", "end"), [(0, 1000), (3, 9), (-5, 20), (0, 0), (2000, 3000)])
def test_add_row(
    dtype: str, lanes: int, rows: int, vectors: int, taps: int, stride: int, dilation: int, begin: int, end: int,
) -> None:  # fmt: skip
    """Columns within the row and beyond, with NaN wherever nothing may be read."""
    nr = vectors * lanes
    width = (nr - 1) * stride + (taps - 1) * dilation + 1
    reach = width + lanes + stride
    seen = np.array([begin <= c < end for c in range(reach)])
    x = integers((reach,), dtype) * seen
    around = np.full(3 * reach, np.nan, dtype)
    around[reach : 2 * reach][seen] = x[seen]
    w = integers((rows, taps + 1), dtype, 1)
    target = Target(rows, nr, dtype)
    kernel = row_adder(rows, vectors, lanes, taps, stride, dilation)
    kernel(np.append(np.full(1, np.nan, dtype), w), around, reach, begin, min(end, reach), target.flat, target.ld)
    under = np.array([[x[j * stride + s * dilation] for j in range(nr)] for s in range(taps)])
    target.expected[:, :nr] = w[:, :taps] @ under
    target.check()
