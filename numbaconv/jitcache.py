"""Compiled kernels on disk: one file per kernel and signature, in a folder per version of everything that matters.

Numba's own cache keeps one index per function, which two processes may overwrite at the same time so that a key
leads to another kernel's code, and its key does not see the files of the intrinsics a kernel is made of. Here
the file name is a hash of the whole key and the folder's name one of the sources, Numba and its options, LLVM, Python
and CPU.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import platformdirs
from numba.core import config, registry
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from numbaconv.files import replaced

_PACKAGE = Path(__file__).parent
_KERNEL_SOURCES = (
    "jitcache.py",
    "runtime.py",
    "team.py",
    "parallel.py",
    "geometry.py",
    "workspace.py",
    "cooktoom.py",
    "peak.py",
    "simd/*.py",
    "algorithms/*.py",
)


def user_cache_dir() -> Path:
    """Where this project keeps what it measured and compiled: ``NUMBACONV_CACHE_DIR`` or the user's cache folder."""
    return Path(os.environ.get("NUMBACONV_CACHE_DIR") or platformdirs.user_cache_dir("numbaconv"))


def _sources() -> bytes:
    return b"".join(path.read_bytes() for pattern in _KERNEL_SOURCES for path in sorted(_PACKAGE.glob(pattern)))


# Read when they are imported: a file edited while a process runs must not give its old code a new name.
_SOURCES_DIGEST = hashlib.sha256(_sources()).digest()


@functools.cache
def kernel_fingerprint() -> str:
    """Hash of all that decides what a kernel compiles to: its sources, Numba and its options, LLVM, Python, the CPU."""
    digest = hashlib.sha256(_SOURCES_DIGEST)
    versions = (numba.__version__, llvmlite.__version__, platform.python_version())
    target = registry.cpu_target.target_context.codegen().magic_tuple()
    optimisation = (repr(config.OPT), config.LOOP_VECTORIZE, config.SLP_VECTORIZE)
    options = (*optimisation, config.BOUNDSCHECK, config.DEBUGINFO_DEFAULT)
    digest.update(repr((versions, target, options)).encode())
    return digest.hexdigest()[:16]


def _identity(function: Callable[..., Any]) -> tuple[object, ...]:
    """What tells a kernel from the others of its sources: its name and the integers and kernels it closes over."""
    contents = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = [_identity(part.py_func) if hasattr(part, "py_func") else part for part in contents]
    return function.__module__, function.__qualname__, *parts


def named_apart(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """A copy of a function whose qualified name, and so Numba's symbol, no other kernel of any process has.

    Numba numbers the functions of a process in its symbols. Kernels that two processes compiled may each bring a
    helper under the same symbol, of which the linker keeps one for both: tiles of one width then read panels
    of another.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
    key = repr((_identity(function), options))
    copy.__module__ = function.__module__
    copy.__qualname__ = f"{function.__qualname__}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    copy.__doc__ = function.__doc__
    return copy


class KernelCache(_Cache):
    """Disk cache of one jitted function; every failure to read or write means a compilation, never an error."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name, self._label = function.__qualname__, function.__name__

    @property
    def cache_path(self) -> str:
        return str(user_cache_dir() / "kernels" / kernel_fingerprint())

    def _path(self, sig: Any) -> Path:
        key = repr((self._name, str(sig)))
        return Path(self.cache_path) / f"{self._label}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.pickle"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        try:
            payload = self._path(sig).read_bytes()
        except OSError:
            return None
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
        except Exception:  # a truncated or foreign file can fail in any way; compiling again repairs it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        path = self._path(sig)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                file.write(dumps(data._reduce()))
        except OSError as error:
            why = f"{path.parent}: {error.strerror or error}"
            _warn_once(f"compiled kernels are not kept, each process compiles again: {why}")

    def enable(self) -> None:
        """It is always on."""

    def disable(self) -> None:
        """Nothing here turns it off; a folder that cannot be written does."""

    def flush(self) -> None:
        """Nothing is held back: a file is written when its kernel is compiled."""


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
