"""Arrays whose surroundings tell on who touches them: canaries that must survive, or pages that cannot be read."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Elements of guard on either side: more than the widest tile is long, and odd, so that no vector is aligned.
ZONE = 259
CANARY = -12345.0


class Guarded:
    """``array`` holds the values in the middle of a larger buffer of ``zone``: NaN shows who reads it."""

    def __init__(self, values: Array, zone: float = CANARY) -> None:
        self._memory = np.full(values.size + 2 * ZONE, zone, values.dtype)
        self._zone = zone
        self.array = self._memory[ZONE : ZONE + values.size].reshape(values.shape)
        self.array[...] = values

    def check(self) -> None:
        """Fail if anything was written around the array."""
        around = np.concatenate([self._memory[:ZONE], self._memory[-ZONE:]])
        np.testing.assert_array_equal(around, np.full(2 * ZONE, self._zone, around.dtype), "guard zone")


def in_nan(values: Array) -> Array:
    """A copy that is surrounded by NaN."""
    return Guarded(values, np.nan).array


def between_pages(values: Array, at_end: bool) -> Array:
    """A copy that starts, or ends, at the edge of memory that can be read: one element more is a segmentation fault.

    At its other side are a few NaN.
    """
    page = mmap.PAGESIZE
    length = -(-values.nbytes // page) * page
    memory = mmap.mmap(-1, length + 2 * page)
    whole = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    for edge in (whole.ctypes.data, whole.ctypes.data + page + length):
        if libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    start = page + (length - values.nbytes if at_end else 0)
    whole[page : page + length] = 255  # all bits set are a NaN of either type
    array = whole[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    array[...] = values
    return array
