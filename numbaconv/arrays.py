"""Arrays as callers pass them, brought to what kernels read: native, aligned, contiguous; or refused by name."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np

from numbaconv.arguments import ITEM_SIZE

Array = np.ndarray[Any, Any]

#: Names of the native types; NumPy makes a dtype's ``name`` anew at each asking, which takes 1.5 us.
DTYPE_NAMES = {np.dtype(name): name for name in ITEM_SIZE}


def as_operand(name: str, array: object) -> Array:
    """The array itself, or a copy where its layout, alignment or byte order needs one.

    Parameters
    ----------
    name : str
        The argument an error speaks of.
    array : numpy.ndarray
        float32 or float64, of any strides and byte order, writeable or not. It is never written to.

    Raises
    ------
    TypeError
        If it is no array, a masked one (whose mask would be lost), or of another type.
    """
    if type(array) is not np.ndarray:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array of float32 or float64, got {type(array).__name__}")
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name}: masked arrays are not supported, as the mask would be lost; fill it first")
        array = np.asarray(array)
    if array.dtype not in DTYPE_NAMES:
        if array.dtype.name not in ITEM_SIZE:
            raise TypeError(f"{name}: expected dtype float32 or float64, got {array.dtype.name}")
        return array.astype(array.dtype.newbyteorder("="), order="C")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return np.array(array, order="C")
    return array if flags.writeable else _writeable_alias(array)


def _writeable_alias(array: Array) -> Array:
    """The same memory as an array that says it may be written, which no kernel does to an operand.

    Numba types read-only arrays apart, and would compile the driver once more for each mixture of them.
    """

    if not array.size:
        return array.copy()
    interface = array.__array_interface__
    alias = SimpleNamespace(owner=array, __array_interface__={**interface, "data": (interface["data"][0], False)})
    return np.asarray(alias)


def check_same_type(name: str, array: Array, dtype: np.dtype[Any], other: str = "input") -> None:
    """Refuse operands of mixed types, which would otherwise be converted at a cost nobody sees."""
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype.name} as the {other} is, got {array.dtype.name}")


def check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: dict[str, Array]) -> Array:
    """``out`` as a plain array that the result may be written to while the inputs, given as callers do, are read."""
    if type(out) is not np.ndarray:
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
        if isinstance(out, np.ma.MaskedArray):
            raise TypeError("out: masked arrays are not supported, as the mask would be ignored")
    if out.dtype != dtype:
        raise TypeError(f"out: expected {dtype.name} in native byte order, got {out.dtype!r}")
    check_shape("out", out, shape)
    if not out.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    if not out.flags.c_contiguous and out.size and _overlaps_itself(out):
        raise ValueError(f"out: expected elements of their own memory, got strides {out.strides} for shape {shape}")
    for name, array in inputs.items():
        if np.may_share_memory(out, array) and _overlap(out, array):
            raise ValueError(f"out: expected memory of its own, got an array that overlaps {name}")
    return np.asarray(out)


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements of an array share memory."""
    steps = [(abs(step), n) for step, n in zip(array.strides, array.shape, strict=True) if n > 1]
    reach = array.itemsize  # of what the axes of shorter steps span
    for step, n in sorted(steps):
        if step < array.itemsize:
            return True
        if step < reach:  # between each other's elements, perhaps
            offsets = functools.reduce(np.add.outer, (step * np.arange(n) for step, n in steps))
            return bool((np.diff(np.sort(offsets, axis=None)) < array.itemsize).any())
        reach += step * (n - 1)
    return False


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; when that is too hard to find out, they count as sharing."""
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type, unused-ignore]
    except np.exceptions.TooHardError:
        return True
