"""``numbaconv verify``: every algorithm against a float64 reference."""

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
    layer_cells,
    layer_columns,
    load_layers,
    new_table,
    print_json,
    print_table,
    say,
    title,
    use_threads,
)
from numbaconv.cli.progress import LayerProgress
from numbaconv.planner import impossible
from numbaconv.verify import verify as verify_algorithm


def verify(
    sources: Sources,
    batch: Batch = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    accuracy: Accuracy = None,
    constant_weight: ConstantWeight = True,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the random arrays.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare every algorithm that has a plan with a reference in float64; exit status 1 if one is wrong.

    The error is max |y - y64| / max |y64| on random numbers. On small integers, where all sums are exact, results
    must be equal.

    Example: numbaconv verify mb1ic64ih56oc64kh3ph1
    """
    layers = load_layers(sources, batch=batch, dtype=dtype, accuracy=accuracy, constant_weight=constant_weight)
    use_threads(threads)
    report: list[dict[str, Any]] = []
    with LayerProgress(len(layers)) as progress:
        for layer in layers:
            progress.begin(title(layer), "comparing")
            reasons = impossible(layer.problem)
            possible = (name for name in ALGORITHMS if name not in reasons)
            verdicts = {name: verify_algorithm(layer.problem, name, seed) for name in possible}
            report += [
                {"name": layer.name, "descriptor": str(layer.problem), "algorithm": name, **verdict._asdict()}
                for name, verdict in verdicts.items()
            ]
            progress.finish("ok" if all(verdict.ok for verdict in verdicts.values()) else "WRONG")
    wrong = sum(not row["ok"] for row in report)
    if as_json:
        problem = layers[0].problem
        of = {"dtype": problem.dtype, "accuracy": problem.accuracy, "seed": seed}
        print_json({**of, "ok": not wrong, "checks": report})
    else:
        _print_report(report)
        say(f"{len(report) - wrong} of {len(report)} within tolerance")
    if wrong:
        raise typer.Exit(1)


def _print_report(report: list[dict[str, Any]]) -> None:
    named = layer_columns(report)
    figures = {"algorithm": "word", "error": "number", "tolerance": "number", "integers": "word", "": "word"}
    table = new_table(named | figures)
    integers = {True: "equal", False: "DIFFER", None: "-"}
    for row in report:
        table.add_row(
            *layer_cells(row, named), row["algorithm"], f"{row['error']:.1e}", f"{row['tolerance']:.0e}",
            integers[row["exact"]], "ok" if row["ok"] else "WRONG",
        )  # fmt: skip
    print_table(table)
