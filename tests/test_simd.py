"""Vectors against NumPy: what operations compute, and that they touch the elements they name and no others.

Operands lie in the middle of NaN and results in a zone of canaries, at odd offsets; where lanes are masked, memory
that may not be touched is memory that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
from guards import CANARY, Array, Guarded, between_pages, in_nan
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.cooktoom import transforms
from numbaconv.simd import emit, vec
from numbaconv.simd.linear import transform

#: Element types with every number of lanes that a machine has.
KINDS = [("float32", 4), ("float32", 8), ("float32", 16), ("float64", 2), ("float64", 4), ("float64", 8)]

every_kind = pytest.mark.parametrize(("dtype", "lanes"), KINDS)


def numbers(size: int, dtype: str, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def counts(lanes: int) -> Iterator[int]:
    """Numbers of lanes to mask by, also beyond the vector and beyond 32 bits."""
    yield from (-(2**40), -1, *range(lanes + 1), lanes + 1, 2**31 + 1, 2**40)


@every_kind
def test_operators(dtype: str, lanes: int) -> None:
    """Each rounds once, as NumPy does."""

    @numba.njit
    def kernel(a: Array, out: Array) -> None:
        x, y, z = vec.load(a, 3, lanes), vec.load(a, 5, lanes), vec.load(a, 3 + lanes, lanes)
        vec.store((x - y) + (z - (y + x)), out, 1)

    a, out = numbers(2 * lanes + 3, dtype), Guarded(np.zeros(lanes + 1, dtype))
    kernel(in_nan(a), out.array)
    x, y, z = a[3 : 3 + lanes], a[5 : 5 + lanes], a[3 + lanes :]
    np.testing.assert_array_equal(out.array, [0, *((x - y) + (z - (y + x)))])
    out.check()


@intrinsic(prefer_literal=True)
def every_other(typingctx: Any, a: Any, b: Any, first: Any) -> Any:
    """Every other element, from ``first`` on, of the ``2 * lanes`` that two vectors hold one after the other."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit.every(builder, list(args[:2]), first.literal_value, 2, a.lanes)

    return signature(a, a, b, first), lower


@every_kind
def test_elements_and_every_other_one(dtype: str, lanes: int) -> None:
    @numba.njit
    def kernel(a: Array, out: Array) -> None:
        vec.put(out, 0, vec.get(a, 2))
        low, high = vec.load(a, 1, lanes), vec.load(a, 1 + lanes, lanes)
        vec.store(every_other(low, high, 0), out, 1)
        vec.store(every_other(low, high, 1), out, 1 + lanes)

    a, out = numbers(2 * lanes + 1, dtype), Guarded(np.zeros(2 * lanes + 1, dtype))
    kernel(in_nan(a), out.array)
    np.testing.assert_array_equal(out.array, [a[2], *a[1::2], *a[2::2]])
    out.check()


@every_kind
def test_load_between(dtype: str, lanes: int) -> None:
    """The array holds the lanes that are on, at either end of readable memory, and nothing else."""

    @numba.njit
    def kernel(a: Array, offset: int, begin: int, end: int, out: Array) -> None:
        vec.store(vec.load_between(a, offset, begin, end, lanes), out, 0)

    values, number = numbers(lanes, dtype), np.arange(lanes)
    for begin in counts(lanes):
        for end in counts(lanes):
            on = (begin <= number) & (number < end)
            offset = -int(number[on][0]) if on.any() else 0
            for at_end in (False, True) if on.any() else ():
                out = np.full(lanes, np.nan, dtype)
                kernel(between_pages(values[on], at_end), offset, begin, end, out)
                np.testing.assert_array_equal(out, np.where(on, values, 0))


@every_kind
def test_store_first(dtype: str, lanes: int) -> None:
    """Neither what follows nor, at the end of memory, what cannot be written is touched."""

    @numba.njit
    def kernel(a: Array, out: Array, count: int) -> None:
        vec.store_first(vec.load(a, 0, lanes), out, 0, count)

    values = numbers(lanes, dtype)
    for count in counts(lanes):
        on = np.arange(lanes) < count
        out = Guarded(np.full(lanes, CANARY, dtype))
        kernel(in_nan(values), out.array, count)
        np.testing.assert_array_equal(out.array, np.where(on, values, CANARY))
        out.check()
        if on.any():
            edge = between_pages(np.zeros(on.sum(), dtype), at_end=True)
            kernel(values, edge, count)
            np.testing.assert_array_equal(edge, values[on])


FILTERS = [(1, 1), (1, 3), (2, 3), (4, 3), (6, 3), (3, 3), (2, 2)]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["output", "weight", "input"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("m", "r"), FILTERS)
@pytest.mark.parametrize(("dtype", "lanes"), [KINDS[1], KINDS[4]])
def test_linear_transform(dtype: str, lanes: int, m: int, r: int, whole: bool, which: int) -> None:
    """A matrix of the exact ones times vectors, of which the last may not count, a NaN here; and onto itself."""
    step, to_step = lanes + 1, lanes + 3
    matrix = np.array(transforms(m, r)[which], float)

    @numba.njit
    def kernel(whole: bool, a: Array, offset: int, step: int, to: Array, to_offset: int, to_step: int) -> None:
        transform(which, m, r, whole, a, offset, step, to, to_offset, to_step, lanes)

    rows, columns = matrix.shape
    counted = columns if whole else columns - 1
    a = np.full((columns, step), np.nan, dtype)
    a[:counted, :lanes] = numbers(counted * lanes, dtype).reshape(counted, lanes)
    expected = matrix[:, :counted] @ a[:counted, :lanes].astype(float)
    out = Guarded(np.full((rows, to_step), CANARY, dtype))
    kernel(whole, in_nan(a.ravel()), 0, step, out.array.reshape(-1), 0, to_step)
    scale = np.abs(matrix).sum(axis=1).max() * np.abs(a[:counted, :lanes]).max(initial=0)
    np.testing.assert_allclose(out.array[:, :lanes], expected, rtol=0, atol=4 * np.finfo(dtype).eps * scale)
    np.testing.assert_array_equal(out.array[:, lanes:], CANARY)
    out.check()

    shared = np.zeros((max(rows, columns), step), dtype)
    shared[:columns] = a
    kernel(whole, shared.ravel(), 0, step, shared.ravel(), 0, step)
    np.testing.assert_array_equal(shared[:rows, :lanes], out.array[:, :lanes])


@pytest.mark.parametrize(("dtype", "to_dtype"), [("float32", "float64"), ("float64", "float32")])
def test_linear_transform_of_two_types_is_in_the_wider(dtype: str, to_dtype: str) -> None:
    m, r, lanes = 4, 3, 8
    matrix = np.array(transforms(m, r)[1], float)

    @numba.njit
    def kernel(a: Array, to: Array) -> None:
        transform(1, m, r, True, a, 0, lanes, to, 0, lanes, lanes)

    a = (numbers(r * lanes, dtype) / 3).astype(dtype).reshape(r, lanes)
    out = np.full((m + r - 1, lanes), np.nan, to_dtype)
    kernel(a.ravel(), out.reshape(-1))
    expected = matrix @ a.astype(float)
    relative = float(np.finfo(to_dtype).eps)
    np.testing.assert_allclose(out, expected, rtol=relative, atol=4 * np.finfo(float).eps * abs(a).max())


@pytest.mark.parametrize("operation", [lambda a, b: a + b, lambda a, b: a - b])
def test_vectors_of_other_types_do_not_mix(operation: Callable[[Any, Any], Any]) -> None:
    compiled = numba.njit(operation)

    @numba.njit
    def kernel(a: Array, b: Array) -> None:
        vec.store(compiled(vec.load(a, 0, 4), vec.load(b, 0, 4)), a, 0)

    with pytest.raises(numba.TypingError):
        kernel(np.zeros(4, np.float32), np.zeros(4))
