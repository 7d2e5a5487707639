"""Winograd's matrices are right exactly, and what is computed with them stays within the bounds that it promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product, starmap
from math import inf
from operator import mul

import numpy as np
import pytest

from numbaconv.algorithms import ALGORITHMS
from numbaconv.algorithms.winograd import TILES, low_rows, spanned, workspace_layout
from numbaconv.algorithms.winograd_tiles import Block, block_of, slots_seen, tile_slot, tile_start
from numbaconv.cooktoom import phases, point_count, product_count, tile_sizes, transforms
from numbaconv.geometry import Cut, cut_outputs
from numbaconv.machine import Machine, this_machine
from numbaconv.plan import Plan
from numbaconv.planner import allowed, plan_problem
from numbaconv.problem import ConvProblem
from numbaconv.verify import tolerance, verify_plan


def times(matrix: Sequence[Sequence[Fraction]], vector: list[Fraction]) -> list[Fraction]:
    return [sum(starmap(mul, zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


FILTERS = [(m, r, stride) for r in range(1, 12) for stride in (1, 2, 3, 4) for m in tile_sizes(r, stride)]


def random_fractions(rng: np.random.Generator, size: int) -> list[Fraction]:
    return [Fraction(int(v)) for v in rng.integers(-99, 99, size)]


@pytest.mark.parametrize(("m", "r", "stride"), FILTERS)
def test_matrices_filter_exactly(m: int, r: int, stride: int) -> None:
    """In rational numbers, on random integers: the phases' products add up, but for those that are not counted."""
    rng = np.random.default_rng(0)
    weights, inputs = random_fractions(rng, r), random_fractions(rng, (m - 1) * stride + r)
    number, taps, whole = phases(r, stride)
    output, weight, data = transforms(m, taps)
    points, counted = len(data), 0
    sums = [Fraction(0)] * points
    for phase in range(number):
        seen = inputs[phase::stride][:points]
        own = weights[phase::stride]
        pairs = zip(
            times([row[: len(own)] for row in weight], own),
            times([row[: len(seen)] for row in data], seen),
            strict=True,
        )
        for point, pair in enumerate(pairs):
            if point < points - 1 or phase < whole:
                sums[point] += mul(*pair)
                counted += 1
    assert points == point_count(m, r, stride)
    assert counted == product_count(m, r, stride)
    assert len(own) == (taps if whole == number else taps - 1)
    assert times(output, sums) == [sum(weights[j] * inputs[i * stride + j] for j in range(r)) for i in range(m)]


@pytest.mark.parametrize(("m", "r"), [(m, r) for r in range(1, 8) for m in tile_sizes(r) if m > 1])
def test_infinity_is_of_the_last_output_alone(m: int, r: int) -> None:
    """So a tile that has one output less needs no products there."""
    output, _, _ = transforms(m, r)
    assert [row[-1] for row in output] == [0] * (m - 1) + [1]


CUTS = [(side, step) for side in range(1, 7) for step in (1, 2, 3)]


def blocks_of(cut: Cut, units: int) -> list[Block]:
    return [block_of(task, units, cut) for task in range(-(-cut.units // units))]


@pytest.mark.parametrize(("side", "step"), CUTS)
def test_every_output_is_of_a_tile_that_has_it(side: int, step: int) -> None:
    """Whatever blocks are cut: what a short tile has beyond its outputs is written again, or lies beyond the image."""
    for size, units in product(range(1, 41), (1, 2, 3, 50)):
        cut = cut_outputs(size, side, step)
        assert cut.units == -(-size // (side * step))
        written: list[bool] = []
        for block in blocks_of(cut, units):
            assert block.start == len(written)
            outputs: list[bool | None] = [None] * block.extent
            for tile in range(block.tiles):
                short = tile >= block.tiles - block.short
                for i in range(side):
                    outputs[tile_start(tile, block, cut) + i * step] = not (short and i == side - 1)
            assert all(outputs[: block.size])
            written += [True] * block.size
        assert len(written) == size


@pytest.mark.parametrize(("side", "step"), CUTS)
def test_no_output_less_than_short_tiles_leave_out(side: int, step: int) -> None:
    """One more short unit would leave an output to none."""
    for size in range(1, 41):
        cut = cut_outputs(size, side, step)
        spare = cut.units * side * step - size - cut.short * step
        assert 0 <= spare < step or cut.short == cut.units or side == 1


@pytest.mark.parametrize("sizes", [(14, 14), (13, 15), (15, 13), (15, 15), (23, 31), (4, 7), (1, 1)])
@pytest.mark.parametrize("units", [(1, 1), (2, 3), (50, 50)])
def test_tiles_of_each_point_are_neighbours(sizes: tuple[int, int], units: tuple[int, int]) -> None:
    """Every tile has a slot of its own, and those that have products at infinity are those that are not short."""
    down, across = (blocks_of(cut_outputs(size, 5, 1), most) for size, most in zip(sizes, units, strict=True))
    for rows, columns in product(down, across):
        tiles = list(product(range(rows.tiles), range(columns.tiles)))
        slots = {tile: tile_slot(*tile, rows, columns) for tile in tiles}
        assert sorted(slots.values()) == list(range(len(tiles)))
        for last_row, last_column in product((False, True), repeat=2):
            whole_rows = rows.tiles - rows.short * last_row
            whole_columns = columns.tiles - columns.short * last_column
            seen = sorted(slots[row, column] for row, column in tiles if row < whole_rows and column < whole_columns)
            begin, end = slots_seen(rows, columns, last_row, last_column)
            assert seen == list(range(begin, end))


@pytest.mark.parametrize("mr", [4, 6, 9, 14])
def test_register_tiles_span_what_is_left(mr: int) -> None:
    low = low_rows(mr)
    for tiles in range(50):
        rows = spanned(tiles, mr, low)
        assert tiles <= rows <= spanned(tiles, mr, mr) < tiles + mr
        assert rows % mr in (0, low)


def test_short_tiles_take_fewer_products() -> None:
    """14 outputs are 5 + 5 + 4 by F(5, 3), which the planner knows: 15 take a tenth more."""
    row, machine = ALGORITHMS["winograd"], Machine("AVX-512", 64, 32, 48 << 10, 1 << 20, 32 << 20)
    settings = row.settings(5, 5, 9, 2, 3, 3, 100)
    problems = [ConvProblem.parse(f"mb1ic256ih{size}oc256kh3ph1", constant_weight=True) for size in (13, 14, 15)]
    seconds = [row.estimate(problem, settings, machine, 1) for problem in problems]
    assert seconds == sorted(seconds)
    assert seconds[0] < 0.95 * seconds[2]


@pytest.mark.parametrize(("m", "r"), [(m, r) for r in range(1, 8) for m in tile_sizes(r)])
def test_input_and_output_matrices_round_nothing(m: int, r: int) -> None:
    """Their entries are exact in float32; only G's are rounded, once, when weights are prepared."""
    output, _, data = transforms(m, r)
    for matrix in (output, data):
        for row in matrix:
            assert all(Fraction(float(np.float32(float(entry)))) == entry for entry in row)


def test_points_it_has_not() -> None:
    with pytest.raises(ValueError, match=r"F\(9, 3\): expected m \+ r - 1 among 3, 4, 5, 6, 7, 8"):
        transforms(9, 3)


KERNELS = ["kh3kw3ph1pw1", "kh5kw5ph2pw2", "kh1kw7ph0pw3", "kh7kw1ph3pw0", "kh3kw1ph1pw0", "kh2kw2ph0pw0"]
KERNELS += ["kh3kw3ph2pw3dh1dw2", "kh3kw5ph1pw2", "kh3kw3sh2sw2ph1pw1", "kh5kw5sh2sw2ph2pw2", "kh1kw5sh2sw2ph0pw2"]
KERNELS += ["kh7kw7sh2sw2ph3pw3", "kh11kw11sh4sw4ph2pw2", "kh3kw5sh2sw3ph1pw2dh1dw2"]


@pytest.mark.parametrize("channels", [64, 256, 512])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("constant", [True, False])
def test_error_within_its_bound(constant: bool, kernel: str, channels: int) -> None:
    """On random numbers, with the weight prepared as a layer has it, or a function; with every accuracy's tiles."""
    row, machine = ALGORITHMS["winograd"], this_machine()
    for accuracy, most in (("fast", 2e-5), ("default", 4e-6)):
        problem = ConvProblem.parse(f"mb1ic{channels}ih12iw12oc32{kernel}", accuracy=accuracy, constant_weight=constant)
        found = list(row.candidates(problem, machine, 1))
        assert found
        for settings in found:
            verdict = verify_plan(Plan(problem, row, settings, machine, 1, 1.0, "estimate"))
            bound = row.error_bound(problem, settings)
            assert bound is not None
            assert verdict.error <= bound <= most


@pytest.mark.parametrize("tile", [(2, 2), (4, 4), (5, 5), (6, 6), (3, 6), (1, 4)])
@pytest.mark.parametrize("channels", [64, 512])
def test_error_of_3_by_3(channels: int, tile: tuple[int, int]) -> None:
    """Of each size of tile, whether a planner would choose it for this image or not; and in float64."""
    row, machine = ALGORITHMS["winograd"], this_machine()
    problem = ConvProblem.parse(f"mb1ic{channels}ih12oc32kh3ph1", accuracy="fast")
    mr, nv = TILES[machine.tiles][-1]
    plan = Plan(problem, row, row.settings(*tile, mr, nv, 2, 2, 1), machine, 1, 1.0, "estimate")
    bound = row.error_bound(problem, plan.settings)
    assert bound is not None
    assert bound / 20 <= verify_plan(plan).error <= bound
    double = replace(plan, problem=replace(problem, dtype="float64"))
    assert verify_plan(double).error <= min(bound * 1e-8, tolerance(double))


@pytest.mark.parametrize("accuracy", ["strict", "default", "fast"])
def test_accuracy_decides_which_tiles(accuracy: str) -> None:
    """On an image that F(6, 3) would cut best."""
    problem = ConvProblem.parse("mb1ic64ih48oc64kh3ph1", accuracy=accuracy, constant_weight=True)
    row = allowed(problem).get("winograd")
    found = set() if row is None else {(s.mh, s.mw) for s in row.candidates(problem, this_machine(), 2)}
    assert ((6, 6) in found) == (accuracy == "fast")
    assert bool(found) == (accuracy != "strict")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 3, 17, 64])
def test_parts_of_the_workspace_begin_with_cache_lines(channels: int, stride: int) -> None:
    """However many pixels are staged: of few channels, where phases lie side by side, these fill no whole lines."""
    for block_q in (1, 2, 3, 5):
        parts = workspace_layout(4, 4, 7, 7, stride, stride, 1, 1, 14, 32, 16, 4, 1, block_q, channels)
        assert [start % 16 for start in (parts.transformed, parts.products, parts.outputs)] == [0, 0, 0]
        assert parts.plane % 32 == parts.product_plane % 32 == 16


@pytest.mark.parametrize(
    ("descriptor", "changes", "block", "fused"),
    [
        ("mb1ic64ih14oc64kh3ph1", True, 14, True),
        ("g2mb1ic64ih14oc64kh3ph1", True, 14, True),
        ("mb1ic64ih14oc64kh3ph1", False, 14, False),  # laid out once, as it stays the same
        ("mb2ic64ih14oc64kh3ph1", True, 14, False),  # two images need each panel
        ("mb1ic64ih14oc64kh3ph1", True, 1, False),  # so do blocks of rows
    ],
)
def test_weights_needed_once_are_transformed_in_front_of_their_products(
    descriptor: str, changes: bool, block: int, fused: bool
) -> None:
    problem = ConvProblem.parse(descriptor, constant_weight=not changes, accuracy="fast")
    row = ALGORITHMS["winograd"]
    for settings in row.candidates(problem, this_machine(), 1):
        blocks = settings._replace(block_p=block, block_q=14)
        assert (row.packing(problem, blocks, this_machine()) is None) == fused


def test_weights_that_change_get_smaller_tiles() -> None:
    """There are fewer products to transform them for, and of 256 channels at 14 x 14 that is most of the work.

    On machines that do not wait for L3, where those that stay the same get small ones, too.
    """
    row, machine = ALGORITHMS["winograd"], replace(this_machine(), l3_per_cycle=inf, asks_near=False)
    problem = ConvProblem.parse("mb1ic256ih14oc256oh14kh3ph1")

    def points(problem: ConvProblem) -> int:
        settings = next(iter(row.candidates(problem, machine, 1)))
        return point_count(settings.mh, 3, 1) * point_count(settings.mw, 3, 1)

    assert points(problem) < points(replace(problem, constant_weight=True))


@pytest.mark.parametrize("kernel", ["kh3kw8ph0pw0", "kh1kw1ph0pw0", "kh3kw3ph0pw0sh3sw4", "kh2kw1ph0pw0sh2sw1"])
def test_kernels_that_it_is_not_for(kernel: str) -> None:
    with pytest.raises(ValueError, match=r"winograd does not apply to .*: it is for"):
        plan_problem(ConvProblem.parse(f"mb1ic8ih9iw9oc8{kernel}"), algorithm="winograd")


def test_strict_says_why() -> None:
    problem = ConvProblem.parse("mb1ic64ih56oc64kh3ph1", accuracy="strict")
    with pytest.raises(ValueError, match="accuracy 'strict'"):
        plan_problem(problem, algorithm="winograd")
