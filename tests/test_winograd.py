"""Winograd's matrices are right exactly, and what is computed with them stays within the bounds that it promises."""

from __future__ import annotations

from fractions import Fraction
from itertools import starmap
from operator import mul

import numpy as np
import pytest

from numbaconv.algorithms import ALGORITHMS
from numbaconv.algorithms.winograd import ERRORS
from numbaconv.cooktoom import Matrix, transforms
from numbaconv.machine import this_machine
from numbaconv.plan import Plan
from numbaconv.planner import allowed, plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.verify import verify_plan


def times(matrix: Matrix, vector: list[Fraction]) -> list[Fraction]:
    return [sum(starmap(mul, zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@pytest.mark.parametrize(("m", "r"), [(1, 1), (2, 3), (4, 3), (6, 3), (3, 2), (2, 5), (4, 5)])
def test_matrices_filter_exactly(m: int, r: int) -> None:
    """In rational numbers, on random integers."""
    rng = np.random.default_rng(0)
    weights, inputs = ([Fraction(int(v)) for v in rng.integers(-99, 99, size)] for size in (r, m + r - 1))
    output, weight, data = transforms(m, r)
    products = list(starmap(mul, zip(times(weight, weights), times(data, inputs), strict=True)))
    expected = [sum(weights[j] * inputs[i + j] for j in range(r)) for i in range(m)]
    assert times(output, products) == expected


@pytest.mark.parametrize("m", [2, 4, 6])
def test_input_and_output_matrices_round_nothing(m: int) -> None:
    """Their entries are exact in float32; only G's are rounded, once, when weights are prepared."""
    output, _, data = transforms(m, 3)
    for matrix in (output, data):
        for row in matrix:
            assert all(Fraction(float(np.float32(float(entry)))) == entry for entry in row)


def test_points_it_has_not() -> None:
    with pytest.raises(ValueError, match=r"F\(9, 3\): expected m \+ r - 1 among 4, 6, 8"):
        transforms(9, 3)


KERNELS = ["kh3kw3ph1pw1", "kh5kw5ph2pw2", "kh1kw7ph0pw3", "kh7kw1ph3pw0", "kh3kw1ph1pw0", "kh2kw2ph0pw0"]


@pytest.mark.parametrize("channels", [64, 256, 512])
@pytest.mark.parametrize("kernel", [*KERNELS, "kh3kw3ph2pw3dh1dw2"])
def test_error_within_its_bound(kernel: str, channels: int) -> None:
    """On random numbers, with the constant weight prepared as a layer has it."""
    problem = ConvProblem.parse(f"mb1ic{channels}ih12iw12oc32{kernel}", accuracy="fast", constant_weight=True)
    row, machine = ALGORITHMS["winograd"], this_machine()
    seen = {settings.m: settings for settings in row.candidates(problem, machine, 1)}
    taps = max(problem.kernel_size)
    assert {m + taps - 1 for m in seen} == {n for n, _ in ERRORS if n > taps}
    for settings in seen.values():
        verdict = verify_plan(Plan(problem, row, settings, machine, 1, 1.0, "estimate"))
        bound = row.error_bound(problem, settings)
        assert bound is not None
        assert verdict.error <= bound


@pytest.mark.parametrize(("accuracy", "sizes"), [("strict", set()), ("default", {2, 4}), ("fast", {2, 4, 6})])
def test_accuracy_decides_which_tiles(accuracy: str, sizes: set[int]) -> None:
    problem = ConvProblem.parse("mb1ic64ih56oc64kh3ph1", accuracy=accuracy)
    row = allowed(problem).get("winograd")
    found = set() if row is None else {s.m for s in row.candidates(problem, this_machine(), 2)}
    assert found == sizes


@pytest.mark.parametrize("kernel", ["kh3kw5ph0pw0", "kh8kw8ph0pw0", "kh1kw1ph0pw0", "kh3kw3ph0pw0sh2sw1"])
def test_kernels_that_it_is_not_for(kernel: str) -> None:
    with pytest.raises(ValueError, match=r"winograd does not apply to .*: it is for"):
        plan_problem(ConvProblem.parse(f"mb1ic8ih9iw9oc8{kernel}"), algorithm="winograd")


def test_strict_says_why() -> None:
    problem = ConvProblem.parse("mb1ic64ih56oc64kh3ph1", accuracy="strict")
    with pytest.raises(ValueError, match="accuracy 'strict'"):
        plan_problem(problem, algorithm="winograd")
