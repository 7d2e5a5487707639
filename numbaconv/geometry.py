"""What a kernel knows of its problem: one record, the same type for every algorithm, read by field name."""

from __future__ import annotations

import functools
from collections import namedtuple
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from numbaconv.arguments import Axes
from numbaconv.arrays import Array
from numbaconv.problem import ConvProblem
from numbaconv.runtime import shared

#: Letters of the literature. ``C`` and ``K`` count channels of one group. D H W: input, T R S: kernel, O P Q: output;
#: ``stride_w``, ``dilation_w`` and ``pad_w`` (zeros before the first column) likewise for d and h.
_PROBLEM = (
    *("N", "G", "C", "K", "D", "H", "W", "T", "R", "S", "O", "P", "Q"),
    *("stride_d", "stride_h", "stride_w", "dilation_d", "dilation_h", "dilation_w", "pad_d", "pad_h", "pad_w"),
)
#: How an algorithm cuts the problem into tasks: their number along groups, output depth, rows, columns and channels,
#: and the sizes of its blocks, whose units its settings define. ``pitch`` is a distance of what is staged: of pixels,
#: rows or planes, as the algorithm says.
_BLOCKS = (
    "tasks_g",
    "tasks_o",
    "tasks_p",
    "tasks_q",
    "tasks_k",
    "block_g",
    "block_p",
    "block_q",
    "block_k",
    "block_c",
    "pitch",
)
_FIELDS = (*_PROBLEM, *_BLOCKS, "low", "high")
GEOMETRY = np.dtype([(name, np.float64 if name in ("low", "high") else np.int64) for name in _FIELDS])


Fields = namedtuple("Fields", _FIELDS)  # type: ignore[misc]


@intrinsic
def read(typingctx: Any, geometry: Any) -> Any:
    """The record's fields as values, read once.

    Read from the record, the compiler would read them again after every store, which for all it knows may change them:
    without, depthwise kernels are 10 to 25 % faster.
    """
    record = geometry.dtype
    fields = types.NamedTuple([record.typeof(name) for name in _FIELDS], Fields)  # type: ignore[attr-defined]

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        start = builder.ptrtoint(context.make_array(geometry)(context, builder, args[0]).data, ir.IntType(64))
        values = []
        for name, kind in zip(_FIELDS, fields.types, strict=True):
            address = builder.add(start, ir.Constant(start.type, record.offset(name)))
            values.append(builder.load(builder.inttoptr(address, context.get_data_type(kind).as_pointer())))
        return context.make_tuple(builder, fields, values)

    return signature(fields, geometry), lower


def is_single_tap(problem: ConvProblem) -> bool:
    """Whether the kernel is 1 x 1 without padding: an output sees one pixel, and with a stride not all are seen."""
    return max(problem.kernel_size) == 1 and not any(map(sum, problem.padding))


def is_pointwise(problem: ConvProblem) -> bool:
    """Whether the kernel is 1 x 1 with unit stride and no padding."""
    return is_single_tap(problem) and max(problem.stride) == 1


@functools.lru_cache(maxsize=1024)
def spatial(problem: ConvProblem) -> tuple[Axes, Axes]:
    """Input and output size along (D, H, W); a pointwise problem's pixels count as a single row.

    A 1 x 1 kernel with unit stride and no padding sees no neighbours, so a row of H * W pixels is the same
    problem, with no short row ends.
    """
    if is_pointwise(problem):
        row = (1, 1, prod(problem.in_size))
        return row, row
    return problem.in_size, problem.out_size


@functools.lru_cache(maxsize=1024)
def channels_as_depth(problem: ConvProblem) -> ConvProblem:
    """The same convolution of one volume: a group's input channels are planes of a single channel.

    In memory the two are the same. The problem must have two axes or one.
    """
    C = problem.in_channels // problem.groups
    return replace(
        problem, in_channels=problem.groups, in_size=(C, *problem.in_size[1:]),
        kernel_size=(C, *problem.kernel_size[1:]), axes=3,
    )  # fmt: skip


def geometry(problem: ConvProblem, **blocks: int) -> Array:
    """The record of a problem, as an array of one element; blocks that are not named are 1."""
    in_size, out_size = spatial(problem)
    G = problem.groups
    values = (
        *(problem.batch, G, problem.in_channels // G, problem.out_channels // G),
        *in_size, *problem.kernel_size, *out_size,
        *problem.stride, *problem.dilation, *(before for before, _ in problem.padding),
        *(blocks.get(name, 1) for name in _BLOCKS),
        *(problem.activation or (-np.inf, np.inf)),
    )  # fmt: skip
    return np.array([values], GEOMETRY)


@shared
def locate(task: int, g: Any) -> tuple[int, int, int, int, int, int]:
    """Numbers (n, g, o, p, q, k) of a task along each way of cutting, q fastest and k slowest.

    So where a thread's tasks are neighbours (`runtime.run_tasks`), it reads its own part of the weights. Where two
    threads read all of them at the same time, 512 to 2048 channels at 7 x 7 took 17 % longer on AMD Zen 3.
    """
    q = task % g.tasks_q
    rest = task // g.tasks_q
    p = rest % g.tasks_p
    rest //= g.tasks_p
    o = rest % g.tasks_o
    rest //= g.tasks_o
    group = rest % g.tasks_g
    rest //= g.tasks_g
    return rest % g.N, group, o, p, q, rest // g.N


@shared
def pixel_place(pixel: int, g: Any) -> tuple[int, int, int]:
    """Place (o, p, q) of an output pixel that is counted flat."""
    row = pixel // g.Q
    return row // g.P, row % g.P, pixel % g.Q


@shared
def steps_inside(first: int, step: int, count: int, size: int) -> tuple[int, int]:
    """First step i of ``count``, and the one after the last, with ``first + i * step`` from 0 to ``size - 1``."""
    begin = min(count, max(0, (step - 1 - first) // step))
    return begin, max(begin, min(count, (size - 1 - first) // step + 1))


@shared
def inputs_seen(outputs: int, stride: int, taps: int, dilation: int) -> int:
    """Inputs along an axis, from the first to the last that so many neighbouring outputs see."""
    return (outputs - 1) * stride + (taps - 1) * dilation + 1


class Cut(NamedTuple):
    """An axis of ``size`` outputs cut into ``units`` of tiles, the last ``short`` of which have an output less in each.

    A unit has ``step`` tiles of ``side`` outputs: side by side, or in each other, each of outputs so many steps apart.
    """

    size: int
    side: int
    step: int
    units: int
    short: int


@shared
def cut_outputs(size: int, side: int, step: int) -> Cut:
    """The fewest units that cover an axis, and as many short ones as it allows; a single output is never left out.

    Examples
    --------
    >>> cut_outputs(14, 5, 1)
    Cut(size=14, side=5, step=1, units=3, short=1)
    >>> cut_outputs(56, 6, 1).short, cut_outputs(33, 3, 6).short, cut_outputs(8, 4, 1).short, cut_outputs(7, 1, 1).short
    (4, 0, 0, 0)
    """
    units = (size + side * step - 1) // (side * step)
    short = min(units, (units * side * step - size) // step) if side > 1 else 0
    return Cut(size, side, step, units, short)


@shared
def unit_start(unit: int, cut: Cut) -> int:
    """The first output of a unit."""
    return (unit * cut.side - max(0, unit - (cut.units - cut.short))) * cut.step


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up."""
    return -(-a // b)


def tiles_in_blocks(length: int, block: int, tile: int) -> int:
    """Tiles of a length that is cut into blocks, each of which ends with a tile of its own."""
    return length // block * ceil_div(block, tile) + ceil_div(length % block, tile)


def even_block(length: int, most: int, multiple: int = 1) -> int:
    """Size of the blocks that cut ``length`` into as few equal ones as ``most`` allows, a multiple or all of it.

    No shorter than ``multiple`` where ``most`` is, unless that is all.
    """
    if length <= most:
        return length
    pieces = ceil_div(length, max(multiple, most))
    return min(length, ceil_div(ceil_div(length, pieces), multiple) * multiple)
