"""Scratch memory that outlives a call: aligned blocks, lent one call at a time and kept within a bound.

A fresh ``np.empty`` of megabytes in each call costs page faults that halve the speed of a convolution. Blocks start
at a cache line, since a vector that straddles two costs two loads.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

import numpy as np

from numbaconv.arguments import ITEM_SIZE

Array = np.ndarray[Any, Any]

#: Bytes of a cache line.
LINE = 64
_DTYPES = {name: np.dtype(name) for name in ITEM_SIZE}


def aligned_empty(elements: int, dtype: str) -> Array:
    """Uninitialised array of one dimension that starts at a cache line."""
    size = elements * np.dtype(dtype).itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % LINE
    return raw[start : start + size].view(dtype)


class WorkspacePool:
    """Blocks of bytes, lent and taken back; at most ``limit`` bytes are kept while they are not lent.

    A block belongs to one call from `borrow` to `give_back`, so calls on several Python threads never share one.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free: list[Array] = []  # the smallest first
        self._lock = threading.Lock()

    def borrow(self, nbytes: int) -> Array:
        """A block of at least ``nbytes``, the smallest that is free or else a new one."""
        with self._lock:
            for i, block in enumerate(self._free):
                if block.nbytes >= nbytes:
                    return self._free.pop(i)
        return aligned_empty(nbytes, "uint8")

    def give_back(self, block: Array) -> None:
        """Keep a block for later calls; if that is too much, the smallest ones go."""
        with self._lock:
            self._free.append(block)
            if len(self._free) > 1 or block.nbytes > self.limit:  # rarely so, and to sort and add takes a while
                self._free.sort(key=lambda kept: kept.nbytes)
                while sum(kept.nbytes for kept in self._free) > self.limit:
                    del self._free[0]

    def clear(self) -> None:
        """Let go of every block, and of a lock that another thread may have held when this process was forked."""
        self._free = []
        self._lock = threading.Lock()


#: The pool of all plans.
POOL = WorkspacePool(limit=64 << 20)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.clear)


def rows_of(block: Array, rows: int, elements: int, dtype: str) -> Array:
    """A block's start as ``rows`` workspaces of ``elements`` each, every one at the start of a cache line."""
    return np.ndarray((rows, _row_nbytes(elements, dtype) // ITEM_SIZE[dtype]), _DTYPES[dtype], block)


def rows_nbytes(rows: int, elements: int, dtype: str) -> int:
    """Bytes that `rows_of` takes."""
    return rows * _row_nbytes(elements, dtype)


@functools.lru_cache(maxsize=4096)
def _row_nbytes(elements: int, dtype: str) -> int:
    return -(-max(1, elements) * ITEM_SIZE[dtype] // LINE) * LINE
