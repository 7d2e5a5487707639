"""User-facing convolution arguments, brought to the one form the engine works with.

Every function here takes what a caller may write (``stride=2``, ``activation="relu"``) and returns the full
form; what runs over space has the three axes (D, H, W). What is wrong is refused by the name of the public
argument, with what came and what was expected.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias, cast

import numpy as np

Axes: TypeAlias = tuple[int, int, int]
Bounds: TypeAlias = tuple[float, float]

AxesLike: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | np.ndarray[Any, Any]
ActivationLike: TypeAlias = str | Bounds | tuple[str, float, float] | None

ITEM_SIZE = {"float32": 4, "float64": 8}
#: More than any size there is memory for, and little enough for kernels, which count in 64 bits.
MOST_INT = 1 << 40


def as_int(name: str, value: object, least: int, most: int = MOST_INT) -> int:
    """Return `value` as a plain int from `least` to `most`; `name` is the argument an error speaks of.

    Raises
    ------
    TypeError
        If `value` is not an integer. A bool is not one here: ``stride=True`` is a mistake.
    ValueError
        If it is smaller than `least` or larger than `most`.

    Examples
    --------
    >>> as_int("groups", 4, least=1)
    4
    """
    wanted = f"{name}: expected an integer of at least {least}"
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's too, some versions of which pass for an index
        raise TypeError(f"{wanted}, got {value!r}")
    try:
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{wanted}, got {value!r} ({type(value).__name__})") from None
    if number < least:
        raise ValueError(f"{wanted}, got {number}")
    if number > most:
        raise ValueError(f"{name}: expected an integer of at most {most}, got {number}")
    return number


def frozen(option: Any) -> Any:
    """A copy with tuples for lists and arrays, which could change, and have no hash.

    Examples
    --------
    >>> frozen([(1, 1), np.array([2, 2])])
    ((1, 1), (2, 2))
    """
    if isinstance(option, np.ndarray):
        option = option.tolist()
    return tuple(map(frozen, option)) if isinstance(option, (tuple, list)) else option


def normalise_axes(name: str, value: AxesLike, axes: int) -> Axes:
    """Spread an int, or one int per spatial axis, over (D, H, W); a missing axis gets 1.

    Parameters
    ----------
    name : str
        The argument an error speaks of.
    value : int, or sequence or array of int
        One value for all axes, or one for each of the `axes` axes in order; as in torch a sequence may have but one.
    axes : int
        The number of spatial axes, 1 to 3.

    Raises
    ------
    TypeError, ValueError
        If a value is no integer, is less than 1, or the sequence has another length than `axes`.

    Examples
    --------
    >>> normalise_axes("stride", 2, axes=2)
    (1, 2, 2)
    >>> normalise_axes("kernel_size", (3, 5), axes=2)
    (1, 3, 5)
    """
    items = frozen(value)
    if not isinstance(items, tuple):
        items = (items,)
    if len(items) not in (1, axes):
        raise ValueError(f"{name}: expected one integer or {axes}, one per spatial axis, got {value!r}")
    given = tuple(as_int(name, item, 1) for item in items) * (axes if len(items) == 1 else 1)
    return cast(Axes, (1,) * (3 - axes) + given)


def normalise_shapes(
    input_shape: Sequence[SupportsIndex], weight_shape: Sequence[SupportsIndex], groups: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes (N, C, *spatial) and (K, C / groups, *kernel) as plain ints, checked for each other.

    Raises
    ------
    TypeError, ValueError
        If one is no shape, has a size of 0 (the batch may), they differ in spatial axes, or the weight has
        another number of channels per group than the input.

    Examples
    --------
    >>> normalise_shapes((1, 6, 8, 8), [8, 3, 3, 3], groups=2)
    ((1, 6, 8, 8), (8, 3, 3, 3))
    """
    weight, image = normalise_shape("weight", weight_shape, 1), normalise_shape("input", input_shape)
    if not 3 <= len(weight) <= 5:
        raise ValueError(f"weight: expected the axes (K, C / groups) and 1 to 3 spatial, got shape {weight}")
    if len(image) != len(weight):
        raise ValueError(
            f"input: expected {len(weight)} axes (batch, channels and {len(weight) - 2} spatial) for a "
            f"weight of shape {weight}, got shape {image}"
        )
    if image[1] != weight[1] * groups and image[1] % groups == 0:
        raise ValueError(
            f"weight: expected {image[1] // groups} input channels per group (input has {image[1]} "
            f"channels, groups={groups}), got shape {weight}"
        )
    return image, weight


def batched_shape(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """The shape of an input for so many spatial axes, with a batch of one where it has none.

    Examples
    --------
    >>> batched_shape((3, 8, 8), axes=2)
    (1, 3, 8, 8)
    """
    if len(shape) not in (axes + 1, axes + 2):
        raise ValueError(f"input: expected {axes + 2} axes, or {axes + 1} without batch, got shape {shape}")
    return shape if len(shape) == axes + 2 else (1, *shape)


def check_weight_axes(shape: tuple[int, ...], axes: int) -> None:
    if len(shape) != axes + 2:
        raise ValueError(f"weight: expected {axes + 2} axes (K, C / groups and {axes} spatial), got shape {shape}")


def normalise_shape(name: str, value: Sequence[SupportsIndex], least_first: int = 0) -> tuple[int, ...]:
    """Return the shape of an array, which may be that of an empty batch, as plain ints.

    Examples
    --------
    >>> normalise_shape("input", [1, 3, 8, 8])
    (1, 3, 8, 8)
    """
    try:
        shape = tuple(map(operator.index, value))
    except TypeError:
        of_array = getattr(value, "shape", None)
        got = repr(value) if of_array is None else f"an array of shape {of_array}; its .shape is what is expected"
        raise TypeError(f"{name}_shape: expected a shape, a tuple of integers, got {got}") from None
    if shape and (shape[0] < least_first or min(shape[1:], default=1) < 1):
        batch = "" if least_first else " (the batch may be 0)"
        raise ValueError(f"{name}: expected sizes of at least 1{batch}, got shape {shape}")
    return shape


def normalise_activation(value: ActivationLike) -> Bounds | None:
    """Turn an activation into the bounds (low, high) its result is clipped to; None where nothing is clipped.

    Parameters
    ----------
    value : None, "relu", "relu6", ("clip", low, high) or (low, high)
        "relu" is (0, inf), "relu6" is (0, 6). Bounds that are already normal pass through.

    Raises
    ------
    ValueError
        If the name is unknown, a bound is NaN or beyond float64, or low exceeds high.
    TypeError
        If it is none of these, or a bound is no real number.

    Examples
    --------
    >>> normalise_activation("relu6")
    (0.0, 6.0)
    >>> normalise_activation(("clip", -1, 1))
    (-1.0, 1.0)
    """
    wanted = "activation: expected None, 'relu', 'relu6' or ('clip', low, high)"
    value = frozen(value)
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _NAMED_BOUNDS:
            raise ValueError(f"{wanted}, got {value!r}")
        return _NAMED_BOUNDS[value]
    if not isinstance(value, tuple):
        raise TypeError(f"{wanted}, got {value!r}")
    bounds = value[1:] if len(value) == 3 and value[0] == "clip" else value
    if len(bounds) != 2:
        raise ValueError(f"{wanted}, got {value!r}")
    unreal = (bool, np.bool_, np.complexfloating)
    if not all(isinstance(bound, SupportsFloat) and not isinstance(bound, unreal) for bound in bounds):
        raise TypeError(f"activation: the bounds must be real numbers, got {value!r}")
    try:
        low, high = (float(cast(SupportsFloat, bound)) for bound in bounds)
    except OverflowError:
        raise ValueError("activation: expected bounds that float64 can hold, or infinite ones") from None
    if not low <= high:  # false for a NaN too
        raise ValueError(f"activation: expected low <= high and no NaN, got {value!r}")
    return None if (low, high) == (-math.inf, math.inf) else (low, high)


_NAMED_BOUNDS: dict[str, Bounds] = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


def normalise_accuracy(value: str | None) -> str:
    """Return which algorithms may be used; None is what ``NUMBACONV_ACCURACY`` says, or else "default".

    Parameters
    ----------
    value : None, "fast", "default" or "strict"
        "strict" sums the very products of the definition, in some order. "default" also lets in what has an error
        of at most 4e-6 of the largest output in float32, measured with 512 channels. "fast" lets in every algorithm,
        with an error of up to 2e-5.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.

    Examples
    --------
    >>> normalise_accuracy("strict")
    'strict'
    """
    name = "accuracy" if value is not None else "NUMBACONV_ACCURACY"
    chosen = (os.environ.get("NUMBACONV_ACCURACY") or "default") if value is None else value
    wanted = f"{name}: expected 'fast', 'default' or 'strict', got {chosen!r}"
    if not isinstance(chosen, str):
        raise TypeError(wanted)
    if chosen not in ("fast", "default", "strict"):
        raise ValueError(wanted)
    return chosen


#: Bytes that a call may borrow beyond its input, weight and output, unless it says otherwise.
WORKSPACE_LIMIT = 32 << 20


def normalise_workspace_limit(value: SupportsIndex | None) -> int:
    """Return a number of bytes; None is `WORKSPACE_LIMIT`, 32 MiB.

    Examples
    --------
    >>> normalise_workspace_limit(None), normalise_workspace_limit(1 << 20)
    (33554432, 1048576)
    """
    return WORKSPACE_LIMIT if value is None else as_int("workspace_limit", value, 0, sys.maxsize)


def normalise_dtype(value: object) -> str:
    """Return "float32" or "float64" for a dtype's name, a NumPy dtype or a NumPy scalar type.

    Raises
    ------
    TypeError
        If it is another type, or one of foreign byte order, which kernels cannot read.

    Examples
    --------
    >>> normalise_dtype("float64")
    'float64'
    """
    name = value if isinstance(value, str) else getattr(value, "name", getattr(value, "__name__", None))
    if name not in ITEM_SIZE or not getattr(value, "isnative", True):
        raise TypeError(f"dtype: expected float32 or float64 in native byte order, got {value!r}")
    return str(name)
