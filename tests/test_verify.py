"""The error metric and its tolerances, and that a wrong algorithm is found out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from numbaconv.algorithms import ALGORITHMS
from numbaconv.functional import conv1d, conv2d
from numbaconv.plan import Plan
from numbaconv.planner import allowed, plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.verify import TOLERANCES, relative_error, tolerance, verify, verify_plan

PROBLEM = ConvProblem.parse("mb1ic8ih9oc6kh3ph1")


@pytest.mark.parametrize(
    ("y", "y64", "error"),
    [
        ([1.0, -3.0], [1.0, -4.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 1e-30], [0.0, 0.0], math.inf),
        ([math.nan, 0.0], [1.0, 0.0], math.inf),
        ([math.inf, 0.0], [1.0, 0.0], math.inf),
        ([], [], 0.0),
    ],
)
def test_relative_error(y: list[float], y64: list[float], error: float) -> None:
    assert relative_error(np.array(y, np.float32), np.array(y64)) == error


def test_relative_error_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"y: expected shape \(2,\), got \(1,\)"):
        relative_error(np.ones(1), np.ones(2))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    "descriptor", ["mb2ic8ih9oc6kh3ph1", "g6mb1ic6ih12oc12kh3sh2ph1", "mb1ic5iw30oc3kw4dw1", "mb1ic3id5oc2kd2"]
)
def test_every_algorithm_is_within_its_tolerance(descriptor: str, dtype: str) -> None:
    problem = ConvProblem.parse(descriptor, dtype=dtype, accuracy="fast")
    for name in allowed(problem):
        verdict = verify(problem, name, seed=1)
        assert verdict.ok, (name, verdict)
        assert verdict.tolerance == tolerance(plan_problem(problem, algorithm=name))


def test_long_sums_are_within_the_tolerance() -> None:
    deep = "mb1ic1id60ih10iw10oc1kd60kh10kw10"
    for descriptor in ("mb1ic1ih100oc1kh61", "mb1ic2ih60oc3kh49", "mb1ic2iw6000oc3kw5001", deep):
        problem = ConvProblem.parse(descriptor, accuracy="strict")
        assert all(verify(problem, name).ok for name in allowed(problem))


def test_who_sums_in_one_run_is_for_short_sums() -> None:
    assert "rows" in allowed(ConvProblem.parse("mb1ic256ih7oc8kh3ph1"))
    with pytest.raises(ValueError, match="sums up to 2304 products in one run, and here are 4608"):
        allowed(ConvProblem.parse("mb1ic512ih7oc8kh3ph1"), "rows")


@pytest.mark.parametrize("size", [31, 101])
def test_mean_over_a_constant_image(size: int) -> None:
    """Where every sum is rounded alike, the error of one run grows with its length: 4e-5 with 10201 products."""
    y = conv2d(np.full((1, 1, 120, 120), 0.7, np.float32), np.full((1, 1, size, size), 1 / size**2, np.float32))
    mean = size**2 * float(np.float32(0.7)) * float(np.float32(1 / size**2))
    assert relative_error(y, np.full(y.shape, mean)) <= TOLERANCES["float32"]


@pytest.mark.parametrize("algorithm", ["auto", "direct", "depthwise"])
def test_mean_over_a_constant_signal(algorithm: str) -> None:
    """As of an image; a kernel of one row is summed in stretches."""
    size = 10001
    x, w = np.full((1, 1, 12000), 0.7, np.float32), np.full((1, 1, size), 1 / size, np.float32)
    mean = size * float(np.float32(0.7)) * float(np.float32(1 / size))
    y = conv1d(x, w, algorithm=algorithm)
    assert relative_error(y, np.full(y.shape, mean)) <= TOLERANCES["float32"]


def test_reference_in_float32_is_correctly_rounded() -> None:
    assert verify(PROBLEM, "reference").error <= 2.0**-24


def test_a_transform_has_the_tolerance_it_declares_and_need_not_be_exact() -> None:
    problem = replace(PROBLEM, accuracy="fast")
    plan = plan_problem(problem, algorithm="winograd")
    assert verify_plan(plan).exact is None
    for settings in plan.algorithm.candidates(problem, plan.machine, plan.threads):
        assert tolerance(replace(plan, settings=settings)) == plan.algorithm.error_bound(problem, settings)


def test_integers_stay_exact_where_the_sums_are_long() -> None:
    problem = ConvProblem.parse("mb1ic70000ih1oc1kh1")
    assert all(verify(problem, name).exact for name in ("direct", "im2col"))


def test_activation_and_constant_weight_are_part_of_the_problem() -> None:
    problem = ConvProblem.parse("mb1ic8ih9oc6kh3ph1", activation="relu6", constant_weight=True)
    assert all(verify(problem, name).ok for name in allowed(problem))


def test_algorithm_that_does_not_apply() -> None:
    with pytest.raises(ValueError, match="depthwise does not apply"):
        verify(PROBLEM, "depthwise")
    assert "depthwise" in ALGORITHMS


@pytest.mark.parametrize("fault", ["unwritten", "one off"])
def test_a_wrong_element_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_problem(PROBLEM, algorithm="direct")
    right = Plan.__call__

    def wrong(self: Plan, *arrays: Any, out: Any = None) -> Any:
        y = right(self, *arrays, out=out)
        if self is plan:
            y[0, -1, -1, -1] = np.nan if fault == "unwritten" else y[0, -1, -1, -1] + 1
        return y

    monkeypatch.setattr(Plan, "__call__", wrong)
    verdict = verify_plan(plan)
    assert not verdict.ok
    assert verdict.exact is False
    assert verdict.error > (1e300 if fault == "unwritten" else 1e-3)
