"""What the planner reckons with: vector registers from a CPU's features, caches, and who of several threads is last."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from numbaconv import machine, timing
from numbaconv.algorithms import ALGORITHMS, im2col
from numbaconv.algorithms.ahead import asked_share
from numbaconv.algorithms.staging import planes_collide
from numbaconv.cost import Work, busiest, from_l3, lines_met, preparing_cycles, share
from numbaconv.machine import Machine
from numbaconv.problem import ConvProblem

MACHINE = Machine("any", 64, 32, 48 << 10, 1 << 20, 32 << 20, clock=1e9)
#: As Intel's servers are: L2 is late, and L3 slow.
LATE = replace(MACHINE, l3_per_cycle=8.0, asks_near=True)


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


def test_cores_that_go_by_another_name() -> None:
    """A virtual machine may hide the model, or the features; and shorter vectors are computed as elsewhere."""
    hidden, known, plain = (
        replace(MACHINE, **machine._core(cpu, features, 64))
        for cpu, features in (("rocketlake", ["+amx-tile"]), ("graniterapids", []), ("rocketlake", []))
    )
    assert hidden == known != plain
    assert (known.fma_per_cycle, known.loads_per_cycle, known.asks_near) == (2.0, 2.0, True)
    assert machine._core("graniterapids", ["+amx-tile"], 32) == machine._core("znver3", [], 32)


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


@pytest.mark.parametrize(
    ("threads", "inside", "outside", "lines"),
    [
        (1, 8, 1, 0),
        (2, 8, 1, 64),
        (2, 1, 4, 0),  # whole planes
        (2, 8, 4, 0),  # of which each thread has as many as the other
        (2, 8, 3, 64),
        (3, 8, 4, 64),
        (2, 8, 0, 0),
    ],
)
def test_lines_met(threads: int, inside: int, outside: int, lines: int) -> None:
    assert lines_met(threads, inside, outside, 64) == lines


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("mb1ic16ih112oc96kh1", 32),  # planes of 12.25 pages, of which four fall into other sets
        ("mb1ic24ih56oc144kh1", 48),
        ("mb1ic32ih28oc192kh1", 64),
        ("mb1ic33ih28oc192kh1", 192),
        ("mb1ic3ih28oc192kh3ph1", 192),  # expanded anew for each block
    ],
)
def test_planes_that_a_task_of_a_short_panel_writes(text: str, most: int) -> None:
    """By tiles that find whole ones, and with AVX2 as many as there are."""
    problem = ConvProblem.parse(text)
    for where, expected in ((MACHINE, most), (replace(MACHINE, vector_bytes=32, registers=16), problem.out_channels)):
        blocks = {settings.block_k for settings in im2col.candidates(problem, where, 1) if most % settings.mr == 0}
        assert blocks == {expected}


def test_threads_share_pixels_or_channels() -> None:
    """Channels where panels are copied, and none has an image of its own."""
    shared = {
        (text, threads): any(settings.block_k < problem.out_channels // 2 for settings in found)
        for text in ("mb1ic64ih28oc256kh1", "mb1ic64ih28oc256kh3ph1", "mb2ic64ih28oc256kh1")
        for threads in (1, 2)
        for problem in [ConvProblem.parse(text)]
        for found in [list(im2col.candidates(problem, MACHINE, threads))]
    }
    assert [case for case, cut in shared.items() if cut] == [("mb1ic64ih28oc256kh1", 2)]


def test_what_l2_does_not_keep_comes_again() -> None:
    assert from_l3(MACHINE.l2, 3.0, MACHINE) == 0
    assert from_l3(MACHINE.l2 + 10, 3.0, MACHINE) == 30


def test_time_grows_with_every_kind_of_work() -> None:
    """And with what the thread has that has most."""
    work = Work(0.5, 1e6, 1e3, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6)
    assert all(work)
    slow = Machine("slow", 64, 32, 48 << 10, 1 << 20, 32 << 20, l3_per_cycle=10.0, clock=1e9)
    seconds = work.seconds(slow, 2, "float32")
    for kind in Work._fields:  # by so much that what streams in takes longer than the products beside it
        more = work._replace(**{kind: 100 * getattr(work, kind)})
        assert more.seconds(slow, 2, "float32") > seconds, kind


def test_weights_that_l2_does_not_hold_take_longer_to_lay_out() -> None:
    """And all weights where L2 is late."""
    for elements, longer in ((1e4, False), (1e6, True)):
        late, fast, usual = (
            preparing_cycles(elements, "float32", where) for where in (LATE, replace(LATE, l3_per_cycle=inf), MACHINE)
        )
        assert (late > fast) == longer
        assert fast > usual


@pytest.mark.parametrize(
    ("text", "where", "collide"),
    [
        ("mb1ic256ih56oc64kh1", LATE, True),  # planes of 4 * 49 lines
        ("mb1ic64ih56oc64kh1", LATE, False),
        ("mb1ic256ih56oc64kh1", MACHINE, False),
        ("mb1ic512ih28oc64kh1", LATE, False),  # an odd number of lines
        ("mb1ic512ih14oc64kh1", LATE, False),  # no whole lines
    ],
)
def test_planes_that_collide(text: str, where: Machine, collide: bool) -> None:
    assert planes_collide(ConvProblem.parse(text), where) == collide


@pytest.mark.parametrize("nv", [1, 2, 3])
@pytest.mark.parametrize("passes", [2, 3, 7, 56, 200])
def test_passes_ask_for_the_next_piece_and_hardly_more(passes: int, nv: int) -> None:
    line, depth = 16, 128
    nr, most = nv * line, (nv + 1) // 2 * line  # what `asker` asks for at once
    end, at, lines = nr * depth, 0, set()
    for _ in range(passes):
        each = asked_share(nr, passes, at, end)
        if each:
            lines |= {(at + c * each + begin) // line for c in range(depth) for begin in range(0, most, line)}
        at += depth * each
    assert lines >= set(range(nv * depth))
    assert max(lines) < 1.2 * nv * depth
    assert asked_share(nr, 1, 0, end) == 0


def test_tiles_that_l2_does_not_hold_come_again() -> None:
    """From L3, for every panel, where it is slow: 7 x 7 tiles of 4 x 4 are 4 MiB, and a row of them is not."""
    row, problem = ALGORITHMS["winograd"], ConvProblem.parse("mb1ic128ih56oc128kh3sh2ph1", constant_weight=True)
    for block_p, longer in ((7, True), (1, False)):
        settings = row.settings(4, 4, 10, 2, block_p, 7, 4)
        small, large = (
            [
                row.estimate(problem, settings, replace(where, l2=l2), 1)
                for where in (LATE, replace(LATE, l3_per_cycle=1e9))
            ]
            for l2 in (2 << 20, 64 << 20)
        )
        # Beside what weights take, which is the same for one block of tiles and for seven.
        assert (small[0] > 1.1 * large[0]) or not longer
        assert small[1] == pytest.approx(large[1], rel=0.2)


@pytest.mark.parametrize(
    ("text", "late", "usual"),
    [
        ("g144mb1ic144ih56oc144kh3ph1", True, False),
        ("g32mb1ic32ih56oc32kh3ph1", False, False),
        ("g192mb1ic192ih28oc192kh3ph1", False, False),  # no longer than a tile
        ("g64mb1ic64ih224oc64kh3ph1", True, True),
        ("g384mb64ic384ih14oc384kh3ph1", True, True),
    ],
)
def test_pixels_that_depthwise_asks_for(text: str, late: bool, usual: bool) -> None:
    for where, asks in ((LATE, late), (MACHINE, usual)):
        first = next(iter(ALGORITHMS["depthwise"].candidates(ConvProblem.parse(text), replace(where, l2=2 << 20), 1)))
        assert (first.ahead > 0) == asks


def test_calls_before_a_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    timing._warm(lambda: calls.append(1))
    assert len(calls) == timing._WARMING_CALLS
    monkeypatch.setattr(timing, "_WARMING_SECONDS", 0.0)
    timing._warm(lambda: calls.append(1))
    assert len(calls) == timing._WARMING_CALLS + 1
