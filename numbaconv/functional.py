"""Convolution of NumPy arrays, with the signatures of torch.nn.functional: arguments to problem to plan to result."""

from __future__ import annotations

import functools
import os
from typing import Any, SupportsIndex, cast

from numbaconv import parallel, wisdom
from numbaconv.arguments import ActivationLike, AxesLike, batched_shape, check_weight_axes, frozen
from numbaconv.arrays import DTYPE_NAMES, Array, as_operand
from numbaconv.padding import PaddingLike
from numbaconv.plan import Plan
from numbaconv.planner import plan_problem
from numbaconv.problem import ConvProblem


def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: AxesLike = 1,
    padding: PaddingLike = 0,
    dilation: AxesLike = 1,
    groups: SupportsIndex = 1,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
    algorithm: str = "auto",
    accuracy: str | None = None,
    workspace_limit: SupportsIndex | None = None,
) -> Array:
    """Two-dimensional convolution, as deep learning calls cross-correlation: torch.nn.functional.conv2d on arrays.

    Parameters
    ----------
    input : numpy.ndarray
        (N, C, H, W) or (C, H, W), float32 or float64, of any strides and byte order; never modified.
    weight : numpy.ndarray
        (K, C / groups, R, S), of the input's type.
    bias : numpy.ndarray, optional
        (K,), of the input's type.
    stride, dilation : int or (int, int)
        As in torch (int,) is for both axes; any sequence may be an array, that of ``padding`` too.
    padding : int, (int, int), ((int, int), (int, int)) or str
        Zeros around the input: for both axes, one per axis, a (before, after) pair per axis, or "valid" (none), "same"
        (torch's: stride 1, the odd zero goes after), "same_upper", "same_lower" (ONNX's and TensorFlow's: output
        is input / stride rounded up; the odd zero goes after, or before), "full" (all positions that touch the input).
    groups : int
    activation : None, "relu", "relu6" or ("clip", low, high)
        Applied to the sum with the bias, while it is in registers.
    out : numpy.ndarray, optional
        Written in place and returned; must not overlap an input.
    algorithm : str
        "auto", or the name of one: "depthwise", "winograd", "strassen", "direct", "inner", "im2col", "rows",
        "reference".
    accuracy : None, "fast", "default" or "strict"
        Which algorithms "auto" may choose. "strict": those that sum the products of the definition; "default": also
        Strassen's, and Winograd's of small tiles, with an error of at most 4e-6 of the largest output; "fast": all, up
        to 2e-5. A NaN or Inf in the input spreads to some outputs beside those that see it, unless "strict". None is
        what the environment variable NUMBACONV_ACCURACY says, or else "default".
    workspace_limit : int, optional
        Most bytes that the call may borrow beyond its arrays, a weight laid out anew included; None is 32 MiB. Of
        algorithms and their settings only those are chosen that keep to it.

    Returns
    -------
    numpy.ndarray
        (N, K, P, Q), or (K, P, Q) for an input without batch axis; C-contiguous unless ``out`` is not.

    Raises
    ------
    TypeError
        If an argument is of a wrong type, or the operands are of different ones.
    ValueError
        If a shape or value is wrong. The message names the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> nc.conv2d(x, w, stride=2)
    array([[[10., 18.],
            [42., 50.]]], dtype=float32)
    """
    return _convolve(
        2, input, weight, bias, stride, padding, dilation, groups, activation, out, algorithm, accuracy, workspace_limit
    )


def conv1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: AxesLike = 1,
    padding: PaddingLike = 0,
    dilation: AxesLike = 1,
    groups: SupportsIndex = 1,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
    algorithm: str = "auto",
    accuracy: str | None = None,
    workspace_limit: SupportsIndex | None = None,
) -> Array:
    """One-dimensional convolution of (N, C, W) or (C, W) by (K, C / groups, S); otherwise as `conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.conv1d(np.array([[1.0, 2.0, 4.0]]), np.array([[[-1.0, 1.0]]]))
    array([[1., 2.]])
    """
    return _convolve(
        1, input, weight, bias, stride, padding, dilation, groups, activation, out, algorithm, accuracy, workspace_limit
    )


def conv3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: AxesLike = 1,
    padding: PaddingLike = 0,
    dilation: AxesLike = 1,
    groups: SupportsIndex = 1,
    *,
    activation: ActivationLike = None,
    out: Array | None = None,
    algorithm: str = "auto",
    accuracy: str | None = None,
    workspace_limit: SupportsIndex | None = None,
) -> Array:
    """Three-dimensional convolution of (N, C, D, H, W) or (C, D, H, W) by (K, C / groups, T, R, S); else as `conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.conv3d(np.ones((1, 3, 3, 3)), np.ones((1, 1, 3, 3, 3)))
    array([[[[27.]]]])
    """
    return _convolve(
        3, input, weight, bias, stride, padding, dilation, groups, activation, out, algorithm, accuracy, workspace_limit
    )


def _convolve(
    axes: int, input: Array, weight: Array, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    activation: Any, out: Any, algorithm: str, accuracy: str | None, workspace_limit: Any,
) -> Array:  # fmt: skip
    x, w = as_operand("input", input), as_operand("weight", weight)
    unbatched = x.ndim == axes + 1
    given = options = stride, padding, dilation, activation
    spelling = ""
    if not _PLAIN.issuperset(map(type, options)):
        options = _hashable(options)
        spelling = repr(options)  # (1, 1) is equal to (True, 1.0), which is refused
    operands = axes, x.shape, w.shape, DTYPE_NAMES[x.dtype]
    rest = (
        groups, algorithm, accuracy, os.environ.get("NUMBACONV_ACCURACY"), workspace_limit, parallel.get_num_threads(),
        wisdom.generation(), spelling,
    )  # fmt: skip
    try:
        plan = _plan(*operands, *options, *rest)
    except (TypeError, ValueError):
        plan = None
    if plan is None:  # raises, saying it of what was given
        plan = _plan.__wrapped__(*operands, *given, *rest)
    return plan.convolve(x, w, bias, out, {"input": input, "weight": weight}, unbatched=unbatched)


def _hashable(options: tuple[Any, ...]) -> tuple[Any, ...]:
    """The options, as they are if they can be a key: to freeze them takes 3 us."""
    try:
        hash(options)
    except TypeError:
        return cast(tuple[Any, ...], frozen(options))
    return options


#: Types of options that need no spelling.
_PLAIN = {int, str, type(None)}


@functools.lru_cache(maxsize=512, typed=True)
def _plan(
    axes: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    dtype: str,
    stride: Any,
    padding: Any,
    dilation: Any,
    activation: Any,
    groups: Any,
    algorithm: str,
    accuracy: str | None,
    environment: str | None,
    workspace_limit: Any,
    threads: int,
    generation: int,
    spelling: str,
) -> Plan:
    """The plan of a call; arguments that change it are all there is to the key, wisdom's generation included."""
    check_weight_axes(weight_shape, axes)
    problem = ConvProblem.from_shapes(
        batched_shape(input_shape, axes), weight_shape,
        stride=stride, padding=padding, dilation=dilation, groups=groups, dtype=dtype, activation=activation,
        accuracy=accuracy, workspace_limit=workspace_limit,
    )  # fmt: skip
    return plan_problem(problem, algorithm=algorithm, threads=threads)
