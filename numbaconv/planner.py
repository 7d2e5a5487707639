"""The planner: from a problem to a plan, by what was measured, by the cost model, or by measuring now."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, SupportsIndex

from numbaconv import parallel, wisdom
from numbaconv.algorithms import ALGORITHMS, Algorithm
from numbaconv.algorithms.algorithm import tile_shape
from numbaconv.arguments import ITEM_SIZE, MOST_INT, WORKSPACE_LIMIT, ActivationLike, AxesLike, frozen
from numbaconv.machine import this_machine
from numbaconv.measure import run_off, time_plans, vary_blocks
from numbaconv.padding import PaddingLike
from numbaconv.plan import Plan
from numbaconv.problem import ConvProblem

#: "measure" times the best candidate of each algorithm, and every other that is estimated within this of the best.
_WORTH_MEASURING = 1.5
#: Candidates of each algorithm that an estimate looks at, which is thus done in 0.1 to 2.6 ms.
_ESTIMATED = 3


def plan(
    input_shape: Sequence[SupportsIndex] | ConvProblem,
    weight_shape: Sequence[SupportsIndex] | None = None,
    *,
    stride: AxesLike = 1,
    padding: PaddingLike = 0,
    dilation: AxesLike = 1,
    groups: SupportsIndex = 1,
    dtype: object = "float32",
    activation: ActivationLike = None,
    constant_weight: bool = False,
    effort: str = "estimate",
    algorithm: str = "auto",
    accuracy: str | None = None,
    workspace_limit: SupportsIndex | None = None,
) -> Plan:
    """Choose how to compute a convolution.

    Parameters
    ----------
    input_shape, weight_shape : sequence of int
        (N, C, *spatial) and (K, C / groups, *kernel), with 1 to 3 spatial axes. Or in place of both a `ConvProblem`,
        which says all but ``effort`` and ``algorithm``.
    stride, padding, dilation, groups, activation, accuracy, workspace_limit
        As in `conv2d`.
    dtype : "float32" or "float64"
    constant_weight : bool
        Whether the weight stays the same from call to call; it is then prepared once, which is not counted.
    effort : {"estimate", "measure", "exhaustive"}
        Use wisdom if there is some, else the cost model; or time the promising candidates of every algorithm; or time
        all, and then vary the best one's block sizes. What was measured is kept as wisdom, unless ``algorithm`` or
        a ``workspace_limit`` of less than 32 MiB narrowed the choice, or the best plan needs more than that.
    algorithm : str
        "auto", or a name from the table to choose that one's settings only.

    Returns
    -------
    Plan
        Callable on arrays of these shapes; prints itself readably.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the algorithm does not apply; the message says why.

    Examples
    --------
    >>> import numbaconv as nc
    >>> p = nc.plan((1, 64, 56, 56), (64, 64, 3, 3), padding=1, algorithm="im2col")
    >>> p.algorithm.name, p.problem.output_shape
    ('im2col', (1, 64, 56, 56))
    >>> nc.plan(nc.ConvProblem.parse("mb1ic64ih56oc64kh3ph1"), algorithm="im2col").settings == p.settings
    True
    """
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "dtype": dtype,
        "activation": activation, "constant_weight": constant_weight, "accuracy": accuracy,
        "workspace_limit": workspace_limit,
    }  # fmt: skip
    if isinstance(input_shape, ConvProblem):
        _check_alone(weight_shape, options)
        problem = input_shape
    elif weight_shape is None:
        raise TypeError("weight_shape: expected a shape, a tuple of integers, beside an input_shape, got None")
    else:
        problem = ConvProblem.from_shapes(input_shape, weight_shape, **options)
    return plan_problem(problem, effort=effort, algorithm=algorithm)


def _check_alone(weight_shape: object, options: dict[str, Any]) -> None:
    """Refuse what a problem given to `plan` says itself."""
    given = {"weight_shape": weight_shape, **options}
    usual = {name: parameter.default for name, parameter in inspect.signature(plan).parameters.items()}
    for name, value in given.items():
        if frozen(value) != usual[name]:
            raise TypeError(f"{name}: expected nothing beside a ConvProblem, which says it, got {value!r}")


def plan_problem(
    problem: ConvProblem, *, effort: str = "estimate", algorithm: str = "auto", threads: int | None = None,
    earlier: Plan | None = None,
) -> Plan:  # fmt: skip
    """Plan a `ConvProblem`; arguments as in `plan`. ``threads`` is by default what `get_num_threads` says.

    ``earlier`` is what the same arguments gave before: unless wisdom knows better, it need not be measured again.
    """
    wisdom.check_effort(effort)
    _check_sizes(problem)
    table = allowed(problem, algorithm)
    count = parallel.get_num_threads() if threads is None else threads
    known = wisdom.lookup(problem, count)
    if known is not None and wisdom.EFFORTS.index(known.effort) >= wisdom.EFFORTS.index(effort):
        recalled = _recalled(problem, count, known, table)
        if recalled is not None:
            return recalled
    if effort == "estimate" or problem.batch == 0:
        return estimated(problem, count, table)
    return earlier if earlier is not None else measured(problem, count, effort, table)


def _check_sizes(problem: ConvProblem) -> None:
    """Refuse what no array can hold, before any work is done for it."""
    shapes = {"input": problem.input_shape, "weight": problem.weight_shape, "output": problem.output_shape}
    for name, shape in shapes.items():
        # Of an empty batch NumPy counts the rest.
        nbytes = ITEM_SIZE[problem.dtype] * math.prod(filter(None, shape))
        if nbytes > sys.maxsize:
            most = f"at most the {sys.maxsize} bytes of an array"
            raise ValueError(f"{name}: expected {most}, got {nbytes} of shape {shape}")


def allowed(problem: ConvProblem, name: str = "auto") -> dict[str, Algorithm]:
    """The rows of the table that may be chosen: the one named, or all that apply."""
    if name == "auto":
        return {row.name: row for row in ALGORITHMS.values() if row.applicable(problem) is None}
    if not isinstance(name, str):
        raise TypeError(f"algorithm: expected a name, got {name!r}")
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm: expected 'auto' or one of {', '.join(ALGORITHMS)}, got {name!r}")
    reason = ALGORITHMS[name].applicable(problem)
    if reason is not None:
        raise ValueError(f"algorithm: {name} does not apply to {problem}: {reason}")
    return {name: ALGORITHMS[name]}


def _estimated(
    problem: ConvProblem, threads: int, table: dict[str, Algorithm], most: int | None = None
) -> Iterator[Plan]:
    """Plans of the ``most`` first candidates of each algorithm, or of all, fastest first by the cost model."""
    machine = this_machine()
    found = [
        (row.estimate(problem, settings, machine, threads), row, settings)
        for row in table.values()
        for settings in islice(row.candidates(problem, machine, threads), most)
    ]
    found.sort(key=lambda candidate: candidate[0])

    def plans() -> Iterator[Plan]:
        for seconds, row, settings in found:
            yield Plan(problem, row, settings, machine, threads, seconds, "estimate", times)

    times = _Times(lambda: chain(plans(), () if most is None else _estimated(problem, threads, table)))
    return plans()


class _Times(Mapping[str, float]):
    """Seconds of the first plan of each algorithm that keeps to its limit; looked for when asked, in 0.3 ms."""

    def __init__(self, plans: Callable[[], Iterable[Plan]]) -> None:
        self._plans = plans

    @functools.cached_property
    def _first(self) -> dict[str, float]:
        first: dict[str, float] = {}
        for plan in self._plans():
            if plan.algorithm.name not in first and _fits(plan):
                first[plan.algorithm.name] = plan.seconds
        return first

    def __getitem__(self, name: str) -> float:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)


def estimated(problem: ConvProblem, threads: int, table: dict[str, Algorithm]) -> Plan:
    """The plan that the cost model chooses."""
    first = next(_estimated(problem, threads, table, most=_ESTIMATED))
    return first if _fits(first) else fitting(problem, threads, table)[0]


def impossible(problem: ConvProblem) -> dict[str, str]:
    """The algorithms that have no plan, and why: they do not apply, or need more workspace than the limit."""
    options = estimated(problem, parallel.get_num_threads(), allowed(problem)).options
    return {option.algorithm: option.reason for option in options if option.reason is not None}


def _fits(plan: Plan) -> bool:
    return plan.workspace_nbytes <= plan.problem.workspace_limit


def fitting(problem: ConvProblem, threads: int, table: dict[str, Algorithm]) -> list[Plan]:
    """All plans that keep to the problem's limit of workspace, fastest first by the cost model."""
    plans = list(_estimated(problem, threads, table))
    kept = list(filter(_fits, plans))
    if not kept:
        least = min(plan.workspace_nbytes for plan in plans)
        raise ValueError(
            f"workspace_limit: expected at least the {least} bytes that {' or '.join(table)} needs for {problem} with "
            f"{threads} threads, got {problem.workspace_limit}"
        )
    return kept


def _recalled(problem: ConvProblem, threads: int, known: wisdom.Record, table: dict[str, Algorithm]) -> Plan | None:
    """The plan of a wisdom record, or None if the record does not fit the table as it is now."""
    row = table.get(known.algorithm)
    if row is None:
        return None
    try:
        settings = row.settings(**known.settings)
    except TypeError:
        return None
    machine = this_machine()
    if max(settings, default=0) > MOST_INT or tile_shape(settings) not in map(
        tile_shape, row.candidates(problem, machine, threads)
    ):
        return None
    recalled = Plan(problem, row, settings, machine, threads, known.seconds, known.effort, known.measured)
    return recalled if _fits(recalled) else None


def worth_measuring(plans: list[Plan]) -> list[Plan]:
    """Of plans sorted by their estimates, those not far behind the first, and the first of each algorithm."""
    first_of: dict[str, Plan] = {}
    for candidate in plans:
        first_of.setdefault(candidate.algorithm.name, candidate)
    limit = plans[0].seconds * _WORTH_MEASURING
    return [p for p in plans if p.seconds <= limit or first_of[p.algorithm.name] is p]


def measured(problem: ConvProblem, threads: int, effort: str, table: dict[str, Algorithm]) -> Plan:
    """Time candidates on random arrays; the best is kept as wisdom if nothing but the problem limited the choice."""
    plans = fitting(problem, threads, table)
    timed = time_plans(plans if effort == "exhaustive" else worth_measuring(plans))
    if effort == "exhaustive":
        timed = vary_blocks(timed)
    timed = run_off(timed)
    best, seconds = min(timed, key=lambda pair: pair[1])
    fastest: dict[str, float] = {}
    for candidate, time in timed:
        name = candidate.algorithm.name
        fastest[name] = min(time, fastest.get(name, math.inf))
    # What needs more than the usual limit would be of no use to who asks for no other, and stand in the way.
    usual = problem.workspace_limit >= WORKSPACE_LIMIT >= best.workspace_nbytes
    if table.keys() == allowed(problem).keys() and usual:
        wisdom.remember(
            problem, threads, effort=effort, algorithm=best.algorithm.name, settings=best.settings._asdict(),
            seconds=seconds, measured=fastest,
        )  # fmt: skip
    return replace(best, seconds=seconds, origin=effort, times=fastest)
