"""What all benchmarks share: the table at the end, which says what pytest-benchmark's own cannot."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One row per layer and number of threads: every algorithm's GFLOP/s and share of the peak measured with it."""
    session = getattr(config, "_benchmarksession", None)
    rows: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    algorithms: list[str] = []
    for bench in session.benchmarks if session else ():
        info = bench.extra_info
        if "gflops" not in info:
            continue
        if info["algorithm"] not in algorithms:
            algorithms.append(info["algorithm"])
        cell = f"{info['gflops']:.1f}  {info['percent_of_peak']:3.0f} %"
        rows[info["layer"], info["threads"]][info["algorithm"]] = cell
    if not rows:
        return
    table = Table("layer", "threads", *algorithms, title="GFLOP/s (median) and share of the peak measured alongside")
    for (layer, threads), cells in rows.items():
        table.add_row(layer, str(threads), *(cells.get(name, "") for name in algorithms))
    Console(width=110).print(table)
