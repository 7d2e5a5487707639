"""What a call borrows beyond its arrays keeps to ``workspace_limit``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numbaconv as nc
from numbaconv import networks, planner
from numbaconv.algorithms import ALGORITHMS
from numbaconv.machine import Machine
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.workspace import POOLS, WorkspacePool


@pytest.mark.parametrize("constant_weight", [True, False])
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_layers_of_the_networks(network: str, constant_weight: bool) -> None:
    """By default, with every algorithm that applies; a weight that changes is prepared in the workspace."""
    for layer in networks.with_options(networks.load(network), constant_weight=constant_weight):
        for name, row in ALGORITHMS.items():
            if row.applicable(layer.problem) is None:
                plan = plan_problem(layer.problem, algorithm=name, threads=2)
                assert plan.workspace_nbytes <= 32 << 20, (layer.name, name)


#: Its weight, prepared for F(4 x 5, 3), has 42 MiB, for F(4 x 4, 3) 36, for F(2 x 4, 3) 24.
DEEP: dict[str, Any] = {"input_shape": (1, 512, 28, 28), "weight_shape": (512, 512, 3, 3), "padding": 1}
#: For which choices are known, whatever machine the tests run on.
MACHINE = Machine("AVX-512", 64, 32, 48 << 10, 1 << 20, 32 << 20)


def deep_plan(monkeypatch: pytest.MonkeyPatch, **options: Any) -> nc.Plan:
    monkeypatch.setattr(planner, "this_machine", lambda: MACHINE)
    return plan_problem(ConvProblem.from_shapes(**DEEP, **options), threads=2)


def test_the_fastest_plan_that_keeps_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [deep_plan(monkeypatch, workspace_limit=limit) for limit in (64 << 20, None, 1 << 20, 256 << 10)]
    for plan, limit in zip(plans, (64 << 20, 32 << 20, 1 << 20, 256 << 10), strict=True):
        assert plan.workspace_nbytes <= limit
        assert plan.problem.workspace_limit == limit
    seconds = [plan.seconds for plan in plans]
    assert seconds == sorted(seconds)
    assert [plan.algorithm.name for plan in plans[:2]] == ["winograd", "winograd"]
    assert [plan.settings.mh * plan.settings.mw for plan in plans[:2]] == [16, 8]


def test_a_constant_weight_is_reported_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = deep_plan(monkeypatch, constant_weight=True)
    assert (plan.settings.mh, plan.settings.mw) == (4, 5)
    assert plan.prepared_nbytes == 42 << 20
    assert plan.workspace_nbytes <= 32 << 20
    assert "prepared weight 43008 KiB" in str(plan)


@pytest.mark.parametrize("effort", ["estimate", "measure"])
def test_a_limit_that_nothing_keeps_to(effort: str) -> None:
    with pytest.raises(ValueError, match=r"workspace_limit: expected at least the \d+ bytes that winograd needs"):
        nc.plan(**DEEP, algorithm="winograd", workspace_limit=1 << 20, effort=effort)
    with pytest.raises(ValueError, match=r"workspace_limit: expected at least the \d+ bytes .* got 0"):
        nc.plan((1, 2, 5, 5), (3, 2, 3, 3), algorithm="im2col", workspace_limit=0, effort=effort)
    assert nc.plan((1, 2, 5, 5), (3, 2, 3, 3), workspace_limit=0, effort=effort).workspace_nbytes == 0


@pytest.mark.parametrize(("limit", "error"), [(-1, ValueError), (1.5, TypeError), ("1M", TypeError), (True, TypeError)])
def test_wrong_limits(limit: Any, error: type[Exception]) -> None:
    x, w = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 3, 3), np.float32)
    for call in (nc.conv2d, nc.Conv2d):
        with pytest.raises(error, match="workspace_limit: expected"):
            call(*(x, w)[-1 if call is nc.Conv2d else 0 :], workspace_limit=limit)


def test_functions_and_layers_keep_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkspacePool(limit=64 << 20)
    monkeypatch.setitem(POOLS, "float32", pool)
    x, w = np.ones((1, 64, 14, 14), np.float32), np.ones((64, 64, 3, 3), np.float32)
    nc.set_num_threads(1)
    y = nc.conv2d(x, w, padding=1, algorithm="direct", workspace_limit=300_000)
    np.testing.assert_array_equal(nc.Conv2d(w, padding=1, algorithm="direct", workspace_limit=300_000)(x), y)
    assert 64 << 10 < max(block.nbytes for block in pool._free) <= 300_000


def test_wisdom_beyond_the_limit_is_not_followed() -> None:
    measured = nc.plan((1, 64, 28, 28), (64, 64, 3, 3), padding=1, effort="measure")
    again = nc.plan((1, 64, 28, 28), (64, 64, 3, 3), padding=1)
    assert again.origin == "measure"
    limit = measured.workspace_nbytes - 1
    if limit < 0:
        pytest.skip("the fastest plan borrows nothing")
    assert nc.plan((1, 64, 28, 28), (64, 64, 3, 3), padding=1, workspace_limit=limit).origin == "estimate"


def test_large_outputs_begin_with_a_line() -> None:
    """With and without a batch axis; and one that is passed is filled, however it lies."""
    x, w = np.ones((1, 2050, 2048), np.float32), np.ones((1, 1, 1, 1), np.float32)
    outputs = nc.conv2d(x[None], w), nc.conv2d(x, w)
    assert [y.shape for y in outputs] == [(1, 1, 2050, 2048), (1, 2050, 2048)]
    for y in outputs:
        assert y.nbytes >= 16 << 20
        assert y.__array_interface__["data"][0] % 64 == 0
        assert y.flags.c_contiguous
    across = np.empty((1, 2048, 2050), np.float32).transpose(0, 2, 1)
    assert nc.conv2d(x, w, out=across) is across
    for y in (*outputs, across):
        assert (y == 1).all()
