"""Plans timed against each other on random arrays, and block sizes varied to better the best one."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from numbaconv.arguments import ITEM_SIZE
from numbaconv.plan import Plan
from numbaconv.timing import ROUNDS, Timing, time_in_turn
from numbaconv.workspace import LARGE_BYTES, aligned_empty

Timed = list[tuple[Plan, float]]

#: Bytes from the start of a cache line to that of a measured array.
_BEFORE = 16
#: Plans this close to the fastest are timed again, in so many rounds.
_CLOSE, _MORE_ROUNDS = 1.06, 21
#: Variations of the best plan that an exhaustive search times, at most.
_MOST_VARIATIONS = 24


def time_plans(plans: list[Plan], rounds: int = ROUNDS) -> Timed:
    """Seconds of each plan of one problem: the geometric mean of the least and the median of `timings_of`.

    Others who use the machine only ever add to a time, and what they leave of a core decides, too: where its other
    thread is busy, it seems, tiles of fewer loads win. Of 15 layers' plans with one thread of AMD Zen 3, the choice by
    the least time took 2.1 % more than the best by the median of hundreds of rounds, at worst 8.2, and by this 0.7 and
    2.2; than the best by the least, 0.4 and 0.5 %. With two threads, of 8 layers' plans, 1.7 and 0.5, and 1.1 and 0.9.
    """
    return [(plan, math.sqrt(timing.least * timing.median)) for plan, timing in timings_of(plans, rounds)]


def run_off(timed: Timed) -> Timed:
    """The plans, of which those that noise may have put in a wrong order are timed again, in more rounds."""
    least = min(seconds for _, seconds in timed)
    close = [plan for plan, seconds in timed if seconds <= _CLOSE * least]
    if len(close) == 1:
        return timed
    return time_plans(close, rounds=_MORE_ROUNDS) + [pair for pair in timed if pair[0] not in close]


def timings_of(plans: list[Plan], rounds: int = ROUNDS) -> list[tuple[Plan, Timing]]:
    """Timing of each plan of one problem, taken in turn; a constant weight is prepared beforehand."""
    problem = plans[0].problem
    rng = np.random.default_rng(0)
    # Where an array begins within a line can make 30 % of difference, and must not depend on what was freed before.
    # NumPy's large arrays begin as far behind a line as these; large outputs of ours begin with one.
    before = _BEFORE // ITEM_SIZE[problem.dtype]
    x, w, y = (
        aligned_empty(before + math.prod(shape), problem.dtype)[before:]
        for shape in (problem.input_shape, problem.weight_shape, problem.output_shape)
    )
    if y.nbytes >= LARGE_BYTES:
        y = aligned_empty(y.size, problem.dtype)
    rng.standard_normal(dtype=x.dtype, out=x)
    rng.standard_normal(dtype=w.dtype, out=w)
    bias = np.zeros(problem.out_channels, problem.dtype)
    functions = {}
    for number, plan in enumerate(plans):
        prepared = plan.prepare(w) if problem.constant_weight else None
        plan.compile()
        functions[number] = functools.partial(plan.run, x, w, bias, y, prepared)
    timings = time_in_turn(functions, rounds=rounds)
    return [(plan, timings[number]) for number, plan in enumerate(plans)]


def vary_blocks(timed: Timed) -> Timed:
    """Double and halve the best plan's block sizes, one at a time, as long as that makes it faster."""
    best, _ = min(timed, key=lambda pair: pair[1])
    seen = {best.settings}
    tried: Timed = []
    while len(tried) < _MOST_VARIATIONS:
        variations = [replace(best, settings=settings) for settings in _neighbours(best) if settings not in seen]
        if not variations:
            break
        seen.update(plan.settings for plan in variations)
        round_timed = time_plans([best, *variations])
        tried += round_timed[1:]
        fastest, _ = min(round_timed, key=lambda pair: pair[1])
        if fastest is best:
            break
        best = fastest
    return timed + tried


def _neighbours(plan: Plan) -> Iterable[tuple[int, ...]]:
    for name, value in plan.settings._asdict().items():
        if name.startswith("block_"):
            for other in {value * 2, max(1, value // 2)} - {value}:
                settings = plan.settings._replace(**{name: other})
                if replace(plan, settings=settings).workspace_nbytes <= plan.problem.workspace_limit:
                    yield settings
