"""Every algorithm of the table on awkward shapes: equal to the naive sum, and touching its own memory only.

The operands are small integers, so every sum is exact in any order, and nothing short of equality will do; but for
transforms that divide by more than powers of two, which must keep to their bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from math import inf, nan, prod
from typing import Any

import numpy as np
import pytest
from grids import PROBLEMS
from guards import CANARY, Guarded, between_pages
from naive import Array, operands, solve

from numbaconv.algorithms import ALGORITHMS, ahead, depthwise, im2col, streaming
from numbaconv.algorithms.im2col_few import few_pixels
from numbaconv.arguments import Bounds
from numbaconv.geometry import ceil_div
from numbaconv.machine import Machine, this_machine
from numbaconv.plan import Plan
from numbaconv.problem import ConvProblem
from numbaconv.verify import verify_plan
from numbaconv.workspace import Block, aligned_empty


def cases(accuracy: str) -> list[Any]:
    """Every algorithm with every problem of the grid that it is for."""
    problems = [replace(problem, accuracy=accuracy) for problem in PROBLEMS]
    return [
        pytest.param(name, problem, id=f"{name}-{problem}")
        for name, row in ALGORITHMS.items()
        for problem in problems
        if row.applicable(problem) is None
    ]


#: Without activation, and with two that the sums exceed on one side and on both.
ACTIVATIONS: tuple[Bounds | None, ...] = (None, (0.0, inf), (-20.0, 33.0))
BLOCKS = (1, 2, 3, 1000)

all_cases = pytest.mark.parametrize(("name", "problem"), cases("fast"))
strict_cases = pytest.mark.parametrize(("name", "problem"), cases("strict"))
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def make_plan(problem: ConvProblem, name: str, settings: Any, machine: Machine, threads: int = 1) -> Plan:
    return Plan(problem, ALGORITHMS[name], settings, machine, threads, seconds=1.0, origin="estimate")


def candidates(problem: ConvProblem, name: str, machine: Machine) -> list[Any]:
    """The settings that an algorithm proposes for one thread and for two, each once."""
    found = [ALGORITHMS[name].candidates(problem, machine, threads) for threads in (1, 2)]
    return list(dict.fromkeys(settings for settings_of_threads in found for settings in settings_of_threads))


def odd_blocks(settings: Any) -> Iterable[Any]:
    """Each block size in turn, and all at once, changed to what no planner would choose."""
    blocks = [field for field in settings._asdict() if field.startswith("block_")]
    for size in BLOCKS:
        for changed in (*([field] for field in blocks), blocks):
            yield settings._replace(**dict.fromkeys(changed, size))


def is_exact(plan: Plan) -> bool:
    """On small integers: Strassen's are sums and differences, and so are Winograd's of 4 points, but for halves."""
    if plan.algorithm.name != "winograd":
        return True
    _, *taps = map(ceil_div, plan.problem.kernel_size, plan.problem.stride)
    sides = plan.settings.mh, plan.settings.mw
    return all(m == 1 or m + longest_phase - 1 <= 4 for m, longest_phase in zip(sides, taps, strict=True))


def assert_right(result: Array, plan: Plan, expected: Array, scale: float) -> None:
    """Equal, or within the bound of a transform; ``scale`` is the largest sum before it was clipped."""
    within = plan.algorithm.error_bound(plan.problem, plan.settings)
    if within is None or is_exact(plan):
        np.testing.assert_array_equal(result, expected, str(plan.settings))
    else:
        within *= 1.0 if result.dtype == np.float32 else 2.0**-29
        np.testing.assert_allclose(result, expected, rtol=0, atol=within * scale, err_msg=str(plan.settings))


def run(plan: Plan, x: Array, w: Array, bias: Array) -> Array:
    """Run a plan on flat operands behind which nothing can be read, and NaN before; the result was NaN, and guarded."""
    y = Guarded(np.full(plan.problem.output_shape, nan, plan.problem.dtype))
    x, w, bias = (between_pages(operand.ravel(), at_end=True) for operand in (x, w, bias))
    plan.run(x, w, bias, y.array.reshape(-1))
    y.check()
    return y.array


@pytest.fixture
def guarded_scratch(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Give each call workspaces of NaN, as small as it asked for, and find out whether it kept to them."""
    lent: list[Guarded] = []

    def rows(self: Block, rows: int, elements: int, dtype: str) -> Array:
        lent.append(Guarded(np.full((rows, elements), nan, dtype)))
        return lent[-1].array

    monkeypatch.setattr(Block, "rows", rows)
    yield
    assert lent or name in ("reference", "direct", "rows", "depthwise")  # which may need none
    for workspaces in lent:
        workspaces.check()


@dtypes
@all_cases
def test_equal_to_naive(name: str, problem: ConvProblem, dtype: str, guarded_scratch: None) -> None:
    """With each of its candidates, with and without bias and activation."""
    problem = replace(problem, dtype=dtype)
    x, w, bias = operands(problem)
    sums, no_bias = solve(problem, x, w), np.zeros_like(bias)
    biased = solve(problem, x, w, bias)
    scale = float(np.abs(biased).max(initial=0))
    for settings in candidates(problem, name, this_machine()):
        plan = make_plan(problem, name, settings, this_machine())
        assert_right(run(plan, x, w, no_bias), plan, sums, scale)
        for bounds in ACTIVATIONS:
            clipped = replace(plan, problem=replace(problem, activation=bounds))
            expected = biased if bounds is None else np.clip(biased, *bounds)
            assert_right(run(clipped, x, w, bias), plan, expected, scale)


@dtypes
@all_cases
def test_any_blocks(name: str, problem: ConvProblem, dtype: str, guarded_scratch: None) -> None:
    """Settings from wisdom may hold any block sizes; they can be slow, but not wrong."""
    problem = replace(problem, dtype=dtype)
    x, w, bias = operands(problem)
    expected = solve(problem, x, w, bias)
    for candidate in islice(ALGORITHMS[name].candidates(problem, this_machine(), 2), 2):
        for settings in odd_blocks(candidate):
            plan = make_plan(problem, name, settings, this_machine())
            assert_right(run(plan, x, w, bias), plan, expected, float(np.abs(expected).max(initial=0)))


#: Machines that differ from each other in lanes or registers, with caches small enough to cut these problems.
MACHINES = [
    Machine(f"{8 * vector_bytes} bits, {registers} registers", vector_bytes, registers, 32 << 10, 64 << 10, 1 << 20)
    for vector_bytes, registers in ((16, 16), (16, 32), (32, 16), (64, 32))
]
# And one of few loads, on which lines are asked for near ahead, and products wait for L3.
MACHINES.append(
    replace(MACHINES[-1], name="few loads", fma_per_cycle=2.0, loads_per_cycle=1.0, l3_per_cycle=10.0, asks_near=True)
)
#: Tails of pixels and channels by halves, whole tiles, a stride, some that depthwise is for (narrow, wide, of three
#: axes, with a stride, and a kernel so deep that AVX2 stages it), and one whose kernel has rows of one column.
FEW = tuple(
    map(
        ConvProblem.parse,
        (
            "g2mb2ic40ih9oc150oh9kh1ph0",
            "mb1ic16ih14oc64oh14kh3ph1",
            "mb1ic18ih12iw35oc20oh6ow18kh3kw3sh2sw2ph1pw1",
            "g37mb1ic37ih7oc37oh7kh3ph1",
            "g3mb2ic3ih9iw37oc9oh9ow37kh3kw5ph2pw6dh1dw2",
            "g2mb1ic2id3ih9iw20oc2od3oh9ow20kd1kh3kw3pd0ph1pw1",
            "g5mb1ic5ih10iw19oc10oh5ow10kh3kw3sh2sw2ph1pw1",
            "g2mb1ic2id7ih10iw10oc2od2oh1ow1kd6kh10kw10pd0ph0pw0",
            "mb1ic160ih8iw6oc8oh6ow6kh3kw1ph0pw0",
        ),
    )
)
_FEW_CASES = [case for case in cases("default") if case.values[1] in FEW]


def test_few_are_for_every_algorithm() -> None:
    assert {name for name, _ in (case.values for case in _FEW_CASES)} == ALGORITHMS.keys()
    assert set(FEW) <= set(PROBLEMS)


@dtypes
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize(("name", "problem"), _FEW_CASES)
def test_other_machines(name: str, problem: ConvProblem, machine: Machine, dtype: str, guarded_scratch: None) -> None:
    """Kernels for any number of lanes run on all machines."""
    problem = replace(problem, dtype=dtype)
    x, w, bias = operands(problem)
    plan = make_plan(problem, name, next(iter(ALGORITHMS[name].candidates(problem, machine, 2))), machine)
    expected = solve(problem, x, w, bias)
    assert_right(run(plan, x, w, bias), plan, expected, float(np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("asks_near", [False, True])
@pytest.mark.parametrize(
    ("name", "problem"), [case for case in _FEW_CASES if case.values[0] in ("direct", "strassen", "winograd")]
)
def test_weights_asked_for_ahead(
    name: str, problem: ConvProblem, asks_near: bool, monkeypatch: pytest.MonkeyPatch, guarded_scratch: None
) -> None:
    """As few as there are here, so that what is asked for is beyond them: far ahead, or by passes where also near."""
    monkeypatch.setattr(ahead, "_MANY_BYTES", 0)
    machine = replace(this_machine(), asks_near=asks_near, loads_per_cycle=this_machine().fma_per_cycle)
    assert ahead.asks_of(problem, 1, machine) == (not asks_near, asks_near, asks_near, asks_near)
    x, w, bias = operands(problem)
    expected = solve(problem, x, w, bias)
    plan = make_plan(problem, name, next(iter(ALGORITHMS[name].candidates(problem, machine, 2))), machine)
    assert_right(run(plan, x, w, bias), plan, expected, float(np.abs(expected).max(initial=0)))


def test_only_many_weights_are_asked_for_from_afar() -> None:
    """Far ahead or by passes, as the machine has it, and not by passes where loads are few."""
    problem, machine = ConvProblem.parse("mb1ic512ih14oc512oh14kh3ph1"), MACHINES[-1]
    assert machine.few_loads
    machines = replace(machine, asks_near=False), replace(machine, loads_per_cycle=2.0), machine
    many, few = ([ahead.asks_of(problem, elements, machine) for machine in machines] for elements in (10**7, 10**5))
    assert many == [(True, False, False, False), (False, True, True, True), (False, True, False, False)]
    assert few == [(False, False, False, False), (False, True, False, True), (False, True, False, False)]


#: Problems whose planes are whole lines, in either type, and the algorithms that write them past the caches: of long
#: rows and short ones, a stride, a volume, tails of channels, and rows that are no whole lines.
_STREAMED = [
    ("depthwise", "g3mb2ic3ih9iw464oc3oh9ow464kh3kw3ph1pw1"),
    ("depthwise", "g3mb2ic3ih9iw80oc3oh9ow80kh3kw3ph1pw1"),
    ("im2col", "mb2ic19ih5iw464oc21oh5ow464kh1kw1"),
    ("im2col", "mb2ic4ih16iw12oc9oh16ow12kh3kw3ph1pw1"),
    ("rows", "g2mb1ic6ih5iw464oc20oh5ow464kh3kw3ph1pw1"),
    ("rows", "mb1ic3ih32iw160oc9oh16ow80kh3kw3sh2sw2ph1pw1"),
    ("rows", "mb1ic3id4ih4iw84oc9od2oh4ow80kd3kh3kw5pd0ph1pw0"),
    ("winograd", "mb1ic5ih8iw232oc37oh8ow232kh3kw3ph1pw1"),
    ("winograd", "mb1ic5ih16iw16oc16oh16ow16kh3kw3ph1pw1"),
]


@dtypes
@pytest.mark.parametrize("offset", [0, 1, 12])
@pytest.mark.parametrize("block_q", [None, 64, 40, 7])
@pytest.mark.parametrize(("name", "descriptor"), _STREAMED)
def test_outputs_written_past_the_caches(
    name: str, descriptor: str, block_q: int | None, offset: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever cache line they begin in, and with blocks that end within a tile, or within a vector of 64 bytes."""
    machine = MACHINES[-1]
    problem, row = ConvProblem.parse(descriptor, dtype=dtype), ALGORITHMS[name]
    x, w, bias = operands(problem)
    expected = solve(problem, x, w, bias)
    scale = float(np.abs(expected).max())
    found = [
        settings._replace(
            **({"ahead": 1} if name == "depthwise" else {}), **({} if block_q is None else {"block_q": block_q})
        )
        for settings in islice(row.candidates(problem, machine, 2), 3)
    ]
    usual = {row.kernel(problem, settings, machine) for settings in found}
    monkeypatch.setattr(streaming, "LARGE_BYTES", 0)
    monkeypatch.setattr(streaming, "FAR_BYTES", 0)
    assert block_q is not None or not usual.issuperset(row.kernel(problem, settings, machine) for settings in found)
    for settings in found:
        plan = make_plan(problem, name, settings, machine)
        memory = aligned_empty(512 + expected.size, dtype)
        memory[:] = CANARY
        before, y, behind = np.split(memory, [256 + offset, 256 + offset + expected.size])
        y[:] = nan
        plan.run(x.ravel(), w.ravel(), bias, y)
        assert_right(y.reshape(expected.shape), plan, expected, scale)
        assert (before == CANARY).all()
        assert (behind == CANARY).all()


@dtypes
@pytest.mark.parametrize(("x_offset", "y_offset"), [(0, 0), (4, 4), (4, 0), (0, 9), (13, 2)])
@pytest.mark.parametrize("block_q", [None, 40, 7])
@pytest.mark.parametrize(("channels", "outputs"), [(5, 30), (40, 26)])
def test_panels_that_begin_with_lines(
    channels: int, outputs: int, block_q: int | None, x_offset: int, y_offset: int, dtype: str
) -> None:
    """Of the operand with more planes; the first panel is what is before its first line, and narrow."""
    problem = ConvProblem.from_shapes((2, channels, 9, 16), (outputs, channels, 1, 1), dtype=dtype)
    x, w, bias = operands(problem)
    expected = solve(problem, x, w, bias)
    image, y = (aligned_empty(size, dtype) for size in (x_offset + x.size, y_offset + expected.size))
    image[:] = nan
    image[x_offset:] = x.ravel()
    for settings in candidates(problem, "im2col", MACHINES[3]):
        if block_q is not None:
            settings = settings._replace(block_q=block_q, block_k=24)
        y[:] = nan
        make_plan(problem, "im2col", settings, MACHINES[3]).run(image[x_offset:], w.ravel(), bias, y[y_offset:])
        np.testing.assert_array_equal(y[:y_offset], nan)
        np.testing.assert_array_equal(y[y_offset:], expected.ravel(), str(settings))


@pytest.mark.parametrize(("channels", "outputs"), [(5, 30), (40, 26)])
def test_sums_do_not_depend_on_where_arrays_begin(channels: int, outputs: int) -> None:
    """Which pixels share a panel does; but none is summed in another order."""
    problem = ConvProblem.from_shapes((2, channels, 9, 16), (outputs, channels, 1, 1))
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(prod(shape), np.float32) for shape in (problem.input_shape, problem.weight_shape))
    for settings in candidates(problem, "im2col", MACHINES[3]):
        plan = make_plan(problem, "im2col", settings, MACHINES[3])
        results = set()
        for offset in (0, 1, 4, 8, 12, 15):
            image, y = (aligned_empty(offset + prod(size), "float32") for size in (x.shape, problem.output_shape))
            image[offset:] = x
            plan.run(image[offset:], w, np.zeros(outputs, np.float32), y[offset:])
            results.add(y[offset:].tobytes())
        assert len(results) == 1, settings


#: Problems of which im2col's panels leave few pixels over: of one row and of two, padded, strided, of volumes, of which
#: the last has planes that are too small for it, and the one before blocks that end within a plane.
_LEFT_OVER = [
    ConvProblem.from_shapes((2, 19, 7, 7), (17, 19, 1, 1)),
    ConvProblem.from_shapes((1, 40, 14, 14), (12, 40, 1, 1)),
    ConvProblem.from_shapes((1, 6, 25, 2), (20, 3, 3, 3), padding=1, groups=2),
    ConvProblem.from_shapes((1, 3, 14, 14), (8, 3, 3, 3), padding=1, stride=2),
    ConvProblem.from_shapes((1, 5, 3, 43), (9, 5, 1, 1)),
    ConvProblem.from_shapes((1, 4, 3, 5, 5), (9, 4, 2, 1, 1)),
    ConvProblem.from_shapes((1, 4, 22, 1, 5), (9, 4, 2, 1, 1)),
    ConvProblem.from_shapes((1, 4, 51, 2, 2), (9, 4, 2, 2, 2)),
]


@dtypes
@pytest.mark.parametrize("name", ["im2col"])
@pytest.mark.parametrize("problem", _LEFT_OVER, ids=str)
def test_few_pixels_left_over(problem: ConvProblem, name: str, dtype: str, guarded_scratch: None) -> None:
    """By tiles of every list, in blocks that end anywhere, of channels that are cut and not."""
    problem = replace(problem, dtype=dtype, activation=(-20.0, 33.0))
    x, w, bias = operands(problem)
    expected = np.clip(solve(problem, x, w, bias), -20, 33)
    tiles = [tile for tiles in im2col.TILES.values() for tile in tiles if tile[0] <= w.shape[0] // problem.groups]
    for mr, nv in dict.fromkeys(tiles):
        nr = nv * this_machine().lanes(dtype)
        for block_q, block_c, block_k in ((1000, 1000, 1000), (nr, 1000, 1000), (nr + 4, 3, mr), (52, 3, 1000)):
            plan = make_plan(problem, name, im2col.Settings(mr, nv, block_q, block_c, block_k), this_machine())
            np.testing.assert_array_equal(run(plan, x, w, bias), expected, str(plan.settings))


@pytest.mark.parametrize("lanes", [16, 8, 4, 2])
def test_few_pixels_are_left_over(lanes: int) -> None:
    """Of these problems, by some tile of each kind of vectors."""
    planes = [(prod(problem.output_shape[2:]), prod(problem.output_shape[-2:])) for problem in _LEFT_OVER]
    tiles = [tile for tiles in im2col.TILES.values() for tile in tiles]
    assert any(few_pixels(*pixels, mr, nv * lanes, lanes) for pixels in planes for mr, nv in tiles)
    assert not any(few_pixels(*planes[-1], mr, nv * lanes, lanes) > 1 for mr, nv in tiles)


@pytest.mark.parametrize("name", ["direct", "im2col", "inner"])
def test_no_block_makes_a_sum_too_long(name: str) -> None:
    """Of 18432 products in one run; a search or foreign wisdom must not bring that about."""
    problem = ConvProblem.parse("mb1ic2048ih7oc32kh3ph1", accuracy="strict")
    for settings in ALGORITHMS[name].candidates(problem, this_machine(), 1):
        verdict = verify_plan(make_plan(problem, name, settings._replace(block_c=2048), this_machine()))
        assert verdict.ok, (settings, verdict)


@dtypes
@pytest.mark.parametrize(("name", "problem"), _FEW_CASES)
def test_weights_are_laid_out_and_read_within_their_memory(name: str, problem: ConvProblem, dtype: str) -> None:
    problem = replace(problem, dtype=dtype, constant_weight=True)
    x, w, bias = operands(problem)
    expected = solve(problem, x, w, bias)
    for settings in candidates(problem, name, this_machine()):
        plan = make_plan(problem, name, settings, this_machine())
        if plan.packing is None:
            continue
        packed = Guarded(np.full(plan.packing.elements, nan, dtype))
        plan._pack(plan.packing, w.ravel(), packed.array, Block(plan._packing_nbytes))
        packed.check()
        y = np.full(problem.output_shape, nan, dtype)
        plan.run(x.ravel(), w.ravel(), bias, y.reshape(-1), between_pages(packed.array, at_end=True))
        assert_right(y, plan, expected, float(np.abs(expected).max(initial=0)))


@pytest.mark.parametrize("axis", [1, 2])
def test_dilations_that_are_not_unrolled(axis: int) -> None:
    """Code does not grow with them, nor are there constants beyond 32 bits; `rows` says that it is not for them."""
    dilation = (10**6, 1) if axis == 1 else (1, 2**33)
    padding = tuple((reach, reach) for reach in dilation)
    problem = ConvProblem.from_shapes((1, 2, 5, 5), (2, 1, 3, 3), groups=2, dilation=dilation, padding=padding)
    assert depthwise._unrolled(problem)[0] == ((1, 3) if axis == 1 else (1, 1))
    x, w, bias = operands(problem)
    near = ConvProblem.from_shapes(
        (1, 2, 5, 5), (2, 1, 3, 3), groups=2, dilation=[min(step, 5) for step in dilation],
        padding=[(min(reach, 5),) * 2 for reach in dilation],
    )  # fmt: skip
    settings = next(iter(ALGORITHMS["depthwise"].candidates(problem, MACHINES[3], 1)))
    plan = make_plan(problem, "depthwise", settings, MACHINES[3])
    np.testing.assert_array_equal(run(plan, x, w, bias), solve(near, x, w, bias))
    said = ALGORITHMS["rows"].applicable(problem)
    assert said == (
        None if axis == 1 else f"it is for kernels that span up to 65536 columns, and here they are {2**34 + 1}"
    )


def test_vertical_strides_of_depthwise() -> None:
    problem = ConvProblem.from_shapes((1, 1, 10**6, 1), (1, 1, 1, 1), stride=(10**5, 1))
    said = ALGORITHMS["depthwise"].applicable(problem)
    assert said == "it is for strides of up to 64 rows and 8 columns, and here are 100000 and 1"


@strict_cases
def test_nan_in_a_weight_stays(name: str, problem: ConvProblem) -> None:
    """In the outputs of its channel, of which it makes all that see it NaN."""
    x, w, bias = operands(problem)
    x[x == 0] = 1
    k = problem.out_channels // 2
    w[k] = nan
    settings = next(iter(ALGORITHMS[name].candidates(problem, this_machine(), 1)))
    result = run(make_plan(problem, name, settings, this_machine()), x, w, bias)
    others = np.arange(problem.out_channels) != k
    w[k] = 1
    np.testing.assert_array_equal(result[:, others], solve(problem, x, w, bias)[:, others])
    w[k] = 0
    inside = solve(problem, np.ones_like(x), np.ones_like(w), np.zeros_like(bias))[:, k] > 0
    assert np.isnan(result[:, k][inside]).all()


@pytest.mark.parametrize("value", [nan, inf, -inf])
@strict_cases
def test_nan_and_infinity_stay(name: str, problem: ConvProblem, value: float) -> None:
    """One such pixel is in exactly the outputs that see it."""
    x, w, bias = operands(problem)
    w[w == 0] = 1
    x[tuple(size // 2 for size in x.shape)] = value
    settings = next(iter(ALGORITHMS[name].candidates(problem, this_machine(), 1)))
    for bounds in ACTIVATIONS:
        clipped = replace(problem, activation=bounds)
        result = run(make_plan(clipped, name, settings, this_machine()), x, w, bias)
        np.testing.assert_array_equal(result, solve(clipped, x, w, bias))


@all_cases
def test_same_bits(name: str, problem: ConvProblem) -> None:
    """Whoever runs the tasks, and however often: with numbers whose sums do depend on their order."""
    rng = np.random.default_rng(0)
    shapes = problem.input_shape, problem.weight_shape, (problem.out_channels,)
    x, w, bias = (rng.standard_normal(shape, np.float32) for shape in shapes)
    for settings in candidates(problem, name, this_machine()):
        results = {
            run(make_plan(problem, name, settings, this_machine(), threads), x, w, bias).tobytes()
            for threads in (1, 2, 2, 1)
        }
        assert len(results) == 1, settings
