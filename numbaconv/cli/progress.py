"""Progress over layers on the standard error: a live bar on a terminal, else a line per layer."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from numba.core import event
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from numbaconv.cli import interruption
from numbaconv.cli.common import console


class LayerProgress(event.Listener):
    """What is being done to which layer, and for how long; Numba tells when it compiles.

    Examples
    --------
    >>> with LayerProgress(1) as progress:
    ...     progress.begin("conv1")
    ...     progress.finish("direct, 1.2 ms")
    """

    def __init__(self, layers: int) -> None:
        self._layers, self._done = layers, 0
        self._name, self._doing = "", ""
        self._compiling: list[str] = []
        self._start = time.monotonic()
        # Four times a second: a bar drawn more often takes its time from what is measured.
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=console(stderr=True), refresh_per_second=4, transient=True,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=layers)
        self._open = ExitStack()

    def __enter__(self) -> LayerProgress:
        self._open.enter_context(self._bar)
        self._open.enter_context(event.install_listener("numba:compile", self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def begin(self, name: str, doing: str = "timing") -> None:
        """Say which layer's turn it is, if Ctrl-C has not ended all turns."""
        interruption.raise_if_pressed()
        self._name, self._doing = name, doing
        self._show(at_once=True)

    def finish(self, result: str) -> None:
        """Count a layer as done."""
        self._done += 1
        self._bar.advance(self._task)
        if self._bar.disable:
            seconds = time.monotonic() - self._start
            print(f"{self._done}/{self._layers} {self._name}: {result} ({seconds:.0f} s)", file=sys.stderr, flush=True)

    def on_start(self, event: Any) -> None:
        self._compiling.append(event.data["dispatcher"].py_func.__name__)
        self._show()

    def on_end(self, event: Any) -> None:
        self._compiling.pop()
        self._show()

    def _show(self, *, at_once: bool = False) -> None:
        # Of kernels that compile one inside the other, the outermost is the one that somebody has heard of.
        doing = f"compiling {self._compiling[0]}" if self._compiling else self._doing
        self._bar.update(self._task, description=f"{self._name}: {doing}", refresh=at_once)
