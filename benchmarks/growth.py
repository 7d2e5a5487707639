"""How time grows: ``python -m benchmarks.growth``, which ``make bench-growth`` calls.

With the batch and with the pixels of an image, which should be in proportion, and from float32 to float64, which halves
a vector's lanes. Cases of a table are timed in turn in one run.
"""

from __future__ import annotations

import argparse
import functools

import numpy as np
from rich.console import Console
from rich.table import Table

from numbaconv.parallel import max_threads
from numbaconv.planner import allowed, estimated
from numbaconv.problem import ConvProblem
from numbaconv.timing import time_in_turn

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_SIDES = (56, 112, 224, 448)
_FILTER_SIDES = (512, 1024, 2048, 4096)
#: Convolutions, with places for the batch and the side of the image.
_LAYERS = {
    "3 x 3, 64 channels": "mb{n}ic64ih{side}oc64kh3ph1",
    "3 x 3, 64 channels, stride 2": "mb{n}ic64ih{side}oc64kh3sh2ph1",
    "1 x 1, 64 to 128 channels": "mb{n}ic64ih{side}oc128kh1",
    "depthwise 3 x 3, 64 channels": "g64mb{n}ic64ih{side}oc64kh3ph1",
}
_FILTERS = {f"filter {size} x {size}": f"mb1ic1ih{{side}}oc1kh{size}ph{size // 2}" for size in (3, 5, 9)}
#: Layers of every algorithm, for the two types.
_TYPES = (
    "mb1ic64ih56oc64kh3ph1", "mb1ic256ih28oc256kh3ph1sh2", "mb1ic256ih14oc1024kh1", "mb1ic256ih56oc64kh1",
    "mb1ic3ih224oc64kh3sh2ph1", "g32mb1ic128ih56oc128kh3ph1", "g144mb1ic144ih56oc144kh3ph1",
)  # fmt: skip


def rates(problems: list[ConvProblem], threads: int) -> list[float]:
    """FLOP/s of each with the plan that the cost model chooses, timed in turn, each on arrays of its own.

    The output is one that a call made.
    """
    functions = {}
    for number, problem in enumerate(problems):
        plan = estimated(problem, threads, allowed(problem))
        rng = np.random.default_rng(0)
        x, w = (rng.random(shape).astype(problem.dtype) for shape in (problem.input_shape, problem.weight_shape))
        functions[number] = functools.partial(plan, x, w, out=plan(x, w))
    timings = time_in_turn(functions)
    return [problem.flops / timings[number].median for number, problem in enumerate(problems)]


def _grow(console: Console, title: str, heads: tuple[int, ...], rows: dict[str, list[str]], threads: int) -> None:
    table = Table("", *map(str, heads), title=f"{title}, {threads} threads: GFLOP/s, and over the first column's")
    for name, descriptors in rows.items():
        found = rates([ConvProblem.parse(text, constant_weight=True) for text in descriptors], threads)
        table.add_row(name, *(f"{rate / 1e9:.0f}  {rate / found[0]:.2f}" for rate in found))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, max_threads()}))
    options = parser.parse_args()
    console = Console(width=130)
    for threads in options.threads:
        batches = {name: [text.format(n=n, side=28) for n in _BATCHES] for name, text in _LAYERS.items()}
        _grow(console, "images of 28 x 28", _BATCHES, batches, threads)
        sides = {name: [text.format(n=1, side=side) for side in _SIDES] for name, text in _LAYERS.items()}
        _grow(console, "side of the image", _SIDES, sides, threads)
        filters = {name: [text.format(side=side) for side in _FILTER_SIDES] for name, text in _FILTERS.items()}
        _grow(console, "side of a one-channel image", _FILTER_SIDES, filters, threads)
        table = Table("layer", "float32", "float64", "share", title=f"GFLOP/s by type, {threads} threads")
        for text in _TYPES:
            types = [ConvProblem.parse(text, dtype=dtype, constant_weight=True) for dtype in ("float32", "float64")]
            single, double = rates(types, threads)
            table.add_row(text, f"{single / 1e9:.0f}", f"{double / 1e9:.0f}", f"{double / single:.0%}")
        console.print(table)


if __name__ == "__main__":
    main()
