"""The convolution problem: everything a planner needs to know about a convolution, and no array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import SupportsIndex

from numbaconv.arguments import (
    WORKSPACE_LIMIT,
    ActivationLike,
    Axes,
    AxesLike,
    Bounds,
    as_int,
    normalise_accuracy,
    normalise_activation,
    normalise_axes,
    normalise_dtype,
    normalise_shapes,
    normalise_workspace_limit,
)
from numbaconv.descriptor import read_descriptor, write_descriptor
from numbaconv.padding import Padding, PaddingLike, normalise_padding, out_size, settle_after


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """A convolution's shapes and options, frozen and hashable; equal problems are the same computation.

    It is the cross-correlation that deep learning calls convolution (`torch.nn.functional.conv2d`). Geometry
    runs over three spatial axes (D, H, W); an axis that a one- or two-dimensional problem lacks has length 1,
    kernel 1, stride 1, dilation 1 and no padding. Most callers want `from_shapes` or `parse`.

    Parameters
    ----------
    batch : int
        Images; 0 gives an empty result.
    in_channels, out_channels : int
        Channels of the input and of the output, over all groups.
    in_size, kernel_size, stride, dilation : tuple of 3 int
        Over (D, H, W). Dilation counts from 1: 1 is an ordinary kernel.
    padding : tuple of 3 (before, after)
        Zeros around the input. `after` is settled on construction, as rows that no output reads change
        nothing: it becomes `before` where that gives the same output, else the least that does.
    groups : int
        Groups of channels that do not see each other; divides both channel counts.
    dtype : str
        "float32" or "float64": of input, weight, and output.
    activation : (low, high) or None
        Bounds to which every result is clipped; see `normalise_activation`.
    constant_weight : bool
        Whether the weight stays the same from call to call, so that preparing it once pays.
    accuracy : {"fast", "default", "strict"}
        Which algorithms may be used; see `normalise_accuracy`.
    workspace_limit : int
        Bytes that a call may borrow beyond its input, weight and output.
    axes : int
        Spatial axes that the problem has, 1 to 3: the last ones of (D, H, W).

    Raises
    ------
    TypeError, ValueError
        If a field is nonsense: the wrong type, too small, channels that groups do not divide, or a kernel
        that does not fit into the padded input.

    Examples
    --------
    >>> stem = ConvProblem.from_shapes((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    >>> stem.output_shape, stem.flops
    ((1, 64, 112, 112), 236027904)
    >>> print(stem)
    mb1ic3ih224oc64oh112kh7sh2ph3
    """

    batch: int
    in_channels: int
    out_channels: int
    in_size: Axes
    kernel_size: Axes
    stride: Axes
    dilation: Axes
    padding: Padding
    groups: int = 1
    dtype: str = "float32"
    activation: Bounds | None = None
    constant_weight: bool = False
    accuracy: str = "default"
    workspace_limit: int = WORKSPACE_LIMIT
    axes: int = 2
    #: Output size along (D, H, W).
    out_size: Axes = field(init=False, repr=False, compare=False, default=(1, 1, 1))
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        # Plain ints and tuples only: NumPy integers would follow the problem into keys, text and JSON.
        for name in ("batch", "in_channels", "out_channels", "groups", "axes"):
            self._settle(name, as_int(name, getattr(self, name), 0 if name == "batch" else 1))
        for name in ("in_size", "kernel_size", "stride", "dilation"):
            self._settle(name, normalise_axes(name, getattr(self, name), 3))
        geometry = self.in_size, self.kernel_size, self.stride, self.dilation
        self._settle("padding", normalise_padding(self.padding, 3, *geometry))
        self._settle("dtype", normalise_dtype(self.dtype))
        self._settle("activation", normalise_activation(self.activation))
        self._settle("accuracy", normalise_accuracy(self.accuracy))
        self._settle("workspace_limit", normalise_workspace_limit(self.workspace_limit))
        if not isinstance(self.constant_weight, bool):
            raise TypeError(f"constant_weight: expected a bool, got {self.constant_weight!r}")
        self._check_axes()
        self._check_groups()
        spans = self.in_size, self.kernel_extent, self.stride
        self._settle("out_size", tuple(map(out_size, self.padding, *spans)))
        self._check_fit()
        self._settle("padding", tuple(map(settle_after, self.padding, self.out_size, *spans)))
        # Planning looks problems up a dozen times. Only numbers, whose hashes another process would find again.
        numbers = self.batch, self.in_channels, self.out_channels, self.groups, self.constant_weight, self.padding
        self._settle("_hash", hash((*geometry, *numbers)))

    def __hash__(self) -> int:
        return self._hash

    def _settle(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_axes(self) -> None:
        if self.axes > 3:
            raise ValueError(f"axes: expected 1, 2 or 3 spatial axes, got {self.axes}")
        columns = zip(self.in_size, self.kernel_size, self.stride, self.dilation, self.padding, strict=True)
        for letter, column in list(zip("DHW", columns, strict=True))[: 3 - self.axes]:
            if column != (1, 1, 1, 1, (0, 0)):
                raise ValueError(
                    f"axes: with {self.axes}, {letter} must have size, kernel, stride and dilation 1 and "
                    f"padding (0, 0), got {column}"
                )

    def _check_groups(self) -> None:
        for side, channels in (("input", self.in_channels), ("output", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"groups: {self.groups} does not divide the {channels} {side} channels")

    def _check_fit(self) -> None:
        if min(self.out_size) < 1:
            padded = [size + sum(pair) for size, pair in zip(self.in_size, self.padding, strict=True)]
            raise ValueError(
                f"input: the padded size {tuple(padded[-self.axes :])} is smaller than the effective kernel "
                f"extent {self.receptive_field} (kernel {self.kernel_size[-self.axes :]}, "
                f"dilation {self.dilation[-self.axes :]})"
            )

    @classmethod
    def from_shapes(
        cls,
        input_shape: Sequence[SupportsIndex],
        weight_shape: Sequence[SupportsIndex],
        *,
        stride: AxesLike = 1,
        padding: PaddingLike = 0,
        dilation: AxesLike = 1,
        groups: SupportsIndex = 1,
        dtype: object = "float32",
        activation: ActivationLike = None,
        constant_weight: bool = False,
        accuracy: str | None = None,
        workspace_limit: SupportsIndex | None = None,
    ) -> ConvProblem:
        """Describe the convolution of an input by a weight, as `torch.nn.functional.conv2d` takes them.

        Parameters
        ----------
        input_shape : sequence of int
            (N, C, *spatial), with 1 to 3 spatial axes.
        weight_shape : sequence of int
            (K, C / groups, *kernel), with as many.
        stride, dilation : int or one int per spatial axis
        padding : int, one int or one (before, after) pair per spatial axis, or str
            Zeros around the input; `normalise_padding` has the names.
        groups : int
        dtype : "float32", "float64", or their NumPy dtype
        activation : None, "relu", "relu6" or ("clip", low, high)
        constant_weight : bool
        accuracy : None, "fast", "default" or "strict"
        workspace_limit : int, optional

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; the message begins with its name.

        Examples
        --------
        >>> problem = ConvProblem.from_shapes((8, 16, 100), (32, 16, 5), padding="same")
        >>> problem.axes, problem.padding, problem.output_shape
        (1, ((0, 0), (0, 0), (2, 2)), (8, 32, 100))
        """
        groups = as_int("groups", groups, 1)
        image, weight = normalise_shapes(input_shape, weight_shape, groups)
        axes = len(weight) - 2
        in_size = normalise_axes("input", image[2:], axes)
        kernel_size = normalise_axes("weight", weight[2:], axes)
        strides = normalise_axes("stride", stride, axes)
        dilations = normalise_axes("dilation", dilation, axes)
        return cls(
            batch=image[0],
            in_channels=image[1],
            out_channels=weight[0],
            in_size=in_size,
            kernel_size=kernel_size,
            stride=strides,
            dilation=dilations,
            padding=normalise_padding(padding, axes, in_size, kernel_size, strides, dilations),
            groups=groups,
            dtype=normalise_dtype(dtype),
            activation=normalise_activation(activation),
            constant_weight=constant_weight,
            accuracy=normalise_accuracy(accuracy),
            workspace_limit=normalise_workspace_limit(workspace_limit),
            axes=axes,
        )

    @classmethod
    def parse(
        cls,
        descriptor: str,
        *,
        dtype: object = "float32",
        activation: ActivationLike = None,
        constant_weight: bool = False,
        accuracy: str | None = None,
        workspace_limit: SupportsIndex | None = None,
    ) -> ConvProblem:
        """Read a benchdnn descriptor; `str` of a problem writes one, `numbaconv.descriptor` has the grammar.

        Raises
        ------
        ValueError
            If the descriptor is malformed or describes no convolution; the message quotes it.

        Examples
        --------
        >>> problem = ConvProblem.parse("g32mb1ic32ih56oc32oh56kh3ph1")
        >>> problem.weight_shape
        (32, 1, 3, 3)
        >>> ConvProblem.parse(str(problem)) == problem
        True
        """
        return parse_named(
            descriptor, dtype=dtype, activation=activation, constant_weight=constant_weight, accuracy=accuracy,
            workspace_limit=workspace_limit,
        )[1]  # fmt: skip

    def __str__(self) -> str:
        return write_descriptor(self)

    @property
    def kernel_extent(self) -> Axes:
        """Input rows that the dilated kernel spans along (D, H, W): dilation (kernel - 1) + 1."""
        (t, r, s), (td, rd, sd) = self.kernel_size, self.dilation
        return (t - 1) * td + 1, (r - 1) * rd + 1, (s - 1) * sd + 1

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Input pixels that one output pixel sees along each spatial axis the problem has."""
        return self.kernel_extent[-self.axes :]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(N, C, *spatial)."""
        return (self.batch, self.in_channels, *self.in_size[-self.axes :])

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(K, C / groups, *kernel)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size[-self.axes :])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(N, K, *spatial)."""
        return (self.batch, self.out_channels, *self.out_size[-self.axes :])

    @property
    def group_channels(self) -> tuple[int, int]:
        """Channels of one group, of the input and of the output."""
        return self.in_channels // self.groups, self.out_channels // self.groups

    @property
    def flops(self) -> int:
        """Operations of the direct sum, a multiply and an add counted as two, padding included."""
        return 2 * prod(self.output_shape) * prod(self.weight_shape[1:])

    @property
    def parameters(self) -> int:
        """Numbers in the weight and the bias."""
        return prod(self.weight_shape) + self.out_channels


def parse_named(
    line: str,
    *,
    dtype: object = "float32",
    activation: ActivationLike = None,
    constant_weight: bool = False,
    accuracy: str | None = None,
    workspace_limit: SupportsIndex | None = None,
) -> tuple[str, ConvProblem]:
    """Read a descriptor into its name ("" when it has none) and its problem, as `ConvProblem.parse` does.

    Examples
    --------
    >>> name, problem = parse_named('mb1ic3ih224oc64kh3ph1n"conv1_1"')
    >>> name, problem.output_shape
    ('conv1_1', (1, 64, 224, 224))
    """
    dtype, activation, accuracy = normalise_dtype(dtype), normalise_activation(activation), normalise_accuracy(accuracy)
    limit = normalise_workspace_limit(workspace_limit)
    name, geometry = read_descriptor(line)
    try:
        problem = ConvProblem(
            **geometry, dtype=dtype, activation=activation, constant_weight=constant_weight, accuracy=accuracy,
            workspace_limit=limit,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"descriptor {line.strip()!r}: {error}") from None
    return name, problem
