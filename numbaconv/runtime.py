"""Numba policy for kernels: their options, their one signature, and how compiled code calls them.

Every kernel of every algorithm has the same signature, ``void(task, x, w, bias, y, workspace, geometry)``, and
is compiled alone, serially. The drivers (`team`, `parallel`) draw task numbers from atomic counters and call the
kernel through its native address. So a kernel is optimised once, not again in each caller (9 to 13 s for a Winograd
sketch that was one ``parallel=True`` function).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, register_jitable

from numbaconv.arrays import Array
from numbaconv.jitcache import KernelCache, named_apart

Dispatcher = Any

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT: expected 0 or nothing, as numbaconv's kernels need the compiler")


def jit(function: Callable[..., Any], *, allocates: bool = False, **options: Any) -> Dispatcher:
    """Compile with the project's options: no GIL, no bounds or division checks, no fast-math, cached on disk.

    Fast-math is off since every sum that matters is an explicit fma, and ``nnan``/``ninf`` would break NaN and Inf.
    Nor are references to arrays counted in what allocates none, as their owners wait for the call: where a piece is
    inlined in a loop, Numba counts its arguments each time, and 1 x 1 by `im2col` took 4 to 8 % longer.
    """
    kernel = named_apart(function, options)
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=allocates, **options)(kernel)
    dispatcher._cache = KernelCache(kernel)
    return dispatcher


#: Decorates functions for Python and kernels alike: compiled into the kernels that call them, with their error model.
#: Nothing else calls what is compiled: with wrappers for Python and C `winograd`, of 17 of these, takes 0.9 s more.
shared = register_jitable(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


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
def fetch_add(typingctx: Any, words: Any, index: Any, amount: Any) -> Any:
    """Atomically add to ``words[index]`` and return what it was."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(words)(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return signature(types.int64, words, types.int64, types.int64), lower


@intrinsic
def call_address(
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


#: Words from one that several threads write to the next, as counters of tasks: two cache lines, which come in pairs.
WORDS_APART = 16


def _run_tasks(
    counters: Array, worker: int, workers: int, tasks: int, address: int, x: Array, w: Array, bias: Array, y: Array,
    workspace: Array, geometry: Array,
) -> None:  # fmt: skip
    """Run a worker's own part of the tasks of a kernel, and then what the other workers have left of theirs.

    Each part is drawn from a counter of its own, ``WORDS_APART`` words from that of the part before. A worker has the
    same part in every call, so that its core's caches may still hold what it read and wrote there: of one counter for
    all, ResNet-50 by `conv2d`, whose weights are laid out before, took 2.6 % longer with 2 threads of AMD Zen 3.
    """
    for step in range(workers):
        part = (worker + step) % workers
        begin = part * tasks // workers
        end = (part + 1) * tasks // workers
        task = begin + fetch_add(counters, part * WORDS_APART, 1)
        while task < end:
            call_address(address, task, x, w, bias, y, workspace, geometry)
            task = begin + fetch_add(counters, part * WORDS_APART, 1)


#: Jitted, for drivers to call; inlined, since a function of its own would be compiled for each of them.
run_tasks: Dispatcher = jit(_run_tasks, inline="always")
