"""``numbaconv plan``: how convolutions are computed, and why not otherwise."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from numbaconv.cli import interruption
from numbaconv.cli.common import (
    Accuracy,
    AsJson,
    Batch,
    ConstantWeight,
    Dtype,
    Sources,
    Threads,
    load_layers,
    new_table,
    print_json,
    print_table,
    say,
    use_threads,
)
from numbaconv.networks import Layer
from numbaconv.plan import Plan, format_seconds
from numbaconv.planner import allowed, estimated, plan_problem


def plan(
    sources: Sources,
    batch: Batch = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    accuracy: Accuracy = None,
    effort: Annotated[
        str, typer.Option(metavar="EFFORT", help="estimate, measure or exhaustive: how hard to look.")
    ] = "estimate",
    constant_weight: ConstantWeight = True,
    as_json: AsJson = False,
) -> None:
    """Explain how convolutions are computed: every algorithm's time, or the reason why it does not apply.

    Times come from the cost model, or are measured where wisdom has them or the effort asks for it.

    Example: numbaconv plan mb1ic64ih56oc64kh3ph1
    """
    layers = load_layers(
        sources, batch=batch, dtype=dtype, accuracy=accuracy, constant_weight=constant_weight, may_be_empty=True
    )
    count = use_threads(threads)
    reports = []
    for layer in layers:
        interruption.raise_if_pressed()
        found = plan_problem(layer.problem, effort=effort)
        reports.append(plan_report(layer, found))
        if not as_json:
            _print_plan(found, reports[-1], first=len(reports) == 1)
    if as_json:
        problem = layers[0].problem
        of = {"dtype": problem.dtype, "threads": count, "accuracy": problem.accuracy}
        print_json({**of, "constant_weight": constant_weight, "layers": reports})


def plan_report(layer: Layer, plan: Plan) -> dict[str, Any]:
    """A plan and its alternatives as JSON has them and the table shows them.

    The estimate of an algorithm is the one that a plan without wisdom would show.
    """
    problem, unmeasured = plan.problem, plan.origin == "estimate"
    estimates = (plan if unmeasured else estimated(problem, plan.threads, allowed(problem))).times
    return {
        "name": layer.name,
        "descriptor": str(problem),
        "count": layer.count,
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
                "estimated_seconds": estimates.get(option.algorithm),
                "measured_seconds": None if unmeasured else option.seconds,
                "not_applicable": option.reason,
            }
            for option in plan.options
        ],
    }


def _print_plan(plan: Plan, report: dict[str, Any], *, first: bool) -> None:
    if not first:
        say("")
    if report["name"]:
        say(report["name"] + (f", {report['count']} times" if report["count"] > 1 else ""))
    say(plan.summary())
    measured = report["origin"] != "estimate"
    times = {"estimate": "number"} | ({"measured": "number"} if measured else {})
    table = new_table({"algorithm": "word", **times, "": "text"})
    for option in report["options"]:
        chosen = "chosen" if option["algorithm"] == report["algorithm"] else ""
        cells = [option["estimated_seconds"], *([option["measured_seconds"]] if measured else [])]
        table.add_row(option["algorithm"], *map(format_seconds, cells), option["not_applicable"] or chosen)
    print_table(table)
