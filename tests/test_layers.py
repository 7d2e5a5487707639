"""Layers and plans as objects that are kept: their weights, their copies, what they hold on to, how they print."""

from __future__ import annotations

import copy
import pickle
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import Array, convolve, integers

import numbaconv as nc
from numbaconv import layers, planner, wisdom
from numbaconv.algorithms import ALGORITHMS
from numbaconv.problem import ConvProblem

LAYERS: dict[int, Callable[..., Callable[..., Array]]] = {1: nc.Conv1d, 2: nc.Conv2d, 3: nc.Conv3d}
X, W, BIAS = integers((2, 4, 8, 7), "float32"), integers((6, 4, 3, 4), "float32", 1), integers((6,), "float32", 2)


def expected(x: Array, w: Array = W, bias: Array | None = BIAS, pad: int = 0) -> Array:
    axes = w.ndim - 2
    y = convolve(x, w, bias, stride=(1,) * axes, padding=((pad, pad),) * axes, dilation=(1,) * axes)
    return y.astype(x.dtype)


def test_an_algorithm_of_images_in_a_volume_of_one() -> None:
    w, x = integers((6, 4, 1, 3, 3), "float64", 1), integers((1, 4, 1, 8, 8), "float64")
    layer = nc.Conv3d(w, algorithm="winograd")
    np.testing.assert_allclose(layer(x), expected(x, w, None), atol=1e-9)
    with pytest.raises(ValueError, match=r"winograd does not apply to .*id2.*: it is for two spatial axes"):
        layer(np.concatenate([x, x], axis=2))
    with pytest.raises(ValueError, match=r"strassen does not apply to .*: it is for kernels of 1 x 1"):
        nc.Conv3d(w, algorithm="strassen")


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
@pytest.mark.parametrize("axes", LAYERS)
def test_every_number_of_axes(axes: int, algorithm: str) -> None:
    w = integers((6, 4, *(3, 2, 3)[:axes]), "float64", 1)
    layer = LAYERS[axes](w, padding=1, algorithm=algorithm, accuracy="strict")
    x = integers((2, 4, *(5, 6, 7)[:axes]), "float64")
    y = expected(x, w, None, 1)
    np.testing.assert_array_equal(layer(x), y, strict=True)
    np.testing.assert_array_equal(layer(x[1]), y[1], strict=True)
    out = np.empty_like(y)
    assert layer(x, out=out) is out
    np.testing.assert_array_equal(out, y)
    assert layer(x[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("copy_of", [lambda layer: pickle.loads(pickle.dumps(layer)), copy.deepcopy, copy.copy])
def test_copies_compute_the_same(copy_of: Callable[[nc.Conv2d], nc.Conv2d]) -> None:
    """Before the first call, and after it, when there are plans that no other process could use."""
    layer = nc.Conv2d(W, BIAS, activation="relu6", accuracy="strict")
    for _ in range(2):
        np.testing.assert_array_equal(copy_of(layer)(X), np.clip(expected(X), 0, 6), strict=True)
        layer(X)


@pytest.mark.parametrize("called_before", [False, True])
def test_weight_is_the_layer_s_own(called_before: bool) -> None:
    """Whatever becomes of the caller's arrays."""
    w, bias = W.copy(), BIAS.copy()
    layer = nc.Conv2d(w, bias, accuracy="strict")
    if called_before:
        layer(X)
    w[:], bias[:] = np.nan, np.nan
    np.testing.assert_array_equal(layer(X), expected(X))


def test_any_sizes_and_bounded_plans() -> None:
    """More input shapes than a layer keeps plans for, each asked for again when it may have been let go.

    Exact by any algorithm that sums the definition's products; for 11 x 1 pixels Winograd's is as fast.
    """
    layer = nc.Conv2d(W, BIAS, padding=2, accuracy="strict")
    images = [integers((1, 4, height, width), "float32") for height in range(1, 13) for width in range(1, 13)]
    for x in images + images[::7]:
        np.testing.assert_array_equal(layer(x), expected(x, pad=2))
    held = [len(value) for value in vars(layer).values() if isinstance(value, dict)]
    assert max(held) <= 64 < len(images)


def test_plan_of_a_layer_is_the_one_it_runs() -> None:
    layer = nc.Conv2d(W, BIAS, padding=1)
    plan = layer.plan(X.shape)
    assert layer.plan(X.shape) is plan
    assert layer.plan(X.shape[1:]).problem.batch == 1
    assert plan.problem.constant_weight
    np.testing.assert_array_equal(plan(X, W, BIAS), layer(X))


def test_layer_prints_what_it_is() -> None:
    assert repr(nc.Conv2d(W, stride=2)) == "Conv2d(weight (6, 4, 3, 4) float32, no bias, stride=2)"
    layer = nc.Conv1d(W[0], BIAS[:4], padding="same")
    assert repr(layer) == "Conv1d(weight (4, 3, 4) float32, bias, padding='same')"
    limited = nc.Conv2d(W, padding=1, workspace_limit=0, effort="measure", algorithm="reference")
    assert repr(limited).endswith("no bias, padding=1, workspace_limit=0, effort='measure', algorithm='reference')")


def test_options_are_the_layer_s_own() -> None:
    stride = [1, 1]
    layer = nc.Conv2d(W, BIAS, stride=stride, accuracy="strict")
    stride[0] = 2
    np.testing.assert_array_equal(layer(X), expected(X))


def test_prepared_weights_are_shared_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of the same layout have one, which goes when they do."""
    monkeypatch.setattr(layers, "_MOST_PLANS", 3)
    layer = nc.Conv2d(W, algorithm="direct")
    shared = {id(layer._planned((1, 4, 8, width))[1]) for width in (40, 41, 42)}
    assert len(shared) == 1
    first = weakref.ref(layer._planned((1, 4, 8, 40))[1])
    layer._algorithm = "im2col"
    layer.plan((1, 4, 8, 43))
    assert first() is None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[ConvProblem]:
    """The problems that are measured."""
    problems: list[ConvProblem] = []

    def counted(problem: ConvProblem, *args: Any) -> nc.Plan:
        problems.append(problem)
        return planner_measured(problem, *args)

    planner_measured = planner.measured
    monkeypatch.setattr(planner, "measured", counted)
    return problems


#: What narrows the choice, so that what is measured is not kept as wisdom.
NARROW: tuple[dict[str, Any], ...] = ({"algorithm": "reference"}, {"workspace_limit": 0})


@pytest.mark.parametrize("options", [{}, *NARROW], ids=str)
def test_a_layer_measures_once(options: dict[str, Any], measured: list[ConvProblem]) -> None:
    """Also where another one's measurements change wisdom in between; and it plans once."""
    layer = nc.Conv2d(W, effort="measure", accuracy="strict", **options)
    other = nc.Conv2d(W[:1], effort="measure")
    plan = layer.plan(X.shape)
    assert layer.plan(X.shape) is plan
    other(X)
    for _ in range(3):
        np.testing.assert_array_equal(layer(X), expected(X, W, None))
        layer(X[:1])
    assert len(measured) == 3
    assert layer.plan(X.shape).origin == "measure"


def test_wisdom_that_knows_better_is_followed(measured: list[ConvProblem]) -> None:
    layer = nc.Conv2d(W, effort="measure", algorithm="reference")
    plan = layer.plan(X.shape)
    record = wisdom.Record(
        str(plan.problem), "float32", True, "default", plan.threads, wisdom.machine_fingerprint(), "exhaustive",
        "reference", {}, 1e-3, {"reference": 1e-3},
    )  # fmt: skip
    wisdom.keep(record)
    assert layer.plan(X.shape).origin == "exhaustive"
    assert len(measured) == 1


def test_plans_of_former_wisdom_are_let_go() -> None:
    layer = nc.Conv2d(W, algorithm="direct")
    shapes = [(1, 4, 8, width) for width in (40, 41, 42)]
    plans = [weakref.ref(layer.plan(shape)) for shape in shapes]
    prepared = layer._planned(shapes[0]).prepared
    nc.plan((1, 1, 4, 4), (1, 1, 2, 2), effort="measure")
    assert layer._planned(shapes[0]).prepared is prepared
    assert [plan() for plan in plans] == [None] * 3
    assert len(layer._plans) == 1


@pytest.mark.parametrize("constant_weight", [False, True])
def test_plan_can_be_pickled(constant_weight: bool) -> None:
    plan = nc.plan(X.shape, W.shape, constant_weight=constant_weight)
    plan(X, W)
    again = pickle.loads(pickle.dumps(plan))
    assert str(again) == str(plan)
    assert not [value for value in vars(again).values() if isinstance(value, int) and value > 1 << 32]
    np.testing.assert_array_equal(again(X, W), expected(X, W, None))


@pytest.mark.parametrize("constant_weight", [False, True])
@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
def test_plan_called_with_one_weight_after_the_other(algorithm: str, constant_weight: bool) -> None:
    """A new array is a new weight, even where the plan has prepared another one."""
    plan = nc.plan(X.shape, W.shape, constant_weight=constant_weight, algorithm=algorithm)
    for seed in (1, 2, 2, 3, 1):
        w = integers(W.shape, "float32", seed)
        np.testing.assert_array_equal(plan(X, w, BIAS), expected(X, w), strict=True)
        np.testing.assert_array_equal(plan(X, w), expected(X, w, None), strict=True)
    reversed_weight = W[::-1]
    np.testing.assert_array_equal(plan(X, reversed_weight), expected(X, reversed_weight, None))


def test_changing_weight_may_change_in_place() -> None:
    plan, w = nc.plan(X.shape, W.shape), W.copy()
    plan(X, w)
    w += 1
    np.testing.assert_array_equal(plan(X, w, BIAS), expected(X, w), strict=True)


PRINTED = {
    "direct": (
        r"plan for mb2ic4ih8iw7oc6.* float32, \d+ threads?\n"
        r"  algorithm  direct: output channels in lanes.*\n"
        r"  settings   mr=\d+, nv=\d+, block_p=.*\n"
        r"  tasks      \d+\n"
        r"  workspace  \d+ KiB, prepared weight [1-9]\d* KiB\n"
        r"  expected   \d.* [mu]?s, [\d.]+ GFLOP/s \(from estimate\)\n"
        r"(  not \w+: .+\n)*"
        r"  not depthwise: it is for one input channel per group, and here there are 4\n"
        r"(  not \w+: .+\n)*"
        r"  not reference: [^\n]+"
    ),
    "im2col": r"(.*\n)*.*prepared weight 0 KiB\n(.*\n)*  not direct: it was not asked for\n(.*\n)*.*",
    "reference": r"(.*\n)*  settings   none\n(.*\n)*.*",
}  # fmt: skip


@pytest.mark.parametrize("algorithm", PRINTED)
def test_plan_prints_itself(algorithm: str) -> None:
    assert re.fullmatch(PRINTED[algorithm], str(nc.plan(X.shape, W.shape, algorithm=algorithm)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_plan_of_an_empty_batch(algorithm: str) -> None:
    """It has a time and prints itself, though there is nothing to do."""
    groups = 4 if algorithm == "depthwise" else 1
    size = 1 if algorithm == "strassen" else 3
    plan = nc.plan((0, 4, 8, 8), (4, 4 // groups, size, size), groups=groups, algorithm=algorithm)
    assert f"algorithm  {algorithm}" in str(plan)
    assert plan(np.empty((0, 4, 8, 8), "f4"), np.ones(plan.problem.weight_shape, "f4")).shape == (
        0,
        4,
        9 - size,
        9 - size,
    )


def test_weight_and_bias_are_read_only() -> None:
    """They are copies, and neither a write nor an output reaches them."""
    w, b = integers((1, 1, 1, 1), "float32"), integers((1,), "float32")
    layer = nc.Conv2d(w, b)
    w[:], before = 99, layer.weight.copy()
    assert layer.bias is not None
    for array in (layer.weight, layer.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    with pytest.raises(ValueError, match="out: expected a writeable array"):
        layer(np.ones((1, 1, 1, 1), np.float32), out=layer.weight)
    np.testing.assert_array_equal(layer.weight, before)
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.weight, layer.weight)
    assert nc.Conv2d(w).bias is None
