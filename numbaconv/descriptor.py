"""The descriptor language: one line of text that says a convolution's geometry.

The grammar is that of benchdnn's convolution driver (oneDNN, ``tests/benchdnn/doc/driver_conv.md``), so that
a line can be handed to either program: ``g32mb1ic64ih56oc64oh56kh3ph1n"name"`` is ids with numbers in any
order, underscores between them as wished, and a name at the end.

======== ==================================================================
id       meaning
======== ==================================================================
mb       batch; 2 when missing
g        groups; 1 when missing
ic, oc   input and output channels
i, o     input and output size; o is computed when missing
k        kernel size
s        stride; 1 when missing
p        padding before the input; computed from o when missing, else 0
d        dilation, counted from 0 (0 is an ordinary kernel); 0 when missing
======== ==================================================================

All but the first three take an axis letter: ``ih``, ``kw``, ``pd``. Axes without any id repeat the one before
(d, then h, then w), so a square image needs its h only. Ids of w alone make a one-dimensional problem, h, or
h and w, a two-dimensional one, d, or all three, a three-dimensional one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn, TypedDict, cast

from numbaconv.arguments import Axes
from numbaconv.padding import Padding, Pair, out_size, total_padding

if TYPE_CHECKING:
    from numbaconv.problem import ConvProblem


class Geometry(TypedDict):
    """What a descriptor says: these fields of `ConvProblem`."""

    batch: int
    in_channels: int
    out_channels: int
    in_size: Axes
    kernel_size: Axes
    stride: Axes
    dilation: Axes
    padding: Padding
    groups: int
    axes: int


_TOKEN = re.compile(r"(g|mb|[io]c|[iokspd][dhw])(-?[0-9]+)?")
_NAME = re.compile(r'n(?:"([^"]*)"|([^"]*))')
_MAY_BE_ZERO = {"mb", "pd", "ph", "pw", "dd", "dh", "dw"}


def read_descriptor(line: str) -> tuple[str, Geometry]:
    """Read a descriptor into its name ("" when it has none) and its geometry.

    Raises
    ------
    ValueError
        If the descriptor is malformed, incomplete, or asks for an output smaller than its padding allows.
        The message names the descriptor, the offending token and what was expected.

    Examples
    --------
    >>> name, geometry = read_descriptor('mb1_ic3ih224_oc64oh112_kh7_sh2_ph3_n"stem"')
    >>> name, geometry["in_size"], geometry["stride"]
    ('stem', (1, 224, 224), (1, 2, 2))
    """
    if not isinstance(line, str):
        raise TypeError(f"descriptor: expected a text, got {line!r}")
    line = line.strip()
    name, values = _read_tokens(line)
    letters = _axis_letters(line, values)
    for required in ("ic", "oc"):
        if required not in values:
            _refuse(line, f"expected {required!r}, which is missing")
    resolved = [_resolve_axis(line, letter, values) for letter in letters]
    in_size, kernel, stride, dilation, padding = zip(
        *[(1, 1, 1, 1, (0, 0))] * (3 - len(resolved)), *resolved, strict=True
    )
    return name, Geometry(
        batch=values.get("mb", 2),
        in_channels=values["ic"],
        out_channels=values["oc"],
        in_size=cast(Axes, in_size),
        kernel_size=cast(Axes, kernel),
        stride=cast(Axes, stride),
        dilation=cast(Axes, dilation),
        padding=cast(Padding, padding),
        groups=values.get("g", 1),
        axes=len(resolved),
    )


def _refuse(line: str, reason: str) -> NoReturn:
    raise ValueError(f"descriptor {line!r}: {reason}")


def _read_tokens(line: str) -> tuple[str, dict[str, int]]:
    values: dict[str, int] = {}
    position = 0
    while position < len(line):
        if line[position] == "_":
            position += 1
            continue
        if name := _NAME.fullmatch(line, position):
            return name[1] or name[2] or "", values
        token = _TOKEN.match(line, position)
        if token is None:
            _refuse(
                line,
                f"unexpected {line[position:]!r}; expected one of mb, g, ic, oc, or one of i, o, k, s, p, d "
                'with an axis d, h, w, each followed by a number, or a final n"name"',
            )
        key, number = token[1], token[2]
        if number is None:
            _refuse(line, f"expected a number after {key!r}, got {line[token.end() :]!r}")
        least = 0 if key in _MAY_BE_ZERO else 1
        if int(number) < least:
            _refuse(line, f"{token[0]!r}: expected a number of at least {least}")
        if values.setdefault(key, int(number)) != int(number):
            _refuse(line, f"{token[0]!r} contradicts {key}{values[key]} before it")
        position = token.end()
    return "", values


def _axis_letters(line: str, values: dict[str, int]) -> str:
    """Which letter describes each axis, in order: "hh" for a square image given by its h alone."""
    given = "".join(letter for letter in "dhw" if any(role + letter in values for role in "iokspd"))
    letters = {"w": "w", "h": "hh", "hw": "hw", "d": "ddd", "dhw": "dhw"}.get(given)
    if letters is None:
        axes = f"sizes along {' and '.join(given)} only" if given else "no sizes"
        _refuse(line, f"{axes}; expected axes w, h, d, h and w, or all three")
    return letters


def _resolve_axis(line: str, axis: str, values: dict[str, int]) -> tuple[int, int, int, int, Pair]:
    """Input size, kernel size, stride, dilation and padding of one axis, with what was left out computed."""
    for role in "ik":
        if role + axis not in values:
            _refuse(line, f"expected {role + axis!r}, which is missing")
    size, kernel = values["i" + axis], values["k" + axis]
    stride, dilation = values.get("s" + axis, 1), values.get("d" + axis, 0) + 1
    before, out = values.get("p" + axis), values.get("o" + axis)
    if out is None:
        before = before or 0
        return size, kernel, stride, dilation, (before, before)
    extent = (kernel - 1) * dilation + 1
    total = total_padding(out, size, extent, stride)
    if before is None:
        before = max(total, 0) // 2
    # Fewer than no rows after the input: the stride leaves the last ones unread. A whole stride of them
    # would be one more output, so then no padding gives the size that is asked for.
    if total - before <= -stride:
        least = out_size((before, 0), size, extent, stride)
        _refuse(
            line,
            f"'o{axis}{out}': expected at least o{axis}{least}, which i{axis}{size} k{axis}{kernel} "
            f"p{axis}{before} give with no padding after the input (negative padding is refused)",
        )
    return size, kernel, stride, dilation, (before, max(total - before, 0))


def write_descriptor(problem: ConvProblem) -> str:
    """Write a problem's geometry as benchdnn itself would print it, but always with the batch.

    Examples
    --------
    >>> from numbaconv.problem import ConvProblem
    >>> write_descriptor(ConvProblem.from_shapes((1, 8, 9, 9), (4, 2, 3, 3), groups=4, padding=1))
    'g4mb1ic8ih9oc4oh9kh3ph1'
    """
    first = 3 - problem.axes
    columns = list(
        zip(
            problem.in_size,
            problem.out_size,
            problem.kernel_size,
            problem.stride,
            [before for before, _ in problem.padding],
            [extent - 1 for extent in problem.dilation],
            strict=True,
        )
    )[first:]
    letters = "dhw"[first:]
    if all(column == columns[0] for column in columns):  # square or cubic: the first axis speaks for all
        letters, columns = letters[0], columns[:1]

    def write(role: str) -> str:
        values = [column["iokspd".index(role)] for column in columns]
        return "".join(f"{role}{letter}{value}" for letter, value in zip(letters, values, strict=True))

    groups = f"g{problem.groups}" if problem.groups > 1 else ""
    strides = write("s") if any(stride > 1 for stride in problem.stride) else ""
    dilations = write("d") if any(dilation > 1 for dilation in problem.dilation) else ""
    return (
        f"{groups}mb{problem.batch}ic{problem.in_channels}{write('i')}oc{problem.out_channels}{write('o')}"
        f"{write('k')}{strides}{write('p')}{dilations}"
    )
