"""The two SIMD types of Numba: ``Vec``, one vector register, and ``Tile``, a block of them.

A ``Vec`` is a value of LLVM type ``<lanes x T>``; a ``Tile`` is ``[rows * vectors x <lanes x T>]``, a matrix
of ``rows`` by ``vectors * lanes`` elements that lives in registers while LLVM has enough of them. Neither is
ever in memory unless a kernel stores it, so neither has an alignment: loads and stores use that of the element.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import PrimitiveModel
from numba.extending import register_model

LLVM_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Vec(types.Type):
    """``lanes`` elements of one floating type, in one register."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vec({dtype} x {lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(LLVM_SCALARS[self.dtype], self.lanes)

    @property
    def itemsize(self) -> int:
        return int(self.dtype.bitwidth) // 8


class Tile(types.Type):
    """``rows`` by ``vectors`` registers: the accumulators of a microkernel."""

    def __init__(self, dtype: types.Float, lanes: int, rows: int, vectors: int) -> None:
        self.vec, self.rows, self.vectors = Vec(dtype, lanes), rows, vectors
        super().__init__(f"Tile({dtype} x {lanes}, {rows} x {vectors})")

    @property
    def llvm(self) -> ir.ArrayType:
        return ir.ArrayType(self.vec.llvm, self.rows * self.vectors)

    def index(self, row: int, vector: int) -> int:
        """Position of a register in the LLVM array."""
        return row * self.vectors + vector


class RegisterModel(PrimitiveModel):
    """A value LLVM may keep in registers: no struct, no pointer, no reference count."""

    def __init__(self, manager: Any, fe_type: Vec | Tile) -> None:
        super().__init__(manager, fe_type, fe_type.llvm)


register_model(Vec)(RegisterModel)
register_model(Tile)(RegisterModel)
