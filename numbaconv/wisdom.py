"""Wisdom: what was measured, kept. One JSON record a line, one record per problem, threads and machine.

A record is only used on the machine, Numba and kernel sources it was measured with. What is measured is kept in
memory and, at once, in the user's wisdom file: ``NUMBACONV_WISDOM``, or ``wisdom.jsonl`` in the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import filelock

from numbaconv.files import check_replaceable, replaced
from numbaconv.jitcache import kernel_fingerprint, user_cache_dir
from numbaconv.machine import this_machine
from numbaconv.problem import ConvProblem

#: Efforts of planning, least first; a record of more effort is not replaced by one of less.
EFFORTS = ("estimate", "measure", "exhaustive")


def check_effort(effort: str) -> None:
    if effort not in EFFORTS:
        raise ValueError(f"effort: expected one of {', '.join(EFFORTS)}, got {effort!r}")


class Key(NamedTuple):
    """What a record is found by: the first of its fields."""

    problem: str
    dtype: str
    constant_weight: bool
    accuracy: str
    threads: int
    machine: str


def _key(problem: ConvProblem, threads: int) -> Key:
    """Where what is known of a problem on this machine with so many threads is found."""
    return Key(
        str(problem), problem.dtype, problem.constant_weight, problem.accuracy, threads, machine_fingerprint()
    )  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One measurement: the best algorithm and settings for a problem, and the seconds of every algorithm."""

    problem: str
    dtype: str
    constant_weight: bool
    accuracy: str
    threads: int
    machine: str
    effort: str
    algorithm: str
    settings: dict[str, int]
    seconds: float
    measured: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = (self.problem, self.dtype, self.accuracy, self.machine, self.algorithm)
        if not (
            all(isinstance(text, str) for text in texts)
            and self.effort in EFFORTS[1:]
            and isinstance(self.threads, int)
            and isinstance(self.constant_weight, bool)
            and all(isinstance(value, int) and value >= 0 for value in self.settings.values())
            and all(value > 0 for name, value in self.settings.items() if name.startswith("block_"))
            and all(seconds > 0 for seconds in (self.seconds, *self.measured.values()))
        ):
            raise ValueError("not a wisdom record")

    @property
    def key(self) -> Key:
        return Key(*(getattr(self, name) for name in Key._fields))


@functools.cache
def machine_fingerprint() -> str:
    """Short hash of this machine, Numba and the kernel sources."""
    return hashlib.sha256(f"{this_machine()}{kernel_fingerprint()}".encode()).hexdigest()[:16]


def default_path() -> Path:
    """The user's wisdom file."""
    return Path(os.environ.get("NUMBACONV_WISDOM") or user_cache_dir() / "wisdom.jsonl")


class _Memory:
    """The records of this process; the user's file is read when they are first asked for."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.loaded = False
        #: Grows with every change, so that plans made before it can be told from those after.
        self.generation = 0
        self.lock = threading.RLock()

    def all(self) -> dict[Key, Record]:
        with self.lock:
            if not self.loaded:
                self.merge(_read_if_there(default_path()))
                self.loaded = True  # not before it is: to be interrupted here loses nothing
            return self.records

    def merge(self, records: Iterable[Record]) -> None:
        with self.lock:
            for record in records:
                known = self.records.get(record.key)
                if known is None or EFFORTS.index(record.effort) >= EFFORTS.index(known.effort):
                    self.records[record.key] = record
            self.generation += 1


_memory = _Memory()


def _after_fork_in_child() -> None:
    _memory.lock = threading.RLock()  # which a thread of the parent may have held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def generation() -> int:
    """A number that changes whenever wisdom does."""
    if not _memory.loaded:
        _memory.all()
    return _memory.generation


def lookup(problem: ConvProblem, threads: int) -> Record | None:
    """What is known of a problem on this machine with so many threads."""
    known = _memory.all()
    return known.get(_key(problem, threads)) if known else None


def records() -> list[Record]:
    """All records, of other machines too."""
    return list(_memory.all().values())


def remember(
    problem: ConvProblem, threads: int, *, effort: str, algorithm: str, settings: dict[str, int], seconds: float,
    measured: dict[str, float],
) -> None:  # fmt: skip
    """Keep what was measured here: the best algorithm for a problem, its settings, and the seconds of each."""
    keep(Record(*_key(problem, threads), effort, algorithm, settings, seconds, measured))


def keep(record: Record) -> None:
    """Keep a measurement in memory and in the user's wisdom file; a file that cannot be written is warned of."""
    _memory.all()
    _memory.merge([record])
    try:
        _write(default_path(), [record])
    except OSError as error:
        warnings.warn(f"wisdom is not kept on disk: {error}", RuntimeWarning, stacklevel=2)


def save(path: str | os.PathLike[str] | None = None) -> Path:
    """Write all wisdom to a file, together with the wisdom that it already holds.

    Parameters
    ----------
    path : path-like, optional
        The user's wisdom file by default.

    Returns
    -------
    Path
        The file written, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written, as in a folder that is not there, or holds anything but wisdom, which would be lost.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.wisdom.save("machine-room.jsonl").name
    'machine-room.jsonl'
    """
    target = default_path() if path is None else Path(path)
    if path is not None:
        check_target(target)
    _write(target, records())
    return target


def load(path: str | os.PathLike[str]) -> int:
    """Merge the records of a file into memory; a record of more effort stays, a newer one of as much replaces.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    int
        Number of records read. A line that is none is skipped with a RuntimeWarning.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.wisdom.load(nc.wisdom.save("machine-room.jsonl")) >= 0
    True
    """
    found = _read(Path(path))
    _memory.all()
    _memory.merge(found)
    return len(found)


def clear() -> None:
    """Forget all wisdom, in memory and in the user's wisdom file, lines that are none included.

    Raises
    ------
    OSError
        If that file holds no wisdom at all but something else; nothing is forgotten then.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.wisdom.clear()
    >>> nc.wisdom.records()
    []
    """
    path = Path(os.path.realpath(default_path()))
    check_replaceable(path)
    if path.exists():
        with _locked(path):
            found, foreign = _parse(path)
            if foreign and not found:
                raise _foreign(path, foreign)
            path.unlink()
    with _memory.lock:
        _memory.records.clear()
        _memory.loaded = True
        _memory.generation += 1


def _read_if_there(path: Path) -> list[Record]:
    """The records of a file; none where there is no such file, or, with a warning, where it cannot be read."""
    try:
        return _read(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.warn(f"wisdom is not read: {error}", RuntimeWarning, stacklevel=3)
        return []


def _parse(path: Path) -> tuple[list[Record], list[int]]:
    """The records of a file, and the numbers of lines that are neither one nor blank."""
    found, foreign = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(Record(**json.loads(line)))
        except (ValueError, TypeError, AttributeError, RecursionError):
            foreign += [number] if line.strip() else []
    return found, foreign


def _foreign(path: Path, lines: list[int]) -> OSError:
    return FileExistsError(
        f"{path}: is there and holds something else (line {lines[0]}); it is left alone, "
        "and wisdom needs another file, or this one out of the way"
    )


def _locked(path: Path) -> AbstractContextManager[object]:
    """What other processes wait for that write this file, whose folder is made if it is the user's wisdom file.

    That one's lock lies beside it, for all who share it. In other folders a lock would be litter: one in the cache
    folder serves them all; where that cannot be written, files are whole, but two writers at once keep one's records.
    """
    if path == Path(os.path.realpath(default_path())):
        _make_folder(path.parent)
        return filelock.FileLock(f"{path}.lock", timeout=10)
    try:
        _make_folder(user_cache_dir())
    except OSError:
        return nullcontext()
    return filelock.FileLock(user_cache_dir() / "export.lock", timeout=10)


def _read(path: Path) -> list[Record]:
    found, foreign = _parse(path)
    if foreign:
        first = ", ".join(map(str, foreign[:5])) + ("" if len(foreign) <= 5 else ", ...")
        message = f"{path}: skipped {len(foreign)} that are no wisdom records (line {first})"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return found


def held(path: Path) -> list[Record]:
    """The records of a file that wisdom is to be written to, none where there is no such file.

    Raises
    ------
    OSError
        If it holds anything but wisdom, which would be lost, or is no file.
    """
    check_replaceable(path)
    try:
        found, foreign = _parse(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    if foreign:
        raise _foreign(path, foreign)
    return found


def check_target(path: Path) -> None:
    """Refuse a file that wisdom cannot be written to.

    Raises
    ------
    OSError
        If its folder is missing or cannot be written, or as `held`.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    held(path)
    _check_writable(path.parent)


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    _check_writable(path)


def _check_writable(path: Path) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path}: wisdom cannot be written there")


def _write(path: Path, additions: Iterable[Record]) -> None:
    """Merge records into a file that other processes may be writing too, and replace it in one step."""
    path = Path(os.path.realpath(path))
    check_replaceable(path)
    with _locked(path):
        merged = _Memory()
        merged.merge(held(path))
        merged.merge(additions)
        with replaced(path) as file:
            file.writelines(f"{json.dumps(asdict(record))}\n".encode() for record in merged.records.values())
