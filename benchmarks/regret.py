"""What the cost model's choice costs: ``python -m benchmarks.regret``, which ``make bench-planner`` calls.

On every layer, the median time of the estimated plan over that of the best plan among all that are worth measuring,
timed in turn in one run.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.sets import SETS, load_sets
from numbaconv.measure import timings_of
from numbaconv.parallel import max_threads
from numbaconv.plan import Plan
from numbaconv.planner import allowed, estimated, fitting, worth_measuring
from numbaconv.problem import ConvProblem


def regret(problem: ConvProblem, threads: int) -> tuple[float, str, str]:
    """The estimated plan's time over the best one's, and how both are computed."""
    table = allowed(problem)
    choice = estimated(problem, threads, table)
    plans = worth_measuring(fitting(problem, threads, table))
    timed = timings_of([choice, *(plan for plan in plans if _how(plan) != _how(choice))])
    best, least = min(timed, key=lambda pair: pair[1].median)
    chosen, timing = timed[0]
    return timing.median / least.median, _how(chosen), _how(best)


def _how(plan: Plan) -> str:
    return f"{plan.algorithm.name} {tuple(plan.settings)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-planner", description=__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--changing-weight", action="store_true", help="count the preparation of the weight")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, max_threads()}))
    options = parser.parse_args()
    layers = [layer for layers in load_sets(options.sets).values() for layer in layers]
    console = Console(width=150)
    for threads in options.threads:
        found = [
            (*regret(replace(layer.problem, constant_weight=not options.changing_weight), threads), layer)
            for layer in track(layers, f"{threads} threads")
        ]
        table = Table(
            "layer", "chosen", "best", "time over best's", title=f"{threads} threads, where 5 % or more are lost"
        )
        for ratio, chosen, best, layer in sorted(found, key=lambda row: -row[0]):
            if ratio >= 1.05:
                table.add_row(f"{layer.name} {layer.problem}", chosen, best, f"{ratio:.2f}")
        console.print(table)
        mean = math.exp(sum(math.log(ratio) for ratio, *_ in found) / len(found))
        worst = max(ratio for ratio, *_ in found)
        console.print(f"{threads} threads, {len(found)} layers: geometric mean {mean:.3f}, worst {worst:.2f}")


if __name__ == "__main__":
    main()
