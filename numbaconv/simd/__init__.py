"""SIMD values for Numba: ``Vec`` and ``Tile`` types and the operations kernels are written in."""

from numbaconv.simd.types import Tile, Vec

__all__ = ["Tile", "Vec"]
