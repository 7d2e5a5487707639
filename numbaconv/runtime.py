"""Numba policy, all of it: jit options, threading layer, fork, and the one parallel driver.

Every kernel of every algorithm has the same signature, ``void(task, x, w, bias, y, workspace, geometry)``, and
is compiled alone, serially. ``drive`` is the only parallel function: its workers draw task numbers from an
atomic counter and call the kernel through its native address. So a kernel is optimised once, not again in each
caller (9 to 13 s for a Winograd sketch that was one ``parallel=True`` function), and the driver compiles in 0.6 s.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numba.np.ufunc import parallel as numba_parallel

from numbaconv.jitcache import KernelCache, named_apart

Dispatcher = Any
Array = np.ndarray[Any, Any]


def jit(function: Callable[..., Any], **options: Any) -> Dispatcher:
    """Compile with the project's options: no GIL, no bounds or division checks, no fast-math, cached on disk.

    Fast-math is off since every sum that matters is an explicit fma, and ``nnan``/``ninf`` would break NaN and Inf.
    """
    kernel = named_apart(function, options)
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(kernel)
    dispatcher._cache = KernelCache(kernel)
    return dispatcher


@functools.cache
def kernel_address(kernel: Dispatcher, dtype: str, geometry: np.dtype[Any]) -> int:
    """Native address of a kernel for an element type, compiled or loaded from the disk cache at its first use.

    ``geometry`` is the record type of the kernels' last argument. Their one signature is
    ``void(task, x, w, bias, y, workspace, geometry)``, all arrays contiguous and of one dimension.
    """
    array = types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
    record = types.Array(numba.from_dtype(geometry), 1, "C")
    signature = types.void(types.int64, array, array, array, array, array, record)
    kernel.compile(signature)
    compiled = kernel.overloads[signature.args]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


@intrinsic
def _fetch_add(typingctx: Any, counter: Any, amount: Any) -> Any:
    """Atomically add to ``counter[0]`` and return what it was."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = context.make_array(counter)(context, builder, args[0]).data
        return builder.atomic_rmw("add", pointer, args[1], "monotonic")

    return signature(types.int64, counter, types.int64), lower


@intrinsic
def _call_address(
    typingctx: Any, address: Any, task: Any, x: Any, w: Any, bias: Any, y: Any, workspace: Any, geometry: Any
) -> Any:
    """Call the kernel at a native address. Kernels cannot raise, so its status is not looked at."""
    kernel_args = (types.int64, x, w, bias, y, workspace, geometry)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        function_type = context.call_conv.get_function_type(types.none, kernel_args)
        function = builder.inttoptr(args[0], function_type.as_pointer())
        context.call_conv.call_function(builder, function, types.none, kernel_args, args[1:])
        return context.get_dummy_value()

    return signature(types.void, types.int64, *kernel_args), lower


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

    Workers draw tasks as they finish them, which balances a machine whose cores are not equally free. What a
    task computes does not depend on who runs it, so results have the same bits for every number of threads.
    """
    counter = np.zeros(1, np.int64)
    for worker in prange(workspaces.shape[0]):
        task = _fetch_add(counter, 1)
        while task < tasks:
            _call_address(address, task, x, w, bias, y, workspaces[worker], geometry)
            task = _fetch_add(counter, 1)


drive_serial = jit(_drive)
_drive_parallel = jit(_drive, parallel=True)

_entry_lock = threading.Lock()
_forked_with_layer: str | None = None


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
    global _forked_with_layer, _entry_lock
    _entry_lock = threading.Lock()
    if threading_layer.cache_info().currsize:
        _forked_with_layer = threading_layer()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def drive(*args: Any) -> None:
    """Run a kernel's tasks on as many threads as ``workspaces`` has rows; safe from any thread and after a fork.

    GNU OpenMP kills a forked child that starts a parallel region, and the pool of the work queue does not
    survive the fork, so there the serial twin runs; the work queue also aborts when two Python threads enter
    at once, so they take turns. TBB, which is a requirement wherever it has wheels, needs neither.
    """
    workers = len(args[6])
    if workers == 1 or _forked_with_layer in ("omp", "workqueue"):
        drive_serial(*args)
        return
    layer = threading_layer()
    if layer == "workqueue":
        with _entry_lock:
            _drive_parallel(*args)
    else:
        _drive_parallel(*args)


def get_num_threads() -> int:
    """Number of threads a convolution uses in the calling thread."""
    threading_layer()  # Numba starts its threads when it is asked, and without our TBB it would choose another layer
    return int(numba.get_num_threads())


def max_threads() -> int:
    """The most threads this process can use, fixed when Numba starts (``NUMBA_NUM_THREADS``)."""
    return int(numba.config.NUMBA_NUM_THREADS)


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
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected a number of threads as an int, got {n!r}")
    count = operator.index(n)
    if not 1 <= count <= max_threads():
        raise ValueError(f"n: expected 1 to {max_threads()} threads, got {count}")
    threading_layer()
    numba.set_num_threads(count)
