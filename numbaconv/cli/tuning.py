"""The tuning of a list of layers: every algorithm timed on each, for layers and for functions, as long as one likes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

from numbaconv import parallel
from numbaconv.cli import interruption
from numbaconv.cli.common import title
from numbaconv.cli.progress import LayerProgress
from numbaconv.networks import Layer
from numbaconv.plan import Plan, format_seconds
from numbaconv.planner import allowed, measured, plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.wisdom import EFFORTS


@dataclass
class Tuning:
    """What was asked for, and what came of it.

    ``plans`` has two entries for each layer that is done: a `Conv2d` layer's weight is constant, and that of
    `conv2d` may change, so that preparing it counts. ``known`` are those that wisdom had.
    """

    layers: list[Layer]
    effort: str
    threads: int
    plans: dict[ConvProblem, Plan] = field(default_factory=dict)
    known: set[ConvProblem] = field(default_factory=set)
    interrupted: bool = False

    @property
    def done(self) -> list[Layer]:
        """Layers with a plan for a constant weight at least, which is measured first."""
        return [layer for layer in self.layers if layer.problem in self.plans]

    @property
    def missing(self) -> list[Layer]:
        """Layers that lack a plan."""
        return [layer for layer in self.layers if any(problem not in self.plans for problem in both(layer.problem))]

    @property
    def measured(self) -> int:
        """How many problems were measured here."""
        return len(self.plans) - len(self.known)


def both(problem: ConvProblem) -> tuple[ConvProblem, ConvProblem]:
    """The problem of a layer with that weight, and of a function that is called with it."""
    return replace(problem, constant_weight=True), replace(problem, constant_weight=False)


def tune_layers(
    layers: list[Layer], *, effort: str, again: bool, budget: float | None, progress: LayerProgress
) -> Tuning:
    """Measure layers one after the other until all are done, the budget is spent, or Ctrl-C.

    Parameters
    ----------
    layers : list of Layer
    effort : {"measure", "exhaustive"}
    again : bool
        Measure what wisdom knows, too.
    budget : float, optional
        Seconds after which no layer is begun that wisdom does not know.
    progress : LayerProgress
    """
    tuning = Tuning(layers, effort, parallel.get_num_threads())
    end = math.inf if budget is None else time.monotonic() + budget
    try:
        for layer in layers:
            if _tune_layer(tuning, layer, again, time.monotonic() < end, progress):
                progress.finish(_result(tuning, layer))
            interruption.raise_if_pressed()
    except (KeyboardInterrupt, Exception):
        if not interruption.pressed():
            raise
        tuning.interrupted = True
        interruption.forget()
    return tuning


def _tune_layer(tuning: Tuning, layer: Layer, again: bool, in_time: bool, progress: LayerProgress) -> bool:
    """Find the plans of a layer; returns whether it has them all."""
    progress.begin(title(layer))
    for problem in both(layer.problem):
        known = None if again else _known(problem, tuning.effort)
        if known is not None:
            tuning.known.add(problem)
            tuning.plans[problem] = known
        elif in_time:
            # What is in the dictionary is in the wisdom file already.
            tuning.plans[problem] = measured(problem, tuning.threads, tuning.effort, allowed(problem))
        else:
            return False
    return True


def _known(problem: ConvProblem, effort: str) -> Plan | None:
    """The plan that wisdom of at least this effort gives."""
    plan = plan_problem(problem)
    return plan if EFFORTS.index(plan.origin) >= EFFORTS.index(effort) else None


def _result(tuning: Tuning, layer: Layer) -> str:
    plan = tuning.plans[layer.problem]
    return f"{plan.algorithm.name} {format_seconds(plan.seconds)}{', known' * (layer.problem in tuning.known)}"
