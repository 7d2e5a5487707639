"""Command line of the comparison: ``python -m benchmarks.peers``, which ``make bench-peers`` calls."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.peers.chart import draw
from benchmarks.peers.engines import ENGINES, PEERS
from benchmarks.peers.measure import Result, as_json, geometric_mean, measure
from benchmarks.sets import SETS, load_sets
from numbaconv import wisdom
from numbaconv.machine import this_machine
from numbaconv.networks import Layer

#: Every so many layers of a set are measured with --quick.
_QUICK_STEP = 5


def main() -> None:
    # OpenVINO's telemetry forks from a thread, which the thread pools of the other engines do not survive.
    os.environ["CI"] = "true"
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--threads", type=int, nargs="+", default=[os.cpu_count() or 1, 1])
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), metavar="ENGINE",
                        help="numbaconv and any of " + ", ".join(list(ENGINES)[1:]))  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="every fifth layer, three rounds")
    parser.add_argument("--json", type=Path, default=Path(".benchmarks/peers.json"))
    parser.add_argument("--chart", type=Path, help="where to draw the chart, a PNG")
    options = parser.parse_args()
    if "numbaconv" not in options.engines:
        parser.error("argument --engines: expected numbaconv among them")
    if options.chart and not set(options.engines) & set(PEERS):
        parser.error(f"argument --chart: expected a peer among the engines, got {' '.join(options.engines)}")
    sets = load_sets(options.sets)
    if options.quick:
        sets = {name: layers[::_QUICK_STEP] for name, layers in sets.items()}
    console = Console(width=150)
    report: dict[str, Any] = {
        "machine": str(this_machine()),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in ("numbaconv", "numba", "numpy", *PEERS)},
        "results": {},
    }
    for threads in options.threads:
        # Measured by the kernels as they are, whatever the user's wisdom says, which stays as it is.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["NUMBACONV_WISDOM"] = str(Path(folder) / "wisdom.jsonl")
            wisdom.clear()
            results = _measure_sets(sets, options.engines, threads, 3 if options.quick else options.rounds, console)
        report["results"][str(threads)] = {
            name: [as_json(result) for result in measured] for name, measured in results.items()
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1))
        for name, measured in results.items():
            _print(console, name, threads, measured)
        if options.chart and threads == options.threads[0]:
            draw(results, threads, options.chart)
    console.print(f"figures: {options.json}")


def _measure_sets(
    sets: dict[str, list[Layer]], engines: list[str], threads: int, rounds: int, console: Console
) -> dict[str, list[Result]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=sum(map(len, sets.values())))
        results: dict[str, list[Result]] = {}
        for name, layers in sets.items():
            results[name] = []
            for layer in layers:
                progress.update(bar, description=f"{name} {layer.name}, {threads} threads")
                results[name].append(measure(layer, engines, threads, rounds))
                progress.advance(bar)
    return results


def _print(console: Console, name: str, threads: int, results: list[Result]) -> None:
    engines = list(results[0].seconds)
    peers = [engine for engine in engines if engine in PEERS]
    table = Table(
        "layer", "shape", "n", *engines, "best peer", "best / ours", title=f"{name}, {threads} threads, GFLOP/s"
    )
    for result in results:
        rates = [f"{result.layer.problem.flops / result.median(engine) / 1e9:.0f}" for engine in engines]
        ends = [result.best_peer(), f"{result.ratio('numbaconv', peers):.2f}"] if peers else ["", ""]
        table.add_row(result.layer.name, str(result.layer.problem), str(result.layer.count), *rates, *ends)
    console.print(table)
    if peers:
        console.print(f"{name}, {threads} threads, geometric means: layer over the best peer "
                      f"{geometric_mean(results, 'numbaconv', peers):.2f}", end="")  # fmt: skip
        for peer in peers:
            console.print(f", over {peer} {geometric_mean(results, 'numbaconv', [peer]):.2f}", end="")
        if "conv2d" in engines and "torch" in peers:
            console.print(f"; conv2d over torch {geometric_mean(results, 'conv2d', ['torch']):.2f}", end="")
        console.print()


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
