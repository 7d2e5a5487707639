"""Networks as lists of their convolutions, read from descriptor files beside this module.

A file has one convolution a line, ``mb1ic64ih56oc64oh56kh3ph1n"layer1.conv2*3"``: a descriptor
(`numbaconv.descriptor`) whose name may end in ``*`` and how often the network runs the shape. benchdnn writes
counts so too, so either program reads the other's files. ``3 mb1ic64ih56...`` says the same. ``#`` begins a
comment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from numbaconv.arguments import as_int, normalise_accuracy, normalise_dtype
from numbaconv.problem import ConvProblem, parse_named

_FOLDER = Path(__file__).parent
_COMMENT = re.compile(r"(^|\s)#.*")
_PREFIX = re.compile(r"([0-9]+)\s*\*?\s*")
_SUFFIX = re.compile(r"\*([0-9]+)$")

#: Names of the networks that come with the package.
NETWORKS = sorted(path.stem for path in _FOLDER.glob("*.txt"))


@dataclass(frozen=True)
class Layer:
    """A convolution of a network: its name, its problem, and how often the network runs it."""

    name: str
    problem: ConvProblem
    count: int = 1


def load(source: str | os.PathLike[str], *, accuracy: str | None = None) -> list[Layer]:
    """Read the convolutions of a network, in network order, each shape once.

    Parameters
    ----------
    source : str or path
        A name out of `NETWORKS`, the path of a descriptor file, or a descriptor.
    accuracy : None, "fast", "default" or "strict"
        As in `conv2d`.

    Returns
    -------
    list of Layer
        Lines of equal shape are one layer, under the name of the first, with their counts added.

    Raises
    ------
    ValueError
        If `source` is none of these, a line of the file is wrong, with file and line number in the message, or the
        accuracy.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> layers = load("resnet50")
    >>> sum(layer.count for layer in layers)
    53
    >>> print(layers[0].name, layers[0].problem)
    conv1 mb1ic3ih224oc64oh112kh7sh2ph3
    >>> [layer.count for layer in load('mb1ic64ih56oc64kh3ph1n"body*3"')]
    [3]
    """
    accuracy = normalise_accuracy(accuracy)  # here, as no line is to blame for it
    if source in NETWORKS:
        return _read(_FOLDER / f"{source}.txt", accuracy)
    if isinstance(source, os.PathLike) or os.path.exists(source):
        return _read(Path(source), accuracy)
    try:
        return [_parse_line(source, accuracy)]
    except ValueError as error:
        near = difflib.get_close_matches(source, NETWORKS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"source: expected one of {', '.join(NETWORKS)}, a file, or a descriptor, got {source!r}{hint}; "
            f"as a descriptor: {error}"
        ) from None


def with_options(
    layers: Iterable[Layer],
    *,
    batch: int | None = None,
    dtype: object = None,
    constant_weight: bool | None = None,
) -> list[Layer]:
    """Give every layer another batch, dtype or constant weight; None leaves what it has.

    Examples
    --------
    >>> [stem, *_] = with_options(load("vgg16"), batch=8, dtype="float64")
    >>> stem.problem.input_shape, stem.problem.dtype
    ((8, 3, 224, 224), 'float64')
    """
    changed = []
    for layer in layers:
        problem = layer.problem
        if batch is not None:
            problem = replace(problem, batch=as_int("batch", batch, 0))
        if dtype is not None:
            problem = replace(problem, dtype=normalise_dtype(dtype))
        if constant_weight is not None:
            problem = replace(problem, constant_weight=constant_weight)
        changed.append(replace(layer, problem=problem))
    return _merge(changed)


def _read(path: Path, accuracy: str) -> list[Layer]:
    layers = []
    for number, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        line = _COMMENT.sub("", text).strip()
        if not line:
            continue
        try:
            layers.append(_parse_line(line, accuracy))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not layers:
        raise ValueError(f"{path}: expected descriptors, one a line, and found none")
    return _merge(layers)


def _parse_line(line: str, accuracy: str) -> Layer:
    count = 1
    if prefix := _PREFIX.match(line):
        count, line = int(prefix[1]), line[prefix.end() :]
    name, problem = parse_named(line, accuracy=accuracy)
    if suffix := _SUFFIX.search(name):
        count, name = count * int(suffix[1]), name[: suffix.start()]
    return Layer(name, problem, as_int("count", count, 1))


def _merge(layers: Iterable[Layer]) -> list[Layer]:
    merged: dict[ConvProblem, Layer] = {}
    for layer in layers:
        first = merged.get(layer.problem, replace(layer, count=0))
        merged[layer.problem] = replace(first, count=first.count + layer.count)
    return list(merged.values())
