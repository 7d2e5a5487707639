"""``numbaconv plan``: how one convolution is computed, and why not otherwise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from numbaconv.algorithms import ALGORITHMS
from numbaconv.cli.common import (
    Accuracy,
    AsJson,
    ConstantWeight,
    Dtype,
    Threads,
    new_table,
    print_json,
    print_table,
    say,
    use_threads,
)
from numbaconv.plan import Plan, format_seconds
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem


def plan(
    descriptor: Annotated[str, typer.Argument(metavar="DESCRIPTOR", help="The convolution.", show_default=False)],
    dtype: Dtype = "float32",
    threads: Threads = None,
    accuracy: Accuracy = None,
    effort: Annotated[
        str, typer.Option(metavar="EFFORT", help="estimate, measure or exhaustive: how hard to look.")
    ] = "estimate",
    constant_weight: ConstantWeight = True,
    as_json: AsJson = False,
) -> None:
    """Explain how a convolution is computed: every algorithm's time, or the reason why it does not apply.

    Times come from the cost model, or are measured where wisdom has them or the effort asks for it.

    Example: numbaconv plan mb1ic64ih56oc64kh3ph1
    """
    problem = ConvProblem.parse(descriptor, dtype=dtype, accuracy=accuracy, constant_weight=constant_weight)
    use_threads(threads)
    found = plan_problem(problem, effort=effort)
    report = plan_report(found)
    if as_json:
        print_json(report)
    else:
        _print_plan(found, report)


def plan_report(plan: Plan) -> dict[str, Any]:
    """A plan and its alternatives as JSON has them and the table shows them."""
    problem, estimated = plan.problem, plan.origin == "estimate"
    return {
        "descriptor": str(problem),
        "dtype": problem.dtype,
        "threads": plan.threads,
        "accuracy": problem.accuracy,
        "constant_weight": problem.constant_weight,
        "algorithm": plan.algorithm.name,
        "settings": plan.settings._asdict(),
        "tasks": plan.schedule.tasks,
        "workspace_bytes": plan.workspace_nbytes,
        "prepared_weight_bytes": plan.prepared_nbytes,
        "seconds": plan.seconds,
        "gflops": problem.flops / plan.seconds / 1e9,
        "origin": plan.origin,
        "options": [
            {
                "algorithm": option.algorithm,
                "estimated_seconds": option.seconds if estimated else _estimate(plan, option.algorithm),
                "measured_seconds": None if estimated else option.seconds,
                "not_applicable": ALGORITHMS[option.algorithm].applicable(problem),
            }
            for option in plan.options
        ],
    }


def _estimate(plan: Plan, name: str) -> float | None:
    """The cost model's time of an algorithm beside which that of a measured plan is shown."""
    row, problem, machine, threads = ALGORITHMS[name], plan.problem, plan.machine, plan.threads
    if row.applicable(problem) is not None:
        return None
    candidates = row.candidates(problem, machine, threads)
    return min(row.estimate(problem, settings, machine, threads) for settings in candidates)


def _print_plan(plan: Plan, report: dict[str, Any]) -> None:
    # The table has the alternatives.
    say("\n".join(line for line in str(plan).splitlines() if not line.startswith("  not ")))
    measured = report["origin"] != "estimate"
    times = {"estimate": "number"} | ({"measured": "number"} if measured else {})
    table = new_table({"algorithm": "word", **times, "": "text"})
    for option in report["options"]:
        chosen = "chosen" if option["algorithm"] == report["algorithm"] else ""
        cells = [option["estimated_seconds"], *([option["measured_seconds"]] if measured else [])]
        reason = option["not_applicable"]
        table.add_row(option["algorithm"], *map(format_seconds, cells), reason or chosen)
    print_table(table)
