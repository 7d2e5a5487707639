"""Padding: the ways to say it, and what it makes of an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, TypeAlias, cast

import numpy as np

from numbaconv.arguments import Axes, as_int, frozen

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = tuple[Pair, Pair, Pair]
PaddingLike: TypeAlias = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]] | np.ndarray[Any, Any]


def normalise_padding(
    value: PaddingLike, axes: int, in_size: Axes, kernel_size: Axes, stride: Axes, dilation: Axes
) -> Padding:
    """Turn any way to say padding into a (before, after) pair for each of (D, H, W).

    Parameters
    ----------
    value : int, sequence of int, sequence of pairs of int, array of int, or str
        One number for every side; one per axis, used on both sides; or a (before, after) pair per axis. A
        sequence of one number, as in torch, or of one pair, as in NumPy, is for every axis. By name, with k the
        kernel size, d the dilation and s the stride:

        - ``"valid"``: none.
        - ``"same"``: as `torch.nn.functional.conv2d`. Stride must be 1; d(k-1) in all, so that the output is
          as large as the input; of an odd amount the larger part goes after.
        - ``"same_upper"``, ``"same_lower"``: ONNX `auto_pad`; the former is also TensorFlow's ``"SAME"``.
          As much as makes the output ceil(input / s); of an odd amount the larger part goes after (upper)
          or before (lower).
        - ``"full"``: d(k-1) on both sides, so that every overlap of kernel and input counts.
    axes : int
        The number of spatial axes, 1 to 3.
    in_size, kernel_size, stride, dilation : tuple of 3 int
        The geometry over (D, H, W), which the named rules need.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer or is negative, the lengths are wrong, or the name is unknown.

    Examples
    --------
    >>> one = (1, 1, 1)
    >>> normalise_padding("same_upper", 2, (1, 224, 224), (1, 7, 7), (1, 2, 2), one)
    ((0, 0), (2, 3), (2, 3))
    >>> normalise_padding(((1, 2), (0, 1)), 2, (1, 8, 8), (1, 3, 3), one, one)
    ((0, 0), (1, 2), (0, 1))
    """
    if isinstance(value, str):
        rule = _RULES.get(value)
        if rule is None:
            raise ValueError(f"padding: expected integers or one of {', '.join(_RULES)}, got {value!r}")
        if value == "same" and stride != (1, 1, 1):
            raise ValueError(
                f"padding: 'same' needs stride 1, got stride {stride[3 - axes :]}; 'same_upper' pads for any stride"
            )
        return cast(Padding, tuple(map(rule, in_size, kernel_size, stride, dilation)))
    items = frozen(value)
    if isinstance(items, tuple):
        if len(items) not in (1, axes):
            hint = "; for one axis a (before, after) pair is written ((before, after),)" if axes == 1 else ""
            raise ValueError(
                f"padding: expected an integer, or {axes} integers or (before, after) pairs, "
                f"one per spatial axis, got {value!r}{hint}"
            )
        given = tuple(map(_pair, items)) * (axes if len(items) == 1 else 1)
    else:
        given = (_pair(items),) * axes
    return cast(Padding, ((0, 0),) * (3 - axes) + given)


def _pair(value: object) -> Pair:
    if not isinstance(value, tuple):
        number = as_int("padding", value, 0)
        return number, number
    if len(value) != 2:
        raise ValueError(f"padding: expected (before, after) for each axis, got {value!r}")
    return as_int("padding", value[0], 0), as_int("padding", value[1], 0)


def _same(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    total = dilation * (kernel - 1)
    return total // 2, total - total // 2


def _same_upper(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    out = -(-size // stride)
    total = max(0, total_padding(out, size, (kernel - 1) * dilation + 1, stride))
    return total // 2, total - total // 2


def _same_lower(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    before, after = _same_upper(size, kernel, stride, dilation)
    return after, before


def _full(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    return dilation * (kernel - 1), dilation * (kernel - 1)


def _valid(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    return 0, 0


_RULES: dict[str, Callable[[int, int, int, int], Pair]] = {
    "valid": _valid,
    "same": _same,
    "same_upper": _same_upper,
    "same_lower": _same_lower,
    "full": _full,
}


def out_size(padding: Pair, size: int, extent: int, stride: int) -> int:
    """Outputs along an axis of `size` inputs for a kernel that spans `extent`; < 1 if it does not fit."""
    before, after = padding
    return (size + before + after - extent) // stride + 1


def total_padding(out: int, size: int, extent: int, stride: int) -> int:
    """Padding of both sides together that `out` outputs read; negative where they leave inputs unread."""
    return (out - 1) * stride + extent - size


def settle_after(padding: Pair, out: int, size: int, extent: int, stride: int) -> Pair:
    """Of all paddings after the input that give `out`, choose `before` if it does, else the least."""
    before, _ = padding
    if out_size((before, before), size, extent, stride) == out:
        return before, before
    return before, max(0, total_padding(out, size, extent, stride) - before)
