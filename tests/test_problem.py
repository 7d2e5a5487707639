"""The geometry of a problem against brute force and known figures, and its validation."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbaconv.problem import ConvProblem

SMALL = st.integers(1, 5)
VGG = ConvProblem.from_shapes((1, 64, 224, 224), (64, 64, 3, 3), padding=1)


def count_outputs(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """Lay the kernel at every stride and count where its last tap is still inside the padded input."""
    starts = range(-before, size + after, stride)
    return sum(start + (kernel - 1) * dilation < size + after for start in starts)


@given(SMALL, SMALL, SMALL, st.integers(0, 6), st.integers(0, 6), st.integers(0, 12))
@settings(max_examples=300, deadline=None)
def test_output_size_and_settled_padding(
    kernel: int, stride: int, dilation: int, before: int, after: int, slack: int
) -> None:
    size = max(1, (kernel - 1) * dilation + 1 - before - after) + slack
    out = count_outputs(size, kernel, stride, dilation, before, after)
    problem = ConvProblem.from_shapes(
        (1, 1, size), (1, 1, kernel), stride=stride, padding=((before, after),), dilation=dilation
    )
    kept, settled = problem.padding[2]
    assert problem.out_size == (1, 1, out)
    assert problem.receptive_field == ((kernel - 1) * dilation + 1,)
    # The settled padding gives the same output, and is `before` if that does, or nothing that could be less.
    assert kept == before
    assert count_outputs(size, kernel, stride, dilation, before, settled) == out
    if count_outputs(size, kernel, stride, dilation, before, before) == out:
        assert settled == before
    elif settled:
        assert count_outputs(size, kernel, stride, dilation, before, settled - 1) < out


def test_equal_computations_are_equal_problems() -> None:
    shapes = (1, 8, 56, 56), (8, 8, 3, 3)
    torch, tight, onnx = (
        ConvProblem.from_shapes(*shapes, stride=2, padding=padding) for padding in (1, ((1, 0), (1, 0)), "same_lower")
    )
    assert torch == tight == onnx
    assert len({torch, tight, onnx}) == 1
    assert torch != ConvProblem.from_shapes(*shapes, stride=2, padding="same_upper")


@pytest.mark.parametrize(
    ("problem", "shapes", "flops", "parameters"),
    [
        (
            VGG,
            ((1, 64, 224, 224), (64, 64, 3, 3), (1, 64, 224, 224)),
            3_699_376_128,
            36_928,
        ),
        (
            ConvProblem.from_shapes((2, 8, 10), (24, 1, 3), groups=8, stride=3, dtype="float64"),
            ((2, 8, 10), (24, 1, 3), (2, 24, 3)),
            2 * (2 * 24 * 3) * 3,
            24 * 4,
        ),
        (
            ConvProblem.from_shapes((0, 6, 4, 5, 6), (4, 3, 2, 3, 4), groups=2, padding=(0, 1, (2, 0))),
            ((0, 6, 4, 5, 6), (4, 3, 2, 3, 4), (0, 4, 3, 5, 5)),
            0,
            4 * (3 * 24 + 1),
        ),
    ],
)
def test_figures(
    problem: ConvProblem,
    shapes: tuple[tuple[int, ...], ...],
    flops: int,
    parameters: int,
) -> None:
    assert (problem.input_shape, problem.weight_shape, problem.output_shape) == shapes
    assert (problem.flops, problem.parameters) == (flops, parameters)


def test_problem_is_plain_frozen_data() -> None:
    shape = tuple(np.array((1, 64, 224, 224)))
    problem = ConvProblem.from_shapes(
        shape, (np.int64(64), 64, 3, 3), padding=np.int8(1), groups=np.int32(1), dtype=np.float32
    )
    assert problem == VGG
    assert hash(problem) == hash(VGG)
    assert repr(problem) == repr(VGG)  # which shows a NumPy integer that slipped through
    assert pickle.loads(pickle.dumps(problem)) == problem
    with pytest.raises(FrozenInstanceError):
        problem.batch = 2  # type: ignore[misc]


def test_options_are_normalised_and_part_of_the_problem() -> None:
    options: dict[str, Any] = {"dtype": np.float64, "activation": "relu", "constant_weight": True, "workspace_limit": 9}
    made = ConvProblem.from_shapes((1, 64, 224, 224), (64, 64, 3, 3), padding=1, **options)
    assert made == ConvProblem.parse(str(VGG), **options) != VGG
    assert (made.dtype, made.activation, made.constant_weight) == ("float64", (0.0, inf), True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_shape": (6, 8, 8)}, ValueError, r"input: expected 4 axes .* got shape \(6, 8, 8\)"),
        (
            {"input_shape": (1, 0, 8, 8)},
            ValueError,
            r"input: expected sizes .* 1 \(the batch may be 0\), got",
        ),
        ({"input_shape": (1, 6, 8.0, 8)}, TypeError, r"input_shape: expected a shape, .* got \(1, 6, 8\.0, 8\)"),
        ({"input_shape": 7}, TypeError, "input_shape: expected a shape, .* got 7"),
        ({"weight_shape": (8, 6)}, ValueError, r"weight: expected the axes .* got shape \(8, 6\)"),
        ({"weight_shape": (8, 6, 1, 1, 1, 1)}, ValueError, "weight: expected the axes .* 1 to 3 spatial"),
        (
            {"weight_shape": (0, 6, 3, 3)},
            ValueError,
            r"weight: expected sizes of at least 1, got shape \(0, ",
        ),
        (
            {"weight_shape": (8, 4, 3, 3), "groups": 2},
            ValueError,
            r"weight: expected 3 input channels per group \(input has 6 channels, groups=2\), "
            r"got shape \(8, 4, 3, 3\)",
        ),
        ({"groups": 4}, ValueError, "groups: 4 does not divide the 6 input channels"),
        ({"weight_shape": (7, 2, 3, 3), "groups": 3}, ValueError, "groups: 3 .* the 7 output channels"),
        ({"groups": 0}, ValueError, "groups: expected an integer of at least 1, got 0"),
        ({"groups": 1.0}, TypeError, r"groups: .* got 1\.0"),
        ({"stride": 1.5}, TypeError, r"stride: .* got 1\.5"),
        ({"dilation": 0}, ValueError, "dilation: expected an integer of at least 1, got 0"),
        ({"padding": None}, TypeError, "padding: .* got None"),
        ({"activation": "tanh"}, ValueError, "activation: .* got 'tanh'"),
        ({"dtype": "int8"}, TypeError, "dtype: .* got 'int8'"),
        ({"constant_weight": 1}, TypeError, "constant_weight: expected a bool, got 1"),
        (
            {"dilation": (4, 5), "padding": 1},
            ValueError,
            r"input: the padded size \(10, 10\) is smaller than the effective kernel extent \(9, 11\) "
            r"\(kernel \(3, 3\), dilation \(4, 5\)\)",
        ),
    ],
)
def test_shapes_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"input_shape": (1, 6, 8, 8), "weight_shape": (8, 6, 3, 3)} | changes
    with pytest.raises(error, match=message):
        ConvProblem.from_shapes(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch": -1}, ValueError, "batch: expected an integer of at least 0, got -1"),
        ({"in_channels": 0}, ValueError, "in_channels: expected an integer of at least 1, got 0"),
        ({"out_channels": 64.0}, TypeError, r"out_channels: .* got 64\.0"),
        ({"groups": 5}, ValueError, "groups: 5 does not divide the 64 input channels"),
        ({"in_size": (224, 224)}, ValueError, r"in_size: .* got \(224, 224\)"),
        ({"kernel_size": (1, 300, 3)}, ValueError, r"padded size \(226, 226\) .* extent \(300, 3\)"),
        ({"padding": ((0, 0), (1, 1), (1, -1))}, ValueError, "padding: .* got -1"),
        ({"axes": 4}, ValueError, "axes: expected 1, 2 or 3 spatial axes, got 4"),
        ({"axes": 1}, ValueError, "axes: with 1, H must have size, kernel, stride and dilation 1"),
        ({"stride": (2, 1, 1)}, ValueError, "axes: with 2, D must have size, .* 1 and padding"),
        ({"activation": (1.0, 0.0)}, ValueError, "activation: expected low <= high"),
    ],
)
def test_a_problem_made_by_hand_cannot_be_nonsense(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        replace(VGG, **changes)
