"""Scratch memory that outlives a call: aligned blocks, lent one call at a time and kept within a bound.

A fresh ``np.empty`` of megabytes in each call costs page faults that halve the speed of a convolution. Blocks start
at a cache line, since a vector that straddles two costs two loads. They start as zeros, and each type has its own:
kernels compute on lanes that nobody wrote, whose results go nowhere, but what freed memory or another type left there
may be denormal numbers. With these 1 x 1 of 960 to 320 channels at 7 x 7 took 3.9 ms on Intel Granite Rapids in tiles
of 4 x 6, and 0.33 so. Large outputs are made here, too, to begin with a line; they are the caller's.
"""

from __future__ import annotations

import functools
import os
import threading
from bisect import bisect_left, insort_left
from collections.abc import Callable
from math import prod
from operator import attrgetter

import numpy as np

from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array

#: Bytes of a cache line.
LINE = 64
#: Bytes of an output so large that L3 may not hold it beside the input.
LARGE_BYTES = 16 << 20
#: Bytes of the block that each Python thread keeps, which is enough for most layers of less than 50 us.
_SMALL = 64 << 10
#: Kinds of workspaces that a block remembers; to make one takes 0.35 us.
_MOST_VIEWS = 64


def aligned_empty(elements: int, dtype: str) -> Array:
    """Uninitialised array of one dimension that starts at a cache line."""
    return _aligned(np.empty, elements, dtype)


def _aligned(make: Callable[[int, str], Array], elements: int, dtype: str) -> Array:
    size = elements * np.dtype(dtype).itemsize
    raw = make(size + LINE, "uint8")
    start = -raw.__array_interface__["data"][0] % LINE
    return raw[start : start + size].view(dtype)


def allocator(nbytes: int) -> Callable[[tuple[int, ...], str], Array]:
    """What makes uninitialised arrays of so many bytes: `numpy.empty`, but that large ones start at a cache line.

    NumPy's own start 16 bytes behind one. To have small ones start with a line takes as long as it saves.
    """
    return np.empty if nbytes < LARGE_BYTES else _large_array


def _large_array(shape: tuple[int, ...], dtype: str) -> Array:
    return aligned_empty(prod(shape), dtype).reshape(shape)


class Block:
    """Bytes that start at a cache line, zeros at first, and the workspaces that were made of them."""

    __slots__ = ("_rows", "bytes", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.bytes = _aligned(np.zeros, nbytes, "uint8")
        self.nbytes = nbytes
        self._rows: dict[tuple[int, int, str], Array] = {}

    def rows(self, rows: int, elements: int, dtype: str) -> Array:
        """The first bytes as ``rows`` workspaces of ``elements`` each, every one at the start of a cache line."""
        key = rows, elements, dtype
        found = self._rows.get(key)
        if found is None:
            if len(self._rows) >= _MOST_VIEWS:
                self._rows.clear()
            shape = rows, _row_nbytes(elements, dtype) // ITEM_SIZE[dtype]
            found = self._rows[key] = np.ndarray(shape, dtype, self.bytes)
        return found


_nbytes = attrgetter("nbytes")


class _Slot(threading.local):
    """The small block that a Python thread used last."""

    block: Block | None = None


class WorkspacePool:
    """Blocks of bytes, lent and taken back; at most ``limit`` bytes are kept while they are not lent.

    A block belongs to one call from `borrow` to `give_back`, so calls on several Python threads never share one. Each
    Python thread keeps a small one beside, which it gets without looking for it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def borrow(self, nbytes: int) -> Block:
        """A block of at least ``nbytes``: the thread's own, or the smallest that is free, or else a new one."""
        own = self._own.block
        if own is not None and nbytes <= own.nbytes:
            self._own.block = None
            return own
        with self._lock:
            i = bisect_left(self._free, nbytes, key=_nbytes)
            if i < len(self._free):
                return self._free.pop(i)
        return Block(max(nbytes, _SMALL))

    def give_back(self, block: Block) -> None:
        """Keep a block for later calls, unless it alone is too much; if all are, the smallest ones go."""
        size = block.nbytes
        if size <= _SMALL and self._own.block is None:
            self._own.block = block
            return
        if size > self.limit:
            return
        with self._lock:
            insort_left(self._free, block, key=_nbytes)
            while sum(map(_nbytes, self._free)) > self.limit:
                del self._free[0]

    def clear(self) -> None:
        """Let go of every block, and of a lock that another thread may have held when this process was forked."""
        self._own = _Slot()
        self._free: list[Block] = []  # the smallest first
        self._lock = threading.Lock()


#: The pools of all plans, one for each type.
POOLS = {dtype: WorkspacePool(limit=64 << 20) for dtype in ITEM_SIZE}

if hasattr(os, "register_at_fork"):
    for _pool in POOLS.values():
        os.register_at_fork(after_in_child=_pool.clear)


def rows_nbytes(rows: int, elements: int, dtype: str) -> int:
    """Bytes of workspaces, as `Block.rows` lays them out."""
    return rows * _row_nbytes(elements, dtype)


@functools.lru_cache(maxsize=4096)
def _row_nbytes(elements: int, dtype: str) -> int:
    return -(-elements * ITEM_SIZE[dtype] // LINE) * LINE
