"""conv1d, conv2d and conv3d: every form of every argument, and whatever memory the arrays live in."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from naive import Array, convolve, integers

import numbaconv as nc
from numbaconv.algorithms import ALGORITHMS

#: Algorithms that are for every combination of options, and exact on integers.
DIRECT = [name for name in ALGORITHMS if name not in ("winograd", "strassen")]
FUNCTIONS: dict[int, Callable[..., Array]] = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
#: Input (N, C, H, W), weight and bias of most tests; sizes, kernel and channels are all different.
X, W, BIAS = integers((2, 4, 8, 7), "float32"), integers((6, 4, 3, 4), "float32", 1), integers((6,), "float32", 2)


def expected(x: Array, w: Array, bias: Array | None = None, **options: Any) -> Array:
    """The naive sum, where options that are not given are the default ones."""
    axes = w.ndim - 2
    defaults: dict[str, Any] = {"stride": (1,) * axes, "padding": ((0, 0),) * axes, "dilation": (1,) * axes}
    return convolve(x, w, bias, **(defaults | options)).astype(x.dtype)


def test_annotations_are_for_callers_too() -> None:
    """PEP 561: type checkers read them where this file is beside them."""
    assert (Path(nc.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("algorithm", DIRECT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axes", FUNCTIONS)
def test_all_options_at_once(axes: int, dtype: str, algorithm: str) -> None:
    """And none of them, and without batch axis."""
    channels = (3, 6) if algorithm == "depthwise" else (6, 9)
    x = integers((2, channels[0], *(9, 8, 10)[-axes:]), dtype)
    w = integers((channels[1], channels[0] // 3, *(2, 3, 2)[-axes:]), dtype, 1)
    bias = integers(channels[1:], dtype, 2)
    stride, padding, dilation = (1, 2, 1)[-axes:], ((1, 1), (2, 1), (0, 3))[-axes:], (2, 1, 2)[-axes:]
    function = FUNCTIONS[axes]
    y = function(x, w, bias, stride, padding, dilation, 3, activation="relu", algorithm=algorithm)
    full = expected(x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=3, bounds=(0, inf))
    np.testing.assert_array_equal(y, full, strict=True)
    assert y.flags.c_contiguous
    one = function(x[1], w, bias, stride, padding, dilation, 3, activation="relu", algorithm=algorithm)
    np.testing.assert_array_equal(one, full[1], strict=True)
    plain = function(x, w, groups=3, algorithm=algorithm)
    np.testing.assert_array_equal(plain, expected(x, w, groups=3), strict=True)


@pytest.mark.parametrize(
    ("padding", "stride", "pairs"),
    [
        (0, 1, ((0, 0), (0, 0))),
        (2, 1, ((2, 2), (2, 2))),
        ((1, 3), 1, ((1, 1), (3, 3))),
        ([1, 3], [1, 1], ((1, 1), (3, 3))),
        (((1, 0), (2, 3)), (2, 1), ((1, 0), (2, 3))),
        ((np.int64(1), (2, 3)), 1, ((1, 1), (2, 3))),
        ("valid", 2, ((0, 0), (0, 0))),
        ("same", 1, ((1, 1), (1, 2))),
        ("same_upper", 2, ((0, 1), (1, 2))),
        ("same_lower", 2, ((1, 0), (2, 1))),
        ("full", 1, ((2, 2), (3, 3))),
    ],
    ids=str,
)
def test_padding(padding: Any, stride: Any, pairs: tuple[tuple[int, int], ...]) -> None:
    steps = (stride,) * 2 if isinstance(stride, int) else tuple(stride)
    y = nc.conv2d(X, W, padding=padding, stride=stride, accuracy="strict")
    np.testing.assert_array_equal(y, expected(X, W, padding=pairs, stride=steps), strict=True)


@pytest.mark.parametrize("spell", [np.array, list, tuple])
def test_options_as_sequences(spell: Callable[[list[int]], Any]) -> None:
    """Arrays, which have no hash, and as in torch one number for all axes; functions, layers and plans take them."""
    options = {"stride": spell([2, 1]), "padding": spell([1]), "dilation": spell([1, 2]), "accuracy": "strict"}
    y = expected(X, W, stride=(2, 1), padding=((1, 1), (1, 1)), dilation=(1, 2))
    for result in (
        nc.conv2d(X, W, **options),
        nc.Conv2d(W, **options)(X),
        nc.plan(X.shape, W.shape, **options)(X, W),
    ):
        np.testing.assert_array_equal(result, y, strict=True)


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        (None, (-inf, inf)),
        ("relu", (0, inf)),
        ("relu6", (0, 6)),
        (("clip", -50, 70.5), (-50, 70.5)),
        (["clip", -inf, 10], (-inf, 10)),
        ((3, 3), (3, 3)),
    ],
    ids=str,
)
def test_activation(activation: Any, bounds: tuple[float, float]) -> None:
    y = nc.conv2d(X, W, BIAS, activation=activation, accuracy="strict")
    np.testing.assert_array_equal(y, expected(X, W, BIAS, bounds=bounds), strict=True)


def unaligned(values: Array) -> Array:
    memory = np.empty(values.nbytes + 1, np.uint8)
    array = memory[1:].view(values.dtype).reshape(values.shape)
    array[...] = values
    assert not (array.size and array.flags.aligned)
    return array


def read_only(values: Array) -> Array:
    array = values.copy()
    array.flags.writeable = False
    return array


def every_third(values: Array) -> Array:
    array = np.full((*values.shape[:-1], 3 * values.shape[-1]), np.nan, values.dtype)[..., 1::3]
    array[...] = values
    return array


#: The same or other values in memory of another kind.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "every third": every_third,
    "reversed": lambda values: values[tuple(slice(None, None, -1) for _ in values.shape)],
    "Fortran order": lambda values: np.asfortranarray(values),
    "transposed": lambda values: np.ascontiguousarray(values.T).T,
    "read-only": read_only,
    "read-only, strided": lambda values: read_only(values)[::-1],
    "foreign byte order": lambda values: values.astype(values.dtype.newbyteorder()),
    "unaligned": unaligned,
    "one value, broadcast": lambda values: np.broadcast_to(values.dtype.type(3), values.shape),
    "one item, broadcast": lambda values: np.broadcast_to(values[:1], values.shape),
}


@pytest.mark.parametrize("operand", ["input", "weight", "bias"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_operand_in_any_memory(layout: str, operand: str) -> None:
    """Right results, and an operand that is as it was."""
    operands: dict[str, Any] = {"input": X, "weight": W, "bias": BIAS}
    array = LAYOUTS[layout](operands[operand])
    operands[operand] = array
    before, flags, strides = array.tobytes(), str(array.flags), array.strides
    native = {name: values.astype(values.dtype.newbyteorder("=")) for name, values in operands.items()}
    y = nc.conv2d(**operands, accuracy="strict")
    np.testing.assert_array_equal(y, expected(native["input"], native["weight"], native["bias"]), strict=True)
    assert (array.tobytes(), str(array.flags), array.strides) == (before, flags, strides)


def test_memory_map(tmp_path: Path) -> None:
    """Read from a file that cannot be written, into one that can."""
    path = tmp_path / "input"
    X.tofile(path)
    x = np.memmap(path, X.dtype, "r", shape=X.shape)
    out = np.memmap(tmp_path / "output", X.dtype, "w+", shape=(2, 6, 6, 4))
    assert nc.conv2d(x, W, out=out, accuracy="strict") is out
    out.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "output", X.dtype), expected(X, W).ravel())
    assert path.read_bytes() == X.tobytes()


OUTS: dict[str, Callable[[tuple[int, ...]], Array]] = {
    "contiguous": lambda shape: np.full(shape, np.nan, np.float32),
    "every third": lambda shape: every_third(np.zeros(shape, np.float32)),
    "reversed": lambda shape: np.full(shape, np.nan, np.float32)[..., ::-1],
    "Fortran order": lambda shape: np.full(shape, np.nan, np.float32, order="F"),
    "unaligned": lambda shape: unaligned(np.zeros(shape, np.float32)),
}


@pytest.mark.parametrize("kind", OUTS)
@pytest.mark.parametrize("x", [X, X[0], X[:0]], ids=["batch", "unbatched", "empty"])
def test_out(x: Array, kind: str) -> None:
    """Written where it is, returned as it is, and its neighbours left alone."""
    y = expected(x.reshape(-1, *X.shape[1:]), W, BIAS).reshape(*x.shape[:-3], 6, 6, 4)
    out = OUTS[kind](y.shape)
    assert nc.conv2d(x, W, BIAS, out=out, accuracy="strict") is out
    np.testing.assert_array_equal(out, y)
    if kind == "every third" and y.size:
        assert out.base is not None
        assert np.isnan(np.delete(out.base, np.s_[1::3], axis=-1)).all()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices() -> None:
    """Which stay of two axes whatever is done to them; one is returned as it is."""
    nc.set_num_threads(1)
    x, w = integers((4, 9), "float32"), integers((3, 4, 2), "float32", 1)
    y = nc.conv1d(x, w)
    for order in ("C", "F"):
        out = np.matrix(np.zeros(y.shape, y.dtype, order=order), copy=False)
        assert nc.conv1d(np.matrix(x), w, out=out) is out
        np.testing.assert_array_equal(out, y)
    assert type(nc.conv1d(np.matrix(x), w)) is np.ndarray


def test_out_may_share_an_input_s_memory_without_overlap() -> None:
    """Even and odd columns of one array: interleaved, with no element in common."""
    memory = integers((1, 1, 6, 16), "float32")
    x, out = memory[..., ::2], memory[..., 1::2]
    y = expected(x, W[:1, :1, :1, :1])
    nc.conv2d(x, W[:1, :1, :1, :1], out=out)
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("axes", FUNCTIONS)
def test_empty_batch(axes: int) -> None:
    y = FUNCTIONS[axes](np.empty((0, 2, *(5,) * axes)), np.ones((3, 2, *(3,) * axes)), padding=1)
    assert (y.shape, y.dtype) == ((0, 3, *(5,) * axes), np.float64)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("axes", FUNCTIONS)
def test_scipy_correlates_alike(axes: int, mode: str) -> None:
    """SciPy's "same" is centred as ours is for odd kernels."""
    rng = np.random.default_rng(axes)
    x, w = rng.standard_normal((11,) * axes), rng.standard_normal((3, 5, 3)[:axes])
    y = FUNCTIONS[axes](x[None], w[None, None], padding=mode, accuracy="strict")[0]
    np.testing.assert_allclose(y, scipy.signal.correlate(x, w, mode, method="direct"), rtol=0, atol=1e-13)


def test_accuracy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read at each call, for those that do not say; strict sums are exact, and NaN stays where it is seen."""
    x, w = integers((1, 32, 24, 24), "float32"), integers((32, 32, 3, 3), "float32", 1)
    x[0, 0, 11, 11] = np.nan
    y = expected(x, w, padding=((1, 1), (1, 1)))
    for environment, argument in (("strict", None), ("fast", "strict")):
        nc.conv2d(x, w, padding=1, accuracy="fast")
        monkeypatch.setenv("NUMBACONV_ACCURACY", environment)
        np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy=argument), y)
    monkeypatch.setenv("NUMBACONV_ACCURACY", "some")
    with pytest.raises(ValueError, match="NUMBACONV_ACCURACY: expected 'fast', 'default' or 'strict', got 'some'"):
        nc.conv2d(x, w)
