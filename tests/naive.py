"""Convolution written so plainly that it is evidently right: one kernel tap after the other, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.problem import ConvProblem

Array = np.ndarray[Any, Any]


def convolve(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    bounds: tuple[float, float] | None = None,
) -> Array:
    """Cross-correlation of (N, C, *spatial) by (K, C / groups, *kernel); options have one item per spatial axis."""
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *padding])
    N, K = x.shape[0], w.shape[0]
    geometry = list(zip(padded.shape[2:], w.shape[2:], stride, dilation, strict=True))
    sizes = [(size - (kernel - 1) * d - 1) // s + 1 for size, kernel, s, d in geometry]
    y = np.zeros((N, K, *sizes))
    weights = w.astype(np.float64)
    for tap in np.ndindex(*w.shape[2:]):
        steps = zip(tap, sizes, stride, dilation, strict=True)
        window: tuple[Any, ...] = (..., *(slice(t * d, t * d + (size - 1) * s + 1, s) for t, size, s, d in steps))
        of_tap: tuple[Any, ...] = (slice(None), slice(None), *tap)
        for inputs, outputs in zip(
            np.split(np.arange(x.shape[1]), groups), np.split(np.arange(K), groups), strict=True
        ):
            y[:, outputs] += np.einsum("kc,nc...->nk...", weights[of_tap][outputs], padded[window][:, inputs])
    if bias is not None:
        y += bias.astype(np.float64).reshape(-1, *(1 for _ in sizes))
    return y if bounds is None else np.clip(y, *bounds)


def solve(problem: ConvProblem, x: Array, w: Array, bias: Array | None = None) -> Array:
    """What a `ConvProblem` asks for, in its own type."""
    first = 3 - problem.axes
    y = convolve(
        x, w, bias, stride=problem.stride[first:], padding=problem.padding[first:], dilation=problem.dilation[first:],
        groups=problem.groups, bounds=problem.activation,
    )  # fmt: skip
    assert y.shape == problem.output_shape
    return y.astype(problem.dtype)


def integers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    """Integers from -8 to 8: every sum of fewer than 2**18 of their products is exact in float32, in any order."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(dtype)


def operands(problem: ConvProblem, seed: int = 0) -> tuple[Array, Array, Array]:
    """Input, weight and bias of integers."""
    shapes = problem.input_shape, problem.weight_shape, (problem.out_channels,)
    x, w, bias = (integers(shape, problem.dtype, seed + i) for i, shape in enumerate(shapes))
    return x, w, bias
