"""plan, bench, verify and info: what their tables and JSON say, and that both say the same."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from command import Result, run, run_all

import numbaconv
from numbaconv import parallel, planner
from numbaconv.algorithms import ALGORITHMS
from numbaconv.cli.plan import plan_report
from numbaconv.machine import Machine, this_machine
from numbaconv.networks import Layer, load, with_options
from numbaconv.planner import allowed, fitting, impossible, plan_problem
from numbaconv.problem import ConvProblem

DENSE, DEPTHWISE = "mb1ic8ih10oc8kh3ph1", "g8mb1ic8ih10oc8kh3ph1"
#: A weight that is laid out in the call takes more than the usual limit of workspace.
MANY_WEIGHTS = "mb1ic1024ih1oc9216kh1"


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    """All commands of this module, run in one process and an empty folder's wisdom."""
    commands = {
        "plan": ["plan", DENSE],
        "plan --json": ["plan", DENSE, "--json", "--threads", "1"],
        "plan depthwise": ["plan", DEPTHWISE],
        "plan changing": ["plan", DENSE, "--changing-weight", "--accuracy", "strict", "--dtype", "float64", "--json"],
        "plan nothing": ["plan", "mb0ic8ih10oc8kh3"],
        "plan network": ["plan", "vgg16", "--batch", "2"],
        "plan network --json": ["plan", "vgg16", DENSE, "--batch", "2", "--json"],
        "bench": ["bench", f'{DENSE}n"dense"', f'{DEPTHWISE}n"depthwise"'],
        "bench --json": ["bench", DENSE, DEPTHWISE, "--json", "--threads", "1"],
        "verify": ["verify", DENSE, DEPTHWISE, "--dtype", "float64"],
        "verify --json": ["verify", DENSE, "--json", "--batch", "2", "--seed", "3"],
        "bench changing": ["bench", MANY_WEIGHTS, "--changing-weight", "--json"],
        "verify changing": ["verify", MANY_WEIGHTS, "--changing-weight", "--json"],
        "info": ["info"],
        "info --json": ["info", "--json"],
    }
    return dict(zip(commands, run_all(list(commands.values())), strict=True))


def test_tables_read_well_in_a_pipe(results: dict[str, Result]) -> None:
    for name, result in results.items():
        assert result.status == 0, (name, result.err)
        assert "\x1b" not in result.out
        assert "…" not in result.out
        assert not re.search(r" $", result.out, re.MULTILINE), name


def test_plan_gives_a_time_or_a_reason_for_every_algorithm(results: dict[str, Result]) -> None:
    for name, descriptor in (("plan", DENSE), ("plan depthwise", DEPTHWISE)):
        problem = ConvProblem.parse(descriptor, constant_weight=True)
        lines = results[name].out.splitlines()
        for algorithm, row in ALGORITHMS.items():
            (line,) = (line for line in lines if line.startswith(f"{algorithm} "))
            reason = row.applicable(problem)
            assert line.endswith(reason) if reason else re.search(r"\d (us|ms)", line)
        chosen = plan_problem(problem).algorithm.name
        assert [line.split()[0] for line in lines if line.endswith("chosen")] == [chosen]


def test_plan_says_settings_workspace_and_time(results: dict[str, Result]) -> None:
    plan = plan_problem(ConvProblem.parse(DENSE, constant_weight=True), threads=1)
    [report] = results["plan --json"].json["layers"]
    assert report["algorithm"] == plan.algorithm.name
    assert report["settings"] == plan.settings._asdict()
    assert report["workspace_bytes"] == plan.workspace_nbytes
    assert report["seconds"] == plan.seconds
    assert report["origin"] == "estimate"
    for option, given in zip(plan.options, report["options"], strict=True):
        assert (given["estimated_seconds"], given["not_applicable"]) == (option.seconds, option.reason)
        assert given["measured_seconds"] is None
    for word in ("settings", "workspace", "expected", "GFLOP/s"):
        assert word in results["plan"].out


def test_plan_options_reach_the_problem(results: dict[str, Result]) -> None:
    report = results["plan changing"].json
    assert (report["constant_weight"], report["accuracy"], report["dtype"]) == (False, "strict", "float64")
    reasons = {option["algorithm"]: option["not_applicable"] for option in report["layers"][0]["options"]}
    assert "strict" in reasons["winograd"]


def test_plan_without_an_image(results: dict[str, Result]) -> None:
    assert "tasks      0" in results["plan nothing"].out


def test_plan_of_a_network(results: dict[str, Result]) -> None:
    """A plan for each of its layers, under the layer's name."""
    layers = with_options(load("vgg16"), batch=2)
    report, text = results["plan network --json"].json, results["plan network"].out
    assert [layer["name"] for layer in report["layers"]] == [*[layer.name for layer in layers], ""]
    assert [layer["descriptor"] for layer in report["layers"][:-1]] == [str(layer.problem) for layer in layers]
    for layer in layers:
        times = f", {layer.count} times" if layer.count > 1 else ""
        assert f"{layer.name}{times}\nplan for {layer.problem} float32" in text
    assert text.count("reference ") == len(layers)


def test_estimates_are_those_of_a_plan_without_wisdom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many candidates; here of one, and of im2col that is the slowest, so that more would be better."""

    def slowest_first(problem: ConvProblem, machine: Machine, threads: int) -> list[Any]:
        found = row.candidates(problem, machine, threads)
        return sorted(found, key=lambda settings: row.estimate(problem, settings, machine, threads), reverse=True)

    row = ALGORITHMS["im2col"]
    monkeypatch.setitem(ALGORITHMS, "im2col", replace(row, candidates=slowest_first))
    monkeypatch.setattr(planner, "_ESTIMATED", 1)
    layer = Layer("", ConvProblem.parse("mb1ic256ih28oc256oh14kh3sh2ph1"))
    unmeasured = plan_problem(layer.problem)
    assert unmeasured.times != fitting(layer.problem, unmeasured.threads, allowed(layer.problem))[0].times
    known = replace(unmeasured, origin="measure", times=dict.fromkeys(unmeasured.times, 1e-3))
    for of_unmeasured, of_known in zip(
        plan_report(layer, unmeasured)["options"], plan_report(layer, known)["options"], strict=True
    ):
        assert of_known["estimated_seconds"] == of_unmeasured["estimated_seconds"]
        assert of_known["not_applicable"] == of_unmeasured["not_applicable"]
        assert of_known["measured_seconds"] == (None if of_known["not_applicable"] else 1e-3)


def test_bench_refuses_an_effort_before_it_measures_anything() -> None:
    blind = "import sys, numbaconv.cli\nsys.modules['numbaconv.cli.bench'].measured_peak = None"
    run("bench", DENSE, "--effort", "hard", prelude=blind).assert_refused("effort", "hard")


def test_bench_times_every_algorithm_that_applies(results: dict[str, Result]) -> None:
    report = results["bench --json"].json
    assert report["threads"] == 1
    assert report["peak_gflops"] > 0
    for descriptor, layer in zip((DENSE, DEPTHWISE), report["layers"], strict=True):
        problem = ConvProblem.parse(descriptor, constant_weight=True)
        assert layer["descriptor"] == str(problem)
        assert [row["algorithm"] for row in layer["algorithms"]] == list(allowed(problem))
        assert layer["not_applicable"].keys() == ALGORITHMS.keys() - allowed(problem).keys()
        for row in layer["algorithms"]:
            assert row["least_seconds"] <= row["lower_quartile_seconds"] <= row["seconds"]
            assert row["seconds"] <= row["upper_quartile_seconds"]
            assert row["gflops"] == pytest.approx(problem.flops / row["seconds"] / 1e9)
            assert row["percent_of_peak"] == pytest.approx(100 * row["gflops"] / report["peak_gflops"])


def test_what_needs_too_much_workspace_is_left_out_and_said(results: dict[str, Result]) -> None:
    [layer] = results["bench changing"].json["layers"]
    reasons = layer["not_applicable"]
    assert reasons.keys() == impossible(ConvProblem.parse(MANY_WEIGHTS)).keys()
    assert re.fullmatch(r"it needs \d{8} bytes of workspace", reasons["direct"])
    for rows in (layer["algorithms"], results["verify changing"].json["checks"]):
        assert {row["algorithm"] for row in rows} == ALGORITHMS.keys() - reasons.keys()


def test_bench_table(results: dict[str, Result]) -> None:
    lines = results["bench"].out.splitlines()
    assert lines[1].split() == ["layer", "shape", "algorithm", "median", "quartiles", "GFLOP/s", "%", "peak"]
    assert [line.split()[2] for line in lines if line.startswith("depthwise ")] == list(
        allowed(ConvProblem.parse(DEPTHWISE))
    )


def test_verify_compares_every_algorithm(results: dict[str, Result]) -> None:
    rows = [line.split() for line in results["verify"].out.splitlines() if line.endswith(" ok")]
    expected = [[d, name] for d in (DENSE, DEPTHWISE) for name in allowed(ConvProblem.parse(d))]
    assert [row[:2] for row in rows] == expected
    assert results["verify"].out.endswith(f"{len(rows)} of {len(rows)} within tolerance\n")


def test_verify_as_json(results: dict[str, Result]) -> None:
    report = results["verify --json"].json
    assert (report["ok"], report["seed"], report["dtype"]) == (True, 3, "float32")
    for check in report["checks"]:
        assert check["descriptor"].startswith("mb2")
        assert 0 <= check["error"] <= check["tolerance"]
        assert check["exact"] is (None if check["algorithm"] in ("winograd", "strassen") else True)


def test_verify_fails_when_an_algorithm_is_wrong() -> None:
    strict = "import numbaconv.verify as v\nv.TOLERANCES['float32'] = 1e-30"
    result = run("verify", DENSE, prelude=strict)
    assert result.status == 1
    assert "WRONG" in result.out
    assert "1 of 6 within tolerance" in result.out  # all but winograd, which has a bound of its own


def test_info_is_of_this_machine(results: dict[str, Result]) -> None:
    report, machine = results["info --json"].json, this_machine()
    assert (report["cpu"], report["registers"]) == (machine.name, machine.registers)
    assert report["vector_bits"] == 8 * machine.vector_bytes
    assert report["max_threads"] == parallel.max_threads()
    assert report["threading_layer"] == parallel.threading_layer()
    assert report["versions"]["numbaconv"] == numbaconv.__version__
    for dtype in ("float32", "float64"):
        assert report["peak_gflops"][dtype].keys() == {"1", str(parallel.max_threads())}
        assert all(rate > 0 for rate in report["peak_gflops"][dtype].values())
    for word in (machine.name, "L1", "threading layer", "float64", "numba ", "cache", "wisdom", "records"):
        assert word in results["info"].out
