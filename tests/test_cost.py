"""What the planner reckons with: vector registers from a CPU's features, caches, and who of several threads is last."""

from __future__ import annotations

import pytest

from numbaconv import machine
from numbaconv.cost import Work, busiest, from_l3, share
from numbaconv.machine import Machine

MACHINE = Machine("any", 64, 32, 48 << 10, 1 << 20, 32 << 20, clock=1e9)


@pytest.mark.parametrize(
    ("features", "architecture", "vectors"),
    [
        ("+avx,+avx2,+fma,+avx512f,+avx512vl", "x86_64", (64, 32)),
        ("+avx,+avx2,+fma,+avx512f", "x86_64", (32, 16)),  # without shorter vectors of the same registers
        ("+avx,+fma", "AMD64", (32, 16)),
        ("+avx,-fma", "x86_64", (16, 16)),
        ("+sse2", "x86_64", (16, 16)),
        ("+neon", "aarch64", (16, 32)),
        ("", "arm64", (16, 32)),
    ],
)
def test_vectors(features: str, architecture: str, vectors: tuple[int, int]) -> None:
    assert machine._vectors(features.split(","), architecture) == vectors


def test_caches_that_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the system knows, and the usual ones for the others."""
    for source in ("_linux_caches", "_darwin_caches"):
        monkeypatch.setattr(machine, source, lambda: [(2, 123)])
    assert machine._caches() == (machine._DEFAULT_CACHES[0], 123, machine._DEFAULT_CACHES[2])


@pytest.mark.parametrize(
    ("threads", "pieces", "length", "block", "tasks"),
    [
        (1, 1, 12, 4, 3.0),
        (2, 1, 12, 4, 2.0),  # two at once, and the third
        (3, 1, 12, 4, 1.0),
        (2, 1, 10, 4, 1.5),  # the half one comes when both are done
        (3, 1, 10, 4, 1.0),
        (2, 3, 10, 4, 4.0),  # six and three halves: three rounds, and two halves for one of them
        (2, 1, 3, 4, 0.75),
    ],
)
def test_busiest(threads: int, pieces: int, length: int, block: int, tasks: float) -> None:
    assert busiest(threads, pieces, length, block) == tasks


@pytest.mark.parametrize(
    ("threads", "images", "cuts", "part"),
    [
        (1, 1, [(12, 4)], 1.0),
        (2, 1, [(12, 4)], 2 / 3),
        (2, 1, [(12, 12)], 1.0),
        (2, 2, [(12, 12)], 0.5),
        (4, 1, [(8, 4), (6, 3)], 0.25),
        (2, 0, [(8, 4)], 1.0),
    ],
)
def test_share(threads: int, images: int, cuts: list[tuple[int, int]], part: float) -> None:
    assert share(threads, images, *cuts) == pytest.approx(part)


def test_what_l2_does_not_keep_comes_again() -> None:
    assert from_l3(MACHINE.l2, 3.0, MACHINE) == 0
    assert from_l3(MACHINE.l2 + 10, 3.0, MACHINE) == 30


def test_time_grows_with_every_kind_of_work() -> None:
    """And with what the thread has that has most."""
    work = Work(0.5, 1e6, 1e3, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6)
    slow = Machine("slow", 64, 32, 48 << 10, 1 << 20, 32 << 20, l3_per_cycle=10.0, clock=1e9)
    seconds = work.seconds(slow, 2, "float32")
    for kind in Work._fields:  # by so much that what streams in takes longer than the products beside it
        more = work._replace(**{kind: 100 * getattr(work, kind)})
        assert more.seconds(slow, 2, "float32") > seconds, kind
