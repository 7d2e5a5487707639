"""What callers may write for stride, padding, activation and dtype, and how what is wrong is refused."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from numbaconv.arguments import normalise_activation, normalise_axes, normalise_dtype
from numbaconv.padding import Padding, normalise_padding

ONE = (1, 1, 1)


@pytest.mark.parametrize(
    ("value", "axes", "expected"),
    [
        (2, 1, (1, 1, 2)),
        (2, 3, (2, 2, 2)),
        ((2, 3), 2, (1, 2, 3)),
        ([1, 2, 3], 3, (1, 2, 3)),
        ((np.int64(4),), 1, (1, 1, 4)),
        (np.uint8(4), 2, (1, 4, 4)),
        ((2,), 2, (1, 2, 2)),
        ([3], 3, (3, 3, 3)),
        (np.array([2, 3], np.uint8), 2, (1, 2, 3)),
        (np.array([2]), 3, (2, 2, 2)),
        (np.array(2), 2, (1, 2, 2)),
    ],
)
def test_axes(value: Any, axes: int, expected: tuple[int, int, int]) -> None:
    result = normalise_axes("stride", value, axes)
    assert result == expected
    assert all(type(item) is int for item in result)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "stride: expected an integer of at least 1, got 0"),
        ((1, -2), ValueError, "stride: expected an integer of at least 1, got -2"),
        ((1, 2, 3), ValueError, r"stride: expected one integer or 2, one per spatial axis, got \(1, 2, 3\)"),
        ((), ValueError, r"stride: expected one integer or 2, .* got \(\)"),
        (1.5, TypeError, r"stride: expected an integer of at least 1, got 1\.5 \(float\)"),
        (None, TypeError, r"stride: .* got None \(NoneType\)"),
        (True, TypeError, "stride: .* got True"),
        (np.bool_(True), TypeError, "stride: .* got .*True"),
        ("2", TypeError, r"stride: .* got '2' \(str\)"),
        (np.array([1, 1, 1]), ValueError, r"stride: expected one integer or 2, .* got array\(\[1, 1, 1\]\)"),
        (np.array([1.0, 1.0]), TypeError, r"stride: .* got 1\.0 \(float\)"),
        (np.array([True, True]), TypeError, "stride: .* got True"),
        (np.ones((2, 2), int), TypeError, r"stride: .* got \(1, 1\) \(tuple\)"),
    ],
)
def test_axes_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        normalise_axes("stride", value, 2)


@pytest.mark.parametrize(
    ("value", "axes", "expected"),
    [
        (1, 2, ((0, 0), (1, 1), (1, 1))),
        ((1, 2), 2, ((0, 0), (1, 1), (2, 2))),
        (((1, 2), (0, 1)), 2, ((0, 0), (1, 2), (0, 1))),
        ([[1, 2], 3], 2, ((0, 0), (1, 2), (3, 3))),
        ((3,), 1, ((0, 0), (0, 0), (3, 3))),
        (((1, 2),), 1, ((0, 0), (0, 0), (1, 2))),
        ((1, 2, np.int32(3)), 3, ((1, 1), (2, 2), (3, 3))),
        ((2,), 2, ((0, 0), (2, 2), (2, 2))),
        ([(1, 2)], 3, ((1, 2), (1, 2), (1, 2))),
        (np.array(2), 2, ((0, 0), (2, 2), (2, 2))),
        (np.array([1, 2]), 2, ((0, 0), (1, 1), (2, 2))),
        (np.array([[1, 2], [0, 1]]), 2, ((0, 0), (1, 2), (0, 1))),
        ("valid", 2, ((0, 0), (0, 0), (0, 0))),
    ],
)
def test_padding_by_number(value: Any, axes: int, expected: Padding) -> None:
    assert normalise_padding(value, axes, (1, 9, 9), ONE, ONE, ONE) == expected


@pytest.mark.parametrize(
    ("rule", "size", "kernel", "stride", "dilation", "expected"),
    [
        # torch: dilation (kernel - 1) in all, whatever the size
        ("same", 9, 3, 1, 1, (1, 1)),
        ("same", 9, 4, 1, 1, (1, 2)),
        ("same", 2, 2, 1, 3, (1, 2)),
        # TensorFlow's own example of SAME: 13 wide, filter 6, stride 5 pads 1 and 2
        ("same_upper", 13, 6, 5, 1, (1, 2)),
        ("same_upper", 224, 7, 2, 1, (2, 3)),
        ("same_upper", 224, 3, 2, 1, (0, 1)),
        ("same_upper", 10, 3, 3, 2, (2, 2)),
        ("same_upper", 4, 1, 2, 1, (0, 0)),
        # ONNX: the operator's SAME_LOWER example is 5 wide, kernel 3, stride 2, output 3
        ("same_lower", 5, 3, 2, 1, (1, 1)),
        ("same_lower", 224, 7, 2, 1, (3, 2)),
        ("same_lower", 13, 6, 5, 1, (2, 1)),
        ("full", 9, 3, 1, 1, (2, 2)),
        ("full", 9, 3, 2, 4, (8, 8)),
    ],
)
def test_padding_by_rule(
    rule: str, size: int, kernel: int, stride: int, dilation: int, expected: tuple[int, int]
) -> None:
    geometry = [(1, 1, value) for value in (size, kernel, stride, dilation)]
    assert normalise_padding(rule, 1, *geometry) == ((0, 0), (0, 0), expected)


@pytest.mark.parametrize(
    ("value", "axes", "error", "message"),
    [
        (-1, 2, ValueError, "padding: expected an integer of at least 0, got -1"),
        (((0, 1), (0, -1)), 2, ValueError, "padding: expected an integer of at least 0, got -1"),
        ((1, 2), 1, ValueError, r"got \(1, 2\); for one axis .* is written \(\(before, after\),\)"),
        ((1, 1, 1), 2, ValueError, r"or 2 integers or \(before, after\) pairs, .* got \(1, 1, 1\)$"),
        (((1, 2, 3), 1), 2, ValueError, r"expected \(before, after\) for each axis, got \(1, 2, 3\)"),
        (None, 2, TypeError, "padding: expected an integer of at least 0, got None"),
        ((1.0, 1), 2, TypeError, r"padding: expected an integer of at least 0, got 1\.0"),
        (((True, 0), 1), 2, TypeError, "padding: .* got True"),
        ((), 2, ValueError, r"or 2 integers .* got \(\)"),
        (np.array([0.0, 1.0]), 2, TypeError, r"padding: .* got 0\.0 \(float\)"),
        (np.zeros((2, 2, 2), int), 2, TypeError, r"padding: .* got \(0, 0\) \(tuple\)"),
        ("SAME", 2, ValueError, "one of valid, same, same_upper, same_lower, full, got 'SAME'"),
        ("same", 2, ValueError, r"'same' needs stride 1, got stride \(2, 1\); 'same_upper'"),
    ],
)
def test_padding_refused(value: Any, axes: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        normalise_padding(value, axes, (1, 9, 9), (1, 3, 3), (1, 2, 1), ONE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("relu", (0.0, inf)),
        ("relu6", (0.0, 6.0)),
        (("clip", -1, np.float32(0.5)), (-1.0, 0.5)),
        (("clip", 2, 2), (2.0, 2.0)),
        (["clip", -inf, 1], (-inf, 1.0)),
        (("clip", -inf, inf), None),
        ((0.0, 6.0), (0.0, 6.0)),
        (np.array([-1, 6]), (-1.0, 6.0)),
    ],
)
def test_activation(value: Any, expected: tuple[float, float] | None) -> None:
    result = normalise_activation(value)
    assert result == expected
    assert result is None or [type(bound) for bound in result] == [float, float]
    assert normalise_activation(result) == result


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            "gelu",
            ValueError,
            r"activation: expected None, 'relu', 'relu6' or \('clip', low, high\), got 'gelu'",
        ),
        (("clip", 1, 0), ValueError, r"activation: expected low <= high and no NaN, got \('clip', 1, 0\)"),
        (("clip", nan, 1), ValueError, "no NaN"),
        (("clip", 0, nan), ValueError, "no NaN"),
        (("clip", 0, 1, 2), ValueError, "activation: expected None"),
        (("elu", 0, 1), ValueError, r"activation: expected None, .* got \('elu', 0, 1\)"),
        (("clip", 0), TypeError, r"activation: the bounds must be real numbers, got \('clip', 0\)"),
        (("clip", "0", 1), TypeError, "activation: the bounds must be real numbers"),
        (("clip", False, 1), TypeError, "activation: the bounds must be real numbers"),
        (("clip", np.False_, 1), TypeError, "activation: the bounds must be real numbers"),
        (("clip", 0, np.complex64(1)), TypeError, "activation: the bounds must be real numbers"),
        (("clip", 0, 10**400), ValueError, "activation: expected bounds that float64 can hold"),
        (0, TypeError, "activation: expected None, .* got 0"),
    ],
)
def test_activation_refused(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        normalise_activation(value)


@pytest.mark.parametrize("value", ["float32", np.float32, np.dtype("float32"), np.ones(1, np.float32).dtype])
def test_dtype(value: Any) -> None:
    assert normalise_dtype(value) == "float32"


@pytest.mark.parametrize("value", ["float16", "f4", np.int32, np.dtype("float32").newbyteorder(), float, None])
def test_dtype_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="dtype: expected float32 or float64 in native byte order, got "):
        normalise_dtype(value)
