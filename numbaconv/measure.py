"""Plans timed against each other on random arrays, and block sizes varied to better the best one."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from numbaconv.plan import Plan
from numbaconv.timing import ROUNDS, Timing, time_in_turn
from numbaconv.workspace import aligned_empty

Timed = list[tuple[Plan, float]]

#: Plans this close to the fastest are timed again, in so many rounds.
_CLOSE, _MORE_ROUNDS = 1.06, 21
#: Variations of the best plan that an exhaustive search times, at most.
_MOST_VARIATIONS = 24


def time_plans(plans: list[Plan], rounds: int = ROUNDS) -> Timed:
    """Seconds of each plan of one problem, the least that `timings_of` measures.

    Others who use the machine only ever add to a time. Where they did, with one thread on AMD Zen 3, choosing the least
    median of 9 layers' plans cost 0.5 % and at worst 11, the lowest of the times 0.1 and 4; with two threads, which are
    seldom both left alone, 0.9 and 0.6 %.
    """
    return [(plan, timing.least) for plan, timing in timings_of(plans, rounds)]


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
    x, w, y = (
        aligned_empty(math.prod(shape), problem.dtype)
        for shape in (problem.input_shape, problem.weight_shape, problem.output_shape)
    )
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
