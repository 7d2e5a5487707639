"""Threads: who runs a call's tasks, how many there are, and what a fork leaves of them.

A call is led by the team of this process (`team`). Where that is taken, two Python threads computing at once, or where
there is none, Numba's threading layer runs the call as one parallel loop.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import sys
import sysconfig
import threading
from pathlib import Path

import numba
import numpy as np
from numba import prange
from numba.np.ufunc import parallel as numba_parallel

from numbaconv.arguments import as_int
from numbaconv.arrays import Array
from numbaconv.runtime import WORDS_APART, jit, run_tasks
from numbaconv.team import Team


def _drive(
    address: int,
    tasks: int,
    x: Array,
    w: Array,
    bias: Array,
    y: Array,
    workspaces: Array,
    geometry: Array,
) -> None:
    """Run tasks 0 to ``tasks - 1`` of a kernel; worker ``i`` owns row ``i`` of ``workspaces``.

    Workers that are done with their part help others, which balances a machine whose cores are not equally free. What
    a task computes does not depend on who runs it, so results have the same bits for every number of threads.
    """
    workers = workspaces.shape[0]
    counters = np.zeros(workers * WORDS_APART, np.int64)
    for worker in prange(workers):
        run_tasks(counters, worker, workers, tasks, address, x, w, bias, y, workspaces[worker], geometry)


drive_serial = jit(_drive, allocates=True)
_drive_parallel = jit(_drive, allocates=True, parallel=True)

_entry_lock = threading.Lock()
_forked_with_layer: str | None = None
_team = Team()
#: Cores that this process may run on.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
_MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)


class _Chosen(threading.local):
    """What this Python thread chose; to ask Numba takes 0.6 us, and to find that there is no attribute 0.3."""

    count = _MOST_THREADS


_chosen = _Chosen()


def _preload_tbb() -> None:
    """Load the TBB of the ``tbb`` wheel, which lies where Numba's loader does not look."""
    name = {"linux": "libtbb.so.12", "darwin": "libtbb.12.dylib"}.get(sys.platform, "tbb12.dll")
    roots = dict.fromkeys((sys.prefix, sys.base_prefix, sysconfig.get_config_var("userbase") or sys.prefix))
    for root in roots:
        for folder in ("lib", "Library/bin"):
            path = Path(root) / folder / name
            if path.exists():
                ctypes.CDLL(str(path), mode=getattr(ctypes, "RTLD_GLOBAL", 0))
                return


@functools.cache
def threading_layer() -> str:
    """Name of Numba's threading layer ("tbb", "omp" or "workqueue"), started if it was not."""
    _preload_tbb()
    numba_parallel._launch_threads()
    return str(numba.threading_layer())


def _after_fork_in_child() -> None:
    global _forked_with_layer, _entry_lock, _team
    _entry_lock = threading.Lock()
    _team = Team()
    if numba_parallel._is_initialized:  # by us, or by parallel loops that are the user's own
        _forked_with_layer = str(numba.threading_layer())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(lambda: _team.dismiss())


def drive(
    address: int, tasks: int, x: Array, w: Array, bias: Array, y: Array, workspaces: Array, geometry: Array
) -> None:
    """Run the tasks of the kernel at ``address``, 0 to ``tasks - 1``, on as many threads as ``workspaces`` has rows.

    Safe from any thread and after a fork. Of Numba's layers GNU OpenMP kills a forked child that starts a parallel
    region, and the pool of the work queue does not survive the fork, so there the serial twin runs; the work queue also
    aborts when two Python threads enter at once, so they take turns. TBB, which is a requirement wherever it has
    wheels, needs neither.
    """
    if len(workspaces) == 1:
        drive_serial(address, tasks, x, w, bias, y, workspaces, geometry)
    elif not (_team.available and _team.lead(address, tasks, x, w, bias, y, workspaces, geometry)):
        _drive_by_layer(address, tasks, x, w, bias, y, workspaces, geometry)


def _drive_by_layer(
    address: int, tasks: int, x: Array, w: Array, bias: Array, y: Array, workspaces: Array, geometry: Array
) -> None:
    # On one core a layer gains nothing; and a TBB that a thread had started there, before the process forked, let it
    # hang at its end, one time in five.
    if _forked_with_layer in ("omp", "workqueue") or _CORES == 1:
        drive_serial(address, tasks, x, w, bias, y, workspaces, geometry)
        return
    with _entry_lock if threading_layer() == "workqueue" else contextlib.nullcontext():
        _drive_parallel(address, tasks, x, w, bias, y, workspaces, geometry)


def get_num_threads() -> int:
    """Number of threads a convolution uses in the calling thread."""
    return _chosen.count


def max_threads() -> int:
    """The most threads this process can use, fixed when Numba starts (``NUMBA_NUM_THREADS``)."""
    return _MOST_THREADS


def set_num_threads(n: int) -> None:
    """Use ``n`` threads in convolutions called from this Python thread.

    Parameters
    ----------
    n : int
        1 to the number of threads Numba was started with (its ``NUMBA_NUM_THREADS``, all cores by default).

    Raises
    ------
    TypeError, ValueError
        If ``n`` is no integer or out of range.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.set_num_threads(1)
    >>> nc.get_num_threads()
    1
    """
    _chosen.count = as_int("n", n, 1, max_threads())
