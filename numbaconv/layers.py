"""Layers: a weight prepared once, called on many inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, SupportsIndex

import numpy as np

from numbaconv import parallel, wisdom
from numbaconv.arguments import (
    MOST_INT,
    WORKSPACE_LIMIT,
    ActivationLike,
    AxesLike,
    as_int,
    batched_shape,
    check_weight_axes,
    frozen,
    normalise_accuracy,
    normalise_shape,
    normalise_workspace_limit,
)
from numbaconv.arrays import Array, as_operand, check_same_type, check_shape
from numbaconv.padding import PaddingLike
from numbaconv.plan import Plan
from numbaconv.planner import allowed, plan_problem
from numbaconv.problem import ConvProblem

#: Plans a layer keeps, one per input shape and number of threads; beyond that it starts anew.
_MOST_PLANS = 64
#: What a layer's representation leaves out.
_DEFAULTS = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "activation": None, "accuracy": "default",
    "workspace_limit": WORKSPACE_LIMIT, "effort": "estimate", "algorithm": "auto",
}  # fmt: skip


class _Made(NamedTuple):
    """A plan, the prepared weight, and the state of wisdom that it rests on."""

    plan: Plan
    prepared: Array
    generation: int


def _layout(plan: Plan) -> tuple[object, ...]:
    """What tells a weight prepared for this plan from others."""
    return ("as it is",) if plan.packing is None else plan.packing.layout


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


class _Conv:
    """A convolution layer over ``axes`` spatial axes; the public classes fix their number."""

    axes: int

    def __init__(
        self,
        weight: Array,
        bias: Array | None = None,
        stride: AxesLike = 1,
        padding: PaddingLike = 0,
        dilation: AxesLike = 1,
        groups: SupportsIndex = 1,
        *,
        activation: ActivationLike = None,
        effort: str = "estimate",
        algorithm: str = "auto",
        accuracy: str | None = None,
        workspace_limit: SupportsIndex | None = None,
    ) -> None:
        w = as_operand("weight", weight)
        check_weight_axes(w.shape, self.axes)
        b = None if bias is None else as_operand("bias", bias)
        if b is not None:
            check_same_type("bias", b, w.dtype, "weight")
            check_shape("bias", b, w.shape[:1])
        self._has_bias = b is not None
        self._weight, self._bias = w.copy(), np.zeros(w.shape[0], w.dtype) if b is None else b.copy()
        wisdom.check_effort(effort)
        self._options: dict[str, Any] = {
            "stride": frozen(stride), "padding": frozen(padding), "dilation": frozen(dilation),
            "groups": as_int("groups", groups, 1), "activation": frozen(activation),
            "accuracy": normalise_accuracy(accuracy), "workspace_limit": normalise_workspace_limit(workspace_limit),
        }  # fmt: skip
        self._effort, self._algorithm = effort, algorithm
        self._plans: dict[tuple[tuple[int, ...], int], _Made] = {}
        # Whatever is wrong with the options is said here, by a plan's problem for an image that is large enough. But an
        # algorithm is asked about one as large as the kernel: winograd is for images, and for volumes of depth 1.
        problem = self._problem((1, w.shape[1] * self._options["groups"], *(MOST_INT,) * self.axes))
        allowed(replace(problem, in_size=problem.kernel_extent), algorithm)

    @property
    def weight(self) -> Array:
        """The layer's copy of the weight, read-only: what was prepared of it would not follow a change."""
        return _read_only(self._weight)

    @property
    def bias(self) -> Array | None:
        """The layer's copy of the bias, read-only, if it has one."""
        return _read_only(self._bias) if self._has_bias else None

    def __call__(self, input: Array, *, out: Array | None = None) -> Array:
        """Apply the layer.

        Parameters
        ----------
        input : numpy.ndarray
            (N, C, *spatial) or (C, *spatial), of the weight's type; never modified.
        out : numpy.ndarray, optional
            Written in place and returned; must not overlap the input.

        Returns
        -------
        numpy.ndarray
            (N, K, *spatial), or (K, *spatial) for an input without batch axis.

        Raises
        ------
        TypeError, ValueError
            If the input or ``out`` is of another type or shape than the layer can take.
        """
        x = as_operand("input", input)
        check_same_type("input", x, self._weight.dtype, "weight")
        plan, prepared, _ = self._planned(x.shape)
        return plan.apply(x, self._weight, self._bias, out, prepared, x.ndim == self.axes + 1, {"input": input})

    def plan(self, input_shape: Sequence[SupportsIndex]) -> Plan:
        """The plan with which an input of this shape is computed."""
        return self._planned(normalise_shape("input", input_shape)).plan

    def _planned(self, shape: tuple[int, ...]) -> _Made:
        found = self._plans.get((shape, parallel.get_num_threads()))
        return self._make_plan(shape) if found is None or found.generation != wisdom.generation() else found

    def _make_plan(self, shape: tuple[int, ...]) -> _Made:
        image, groups = batched_shape(shape, self.axes), self._options["groups"]
        channels = self._weight.shape[1] * groups
        if image[1] != channels:
            weight = f"weight shape {self._weight.shape}, groups={groups}"
            raise ValueError(f"input: expected {channels} channels ({weight}), got shape {shape}")
        problem, key = self._problem(image), (shape, parallel.get_num_threads())
        earlier = self._plans.get(key)
        plan = plan_problem(
            problem, effort=self._effort, algorithm=self._algorithm, earlier=None if earlier is None else earlier.plan
        )
        shared = (made.prepared for made in self._plans.values() if _layout(made.plan) == _layout(plan))
        prepared = next(shared, None)
        # As it is after measuring, which changes it. What rests on an older state goes, but for what was measured: it
        # need not be wisdom.
        generation = wisdom.generation()
        made = _Made(plan, plan.prepare(self._weight) if prepared is None else prepared, generation)
        kept = {
            other: made for other, made in self._plans.items()
            if made.generation == generation or made.plan.origin != "estimate"
        }  # fmt: skip
        # A dictionary is never changed, since other threads may be reading it.
        self._plans = {**(kept if len(kept) < _MOST_PLANS else {}), key: made}
        return made

    def _problem(self, input_shape: tuple[int, ...]) -> ConvProblem:
        return ConvProblem.from_shapes(
            input_shape, self.weight.shape, dtype=self.weight.dtype.name, constant_weight=True, **self._options
        )

    def __getstate__(self) -> dict[str, Any]:
        # Plans hold addresses of this process; a copy makes its own.
        return {**self.__dict__, "_plans": {}}

    def __repr__(self) -> str:
        given = {**self._options, "effort": self._effort, "algorithm": self._algorithm}
        options = "".join(f", {name}={given[name]!r}" for name, usual in _DEFAULTS.items() if given[name] != usual)
        bias = "no bias" if self.bias is None else "bias"
        return f"{type(self).__name__}(weight {self.weight.shape} {self.weight.dtype.name}, {bias}{options})"


class Conv1d(_Conv):
    """One-dimensional convolution layer; see `Conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> difference = nc.Conv1d(np.array([[[-1.0, 1.0]]]))
    >>> difference(np.array([[1.0, 2.0, 4.0]]))
    array([[1., 2.]])
    """

    axes = 1


class Conv2d(_Conv):
    """Two-dimensional convolution layer: a copy of a weight, prepared once, for inputs of any size.

    Parameters
    ----------
    weight : numpy.ndarray
        (K, C / groups, R, S), float32 or float64.
    bias : numpy.ndarray, optional
        (K,), of the same type.
    stride, padding, dilation, groups, activation, algorithm, accuracy, workspace_limit
        As in `conv2d`.
    effort : {"estimate", "measure", "exhaustive"}
        How the plan for each new input shape is found; see `plan`.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong; the message names it.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> layer = nc.Conv2d(np.ones((2, 1, 3, 3), np.float32), padding="same", activation="relu6")
    >>> layer(np.ones((1, 5, 5), np.float32))[1]
    array([[4., 6., 6., 6., 4.],
           [6., 6., 6., 6., 6.],
           [6., 6., 6., 6., 6.],
           [6., 6., 6., 6., 6.],
           [4., 6., 6., 6., 4.]], dtype=float32)
    """

    axes = 2


class Conv3d(_Conv):
    """Three-dimensional convolution layer; see `Conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.Conv3d(np.ones((1, 1, 2, 2, 2)), stride=2)(np.ones((1, 4, 4, 4))).shape
    (1, 2, 2, 2)
    """

    axes = 3
