"""A team: threads of our own that run a call's tasks, awake for a moment after each call.

A parallel region of Numba's layers costs 5 us at best and 10 to 15 us in a row of small convolutions, since their
threads have gone to sleep; a team's workers look out for the next call for some 0.2 ms before they do. A call never
waits for a worker that is still asleep: the leader, which is the calling thread, closes it when no task is left, and
waits only for workers that have entered.

All that leader and workers share is ``state``, an array of 64-bit words. Its generation is odd while a call is open.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from numbaconv.arrays import Array
from numbaconv.geometry import GEOMETRY
from numbaconv.runtime import WORDS_APART, fetch_add, jit, run_tasks

#: Words of ``state`` that several threads write.
_GENERATION, _ACTIVE, _SLEEPERS, _QUIT, _MUTEX, _CONDITION = range(0, 6 * WORDS_APART, WORDS_APART)
#: Words that say what an open call computes.
_CALL = 6 * WORDS_APART
(
    _WORKERS, _COUNTERS, _KERNEL, _TASKS, _ITEMSIZE, _X, _X_SIZE, _W, _W_SIZE, _BIAS, _BIAS_SIZE, _Y, _Y_SIZE,
    _WORKSPACES, _WORKSPACE_SIZE, _GEOMETRY,
) = range(_CALL, _CALL + 16)  # fmt: skip
_WORDS = _CALL + 16
_GEOMETRY_SIZE = GEOMETRY.itemsize
#: Looks at the generation before a worker goes to sleep; each lasts about 20 ns, so some 0.2 ms in all.
_LOOKS = 10_000
#: Looks of a leader at a worker that has not finished, before it offers its core to others.
_LEADER_LOOKS = 2_000


@intrinsic
def _look(typingctx: Any, words: Any, index: Any) -> Any:
    """``words[index]`` as it is now, in one order with every other atomic access."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(words)(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "seq_cst", 8)

    return signature(types.int64, words, types.int64), lower


@intrinsic
def _announce(typingctx: Any, words: Any, index: Any, value: Any) -> Any:
    """Write ``words[index]``, in one order with every other atomic access."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        data = context.make_array(words)(context, builder, args[0]).data
        builder.store_atomic(args[2], builder.gep(data, [args[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return signature(types.void, words, types.int64, types.int64), lower


@intrinsic
def _pause(typingctx: Any) -> Any:
    """Let the other hardware thread of this core have it for a few cycles."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        triple = builder.module.triple
        name, operands = "", []
        if triple.startswith("x86_64"):
            name = "llvm.x86.sse2.pause"
        elif triple.startswith(("aarch64", "arm64")):  # its "yield" does nothing on most cores, "isb" takes a while
            name, operands = "llvm.aarch64.isb", [ir.Constant(ir.IntType(32), 15)]
        if name:
            kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
            builder.call(builder.module.declare_intrinsic(name, (), kind), operands)
        return context.get_dummy_value()

    return signature(types.void), lower


@intrinsic
def _array_at(typingctx: Any, address: Any, size: Any, itemsize: Any, like: Any) -> Any:
    """The array of ``size`` elements at an address, said to be of the type of ``like``.

    To a kernel that is called by its address arrays of all types look alike, but for the size of an element.
    """

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        array = context.make_array(like)(context, builder)
        data = builder.inttoptr(args[0], array.data.type)
        populate_array(array, data=data, shape=[args[1]], strides=[args[2]], itemsize=args[2], meminfo=None)
        return array._getvalue()

    return signature(like, types.int64, types.int64, types.int64, like), lower


def _libc(name: str, *operands: types.Type) -> Any:
    """A function of the C library that returns a status, for compiled code to call."""
    return types.ExternalFunction(name, signature(types.int32, *operands))


_lock_mutex = _libc("pthread_mutex_lock", types.uintp)
_unlock_mutex = _libc("pthread_mutex_unlock", types.uintp)
_wait = _libc("pthread_cond_wait", types.uintp, types.uintp)
_broadcast = _libc("pthread_cond_broadcast", types.uintp)
_yield_core = _libc("sched_yield")


def _wake(state: Array) -> None:
    """Wake the workers that sleep."""
    _lock_mutex(state.ctypes.data + 8 * _MUTEX)
    _broadcast(state.ctypes.data + 8 * _CONDITION)
    _unlock_mutex(state.ctypes.data + 8 * _MUTEX)


def _draw(state: Array, worker: int) -> None:
    """Run tasks of the open call until none is left, as the worker of that number."""
    workers, itemsize, size = state[_WORKERS], state[_ITEMSIZE], state[_WORKSPACE_SIZE]
    counters = _array_at(state[_COUNTERS], workers * WORDS_APART, state.itemsize, state)
    x = _array_at(state[_X], state[_X_SIZE], itemsize, state)
    w = _array_at(state[_W], state[_W_SIZE], itemsize, state)
    bias = _array_at(state[_BIAS], state[_BIAS_SIZE], itemsize, state)
    y = _array_at(state[_Y], state[_Y_SIZE], itemsize, state)
    workspace = _array_at(state[_WORKSPACES] + worker * size * itemsize, size, itemsize, state)
    geometry = _array_at(state[_GEOMETRY], 1, _GEOMETRY_SIZE, state)
    run_tasks(counters, worker, workers, state[_TASKS], state[_KERNEL], x, w, bias, y, workspace, geometry)


_wake = jit(_wake)
_draw = jit(_draw)


def _lead(
    state: Array,
    counters: Array,
    address: int,
    tasks: int,
    x: Array,
    w: Array,
    bias: Array,
    y: Array,
    workspaces: Array,
    geometry: Array,
) -> None:
    """Open a call, run its tasks with whoever comes, and close it."""
    state[_WORKERS] = workspaces.shape[0]
    state[_COUNTERS] = counters.ctypes.data
    state[_KERNEL] = address
    state[_TASKS] = tasks
    state[_ITEMSIZE] = x.itemsize
    state[_X], state[_X_SIZE] = x.ctypes.data, x.size
    state[_W], state[_W_SIZE] = w.ctypes.data, w.size
    state[_BIAS], state[_BIAS_SIZE] = bias.ctypes.data, bias.size
    state[_Y], state[_Y_SIZE] = y.ctypes.data, y.size
    state[_WORKSPACES], state[_WORKSPACE_SIZE] = workspaces.ctypes.data, workspaces.shape[1]
    state[_GEOMETRY] = geometry.ctypes.data
    for worker in range(workspaces.shape[0]):
        counters[worker * WORDS_APART] = 0
    generation = state[_GENERATION]
    _announce(state, _GENERATION, generation + 1)
    if _look(state, _SLEEPERS) > 0:
        _wake(state)
    _draw(state, np.int64(0))  # a literal would be a type of its own, and so another compilation
    _announce(state, _GENERATION, generation + 2)
    looks = 0
    while _look(state, _ACTIVE) > 0:
        looks += 1
        if looks > _LEADER_LOOKS:
            _yield_core()
        else:
            _pause()


def _serve(state: Array, worker: int) -> None:
    """Enter every call that has a place for this worker, until the team is dismissed."""
    seen = 0
    looks = 0
    while _look(state, _QUIT) == 0:
        generation = _look(state, _GENERATION)
        if generation % 2 == 1 and generation != seen:
            seen = generation
            fetch_add(state, _ACTIVE, 1)
            # The leader closes a call before it looks whether anyone is in it, so what it says is still true.
            if _look(state, _GENERATION) == generation and worker < state[_WORKERS]:
                looks = 0
                _draw(state, worker)
            fetch_add(state, _ACTIVE, -1)
        elif looks < _LOOKS:
            looks += 1
            _pause()
        else:
            looks = 0
            _lock_mutex(state.ctypes.data + 8 * _MUTEX)
            fetch_add(state, _SLEEPERS, 1)
            while _look(state, _GENERATION) == generation and _look(state, _QUIT) == 0:
                _wait(state.ctypes.data + 8 * _CONDITION, state.ctypes.data + 8 * _MUTEX)
            fetch_add(state, _SLEEPERS, -1)
            _unlock_mutex(state.ctypes.data + 8 * _MUTEX)


_lead = jit(_lead)
_serve = jit(_serve)


class Team:
    """A leader at a time, and the workers that it has needed so far, which are started at its first calls."""

    def __init__(self) -> None:
        self._leading = threading.Lock()
        self._form()

    def _form(self) -> None:
        """A team without workers."""
        self._state = np.zeros(_WORDS, np.int64)
        self._counters = np.zeros(WORDS_APART, np.int64)
        self._workers: list[threading.Thread] = []
        if self.available:
            libc = ctypes.CDLL(None)
            libc.pthread_mutex_init(ctypes.c_void_p(self._state[_MUTEX:].ctypes.data), None)
            libc.pthread_cond_init(ctypes.c_void_p(self._state[_CONDITION:].ctypes.data), None)

    #: Whether this system has what a team is made of: POSIX threads.
    available = os.name == "posix"

    def lead(
        self, address: int, tasks: int, x: Array, w: Array, bias: Array, y: Array, workspaces: Array, geometry: Array
    ) -> bool:
        """Run a call, as `parallel.drive` does, or return False at once if another thread leads one."""
        if not self._leading.acquire(blocking=False):
            return False
        try:
            while len(self._workers) + 1 < len(workspaces) and self._start(len(self._workers) + 1):
                pass
            if len(self._counters) < len(workspaces) * WORDS_APART:
                self._counters = np.zeros(len(workspaces) * WORDS_APART, np.int64)
            _lead(self._state, self._counters, address, tasks, x, w, bias, y, workspaces, geometry)
        finally:
            self._leading.release()
        return True

    def _start(self, worker: int) -> bool:
        """Start a worker, if there may be another thread: others, if only the leader, do the work of those missing."""
        name = f"numbaconv-{worker}"
        thread = threading.Thread(target=_serve, args=(self._state, worker), name=name, daemon=True)
        try:
            thread.start()
            self._workers.append(thread)
        except BaseException as error:
            if isinstance(error, RuntimeError) and "new thread" in str(error):  # there can be none, as CPython says it
                return False
            # Interrupted, it may run all the same, or soon: then two would be one worker. So the next call has others.
            self.dismiss()
            _wake(self._state)
            self._form()
            raise
        return True

    def dismiss(self) -> None:
        """End the workers, which must not run compiled code while the interpreter takes itself apart."""
        self._state[_QUIT] = 1
        if self._workers:
            _wake(self._state)
        for worker in self._workers:
            worker.join()
        self._workers = []
