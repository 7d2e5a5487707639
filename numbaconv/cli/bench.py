"""``numbaconv bench``: how fast every algorithm is on some convolutions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from numbaconv.algorithms import ALGORITHMS
from numbaconv.cli.common import (
    Accuracy,
    AsJson,
    Batch,
    ConstantWeight,
    Dtype,
    Sources,
    Threads,
    heading,
    layer_cells,
    layer_columns,
    load_layers,
    new_table,
    print_json,
    print_table,
    rates,
    say,
    title,
    use_threads,
)
from numbaconv.cli.progress import LayerProgress
from numbaconv.machine import this_machine
from numbaconv.measure import timings_of
from numbaconv.networks import Layer
from numbaconv.peak import measured_peak
from numbaconv.plan import Plan, format_seconds
from numbaconv.planner import impossible, plan_problem
from numbaconv.timing import Timing
from numbaconv.wisdom import check_effort


def bench(
    sources: Sources,
    batch: Batch = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    accuracy: Accuracy = None,
    effort: Annotated[
        str,
        typer.Option(metavar="EFFORT", help="How each algorithm's settings are found: estimate, measure, exhaustive."),
    ] = "estimate",
    constant_weight: ConstantWeight = True,
    as_json: AsJson = False,
) -> None:
    """Time every algorithm that has a plan, in turn, with the settings that the planner would give it.

    Those are the cost model's favourites, or wisdom's for the algorithm that it recommends. Nothing is kept as wisdom.

    Example: numbaconv bench mb1ic64ih56oc64kh3ph1 --threads 1
    """
    check_effort(effort)
    layers = load_layers(sources, batch=batch, dtype=dtype, accuracy=accuracy, constant_weight=constant_weight)
    count = use_threads(threads)
    with LayerProgress(len(layers)) as progress:
        progress.begin("machine", "measuring its peak")
        peak = measured_peak(layers[0].problem.dtype, count)
        found = []
        for layer in layers:
            progress.begin(title(layer))
            reasons = impossible(layer.problem)
            possible = (name for name in ALGORITHMS if name not in reasons)
            timed = timings_of([plan_problem(layer.problem, effort=effort, algorithm=name) for name in possible])
            best, timing = min(timed, key=lambda pair: pair[1].median)
            progress.finish(f"{best.algorithm.name} {format_seconds(timing.median)}")
            found.append((layer, timed, reasons))
    report = {
        "machine": this_machine().name,
        "dtype": layers[0].problem.dtype,
        "threads": count,
        "accuracy": layers[0].problem.accuracy,
        "constant_weight": constant_weight,
        "peak_gflops": peak / 1e9,
        "layers": [_layer_report(*measured, peak) for measured in found],
    }
    if as_json:
        print_json(report)
    else:
        _print_report(report)


def _layer_report(
    layer: Layer, timed: list[tuple[Plan, Timing]], reasons: dict[str, str], peak: float
) -> dict[str, Any]:
    return {
        "name": layer.name,
        "descriptor": str(layer.problem),
        "algorithms": [
            {
                "algorithm": plan.algorithm.name,
                "settings": plan.settings._asdict(),
                "seconds": timing.median,
                "least_seconds": timing.least,
                "lower_quartile_seconds": timing.low,
                "upper_quartile_seconds": timing.high,
                "rounds": timing.rounds,
                **rates(layer.problem.flops, timing.median, peak),
            }
            for plan, timing in timed
        ],
        "not_applicable": reasons,
    }


def _print_report(report: dict[str, Any]) -> None:
    say(heading(report))
    named = layer_columns(report["layers"])
    table = new_table(
        named | {"algorithm": "word"} | dict.fromkeys(("median", "quartiles", "GFLOP/s", "% peak"), "number")
    )
    for layer in report["layers"]:
        for row in layer["algorithms"]:
            spread = (row["upper_quartile_seconds"] - row["lower_quartile_seconds"]) / row["seconds"]
            table.add_row(
                *layer_cells(layer, named), row["algorithm"], format_seconds(row["seconds"]),
                f"{100 * spread:.0f} %", f"{row['gflops']:.1f}", f"{row['percent_of_peak']:.0f}",
            )  # fmt: skip
    print_table(table)
