"""``numbaconv info``: what kernels are compiled for, how fast it can be, and where things are kept."""

from __future__ import annotations

import platform
from typing import Any

import llvmlite
import numba
import numpy as np

from numbaconv import __version__, parallel, wisdom
from numbaconv.arguments import ITEM_SIZE
from numbaconv.cli.common import AsJson, new_table, plural, print_json, print_table
from numbaconv.jitcache import user_cache_dir
from numbaconv.machine import this_machine
from numbaconv.peak import measured_peak


def info(as_json: AsJson = False) -> None:
    """Show this machine as the engine sees it, its measured peak, and where wisdom and kernels are kept.

    Example: numbaconv info
    """
    report = _report()
    if as_json:
        print_json(report)
        return
    table = new_table({"": "word", " ": "text"})
    table.show_header = False
    for name, text in _lines(report):
        table.add_row(name, text)
    print_table(table)


def _report() -> dict[str, Any]:
    machine, threads = this_machine(), sorted({1, parallel.max_threads()})
    records = wisdom.records()
    return {
        "cpu": machine.name,
        "architecture": platform.machine(),
        "vector_bits": 8 * machine.vector_bytes,
        "lanes": {dtype: machine.lanes(dtype) for dtype in ITEM_SIZE},
        "registers": machine.registers,
        "cache_bytes": {"l1": machine.l1, "l2": machine.l2, "l3": machine.l3},
        "threads": parallel.get_num_threads(),
        "max_threads": parallel.max_threads(),
        "threading_layer": parallel.threading_layer(),
        "peak_gflops": {
            dtype: {str(count): measured_peak(dtype, count) / 1e9 for count in threads} for dtype in ITEM_SIZE
        },
        "versions": {
            "numbaconv": __version__,
            "numba": numba.__version__,
            "llvmlite": llvmlite.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "cache_path": str(user_cache_dir()),
        "wisdom_path": str(wisdom.default_path()),
        "wisdom_records": len(records),
        "wisdom_records_of_this_machine": sum(record.machine == wisdom.machine_fingerprint() for record in records),
    }


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    lanes, caches = report["lanes"], report["cache_bytes"]
    peaks = [
        (
            f"peak, {dtype}",
            ", ".join(f"{rate:.1f} GFLOP/s on {plural(int(count), 'thread')}" for count, rate in rates.items()),
        )
        for dtype, rates in report["peak_gflops"].items()
    ]
    return [
        ("CPU", f"{report['cpu']} ({report['architecture']})"),
        ("vectors", f"{report['vector_bits']} bits: {lanes['float32']} x float32, {lanes['float64']} x float64"),
        ("registers", f"{report['registers']} per thread"),
        ("caches", f"L1 {caches['l1'] >> 10} KiB, L2 {caches['l2'] >> 10} KiB, L3 {caches['l3'] / (1 << 20):.0f} MiB"),
        ("threads", f"{report['threads']} of {report['max_threads']}, threading layer {report['threading_layer']}"),
        *peaks,
        ("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
        ("cache", report["cache_path"]),
        ("wisdom", report["wisdom_path"]),
        ("records", f"{report['wisdom_records_of_this_machine']} of this machine, {report['wisdom_records']} in all"),
    ]
