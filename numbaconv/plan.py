"""A plan: a convolution problem bound to one algorithm, its settings and a number of threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numbaconv import parallel, runtime
from numbaconv.algorithms import ALGORITHMS, Algorithm, Packing, Schedule
from numbaconv.arguments import ITEM_SIZE
from numbaconv.arrays import Array, as_operand, check_out, check_same_type, check_shape
from numbaconv.geometry import GEOMETRY
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem
from numbaconv.workspace import POOLS, Block, aligned_empty, allocator, rows_nbytes

_NOT_CONSIDERED = "it was not asked for"


@dataclass(frozen=True)
class Option:
    """What the planner thought of one algorithm: its time in seconds, or the reason why it does not apply."""

    algorithm: str
    seconds: float | None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """How one convolution is computed. Made by `numbaconv.plan`; callable, and safe to call from many threads.

    It can be pickled; it then computes the same with as many threads wherever it is loaded.

    Attributes
    ----------
    problem : ConvProblem
    algorithm : Algorithm
    settings : NamedTuple
        The algorithm's tile shape and block sizes.
    machine : Machine
    threads : int
    seconds : float
        Expected time of one call.
    origin : str
        Where that comes from: "estimate", "measure" or "exhaustive".
    times : mapping
        Seconds of the best candidate of each algorithm that was considered and keeps to the limit, by name.
    """

    problem: ConvProblem
    algorithm: Algorithm
    settings: Any
    machine: Machine
    threads: int
    seconds: float
    origin: str
    times: Mapping[str, float] = field(default_factory=dict)
    _constant: list[tuple[object, Array]] = field(default_factory=list, init=False, repr=False)

    def __call__(self, input: Array, weight: Array, bias: Array | None = None, *, out: Array | None = None) -> Array:
        """Convolve arrays of the planned shapes.

        Parameters
        ----------
        input, weight : numpy.ndarray
            Of `problem.input_shape` and `problem.weight_shape`, and the problem's type. A plan for a constant weight
            prepares it when it first meets the array object, and must not find it changed later.
        bias : numpy.ndarray, optional
            (K,), added before the activation.
        out : numpy.ndarray, optional
            Written in place and returned.

        Returns
        -------
        numpy.ndarray
            Of `problem.output_shape`.

        Raises
        ------
        TypeError, ValueError
            If an array is of another type or shape than planned, or ``out`` overlaps an input.

        Examples
        --------
        >>> import numpy as np, numbaconv as nc
        >>> p = nc.plan((1, 3, 8, 8), (4, 3, 3, 3), padding=1)
        >>> p(np.ones((1, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32))[0, 0, 4, 4]
        np.float32(27.0)
        """
        x, w = as_operand("input", input), as_operand("weight", weight)
        dtype = np.dtype(self.problem.dtype)
        if x.dtype != dtype:
            raise TypeError(f"input: expected {dtype.name} as planned, got {x.dtype.name}")
        check_shape("input", x, self.problem.input_shape)
        check_shape("weight", w, self.problem.weight_shape)
        apart = {"input": input, "weight": weight}
        if not self.problem.constant_weight:
            return self.convolve(x, w, bias, out, apart)
        # Looked at once: another thread may put its own weight there at any time.
        kept = self._constant[0] if self._constant else None
        if kept is None or kept[0] is not weight:
            check_same_type("weight", w, dtype)
            kept = weight, self.prepare(w)
            self._constant[:] = [kept]
        return self.convolve(x, w, bias, out, apart, prepared=kept[1])

    def convolve(
        self, x: Array, w: Array, bias: Array | None, out: Array | None, apart: dict[str, Array],
        prepared: Array | None = None, unbatched: bool = False,
    ) -> Array:  # fmt: skip
        """Check what shapes do not tell, and compute; ``x`` and ``w`` are operands of the planned shapes.

        ``out`` must not overlap the bias nor the arrays ``apart``: the operands as the caller has them, of which ``x``
        and ``w`` may be copies. With ``unbatched``, ``out`` and the result lack the batch axis.
        """
        check_same_type("weight", w, x.dtype)
        if bias is None:
            return self.apply(x, w, self._zero_bias, out, prepared, unbatched, apart)
        b = as_operand("bias", bias)
        check_same_type("bias", b, x.dtype)
        check_shape("bias", b, (self.problem.out_channels,))
        return self.apply(x, w, b, out, prepared, unbatched, {**apart, "bias": bias})

    def apply(
        self, x: Array, w: Array, b: Array, out: Array | None, prepared: Array | None, unbatched: bool,
        apart: dict[str, Array],
    ) -> Array:  # fmt: skip
        """Compute on operands that have been checked, all but ``out``, which must not overlap those named ``apart``."""
        shape = self._output_shape[1:] if unbatched else self._output_shape
        y = self._allocate(shape, self.problem.dtype) if out is None else check_out(out, shape, x.dtype, apart)
        flat = y if out is None or y.flags.carray else self._allocate(shape, self.problem.dtype)
        if y.size:
            self.run(x.ravel(), w if prepared is not None else w.ravel(), b, flat.ravel(), prepared)
        if flat is not y:
            y[...] = flat
        return y if out is None else out

    def run(self, x: Array, w: Array, bias: Array, y: Array, prepared: Array | None = None) -> None:
        """Run the kernel on flat arrays; nothing is checked. ``prepared`` is what `prepare` made of the weight."""
        packing = None if prepared is not None else self.packing
        schedule = self.schedule
        weights, workspaces, block = w if prepared is None else prepared, self._no_workspaces, None
        pool = POOLS[self.problem.dtype]
        try:
            if packing is not None or schedule.workspace:  # to borrow takes 1 us
                workers, dtype, own = self._workspaces
                own, total = (own, own) if packing is None else self._nbytes_with_packing
                block = pool.borrow(total)
                if packing is not None:
                    weights = block.bytes[own : own + packing.elements * ITEM_SIZE[dtype]].view(dtype)
                    self._pack(packing, w, weights, block)
                workspaces = block.rows(workers, schedule.workspace, dtype)
            parallel.drive(self._address, schedule.tasks, x, weights, bias, y, workspaces, schedule.geometry)
        finally:
            if block is not None:
                pool.give_back(block)

    def prepare(self, weight: Array) -> Array:
        """The weight as the kernel reads it, a flat array of its own."""
        packing = self.packing
        if packing is None:
            return weight.reshape(-1)
        packed, pool = aligned_empty(packing.elements, self.problem.dtype), POOLS[self.problem.dtype]
        block = pool.borrow(self._packing_nbytes)
        try:
            self._pack(packing, weight.reshape(-1), packed, block)
        finally:
            pool.give_back(block)
        return packed

    def _pack(self, packing: Packing, weight: Array, packed: Array, block: Block) -> None:
        schedule, dtype = packing.schedule, self.problem.dtype
        workspaces = block.rows(min(self.threads, schedule.tasks), schedule.workspace, dtype)
        address = runtime.kernel_address(packing.kernel(), dtype, GEOMETRY)
        parallel.drive(address, schedule.tasks, weight, weight, weight, packed, workspaces, schedule.geometry)

    def compile(self) -> None:
        """Compile the plan's kernels, or load them from the disk cache, now rather than at the first call."""
        self._address  # noqa: B018
        if self.packing is not None:
            runtime.kernel_address(self.packing.kernel(), self.problem.dtype, GEOMETRY)

    def __reduce__(self) -> tuple[Any, ...]:
        # The table's functions cannot be pickled, and what is compiled has addresses of this process.
        given = (self.problem, self.machine, self.threads, self.seconds, self.origin, dict(self.times))
        return _rebuilt, (self.algorithm.name, tuple(self.settings), *given)

    @functools.cached_property
    def schedule(self) -> Schedule:
        """Tasks, workspace and geometry."""
        return self.algorithm.schedule(self.problem, self.settings, self.machine)

    @functools.cached_property
    def _workspaces(self) -> tuple[int, str, int]:
        """Workers, their type, and the bytes of all their workspaces."""
        workers = min(self.threads, max(1, self.schedule.tasks))
        dtype = self.problem.dtype
        return workers, dtype, rows_nbytes(workers, self.schedule.workspace, dtype)

    @functools.cached_property
    def _packing_nbytes(self) -> int:
        """Bytes of the workspaces in which the weight is laid out."""
        if self.packing is None:
            return 0
        schedule = self.packing.schedule
        return rows_nbytes(min(self.threads, schedule.tasks), schedule.workspace, self.problem.dtype)

    @functools.cached_property
    def _nbytes_with_packing(self) -> tuple[int, int]:
        """Bytes of the workspaces of a call that lays the weight out, and of these and that weight."""
        _, dtype, own = self._workspaces
        if self.packing is None:
            return own, own
        own = max(own, self._packing_nbytes)
        return own, own + rows_nbytes(1, self.packing.elements, dtype)

    @functools.cached_property
    def _no_workspaces(self) -> Array:
        """What workers of a kernel that needs no workspace get."""
        return np.empty((self._workspaces[0], 0), self.problem.dtype)

    @functools.cached_property
    def packing(self) -> Packing | None:
        """How the weight is laid out before the kernel runs, if it is."""
        return self.algorithm.packing(self.problem, self.settings, self.machine)

    @functools.cached_property
    def _address(self) -> int:
        kernel = self.algorithm.kernel(self.problem, self.settings, self.machine)
        return runtime.kernel_address(kernel, self.problem.dtype, GEOMETRY)

    @functools.cached_property
    def _output_shape(self) -> tuple[int, ...]:
        return self.problem.output_shape

    @functools.cached_property
    def _allocate(self) -> Callable[[tuple[int, ...], str], Array]:
        return allocator(math.prod(self._output_shape) * ITEM_SIZE[self.problem.dtype])

    @functools.cached_property
    def _zero_bias(self) -> Array:
        return np.zeros(self.problem.out_channels, self.problem.dtype)

    @property
    def workspace_nbytes(self) -> int:
        """Bytes borrowed from the pool during a call, those of a weight that is prepared in it included."""
        return self._workspaces[2] if self.problem.constant_weight else self._nbytes_with_packing[1]

    @property
    def prepared_nbytes(self) -> int:
        """Bytes of a prepared weight, 0 where the kernel reads it as it comes."""
        return 0 if self.packing is None else self.packing.elements * ITEM_SIZE[self.problem.dtype]

    @property
    def options(self) -> tuple[Option, ...]:
        """Every algorithm of the table, with its time or the reason why it has none."""
        return tuple(map(self._option, ALGORITHMS.values()))

    def _option(self, row: Algorithm) -> Option:
        reason = row.applicable(self.problem)
        if reason is None and row is not self.algorithm:
            needed = min(
                replace(self, algorithm=row, settings=settings).workspace_nbytes
                for settings in row.candidates(self.problem, self.machine, self.threads)
            )
            if needed > self.problem.workspace_limit:
                reason = f"it needs {needed} bytes of workspace"
        if reason is None and row.name not in self.times:
            reason = _NOT_CONSIDERED
        return Option(row.name, self.times[row.name] if reason is None else None, reason)

    def summary(self) -> str:
        """What will be done, without the alternatives: problem, algorithm, settings, tasks, memory and time.

        Returns
        -------
        str
            Six lines, with which that of `str` begins.

        Examples
        --------
        >>> import numbaconv as nc
        >>> print(nc.plan((1, 3, 8, 8), (4, 3, 3, 3), algorithm="reference").summary().splitlines()[1])
          algorithm  reference: plain loops summed in float64: slow, and evidently right
        """
        settings = ", ".join(f"{name}={value}" for name, value in self.settings._asdict().items()) or "none"
        rate = self.problem.flops / self.seconds / 1e9
        return "\n".join(
            [
                f"plan for {self.problem} {self.problem.dtype}, {self.threads} thread{'s' * (self.threads > 1)}",
                f"  algorithm  {self.algorithm.name}: {self.algorithm.summary}",
                f"  settings   {settings}",
                f"  tasks      {self.schedule.tasks}",
                f"  workspace  {self.workspace_nbytes >> 10} KiB, prepared weight {self.prepared_nbytes >> 10} KiB",
                f"  expected   {format_seconds(self.seconds)}, {rate:.1f} GFLOP/s (from {self.origin})",
            ]
        )

    def __str__(self) -> str:
        others = [option for option in self.options if option.algorithm != self.algorithm.name]
        alternatives = [
            f"  not {option.algorithm}: {option.reason or format_seconds(option.seconds)}" for option in others
        ]
        return "\n".join([self.summary(), *alternatives])


def _rebuilt(name: str, settings: tuple[int, ...], problem: ConvProblem, *rest: Any) -> Plan:
    """A plan that was pickled."""
    algorithm = ALGORITHMS[name]
    return Plan(problem, algorithm, algorithm.settings(*settings), *rest)


def format_seconds(seconds: float | None) -> str:
    """A time in the unit that suits it, to three digits.

    Examples
    --------
    >>> format_seconds(0.00123), format_seconds(4.2e-5), format_seconds(0.25), format_seconds(2.0)
    ('1.23 ms', '42.0 us', '250 ms', '2.00 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    unit, scale = next(((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e-3)) if seconds >= scale), ("us", 1e-6))
    value = seconds / scale
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
