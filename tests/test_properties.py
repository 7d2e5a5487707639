"""Any convolution at all: random problems against the naive sum, and the algebra that convolutions obey.

All operands are small integers, so every law holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Array, integers, operands, solve

import numbaconv as nc
from numbaconv.algorithms import ALGORITHMS
from numbaconv.problem import ConvProblem

FUNCTIONS: dict[int, Callable[..., Array]] = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
#: Algorithms that are for every problem, and exact.
GENERAL = [name for name in ALGORITHMS if name not in ("depthwise", "winograd", "strassen")]

some = settings(deadline=None, max_examples=60, derandomize=True)
#: Depthwise kernels are compiled for their taps, strides and dilations, nearly each example another one.
few = settings(some, max_examples=8)

names = st.sampled_from(GENERAL)
seeds = st.integers(0, 99)


@st.composite
def problems(draw: Any, /, depthwise: bool = False, **fixed: Any) -> ConvProblem:
    """A small problem with any of its options, but for those that are fixed."""

    def choose(name: str, *among: Any) -> Any:
        return fixed[name] if name in fixed else draw(st.sampled_from(among))

    axes = choose("axes", 1, 2, 3)
    groups = choose("groups", 1, 2, 3)
    in_channels = groups * (1 if depthwise else choose("in_channels", 1, 2, 3, 5, 17))
    stride: list[int] = []
    dilation: list[int] = []
    kernel: list[int] = []
    image: list[int] = []
    padding: list[tuple[int, int]] = []
    for _ in range(axes):
        stride.append(choose("stride", 1, 2, 3))
        dilation.append(choose("dilation", 1, 2))
        kernel.append(choose("kernel", 1, 2, 3))
        padding.append((choose("padding", 0, 1, 2), choose("padding", 0, 1, 3)))
        least = (kernel[-1] - 1) * dilation[-1] + 1 - sum(padding[-1])
        image.append(max(1, least) + choose("slack", 0, 1, 2, 6, *([19] if axes < 3 else [])))
    return ConvProblem.from_shapes(
        (choose("batch", 0, 1, 2), in_channels, *image),
        (groups * choose("out_channels", 1, 2, 7, 20), in_channels // groups, *kernel),
        stride=stride, padding=padding, dilation=dilation, groups=groups, dtype=choose("dtype", "float32", "float64"),
        activation=choose("activation", None, "relu", (-15, 20)), accuracy="strict",
    )  # fmt: skip


def apply(algorithm: str, problem: ConvProblem, x: Array, w: Array, bias: Array | None = None, **changes: Any) -> Array:
    """A public function with the options of a problem, but for the changes."""
    first = 3 - problem.axes
    options: dict[str, Any] = {
        "stride": problem.stride[first:], "padding": problem.padding[first:], "dilation": problem.dilation[first:],
        "groups": problem.groups, "activation": problem.activation or (-inf, inf),
    }  # fmt: skip
    return FUNCTIONS[problem.axes](x, w, bias, algorithm=algorithm, **(options | changes))


def check(algorithm: str, problem: ConvProblem, seed: int) -> None:
    x, w, bias = operands(problem, seed)
    y = apply(algorithm, problem, x, w, bias)
    np.testing.assert_array_equal(y, solve(problem, x, w, bias), strict=True)


@pytest.mark.parametrize("algorithm", GENERAL)
@some
@given(problem=problems(), seed=seeds)
def test_equal_to_naive(algorithm: str, problem: ConvProblem, seed: int) -> None:
    check(algorithm, problem, seed)


@few
@given(problem=problems(depthwise=True, axes=2), seed=seeds)
def test_depthwise_equal_to_naive(problem: ConvProblem, seed: int) -> None:
    check("depthwise", problem, seed)


LINEAR = problems(activation=None, dtype="float64")


@some
@given(names, LINEAR, seeds, st.integers(-4, 4), st.integers(-4, 4))
def test_linear_in_both(algorithm: str, problem: ConvProblem, seed: int, a: int, b: int) -> None:
    (x1, w1, _), (x2, w2, _) = operands(problem, seed), operands(problem, seed + 1)
    y11, y21, y12 = (apply(algorithm, problem, x, w) for x, w in ((x1, w1), (x2, w1), (x1, w2)))
    np.testing.assert_array_equal(apply(algorithm, problem, a * x1 + b * x2, w1), a * y11 + b * y21)
    np.testing.assert_array_equal(apply(algorithm, problem, x1, a * w1 + b * w2), a * y11 + b * y12)


@some
@given(names, problems(activation=None, padding=0, slack=6), seeds, st.integers(1, 2), st.integers(0, 2))
def test_shifted_input_shifts_the_output(
    algorithm: str, problem: ConvProblem, seed: int, shift: int, axis: int
) -> None:
    """Along any axis, by strides."""
    x, w, bias = operands(problem, seed)
    axis %= problem.axes
    cut: list[Any] = [slice(None)] * x.ndim
    cut[2 + axis] = slice(shift * problem.stride[3 - problem.axes :][axis], None)
    rest = list(cut)
    rest[2 + axis] = slice(shift, None)
    y = apply(algorithm, problem, x, w, bias)
    np.testing.assert_array_equal(apply(algorithm, problem, x[tuple(cut)], w, bias), y[tuple(rest)])


@some
@given(names, problems(activation=None, groups=1, dilation=1, stride=1, batch=1), seeds)
def test_impulse_answers_with_the_mirrored_weight(algorithm: str, problem: ConvProblem, seed: int) -> None:
    """At its own place, in every output channel."""
    x, w, _ = operands(problem, seed)
    rng = np.random.default_rng(seed)
    place = tuple(int(rng.integers(size)) for size in x.shape[1:])
    x[:] = 0
    x[0][place] = 1
    y = apply(algorithm, problem, x, w, padding="full")
    expected = np.zeros_like(y)
    window: Any = (0, slice(None), *(slice(at, at + taps) for at, taps in zip(place[1:], w.shape[2:], strict=True)))
    expected[window] = np.flip(w[:, place[0]], tuple(range(1, w.ndim - 1)))
    np.testing.assert_array_equal(y, expected)


@some
@given(names, problems(activation=None, groups=1, stride=1, dilation=1, dtype="float64", slack=6, padding=1), seeds)
def test_two_filters_are_one(algorithm: str, problem: ConvProblem, seed: int) -> None:
    """The full convolution of the two, summed over the channels between them."""
    x, w1, _ = operands(problem, seed)
    w2 = integers((3, w1.shape[0], *(2, 3, 1)[: problem.axes]), "float64", seed)
    both = np.array(
        [
            [sum(scipy.signal.convolve(a, b, method="direct") for a, b in zip(w1[:, c], one, strict=True))
             for c in range(w1.shape[1])]
            for one in w2
        ]
    )  # fmt: skip
    twice = apply(algorithm, problem, apply(algorithm, problem, x, w1), w2, padding=0)
    np.testing.assert_array_equal(twice, apply(algorithm, problem, x, both))


@some
@given(names, problems(groups=3), seeds)
def test_groups_are_convolutions_side_by_side(algorithm: str, problem: ConvProblem, seed: int) -> None:
    x, w, bias = operands(problem, seed)
    parts = zip(np.split(x, 3, axis=1), np.split(w, 3), np.split(bias, 3), strict=True)
    alone = [apply(algorithm, problem, *part, groups=1) for part in parts]
    np.testing.assert_array_equal(apply(algorithm, problem, x, w, bias), np.concatenate(alone, axis=1))


@some
@given(names, problems(dilation=3), seeds)
def test_dilation_is_zeros_between_taps(algorithm: str, problem: ConvProblem, seed: int) -> None:
    x, w, bias = operands(problem, seed)
    stuffed = np.zeros((*w.shape[:2], *(3 * taps - 2 for taps in w.shape[2:])), w.dtype)
    between: Any = (..., *(slice(None, None, 3) for _ in w.shape[2:]))
    stuffed[between] = w
    y = apply(algorithm, problem, x, w, bias)
    np.testing.assert_array_equal(y, apply(algorithm, problem, x, stuffed, bias, dilation=1))


@some
@given(names, problems(), seeds)
def test_stride_leaves_outputs_out(algorithm: str, problem: ConvProblem, seed: int) -> None:
    x, w, bias = operands(problem, seed)
    steps: Any = (..., *(slice(None, None, step) for step in problem.stride[3 - problem.axes :]))
    every = apply(algorithm, problem, x, w, bias, stride=1)
    np.testing.assert_array_equal(apply(algorithm, problem, x, w, bias), every[steps])


@some
@given(names, problems(batch=2), seeds)
def test_images_of_a_batch_do_not_meet(algorithm: str, problem: ConvProblem, seed: int) -> None:
    """The same bits as each alone, in other company and without a batch axis."""
    x, w, bias = operands(problem, seed)
    y = apply(algorithm, problem, x, w, bias)
    np.testing.assert_array_equal(apply(algorithm, problem, x[::-1], w, bias), y[::-1])
    assert replace(problem, batch=1).output_shape[1:] == y[0].shape
    np.testing.assert_array_equal(apply(algorithm, problem, x[1], w, bias), y[1], strict=True)
