"""``numbaconv tune``: measure every algorithm on a network's layers, and keep the best as wisdom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from numbaconv import wisdom
from numbaconv.cli.common import Accuracy, AsJson, Batch, Dtype, Sources, Threads, load_layers, print_json, use_threads
from numbaconv.cli.progress import LayerProgress
from numbaconv.cli.tuning import tune_layers
from numbaconv.cli.tuning_report import print_report, tuning_report
from numbaconv.peak import measured_peak

_EFFORTS = wisdom.EFFORTS[1:]


def tune(
    sources: Sources,
    batch: Batch = None,
    dtype: Dtype = "float32",
    threads: Threads = None,
    accuracy: Accuracy = None,
    effort: Annotated[
        str, typer.Option(metavar="EFFORT", help="measure: what is promising; exhaustive: all, and block sizes.")
    ] = "measure",
    budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Begin no layer after this time.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure what wisdom already knows, too.")] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write all wisdom to this file as well.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure every algorithm on the layers of networks, and keep the best as wisdom for later processes.

    Each layer is measured twice: with a weight prepared once, as Conv2d has it (the table shows these figures), and
    with one that may change, as conv2d takes it. Ctrl-C keeps what has been measured.

    Example: numbaconv tune resnet50 --budget 120
    """
    if effort not in _EFFORTS:
        raise ValueError(f"effort: expected one of {', '.join(_EFFORTS)}, got {effort!r}")
    if budget is not None and not budget > 0:
        raise ValueError(f"budget: expected a positive number of seconds, got {budget}")
    wisdom.held(wisdom.default_path())
    if save is not None:
        wisdom.check_target(save)
    layers = load_layers(sources, batch=batch, dtype=dtype, accuracy=accuracy)
    count = use_threads(threads)
    before = _version_of(wisdom.default_path())
    with LayerProgress(len(layers)) as progress:
        progress.begin("machine", "measuring its peak")
        peak = measured_peak(layers[0].problem.dtype, count)
        tuning = tune_layers(layers, effort=effort, again=again, budget=budget, progress=progress)
    kept = tuning.measured == 0 or _version_of(wisdom.default_path()) != before
    report = tuning_report(tuning, peak)
    report["wisdom"] = str(wisdom.default_path()) if kept else None
    report["saved"] = None
    try:
        if save is not None:
            report["saved"] = str(wisdom.save(save))
    finally:  # whether that fails or not, since the figures took minutes
        if as_json:
            print_json(report)
        else:
            print_report(report)
    if tuning.interrupted:
        raise typer.Exit(130)


def _version_of(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
