"""The one timer: functions measured in turn, round by round, so that a disturbance meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

#: A turn calls its function until it has taken this long: enough that the clock's own noise is below 1 %.
_TURN_SECONDS = 2e-3
#: A function this slow is called twice, and the second call is its measurement.
_SLOW_SECONDS = 0.1

#: Calls before that are not measured, fewer if they take longer: on Intel's Granite Rapids L3 has again what others
#: drove out by the third call (3.1, 2.7, 1.6 and 1.2 ms of one with 31 MB of weights).
_WARMING_CALLS, _WARMING_SECONDS = 3, 1e-2

#: Rounds, unless a caller wants more.
ROUNDS = 7


class Timing(NamedTuple):
    """Seconds of one call: median, least, lower and upper quartile over the rounds, and the number of rounds."""

    median: float
    least: float
    low: float
    high: float
    rounds: int


def time_in_turn(functions: Mapping[Key, Callable[[], object]], *, rounds: int = ROUNDS) -> dict[Key, Timing]:
    """Time each function in each round, after calls that are not measured; but a slow one by its second call alone.

    The calls before bring back to the caches what the turns of others drove out: without, of plans for 512 to 2048
    channels at 7 x 7 the one that takes 0.61 ms was measured faster than the one that takes 0.44.

    Examples
    --------
    >>> timings = time_in_turn({"a": lambda: sum(range(100)), "b": lambda: None}, rounds=3)
    >>> timings["a"].rounds, timings["a"].low <= timings["a"].median <= timings["a"].high
    (3, True)
    """
    samples: dict[Key, list[float]] = {}
    repeats = {}
    for key, function in functions.items():
        function()  # compiles, and touches the memory for the first time
        once = _seconds(function, 1)
        repeats[key] = 0 if once > _SLOW_SECONDS else max(1, round(_TURN_SECONDS / max(once, 1e-9)))
        samples[key] = [once] if repeats[key] == 0 else []
    for _ in range(rounds):
        for key, function in functions.items():
            if repeats[key]:
                _warm(function)
                samples[key].append(_seconds(function, repeats[key]))
    return {key: _summary(values) for key, values in samples.items()}


def _warm(function: Callable[[], object]) -> None:
    end = time.perf_counter() + _WARMING_SECONDS
    for _ in range(_WARMING_CALLS):
        function()
        if time.perf_counter() > end:
            break


def _seconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def _summary(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Timing(median, min(values), low, high, len(values))
