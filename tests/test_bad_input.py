"""Arguments that cannot be right are refused by their name, by functions, layers and plans alike."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import Array

import numbaconv as nc


def ones(*shape: int, dtype: Any = np.float32) -> Array:
    return np.ones(shape, dtype)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


X, W = ones(1, 4, 6, 6), ones(6, 4, 3, 3)
#: Arguments of conv2d that are wrong beside X and W, and what is said of them. The result is (1, 6, 4, 4).
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "list": ({"input": [1.0]}, TypeError, "input: expected a NumPy array .* got list"),
    "integers": ({"input": X.astype(int)}, TypeError, "input: expected dtype float32 or float64, got int64"),
    "half": ({"weight": W.astype("f2")}, TypeError, "weight: expected dtype .* got float16"),
    "complex": ({"bias": ones(6, dtype=complex)}, TypeError, "bias: expected dtype .* got complex128"),
    "objects": ({"input": X.astype(object)}, TypeError, "input: expected dtype .* got object"),
    "masked": ({"input": np.ma.masked_equal(X, 0)}, TypeError, "input: masked arrays are not supported"),
    "masked weight": ({"weight": np.ma.masked_equal(W, 0)}, TypeError, "weight: masked arrays"),
    "mixed": ({"weight": W.astype("f8")}, TypeError, "weight: expected float32 as the input is, got float64"),
    "mixed bias": ({"bias": ones(6, dtype="f8")}, TypeError, "bias: expected float32 as the input is, got float64"),
    "no axes": ({"input": ones()}, ValueError, r"input: expected 4 axes, or 3 without batch, got shape \(\)"),
    "two axes": ({"input": ones(6, 6)}, ValueError, "input: expected 4 axes, or 3 without batch"),
    "five axes": ({"input": ones(1, 1, 4, 6, 6)}, ValueError, "input: expected 4 axes, or 3 without batch"),
    "no image": ({"input": ones(1, 4, 0, 6)}, ValueError, "input: expected sizes of at least 1"),
    "weight of conv1d": ({"weight": ones(6, 4, 3)}, ValueError, r"weight: expected 4 axes .* got shape \(6, 4, 3\)"),
    "no outputs": ({"weight": ones(0, 4, 3, 3)}, ValueError, "weight: expected sizes of at least 1"),
    "channels": ({"weight": ones(6, 3, 3, 3)}, ValueError, "weight: expected 4 input channels per group"),
    "kernel": ({"weight": ones(6, 4, 7, 7)}, ValueError, r"input: the padded size \(6, 6\) is smaller .* \(7, 7\)"),
    "bias length": ({"bias": ones(5)}, ValueError, r"bias: expected shape \(6,\), got \(5,\)"),
    "bias axes": ({"bias": ones(6, 1, 1)}, ValueError, r"bias: expected shape \(6,\), got \(6, 1, 1\)"),
    "bias number": ({"bias": 1.0}, TypeError, "bias: expected a NumPy array .* got float"),
    "stride 0": ({"stride": 0}, ValueError, "stride: expected an integer of at least 1, got 0"),
    "strides": ({"stride": (1, 1, 1)}, ValueError, r"stride: expected one integer or 2, .* got \(1, 1, 1\)"),
    "stride 1.0": ({"stride": 1.0}, TypeError, r"stride: expected an integer .* got 1\.0"),
    "stride True": ({"stride": True}, TypeError, "stride: expected an integer .* got True"),
    "stride 10**20": ({"stride": 10**20}, ValueError, "stride: expected an integer of at most 1099511627776, got"),
    "padding 2**62": ({"padding": (1, 2**62)}, ValueError, "padding: expected an integer of at most"),
    "no channels": ({"weight": ones(6, 0, 3, 3)}, ValueError, r"weight: expected sizes of at least 1, got .*6, 0"),
    "stride array": ({"stride": np.array([1.0, 2.0])}, TypeError, "stride: expected an integer"),
    "activation array": ({"activation": np.zeros((2, 2))}, TypeError, "activation: the bounds must be real numbers"),
    "dilation": ({"dilation": [1, -1]}, ValueError, "dilation: expected an integer of at least 1, got -1"),
    "padding -1": ({"padding": -1}, ValueError, "padding: expected an integer of at least 0, got -1"),
    "padding name": ({"padding": "SAME"}, ValueError, "padding: expected integers or one of .* got 'SAME'"),
    "padding None": ({"padding": None}, TypeError, "padding: .* got None"),
    "padding lengths": ({"padding": ((1, 1), (1, 1, 1))}, ValueError, "padding: expected .before, after. for each"),
    "same, stride": ({"padding": "same", "stride": 2}, ValueError, r"padding: 'same' needs stride 1, .* \(2, 2\)"),
    "groups": ({"groups": 3}, ValueError, "groups: 3 does not divide the 4 input channels"),
    "groups 0": ({"groups": 0}, ValueError, "groups: expected an integer of at least 1, got 0"),
    "groups 2.0": ({"groups": 2.0}, TypeError, "groups: expected an integer"),
    "activation": ({"activation": "gelu"}, ValueError, "activation: expected None, 'relu', .* got 'gelu'"),
    "activation call": ({"activation": abs}, TypeError, "activation: expected None, 'relu'"),
    "clip": ({"activation": ("clip", 2, 1)}, ValueError, "activation: expected low <= high"),
    "algorithm": ({"algorithm": "fft"}, ValueError, "algorithm: expected 'auto' or one of .*direct.* got 'fft'"),
    "algorithm 1": ({"algorithm": 1}, TypeError, "algorithm: expected a name, got 1"),
    "not depthwise": (
        {"algorithm": "depthwise"}, ValueError,
        "algorithm: depthwise does not apply to mb1ic4ih6oc6.*: it is for one input channel per group, .* 4",
    ),
    "accuracy": ({"accuracy": "exact"}, ValueError, "accuracy: expected 'fast', 'default' or 'strict', got 'exact'"),
    "accuracy 1": ({"accuracy": 1}, TypeError, "accuracy: expected 'fast'.* got 1"),
    "out list": ({"out": []}, TypeError, "out: expected a NumPy array, got list"),
    "out shape": ({"out": ones(1, 6, 4, 5)}, ValueError, r"out: expected shape \(1, 6, 4, 4\), got \(1, 6, 4, 5\)"),
    "out unbatched": ({"out": ones(6, 4, 4)}, ValueError, r"out: expected shape \(1, 6, 4, 4\), got \(6, 4, 4\)"),
    "out type": ({"out": ones(1, 6, 4, 4, dtype="f8")}, TypeError, "out: expected float32 .* got dtype.'float64'"),
    "out order": ({"out": ones(1, 6, 4, 4, dtype=X.dtype.newbyteorder())}, TypeError, "out: .* native byte order"),
    "out read-only": ({"out": read_only(ones(1, 6, 4, 4))}, ValueError, "out: expected a writeable array"),
    "out masked": ({"out": np.ma.zeros((1, 6, 4, 4), "f4")}, TypeError, "out: masked arrays are not supported"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD)
def test_conv2d(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        nc.conv2d(**({"input": X, "weight": W} | arguments))


#: Cases that are wrong beside this input only, which a layer does not know when it is made.
WITH_INPUT = ("mixed", "channels", "kernel", "groups")


@pytest.mark.parametrize("case", [case for case in BAD if case not in WITH_INPUT])
def test_layer(case: str) -> None:
    """What needs no input to be wrong is refused before there is one."""
    arguments, error, message = BAD[case]
    if arguments.keys() & {"input", "out"}:
        layer = nc.Conv2d(W)
        with pytest.raises(error, match=f"^{message}"):
            layer(**({"input": X} | arguments))
    else:
        # A layer's image is one that fits every kernel, so the text may speak of another problem.
        with pytest.raises(error, match=f"^{message.split(':')[0]}: "):
            nc.Conv2d(**({"weight": W} | arguments))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (ones(1, 4, 6, 6, dtype="f8"), TypeError, "input: expected float32 as the weight is, got float64"),
        (
            ones(1, 5, 6, 6),
            ValueError,
            r"^input: expected 4 channels \(weight shape \(6, 4, 3, 3\), groups=1\), got shape \(1, 5, 6, 6\)",
        ),
        (ones(6, 4, 6), ValueError, r"^input: expected 4 channels .*, got shape \(6, 4, 6\)"),
        (ones(1, 4, 2, 2), ValueError, r"input: the padded size \(2, 2\) is smaller"),
    ],
)
def test_input_that_does_not_suit_a_layer(image: Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nc.Conv2d(W)(image)


@pytest.mark.parametrize("groups", [np.uint8(64), np.array(64)])
def test_groups_of_a_layer_are_counted_in_python(groups: Any) -> None:
    """64 groups of 4 channels are 256, which eight bits do not hold."""
    layer = nc.Conv2d(ones(64, 4, 3, 3), groups=groups)
    assert repr(layer).endswith("groups=64)")
    np.testing.assert_array_equal(layer(ones(1, 256, 3, 3)), np.full((1, 64, 1, 1), 36))


def test_refused_once() -> None:
    """The error is not one that came while another was handled."""
    with pytest.raises(ValueError, match="stride") as refused:
        nc.conv2d(X, W, stride=0)
    assert refused.value.__context__ is None


def test_channels_of_a_layer_s_groups() -> None:
    layer = nc.Conv2d(W, groups=2)
    for channels in (4, 9):
        with pytest.raises(ValueError, match=r"^input: expected 8 channels \(weight shape .*, groups=2\), got shape"):
            layer.plan((1, channels, 6, 6))


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("padding", [10**9, 10**12])
def test_results_that_no_array_can_hold(padding: int, batch: int) -> None:
    """Refused before there is any work, with their shape and bytes."""
    shape = (batch, 6, 2 * padding + 4, 2 * padding + 4)
    nbytes = 24 * shape[3] ** 2
    message = (
        f"^output: expected at most the {sys.maxsize} bytes of an array, got {nbytes} of shape {re.escape(str(shape))}"
    )
    calls: tuple[Callable[[], Any], ...] = (
        lambda: nc.conv2d(X[:batch], W, padding=padding),
        lambda: nc.Conv2d(W, padding=padding)(X[:batch]),
        lambda: nc.plan((batch, *X.shape[1:]), W.shape, padding=padding),
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_operands_that_no_array_can_hold() -> None:
    for sizes in ((1, 1), (0, 1)):
        with pytest.raises(ValueError, match=r"^input: expected at most the \d+ bytes of an array, got \d+ of shape"):
            nc.plan((*sizes, 2**40, 2**40), (1, 1, 3, 3), stride=2**40)
    with pytest.raises(ValueError, match=r"^weight: expected at most the \d+ bytes"):
        nc.plan((1, 2**40, 3, 3), (2**40, 2**40, 3, 3))


def test_layer_s_bias() -> None:
    with pytest.raises(TypeError, match="bias: expected float32 as the weight is, got float64"):
        nc.Conv2d(W, ones(6, dtype="f8"))


@pytest.mark.parametrize("option", ["stride", "padding", "dilation"])
def test_what_was_right_before_makes_nothing_right(option: str) -> None:
    """Plans of calls are kept, and 1, 1.0 and True are equal."""
    right: dict[str, Any] = {option: (1, 1)}
    nc.conv2d(X, W, **right)
    for value in ((1.0, 1), (1, True), [True, 1]):
        wrong: dict[str, Any] = {option: value}
        with pytest.raises(TypeError, match=f"{option}: expected an integer"):
            nc.conv2d(X, W, **wrong)


@pytest.mark.parametrize("shared", ["input", "weight", "bias"])
@pytest.mark.parametrize("view", ["itself", "reversed", "shifted"])
def test_out_overlaps(shared: str, view: str) -> None:
    """All operands of this convolution have the shape of the result within them."""
    memory: dict[str, Any] = {"input": ones(1, 2, 2, 2), "weight": ones(2, 2, 1, 1), "bias": ones(2)}
    whole = ones(20)
    size = memory[shared].size
    memory[shared] = whole[:size].reshape(memory[shared].shape)
    out = {"itself": whole[:8], "reversed": whole[7::-1], "shifted": whole[size - 1 : size + 7]}[view]
    with pytest.raises(ValueError, match=f"out: expected memory of its own, got an array that overlaps {shared}"):
        nc.conv2d(**memory, out=out.reshape(1, 2, 2, 2))


def strided(array: Array) -> Array:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def unaligned(array: Array) -> Array:
    memory = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


#: Operands that are read as copies, whose own memory is as little for the result as that of others.
COPIED: dict[str, Callable[[Array], Array]] = {
    "strided": strided,
    "Fortran order": np.asfortranarray,
    "unaligned": unaligned,
    "byte order": lambda array: array.astype(array.dtype.newbyteorder()),
}
CALLS: dict[str, Callable[..., Array]] = {
    "function": nc.conv2d,
    "layer": lambda input, weight, bias, out: nc.Conv2d(weight, bias)(input, out=out),
    "plan": lambda input, weight, bias, out: nc.plan(input.shape, weight.shape)(input, weight, bias, out=out),
    "plan of a constant weight": lambda input, weight, bias, out: nc.plan(
        input.shape, weight.shape, constant_weight=True
    )(input, weight, bias, out=out),
}


@pytest.mark.parametrize("shared", ["input", "weight", "bias"])
@pytest.mark.parametrize("copied", COPIED)
@pytest.mark.parametrize("call", CALLS)
def test_out_overlaps_an_operand_that_is_copied(call: str, copied: str, shared: str) -> None:
    if call == "layer" and shared != "input":
        pytest.skip("a layer has copies of these")
    operands = {"input": ones(4, 4, 1, 1), "weight": ones(4, 4, 1, 1), "bias": ones(4)}
    array = operands[shared] = COPIED[copied](operands[shared])
    before = array.copy()
    out = array.view(array.dtype.newbyteorder("=")).reshape(-1, 4, 1, 1)
    assert np.shares_memory(out, array)
    operands["input"] = operands["input"][: len(out)]
    with pytest.raises(ValueError, match=f"out: expected memory of its own, got an array that overlaps {shared}"):
        CALLS[call](**operands, out=out)
    np.testing.assert_array_equal(array, before)


def strided_alike(*strides: int) -> Array:
    """An array of the result's shape in whatever memory that needs."""
    return np.lib.stride_tricks.as_strided(ones(1000), (1, 6, 4, 4), strides)


@pytest.mark.parametrize("strides", [(64, 0, 16, 4), (64, 64, 8, 4), (64, 48, 16, 4), (64, 64, 16, 2), (64, 4, 24, 16)])
def test_out_overlaps_itself(strides: tuple[int, ...]) -> None:
    wanted = rf"out: expected elements of their own memory, got strides {re.escape(str(strides))} for shape"
    with pytest.raises(ValueError, match=wanted):
        nc.conv2d(X, W, out=strided_alike(*strides))


@pytest.mark.parametrize(
    "strides", [(0, 64, 16, 4), (64, 4, 24, 96), (64, 8, 52, 208), (64, 88, 8, 20), (0, 24, 28, 144)]
)
def test_out_of_strides_that_keep_elements_apart(strides: tuple[int, ...]) -> None:
    """In any order of axes, with gaps, and one axis' elements between another's."""
    out = strided_alike(*strides)
    assert nc.conv2d(X, W, out=out) is out
    np.testing.assert_array_equal(out, nc.conv2d(X, W))


def test_out_that_repeats_an_axis_of_one() -> None:
    one_channel = np.lib.stride_tricks.as_strided(ones(16), (1, 1, 4, 4), (64, 0, 16, 4))
    assert nc.conv2d(X, W[:1], out=one_channel) is one_channel


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input": ones(2, 4, 6, 6)}, ValueError, r"input: expected shape \(1, 4, 6, 6\), got \(2, 4, 6, 6\)"),
        ({"input": ones(4, 6, 6)}, ValueError, r"input: expected shape \(1, 4, 6, 6\), got \(4, 6, 6\)"),
        ({"input": X.astype("f8")}, TypeError, "input: expected float32 as planned, got float64"),
        ({"weight": ones(6, 4, 3, 2)}, ValueError, r"weight: expected shape \(6, 4, 3, 3\), got \(6, 4, 3, 2\)"),
        ({"weight": W.astype("f8")}, TypeError, "weight: expected float32"),
        ({"bias": ones(6, dtype="f8")}, TypeError, "bias: expected float32"),
        ({"bias": ones(1)}, ValueError, r"bias: expected shape \(6,\), got \(1,\)"),
        ({"out": ones(6, 4, 4)}, ValueError, r"out: expected shape \(1, 6, 4, 4\)"),
    ],
)
@pytest.mark.parametrize("constant_weight", [False, True])
def test_plan(constant_weight: bool, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    planned = nc.plan(X.shape, W.shape, constant_weight=constant_weight)
    with pytest.raises(error, match=message):
        planned(**({"input": X, "weight": W} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtype": "float16"}, TypeError, "dtype: expected float32 or float64"),
        ({"effort": "some"}, ValueError, "effort: expected one of estimate, measure, exhaustive, got 'some'"),
        ({"constant_weight": 1}, TypeError, "constant_weight: expected a bool, got 1"),
        ({"algorithm": "depthwise"}, ValueError, "algorithm: depthwise does not apply"),
        ({"input_shape": (1, 4, 6)}, ValueError, "input: expected 4 axes"),
        ({"input_shape": X}, TypeError, r"input_shape: expected a shape, .* got an array of shape \(1, 4, 6, 6\); its"),
        ({"weight_shape": W}, TypeError, r"weight_shape: .* got an array of shape \(6, 4, 3, 3\); its \.shape is what"),
        ({"input_shape": 5}, TypeError, "input_shape: expected a shape, a tuple of integers, got 5"),
    ],
)
def test_planning(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nc.plan(**({"input_shape": X.shape, "weight_shape": W.shape} | arguments))


@pytest.mark.parametrize(
    "wrong", [X, X[0], 5, ("a",), np.float32(1)], ids=["batch", "image", "number", "text", "scalar"]
)
def test_planning_of_a_layer(wrong: Any) -> None:
    got = f"an array of shape {wrong.shape}; its .shape" if isinstance(wrong, np.ndarray) else ""
    with pytest.raises(TypeError, match=re.escape(f"input_shape: expected a shape, a tuple of integers, got {got}")):
        nc.Conv2d(W).plan(wrong)
