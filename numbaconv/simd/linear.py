"""A constant matrix applied to vectors: the transforms of Winograd's algorithm, unrolled into fmas."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.cooktoom import Matrix, transforms
from numbaconv.simd import emit
from numbaconv.simd.types import Vec
from numbaconv.simd.vec import Lowering


def _combination(builder: ir.IRBuilder, vec: Vec, row: Sequence[Fraction], x: list[ir.Value]) -> ir.Value:
    """The sum of ``row[k] * x[k]``, terms of coefficient 1 first so that they cost nothing."""
    total = None
    for k in sorted((k for k, entry in enumerate(row) if entry), key=lambda k: abs(row[k]) != 1 or row[k] < 0):
        constant = ir.Constant(vec.llvm, [ir.Constant(vec.llvm.element, float(row[k]))] * vec.lanes)
        if total is None:
            total = x[k] if row[k] == 1 else builder.fmul(constant, x[k])
        elif abs(row[k]) == 1:
            total = builder.fadd(total, x[k]) if row[k] == 1 else builder.fsub(total, x[k])
        else:
            total = emit.fma(builder, vec, constant, x[k], total)
    return ir.Constant(vec.llvm, None) if total is None else total


def _is_pair(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    """Whether two rows or columns differ in signs only, in some and not in all."""
    same = any(x == y != 0 for x, y in zip(a, b, strict=True))
    opposite = any(x == -y != 0 for x, y in zip(a, b, strict=True))
    return same and opposite and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))


def _where(a: Sequence[Fraction], b: Sequence[Fraction], sign: int) -> list[Fraction]:
    return [x if x == sign * y else Fraction(0) for x, y in zip(a, b, strict=True)]


def matrix_vectors(builder: ir.IRBuilder, vec: Vec, matrix: Matrix, x: list[ir.Value]) -> list[ir.Value]:
    """Products of the matrix's rows with ``x``.

    Points of opposite sign make pairs, of columns in A^T and of rows in G and B^T, that differ in the signs of odd
    powers only. Their sum and difference are taken once, which halves the multiplications.
    """
    columns = [list(column) for column in zip(*matrix, strict=True)]
    x = list(x)
    for j in range(len(columns) - 1):
        if _is_pair(columns[j], columns[j + 1]):
            x[j : j + 2] = builder.fadd(x[j], x[j + 1]), builder.fsub(x[j], x[j + 1])
            columns[j : j + 2] = (_where(columns[j], columns[j + 1], sign) for sign in (1, -1))
    rows = list(zip(*columns, strict=True))
    results: list[ir.Value] = []
    while len(results) < len(rows):
        row, *rest = rows[len(results) :]
        if rest and _is_pair(row, rest[0]):
            even, odd = (_combination(builder, vec, _where(row, rest[0], sign), x) for sign in (1, -1))
            results += [builder.fadd(even, odd), builder.fsub(even, odd)]
        else:
            results.append(_combination(builder, vec, row, x))
    return results


@intrinsic(prefer_literal=True)
def transform(
    typingctx: Any, which: Any, m: Any, r: Any, whole: Any, a: Any, offset: Any, step: Any, to: Any, to_offset: Any,
    to_step: Any, lanes: Any,
) -> tuple[Any, Lowering]:  # fmt: skip
    """``to[to_offset + i * to_step] = sum over k of matrix[i][k] * a[offset + k * step]``, vectors of ``lanes`` each.

    ``which`` is 0, 1 or 2 for A^T (output), G (weight) or B^T (input) of F(m, r). If ``whole`` is not true, the last
    vector is read, but taken for zeros. All of ``a`` is read before anything is written. If one of the arrays is
    float64, so is the arithmetic.
    """
    read, written = (Vec(array.dtype, lanes.literal_value) for array in (a, to))
    vec = max(read, written, key=lambda vec: vec.itemsize)
    matrix = transforms(m.literal_value, r.literal_value)[which.literal_value]

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        all_count, source, position, distance, target, to_position, to_distance = args[3:10]
        x = []
        for _ in matrix[0]:
            value = emit.load(builder, read, emit.element(context, builder, a, source, position))
            x.append(emit.convert(builder, value, vec))
            position = builder.add(position, distance)
        x[-1] = builder.select(all_count, x[-1], ir.Constant(vec.llvm, None))
        for value in matrix_vectors(builder, vec, matrix, x):
            value = emit.convert(builder, value, written)
            emit.store(builder, written, value, emit.element(context, builder, to, target, to_position))
            to_position = builder.add(to_position, to_distance)
        return context.get_dummy_value()

    return signature(types.void, which, m, r, types.boolean, a, offset, step, to, to_offset, to_step, lanes), lower
