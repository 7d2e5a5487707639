"""The error of an algorithm against a float64 reference, and the one set of tolerances that it must meet."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithms.algorithm import ERROR_BOUNDS
from numbaconv.arrays import Array
from numbaconv.plan import Plan
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem

#: Largest `relative_error` of an algorithm that sums the very products of the definition, in whatever order. Of that in
#: float64 the reference, which sums one product after the other, has half: 5e-15 with 4608 products.
TOLERANCES = {"float32": ERROR_BOUNDS["strict"], "float64": 1e-14}

#: Integers of the exact check lie within this, or less where that many products could exceed the mantissa.
_MOST_INTEGER = 32


class Verdict(NamedTuple):
    """What the checks of one plan found; ``exact`` is None for a transform, which need not be so on integers."""

    error: float
    tolerance: float
    exact: bool | None
    ok: bool


class _Case(NamedTuple):
    x: Array
    w: Array
    bias: Array
    y64: Array


def relative_error(y: Array, y64: Array) -> float:
    """Largest difference over the largest magnitude, max |y - y64| / max |y64|.

    Parameters
    ----------
    y : numpy.ndarray
        What is judged; a NaN or an infinity in it makes the error infinite.
    y64 : numpy.ndarray
        What is right, finite, in float64 and of the same shape.

    Examples
    --------
    >>> relative_error(np.array([1.0, 2.0, -4.5]), np.array([1.0, 2.0, -4.0]))
    0.125
    >>> relative_error(np.array([np.nan]), np.array([1.0]))
    inf
    """
    if y.shape != y64.shape:
        raise ValueError(f"y: expected shape {y64.shape}, got {y.shape}")
    if not np.isfinite(y).all():
        return math.inf
    difference, scale = (float(np.abs(values).max(initial=0)) for values in (y - y64, y64))
    return difference / scale if scale else (math.inf if difference else 0.0)


def tolerance(plan: Plan) -> float:
    """Largest `relative_error` that a plan may have: of its dtype, or the bound that its algorithm declares.

    Examples
    --------
    >>> tolerance(plan_problem(ConvProblem.parse("mb1ic4ih8oc4kh3"), algorithm="direct"))
    2e-06
    """
    bound, dtype = plan.algorithm.error_bound(plan.problem, plan.settings), plan.problem.dtype
    return TOLERANCES[dtype] if bound is None else bound * (TOLERANCES[dtype] / TOLERANCES["float32"])


def verify(problem: ConvProblem, algorithm: str, seed: int = 0) -> Verdict:
    """Check an algorithm on a problem, with the settings that the planner gives it; see `verify_plan`.

    Raises
    ------
    ValueError
        If there is no such algorithm, or it does not apply; the message says why.

    Examples
    --------
    >>> verdict = verify(ConvProblem.parse("mb1ic4ih8oc4kh3ph1"), "im2col")
    >>> verdict.exact, verdict.ok
    (True, True)
    """
    return verify_plan(plan_problem(problem, algorithm=algorithm), seed)


def verify_plan(plan: Plan, seed: int = 0) -> Verdict:
    """Run a plan on random numbers and on small integers, and compare with the reference in float64.

    Outputs hold NaN beforehand, so that an element which is not written shows. On small integers every sum is exact
    in whatever order, so there the result must be equal.

    Parameters
    ----------
    plan : Plan
    seed : int
        Of the random arrays; the same seed gives the same arrays to every algorithm.
    """
    error, allowed = relative_error(*_outputs(plan, seed, integers=False)), tolerance(plan)
    exact = None
    if plan.algorithm.error_bound(plan.problem, plan.settings) is None:
        exact = bool(np.array_equal(*_outputs(plan, seed, integers=True)))
    return Verdict(error, allowed, exact, error <= allowed and exact is not False)


def _outputs(plan: Plan, seed: int, *, integers: bool) -> tuple[Array, Array]:
    """What the plan computes, and what is right."""
    x, w, bias, y64 = _case(replace(plan.problem, constant_weight=False), seed, integers)
    y = np.full(y64.shape, np.nan, plan.problem.dtype)
    return plan(x, w, bias, out=y), y64


@functools.lru_cache(maxsize=2)
def _case(problem: ConvProblem, seed: int, integers: bool) -> _Case:
    """Arrays of a problem and its output; kept, as all algorithms are compared with one slow reference."""
    draw = _integers(problem, seed) if integers else np.random.default_rng(seed).standard_normal
    shapes = problem.input_shape, problem.weight_shape, (problem.out_channels,)
    x, w, bias = (draw(shape).astype(problem.dtype) for shape in shapes)
    exact = plan_problem(replace(problem, dtype="float64"), algorithm="reference")
    y64 = exact(*(array.astype(np.float64) for array in (x, w, bias)))
    for array in (x, w, bias, y64):
        array.flags.writeable = False
    return _Case(x, w, bias, y64)


def _integers(problem: ConvProblem, seed: int) -> Any:
    """A function from shapes to integers of which every partial sum of products and bias is exact in the dtype."""
    products = math.prod(problem.weight_shape[1:]) + 1
    most = max(1, min(_MOST_INTEGER, math.isqrt(2 ** (np.finfo(problem.dtype).nmant + 1) // products)))
    return functools.partial(np.random.default_rng(seed).integers, -most, most + 1)
