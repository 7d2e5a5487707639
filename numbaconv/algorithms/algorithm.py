"""What an algorithm is to the rest of the engine: a row of functions, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

from numbaconv.arrays import Array
from numbaconv.geometry import geometry
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.runtime import Dispatcher, shared

#: Largest error in float32, max |y - y64| / max |y64|, of the algorithms that each accuracy lets in.
ERROR_BOUNDS = {"strict": 2e-6, "default": 4e-6, "fast": 2e-5}
#: Products that a sum may have in one run: 4608 have an error of 2.9e-6 on random numbers, in four parts 1.2e-6.
MOST_SUMMED = 2304
#: And in a stretch of a kernel's row, where rows are sums of their own: products that are alike are rounded alike, and
#: the mean of 10201 equal pixels in one run is off by 4e-5.
STRETCH = 512
#: Why an algorithm that sums other products does not apply, where it does not.
NOT_STRICT = "accuracy 'strict' asks for algorithms that sum the products of the definition"


def too_long(products: int) -> str | None:
    """Why an algorithm does not apply whose sums have so many products in one run, or None if they are few enough."""
    if products <= MOST_SUMMED:
        return None
    return f"it sums up to {MOST_SUMMED} products in one run, and here are {products}"


def channels_in_a_run(block_c: int, taps: int, least: int = 1) -> int:
    """Of a block of channels as many as may be summed in one run, be it wisdom's or a search's; but ``least``."""
    return min(block_c, max(least, MOST_SUMMED // taps))


@shared
def ends_stretch(end: int, taps: int, products: int) -> bool:
    """Whether a sum ends before tap ``end`` of a row, each of so many products: with the row, or a full stretch of it.

    Examples
    --------
    >>> [end for end in range(1, 1201) if ends_stretch(end, 1200, 1)], ends_stretch(3, 9, 200)
    ([512, 1024, 1200], True)
    """
    return end == taps or end * products % STRETCH < products


class Settings(Protocol):
    """The tunable numbers of an algorithm, a named tuple of ints: tile shape and block sizes."""

    def _asdict(self) -> dict[str, int]: ...


def tile_shape(settings: Settings) -> dict[str, int]:
    """The settings that a kernel is compiled for; the others, ``block_*``, it is told, or they choose one of a few."""
    return {name: value for name, value in settings._asdict().items() if not name.startswith("block_")}


class Schedule(NamedTuple):
    """How a kernel runs on a problem: ``tasks`` calls, each worker with ``workspace`` elements of scratch memory."""

    tasks: int
    workspace: int
    geometry: Array

    @classmethod
    def of(cls, problem: ConvProblem, workspace: int, **fields: int) -> Schedule:
        """A schedule of the batch times all ``tasks_*`` among the geometry's ``fields``, as `locate` counts them."""
        cuts = (value for name, value in fields.items() if name.startswith("tasks_"))
        return cls(problem.batch * prod(cuts), workspace, geometry(problem, **fields))


class Packing(NamedTuple):
    """How a weight is laid out for a kernel: a kernel of its own that writes ``elements`` elements as its output.

    Weights with equal ``layout`` are laid out alike, whatever plan asks.
    """

    layout: tuple[object, ...]
    elements: int
    schedule: Schedule
    kernel: Callable[[], Dispatcher]


@dataclass(frozen=True)
class Algorithm:
    """One row of the table.

    Parameters
    ----------
    name, summary : str
        How it is called, and what it is in one line.
    applicable : callable
        (problem) -> None, or the reason why not as a sentence.
    candidates : callable
        (problem, machine, threads) -> settings worth trying, most promising first, made as they are asked for.
    settings : callable
        Named tuple of the settings, for reading them back from wisdom.
    estimate : callable
        (problem, settings, machine, threads) -> seconds.
    schedule : callable
        (problem, settings, machine) -> `Schedule`. Right for a candidate's tile with any positive block sizes, so
        that wisdom of other origin can be slow but not wrong.
    kernel : callable
        (problem, settings, machine) -> the jitted kernel: one of a few. Image sizes may choose among them, but are
        never compiled in.
    packing : callable
        (problem, settings, machine) -> `Packing`, or None where the kernel reads the weight as it comes.
    error_bound : callable
        (problem, settings) -> bound of max |y - y64| / max |y64| in float32 where other products than the
        definition's are summed; None where it is those, and sums of small integers are exact.
    """

    name: str
    summary: str
    applicable: Callable[[ConvProblem], str | None]
    candidates: Callable[[ConvProblem, Machine, int], Iterable[Any]]
    settings: Callable[..., Any]
    estimate: Callable[[ConvProblem, Any, Machine, int], float]
    schedule: Callable[[ConvProblem, Any, Machine], Schedule]
    kernel: Callable[[ConvProblem, Any, Machine], Dispatcher]
    packing: Callable[[ConvProblem, Any, Machine], Packing | None] = lambda problem, settings, machine: None
    error_bound: Callable[[ConvProblem, Any], float | None] = lambda problem, settings: None
