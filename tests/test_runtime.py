"""Threads and processes: results do not depend on them, and neither calls at once nor forks do harm."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from naive import Array, convolve, integers

import numbaconv as nc
from numbaconv import parallel, runtime
from numbaconv.geometry import GEOMETRY
from numbaconv.team import Team
from numbaconv.workspace import POOLS, WorkspacePool

MOST = parallel.max_threads()


def case(seed: int) -> tuple[Array, Array, Array]:
    """Input and weight, of another shape for each seed, and the result."""
    x = integers((2, 4, 9 + seed % 5, 7 + seed), "float32", seed)
    w = integers((8, 4, 3, 2), "float32", seed + 1)
    y = convolve(x, w, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    return x, w, y.astype(np.float32)


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (MOST + 1, ValueError),
        (1.0, TypeError),
        (True, TypeError),
        (np.ones(2, int), TypeError),
    ],
)
def test_wrong_numbers_of_threads(n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="n: expected"):
        nc.set_num_threads(n)


@pytest.mark.parametrize("n", range(1, MOST + 1))
def test_set_num_threads(n: int) -> None:
    """Plans are made for so many threads, in this Python thread only, and compute the same."""
    nc.set_num_threads(n)
    assert nc.get_num_threads() == n
    x, w, y = case(n)
    assert nc.plan(x.shape, w.shape).threads == n
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(nc.get_num_threads).result() == MOST


def test_workers_share_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has as many workspaces as threads, or as tasks where those are fewer."""
    seen: list[int] = []
    monkeypatch.setattr(parallel, "drive", lambda *args: seen.append(len(args[6])))
    x, w, _ = case(5)
    for n in (1, MOST):
        nc.set_num_threads(n)
        planned = nc.plan(x.shape, w.shape, algorithm="reference")
        planned(x, w)
        nc.plan((1, 4, 9, 9), (1, 4, 9, 9), algorithm="reference")(x[:1, :, :9, :9], np.ones((1, 4, 9, 9), "f4"))
    assert seen == [1, 1, MOST, 1]


@numba.njit  # not by `runtime.jit`, whose disk cache does not see when a test is edited
def _count(task: int, x: Array, w: Array, bias: Array, y: Array, workspace: Array, geometry: Array) -> None:
    """A kernel that adds to each task's output how many its worker has run so far."""
    workspace[0] += 1
    y[task] += workspace[0]


@numba.njit
def _work(worker: int, workers: int, tasks: int, address: int, x: Array, y: Array, own: Array, geometry: Array) -> None:
    counters = np.zeros(workers * runtime.WORDS_APART, np.int64)
    runtime.run_tasks(counters, worker, workers, tasks, address, x, x, x, y, own, geometry)


@pytest.mark.parametrize(
    ("worker", "workers", "order"),
    [
        (0, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
        (1, 2, [4, 5, 6, 7, 0, 1, 2, 3]),
        (1, 3, [2, 3, 4, 5, 6, 7, 0, 1]),
        (9, 16, [4, 5, 6, 7, 0, 1, 2, 3]),
    ],
)
def test_a_worker_runs_its_own_part_and_then_the_others(worker: int, workers: int, order: list[int]) -> None:
    """Alone, it runs all of them."""
    address = runtime.kernel_address(_count, "float32", GEOMETRY)
    empty, y, own = np.zeros(0, np.float32), np.zeros(8, np.float32), np.zeros(1, np.float32)
    _work(worker, workers, 8, address, empty, y, own, np.zeros(1, GEOMETRY))
    np.testing.assert_array_equal(np.argsort(y), order)
    np.testing.assert_array_equal(np.sort(y), range(1, 9))


@pytest.mark.parametrize("tasks", [0, 1, 5, 1000])
@pytest.mark.parametrize("workers", {1, 2, MOST, MOST + 3})
@pytest.mark.parametrize("taken", [False, True], ids=["team", "layer"])
def test_each_task_is_run_once(tasks: int, workers: int, taken: bool) -> None:
    """Also by more workers than this process would start, as a plan from a larger machine asks for."""
    address = runtime.kernel_address(_count, "float32", GEOMETRY)
    empty, y, own = np.zeros(0, np.float32), np.zeros(tasks, np.float32), np.zeros((workers, 1), np.float32)
    with parallel._team._leading if taken else contextlib.nullcontext():
        parallel.drive(address, tasks, empty, empty, empty, y, own, np.zeros(1, GEOMETRY))
    assert own.sum() == tasks
    counts = np.concatenate([np.arange(1, count + 1) for count in own[:, 0].astype(int)])
    np.testing.assert_array_equal(np.sort(y), np.sort(counts))


needs_tbb = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="TBB has wheels for x86-64 only")


@needs_tbb
def test_layer_is_tbb() -> None:
    assert parallel.threading_layer() == "tbb"


def test_many_python_threads_at_once() -> None:
    """Functions, layers and one shared plan, all on different shapes and with workspaces of their own."""
    cases = [case(seed) for seed in range(12)]
    layers = [nc.Conv2d(w, padding=1, accuracy="strict") for _, w, _ in cases]
    start = threading.Barrier(6)

    def compute(first: int) -> None:
        start.wait()
        for i in range(60):
            x, w, y = cases[(first + i) % len(cases)]
            layer = layers[(first + i) % len(cases)]
            result = layer(x) if i % 2 else nc.conv2d(x, w, padding=1, accuracy="strict")
            np.testing.assert_array_equal(result, y)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(compute, range(6)))


def test_pool_lends_a_block_once_and_keeps_within_its_bound() -> None:
    pool = WorkspacePool(limit=1_000_000)
    lent = [pool.borrow(300_000) for _ in range(5)]
    for i, block in enumerate(lent):
        assert block.nbytes >= 300_000
        assert block.bytes.ctypes.data % 64 == 0
        assert not any(np.shares_memory(block.bytes, other.bytes) for other in lent[:i])
    for block in lent:
        pool.give_back(block)
    again = [pool.borrow(300_000) for _ in range(5)]
    kept = sum(any(block is old for old in lent) for block in again)
    assert kept == 3
    for block in again:
        pool.give_back(block)
    pool.give_back(pool.borrow(2_000_000))  # which drives no other out
    assert [block.nbytes for block in pool._free] == [300_000] * 3


def test_no_call_computes_on_what_freed_memory_or_another_type_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is zeros at first, and goes round among plans of one type: denormal numbers make a kernel slow."""
    for nbytes in range(64 << 10, 1 << 20, 32 << 10):
        np.full(nbytes, 1, np.uint8)  # freed at once, for the block to be made of
        assert not WorkspacePool(limit=0).borrow(nbytes).bytes.any()
    pools = {dtype: WorkspacePool(limit=64 << 20) for dtype in POOLS}
    for dtype, pool in pools.items():
        monkeypatch.setitem(POOLS, dtype, pool)
    results = {
        dtype: nc.conv2d(np.ones((1, 64, 14, 14), dtype), np.ones((64, 64, 3, 3), dtype), algorithm="im2col")
        for dtype in POOLS
    }
    for dtype, result in results.items():
        np.testing.assert_array_equal(result, 576)
        block = pools[dtype].borrow(0)  # the only one, small where vectors are short
        assert block.bytes.any()
        assert {key[-1] for key in block._rows} == {dtype}


def test_pool_lends_the_smallest_that_fits() -> None:
    pool = WorkspacePool(limit=1_000_000)
    blocks = [pool.borrow(size) for size in (400_000, 100_000, 200_000)]
    for block in blocks:
        pool.give_back(block)
    assert pool.borrow(150_000) is blocks[2]
    assert pool.borrow(150_000) is blocks[0]
    assert pool.borrow(0) is blocks[1]


def test_each_thread_keeps_a_small_block() -> None:
    """It is lent once, to that thread, and holds as many workspaces as fit."""
    pool = WorkspacePool(limit=1_000_000)
    block = pool.borrow(100)
    pool.give_back(block)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(pool.borrow, 100).result() is not block
    assert pool.borrow(10_000) is block
    assert pool.borrow(10_000) is not block
    for i in range(200):
        rows = block.rows(2, i + 1, "float32")
        assert rows.shape[0] == 2
        assert rows.shape[1] >= i + 1
        assert all(row.ctypes.data % 64 == 0 for row in rows)
        assert rows is block.rows(2, i + 1, "float32")


def test_workspaces_are_given_back_when_a_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block goes round, whatever happens."""
    pool = WorkspacePool(limit=64 << 20)
    monkeypatch.setitem(POOLS, "float32", pool)
    x, w, y = case(3)
    planned = nc.plan(x.shape, w.shape, padding=1, accuracy="strict")
    np.testing.assert_array_equal(planned(x, w), y)
    block = pool.borrow(0)
    pool.give_back(block)

    def fail(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "drive", fail)
    with pytest.raises(KeyboardInterrupt):
        planned(x, w)
    assert pool.borrow(0) is block
    assert not pool._free


#: Computes by the team, by Numba's layer as if it were taken, in two threads at once, and so in a forked child, too.
FORKING = """
import os, sys, threading, time
import numpy as np
import numbaconv as nc
from naive import integers, convolve
from numbaconv import parallel

x, w = integers((2, 4, 14, 14), "float32"), integers((8, 4, 3, 2), "float32", 1)
y = convolve(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))
wrong = []

def compute():
    try:
        for _ in range(50):
            if not np.array_equal(nc.conv2d(x, w, accuracy="strict"), y):
                wrong.append(threading.current_thread().name)
    except BaseException as error:
        wrong.append(error)

def compute_in_all_ways():
    compute()
    with parallel._team._leading:
        compute()
    workers = [threading.Thread(target=compute) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

compute_in_all_ways()
time.sleep(0.3)  # a thread that was joined may hold TBB for a moment, which then says that it cannot be stopped
child = os.fork()
compute_in_all_ways()
if not child:
    sys.stdout.flush()
    os._exit(bool(wrong))
_, status = os.waitpid(child, 0)
print(parallel.threading_layer(), wrong, status)
"""


def python(program: str, **environment: str) -> str:
    """What a program prints in a process of its own, which must end well."""
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": paths, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_without_the_compiler() -> None:
    program = "try: import numbaconv\nexcept ImportError as error: print(error)"
    said = python(program, NUMBA_DISABLE_JIT="1")
    assert said == "NUMBA_DISABLE_JIT: expected 0 or nothing, as numbaconv's kernels need the compiler"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("layer", [pytest.param("tbb", marks=needs_tbb), "omp", "workqueue"])
def test_forks_and_threads_with_every_layer(layer: str) -> None:
    assert python(FORKING, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == f"{layer} [] 0"


#: Forks a process that has run parallel loops of its own, and convolved by the team alone.
FORKING_A_USERS_LAYER = """
import os, sys
import numba
import numpy as np
import numbaconv as nc
from numbaconv import parallel

@numba.njit(parallel=True)
def total(values):
    result = 0.0
    for i in numba.prange(values.size):
        result += values[i]
    return result

total(np.ones(10))
x, w = np.ones((2, 4, 14, 14)), np.ones((8, 4, 3, 2))
nc.conv2d(x, w)
child = os.fork()
with parallel._team._leading:
    right = (nc.conv2d(x, w, accuracy="strict") == 24).all()
if not child:
    os._exit(not right)
_, status = os.waitpid(child, 0)
print(numba.threading_layer(), right, status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_forks_where_the_user_started_the_layer(layer: str) -> None:
    assert python(FORKING_A_USERS_LAYER, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == f"{layer} True 0"


#: Calls with the workers awake, and then asleep; the last call ends just before the process.
RESTING = """
import threading, time
import numpy as np
import numbaconv as nc
from naive import integers, convolve

x, w = integers((2, 4, 14, 14), "float32"), integers((8, 4, 3, 2), "float32", 1)
y = convolve(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1))
for pause in (0, 0, 0.05, 0.0003, 0.0002, 0.05, 0):
    time.sleep(pause)
    for dtype in ("float32", "float64"):
        assert np.array_equal(nc.conv2d(x.astype(dtype), w.astype(dtype), accuracy="strict"), y)
print(sum(thread.name.startswith("numbaconv") for thread in threading.enumerate()))
nc.conv2d(x, w)
"""


@pytest.mark.skipif(os.name != "posix", reason="a team is made of POSIX threads")
def test_workers_wake_and_end_with_the_process() -> None:
    assert python(RESTING, NUMBA_NUM_THREADS="2") == "1"


def test_a_call_that_finds_the_team_taken_runs_by_numbas_layer() -> None:
    x, w, y = case(4)
    with parallel._team._leading:
        np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)


@pytest.mark.skipif(os.name != "posix", reason="a team is made of POSIX threads")
def test_a_dismissed_team_leaves_the_work_to_its_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team()
    monkeypatch.setattr(parallel, "_team", team)
    x, w, y = case(2)
    workers: list[threading.Thread] = []
    for _ in range(2):
        np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)
        workers += team._workers
        team.dismiss()
    assert workers or MOST == 1
    assert not [worker for worker in workers if worker.is_alive()]


@pytest.mark.skipif(MOST == 1 or os.name != "posix", reason="there is no worker to start")
def test_a_team_that_gets_no_thread_is_its_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container allows fewer threads than there are cores; workers that there are stay."""
    team = Team()
    monkeypatch.setattr(parallel, "_team", team)
    x, w, y = case(6)
    nc.set_num_threads(2)

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)
        assert team._workers == []
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)
    assert len(team._workers) == 1
    team.dismiss()


@pytest.mark.skipif(MOST == 1 or os.name != "posix", reason="there is no worker to start")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("time is over")], ids=repr)
def test_a_worker_whose_start_is_interrupted_has_no_double(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that take themselves for the same one would share a workspace. Be it by Ctrl-C or a handler's own error."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        raise error

    team = Team()
    monkeypatch.setattr(parallel, "_team", team)
    x, w, y = case(6)
    nc.set_num_threads(2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(type(error)):
            nc.conv2d(x, w, padding=1, accuracy="strict")
    started[0].join(60)
    assert not started[0].is_alive()
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, accuracy="strict"), y)
    assert len(team._workers) == 1
    team.dismiss()
