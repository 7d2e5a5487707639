"""Strassen's product: within its bound on random numbers, and only where it is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from numbaconv.algorithms import ALGORITHMS
from numbaconv.algorithms.strassen import _pairs
from numbaconv.geometry import unit_start
from numbaconv.machine import this_machine
from numbaconv.plan import Plan
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.verify import verify_plan


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [64, 512, 2048])
def test_error_within_its_bound(channels: int, dtype: str) -> None:
    problem = ConvProblem.parse(f"mb1ic{channels}ih12oc70kh1ph0", dtype=dtype, constant_weight=True)
    row, machine = ALGORITHMS["strassen"], this_machine()
    for settings in row.candidates(problem, machine, 1):
        verdict = verify_plan(Plan(problem, row, settings, machine, 1, 1.0, "estimate"))
        bound = row.error_bound(problem, settings)
        assert bound is not None
        assert verdict.error <= bound * (1.0 if dtype == "float32" else 2.0**-29)


@pytest.mark.parametrize("mr", [6, 13, 14])
def test_pairs_cover_the_pixels(mr: int) -> None:
    """Short ones or not; short ones leave less than a row over in each tile, unless all are short."""
    for pixels in range(1, 200):
        for has_short in (True, False):
            cut = _pairs(pixels, mr, has_short)
            assert cut.units == -(-pixels // (2 * mr))
            over = unit_start(cut.units, cut) - pixels
            assert 0 <= over < (2 if has_short and cut.short < cut.units else 2 * mr)
            assert unit_start(cut.units - 1, cut) < pixels


@pytest.mark.parametrize("mr", [5, 13])
def test_no_tiles_that_are_all_short(mr: int) -> None:
    """If lower ones would do they are what is proposed: a kernel of both takes longer to compile."""
    vector_bytes, registers = (64, 32) if mr == 13 else (32, 16)
    row, machine = ALGORITHMS["strassen"], replace(this_machine(), vector_bytes=vector_bytes, registers=registers)
    pixels = 2 * mr * 4
    problem = ConvProblem.parse(f"mb1ic64ih1iw{pixels}oc64oh1ow{pixels}kh1kw1ph0pw0")
    assert row.settings(*next(iter(row.candidates(problem, machine, 1)))).mr == mr


@pytest.mark.parametrize(
    ("descriptor", "accuracy", "reason"),
    [
        ("mb1ic64ih56oc64kh1ph0", "strict", "accuracy 'strict'"),
        ("mb1ic63ih56oc64kh1ph0", "default", "even number of input channels in each group, and here there are 63"),
        ("mb1ic64ih56oc64kh1ph1", "default", "kernels of 1 x 1 without padding"),
        ("mb1ic64ih56oc64kh3ph1", "default", "kernels of 1 x 1 without padding"),
    ],
)
def test_says_why_not(descriptor: str, accuracy: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan_problem(ConvProblem.parse(descriptor, accuracy=accuracy), algorithm="strassen")
