"""How a problem comes to its plan: by the cost model, by wisdom that can be trusted, or by measuring."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive import operands, solve

import numbaconv as nc
from numbaconv import functional, measure, parallel, planner, runtime, wisdom
from numbaconv.algorithms import ALGORITHMS
from numbaconv.machine import this_machine
from numbaconv.plan import Plan
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.timing import Timing
from numbaconv.wisdom import Record, machine_fingerprint

PROBLEM = ConvProblem.parse("mb1ic12ih10oc20kh1", accuracy="strict")
#: For which different algorithms are estimated to be best.
VARIOUS = ("mb1ic64ih56oc64kh3ph1", "g32mb2ic32ih14oc32kh3ph1", "mb1ic3iw50oc4kw5")


def forbid(monkeypatch: pytest.MonkeyPatch, *functions: tuple[Any, str]) -> None:
    """Make a call of any of these a failure."""

    def fail(*args: Any, **options: Any) -> Any:
        raise AssertionError("this must not be called")

    for module, name in functions:
        monkeypatch.setattr(module, name, fail)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Timings without a clock, in which im2col with many pixels a block is fastest; the list is what was timed."""
    timed: list[Plan] = []

    def time_plans(plans: list[Plan], rounds: int = 7) -> list[tuple[Plan, float]]:
        timed.extend(plans)
        return [(p, 1 / p.settings.block_q if p.algorithm.name == "im2col" else 10.0) for p in plans]

    monkeypatch.setattr(planner, "time_plans", time_plans)
    monkeypatch.setattr(measure, "time_plans", time_plans)
    return timed


def record(problem: ConvProblem, algorithm: str) -> Record:
    """What was measured here for the threads that are now used."""
    threads = nc.get_num_threads()
    row = ALGORITHMS[algorithm]
    settings = next(iter(row.candidates(problem, this_machine(), threads)))._asdict()
    return Record(
        str(problem), problem.dtype, problem.constant_weight, problem.accuracy, threads, machine_fingerprint(),
        "measure", algorithm, settings, 1e-6, {algorithm: 1e-6},
    )  # fmt: skip


def test_a_plan_is_as_fast_as_others_let_it_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is a little faster alone, and much slower beside others, is not the faster one."""
    first, second = planner.fitting(PROBLEM, 1, planner.allowed(PROBLEM))[:2]
    timings = [(first, Timing(1.44, 1.0, 1.1, 1.5, 7)), (second, Timing(1.21, 1.0, 1.1, 1.3, 7))]
    monkeypatch.setattr(measure, "timings_of", lambda *_: timings)
    timed = measure.time_plans([first, second])
    assert [plan for plan, _ in timed] == [first, second]
    assert [seconds for _, seconds in timed] == pytest.approx([1.2, 1.1])


def test_plans_are_measured_on_arrays_as_numpy_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones begin 16 bytes behind a cache line, where stores take longer; and no value is left to chance."""
    found: list[Any] = []

    def time_in_turn(functions: dict[int, Any], rounds: int) -> dict[int, Timing]:
        found.extend(functions.values())
        return {number: Timing(1.0, 1.0, 1.0, 1.0, rounds) for number in functions}

    monkeypatch.setattr(measure, "time_in_turn", time_in_turn)
    for dtype in ("float32", "float64"):
        problem = replace(PROBLEM, dtype=dtype)
        measure.time_plans(planner.fitting(problem, 1, planner.allowed(problem))[:1])
        x, w, bias, y, _ = found.pop().args
        assert [array.ctypes.data % 64 for array in (x, w, y)] == [16, 16, 16]
        assert [array.size for array in (x, w, y)] == [
            prod(shape) for shape in (problem.input_shape, problem.weight_shape, problem.output_shape)
        ]
        assert all(0.9 < values.std() < 1.1 for values in (x, w))
        assert bias.dtype == x.dtype == w.dtype == y.dtype == dtype


def test_plans_close_to_the_fastest_are_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = planner.fitting(PROBLEM, 1, planner.allowed(PROBLEM))[:3]
    again: list[tuple[list[Plan], int]] = []

    def time_plans(plans: list[Plan], rounds: int = 7) -> list[tuple[Plan, float]]:
        again.append((plans, rounds))
        return [(plan, 2.0 - i) for i, plan in enumerate(plans)]

    monkeypatch.setattr(measure, "time_plans", time_plans)
    first, second, third = plans
    found = measure.run_off([(first, 1.0), (second, 1.05), (third, 1.07)])
    assert found == [(first, 2.0), (second, 1.0), (third, 1.07)]
    [(timed, rounds)] = again
    assert timed == [first, second]
    assert rounds > 7
    alone = [(first, 1.0), (second, 1.07)]
    assert measure.run_off(alone) == alone
    assert len(again) == 1


def test_estimate_neither_compiles_nor_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a layer, whatever is asked of the plan but to compute."""
    forbid(monkeypatch, (runtime, "kernel_address"), (parallel, "drive"), (measure, "time_in_turn"))
    for descriptor in VARIOUS:
        for name in ("auto", "reference"):
            planned = plan_problem(ConvProblem.parse(descriptor), algorithm=name)
            assert planned.origin == "estimate"
            assert str(planned)
            assert planned.workspace_nbytes >= 0


@pytest.mark.parametrize("limit", [32 << 20, 1 << 20, 100_000, 1000, 0])
def test_estimate_is_the_least_of_those_it_tells(limit: int) -> None:
    """Those that do not keep to the limit say what they need, as they do when asked for."""
    chosen = set()
    for descriptor in VARIOUS:
        problem = replace(ConvProblem.parse(descriptor), workspace_limit=limit)
        planned = plan_problem(problem)
        times = {option.algorithm: option.seconds for option in planned.options if option.seconds is not None}
        assert planned.seconds == times[planned.algorithm.name] == min(times.values())
        chosen.add(planned.algorithm.name)
        assert {option.algorithm for option in planned.options} == ALGORITHMS.keys()
        assert all((option.seconds is None) == (option.reason is not None) for option in planned.options)
        for option in planned.options:
            if option.reason == ALGORITHMS[option.algorithm].applicable(problem):
                continue
            needs = re.fullmatch(r"it needs (\d+) bytes of workspace", option.reason or "")
            assert needs
            assert int(needs[1]) > limit
            with pytest.raises(ValueError, match=f"at least the {needs[1]} bytes"):
                plan_problem(problem, algorithm=option.algorithm)
    assert len(chosen) > 1 or not limit


def test_plan_of_a_problem() -> None:
    """As it is, whatever its options; which are not given beside it."""
    problem = ConvProblem.parse(
        "mb1ic4ih9oc6kh3sh2", dtype="float64", activation="relu", constant_weight=True, accuracy="strict",
        workspace_limit=100_000,
    )  # fmt: skip
    assert nc.plan(problem).problem is problem
    assert nc.plan(problem, algorithm="reference").algorithm.name == "reference"
    wrong: tuple[dict[str, Any], ...] = (
        {"weight_shape": (6, 4, 3, 3)}, {"stride": 2}, {"stride": np.array([2, 2])}, {"padding": "same"},
        {"groups": 2}, {"dtype": "float64"}, {"constant_weight": True}, {"workspace_limit": 0}, {"activation": "relu"},
    )  # fmt: skip
    for options in wrong:
        [name] = options
        with pytest.raises(TypeError, match=f"^{name}: expected nothing beside a ConvProblem, which says it, got"):
            nc.plan(problem, **options)
    with pytest.raises(TypeError, match=r"^weight_shape: expected a shape, a tuple of integers, .* got None"):
        nc.plan((1, 4, 9, 9))


@pytest.mark.parametrize("effort", ["measure", "exhaustive"])
def test_measured_choice_is_kept_and_used(effort: str, clock: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    best = plan_problem(PROBLEM, effort=effort)
    assert (best.algorithm.name, best.origin, best.seconds) == ("im2col", effort, 1 / best.settings.block_q)
    assert {p.algorithm.name for p in clock} == {"direct", "inner", "im2col", "rows", "reference"}
    clock.clear()
    for again in ("estimate", "measure", effort):
        recalled = plan_problem(PROBLEM, effort=again)
        assert (recalled.settings, recalled.origin) == (best.settings, effort)
        assert recalled.options == best.options
    assert not clock

    used: list[Plan] = []
    monkeypatch.setattr(Plan, "run", lambda self, *args: used.append(self))
    nc.conv2d(*operands(PROBLEM)[:2], accuracy="strict")
    assert used[0].settings == best.settings


def test_exhaustive_varies_blocks(clock: list[Plan]) -> None:
    """It finds what no candidate has, in a bounded number of timings, and nothing twice in a round."""
    large = ConvProblem.parse("mb1ic16ih200oc16kh1", accuracy="strict")
    measured = plan_problem(large, effort="measure")
    candidates = len(clock)
    clock.clear()
    best = plan_problem(large, effort="exhaustive")
    assert best.settings.block_q > measured.settings.block_q
    assert candidates <= len(clock) < 100


def test_more_effort_measures_again(clock: list[Plan]) -> None:
    plan_problem(PROBLEM, effort="measure")
    clock.clear()
    assert plan_problem(PROBLEM, effort="exhaustive").origin == "exhaustive"
    assert clock
    assert [known.effort for known in wisdom.records()] == ["exhaustive"]


def test_choice_among_some_is_not_the_choice_of_all(clock: list[Plan]) -> None:
    """What is measured of an algorithm by name is no wisdom; what is known of all serves its name too."""
    assert plan_problem(PROBLEM, effort="measure", algorithm="direct").algorithm.name == "direct"
    assert {p.algorithm.name for p in clock} == {"direct"}
    assert not wisdom.records()
    best = plan_problem(PROBLEM, effort="measure")
    assert plan_problem(PROBLEM, algorithm="im2col").settings == best.settings
    assert plan_problem(PROBLEM, algorithm="direct").origin == "estimate"


def test_empty_batch_is_not_measured(clock: list[Plan]) -> None:
    assert plan_problem(replace(PROBLEM, batch=0), effort="exhaustive").origin == "estimate"
    assert not clock


def test_layer_measures(clock: list[Plan]) -> None:
    """For a constant weight, which is a problem of its own."""
    x, w, _ = operands(PROBLEM)
    layer = nc.Conv2d(w, effort="measure", accuracy="strict")
    assert layer.plan(x.shape).origin == "measure"
    assert [known.constant_weight for known in wisdom.records()] == [True]
    assert plan_problem(PROBLEM).origin == "estimate"


def test_measuring_in_earnest(tmp_path: Path) -> None:
    """With the clock, once; another process has the choice without measuring."""
    best = plan_problem(PROBLEM, effort="measure")
    assert best.seconds > 0
    assert best.seconds == min(option.seconds for option in best.options if option.seconds is not None)
    program = (
        "from numbaconv import measure, planner; from numbaconv.problem import ConvProblem; planner.time_plans = None;"
        f"p = planner.plan_problem(ConvProblem.parse({str(PROBLEM)!r}, accuracy='strict'), effort='measure');"
        "print(p.origin, p.settings)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"measure {best.settings}"


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "0123456789abcdef"},
        {"threads": 77},
        {"dtype": "float64"},
        {"constant_weight": True},
        {"accuracy": "fast"},
        {"problem": "mb2ic12ih10oc20kh1"},
        {"algorithm": "magic"},
        {"algorithm": "depthwise"},
        {"settings": {}},
        {"settings": {"mr": 6, "block_q": 4}},
        {"settings": {"mr": 99, "nv": 2, "block_p": 1, "block_q": 4, "block_c": 4, "block_k": 1}},
    ],
    ids=str,
)
def test_wisdom_of_another_matter_is_not_used(changes: dict[str, Any]) -> None:
    """Of another machine, another problem, or of settings that are none of the algorithm's."""
    known = record(PROBLEM, "direct")
    wisdom.keep(known)
    assert plan_problem(PROBLEM).origin == "measure"
    wisdom.clear()
    wisdom.keep(replace(known, **changes))
    assert plan_problem(PROBLEM).origin == "estimate"


@pytest.mark.parametrize("size", [1, 10**6, 2**40, 2**62, 2**70])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_absurd_blocks_are_slow_at_most(algorithm: str, size: int) -> None:
    """Blocks that no planner would choose are not trusted, or do no harm."""
    special = {"depthwise": "g5mb1ic5ih10oc5kh3", "strassen": "mb1ic6ih10oc7kh1"}
    problem = ConvProblem.parse(special.get(algorithm, "mb1ic5ih10oc7kh3"), accuracy="fast")
    assert ALGORITHMS[algorithm].applicable(problem) is None
    known = record(problem, algorithm)
    blocks = {name: size for name in known.settings if name.startswith("block_")}
    wisdom.keep(replace(known, settings=known.settings | blocks))
    planned = plan_problem(problem)
    x, w, bias = operands(problem)
    assert planned.workspace_nbytes < 1 << 30
    assert size > 1 or planned.origin == "measure"
    np.testing.assert_allclose(planned(x, w, bias), solve(problem, x, w, bias), rtol=0, atol=1e-2)


def test_plans_of_functions_are_bounded() -> None:
    """Thousands of input sizes do not grow memory."""
    for width in range(3, 700):
        nc.conv1d(np.ones((1, width)), np.ones((1, 1, 3)), algorithm="reference")
    info = functional._plan.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize < 697
