"""The inner loop of every main tile keeps what it needs in registers, on machines that are not this one too.

LLVM emits assembly for any target, with a comment on every spill, so no such machine is needed.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from naive import Array
from numba.core.codegen import CPUCodeLibrary

from numbaconv.algorithms import direct, im2col, inner, strassen, winograd
from numbaconv.simd.correlate import add_row, shuffle_count
from numbaconv.simd.tile import inner as inner_step
from numbaconv.simd.tile import rank1, sum_lanes, zeros
from numbaconv.simd.tile_memory import store_tile

Products = Callable[[int, int, int], Callable[..., None]]


class Target(NamedTuple):
    """A processor: its list of tiles, its vector registers' width and number, and an fma of its assembly."""

    tiles: str
    triple: str
    cpu: str
    vector_bytes: int
    registers: int
    fma: str


TARGETS = (
    Target("avx2", "x86_64-unknown-linux-gnu", "x86-64-v3", 32, 16, r"vfmadd\d+p[sd]\s.*%ymm"),
    Target("avx512", "x86_64-unknown-linux-gnu", "x86-64-v4", 64, 32, r"vfmadd\d+p[sd]\s.*%zmm"),
    Target("neon", "aarch64-unknown-linux-gnu", "neoverse-n1", 16, 32, r"fmla\s+v"),
)


def outer_products(mr: int, nv: int, lanes: int) -> Callable[..., None]:
    """A tile's sum of rank-one updates."""
    nr = nv * lanes

    def microkernel(a: Array, lda: int, b: Array, kc: int, out: Array) -> None:
        acc = zeros(a, mr, nv, lanes)
        for k in range(kc):
            acc = rank1(acc, a, k, lda, b, k * nr)
        store_tile(acc, out, 0, nr)

    return microkernel


def inner_products(mr: int, nr: int, lanes: int) -> Callable[..., None]:
    """A tile's inner products, the last row of ``b`` being one that is known when it runs."""

    def microkernel(a: Array, lda: int, b: Array, kc: int, out: Array) -> None:
        acc = zeros(a, mr, nr, lanes)
        for k in range(0, kc, lanes):
            acc = inner_step(acc, a, k, lda, b, k, lda, kc)
        store_tile(sum_lanes(acc), out, 0, nr)

    return microkernel


#: The tiles of the algorithms, each once.
TILES = {
    name: dict.fromkeys(
        [(outer_products, *tile) for module in (direct, im2col, strassen, winograd) for tile in module.TILES[name]]
        + [(inner_products, *tile) for tile in inner.TILES[name]]
    )
    for name in ("avx2", "avx512", "neon")
}
CASES = [
    pytest.param(target, products, mr, nv, dtype, id=f"{target.cpu}-{products.__name__}-{mr}x{nv}-{dtype}")
    for target in TARGETS
    for products, mr, nv in TILES[target.tiles]
    for dtype in ("float32", "float64")
]


@functools.cache
def llvm_code(products: Products, mr: int, nv: int, lanes: int, dtype: str) -> str:
    """A microkernel in LLVM's language, as Numba writes it for any machine."""
    array = numba.types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C")
    modules: list[str] = []
    add = CPUCodeLibrary.add_ir_module

    def record(library: CPUCodeLibrary, module: object) -> None:
        modules.append(str(module))
        add(library, module)

    with mock.patch.object(CPUCodeLibrary, "add_ir_module", record):
        numba.njit(numba.void(array, numba.int64, array, numba.int64, array), error_model="numpy")(
            products(mr, nv, lanes)
        )
    return next(module for module in modules if "llvm.fma" in module)


def assembly(target: Target, products: Products, mr: int, nv: int, dtype: str) -> list[str]:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.cpu, opt=3)
    machine.set_asm_verbosity(True)
    module = llvm.parse_assembly(llvm_code(products, mr, nv, target.vector_bytes // np.dtype(dtype).itemsize, dtype))
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(module, builder)
    return str(machine.emit_assembly(module)).splitlines()


def loops(lines: list[str]) -> Iterator[list[str]]:
    """The stretches from a label to a jump back to it."""
    labels: dict[str, int] = {}
    for number, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = number
        jump = re.match(r"\s+(?:j\w+|b|b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+(\.L\w+)", line)
        if jump and jump[1] in labels:
            yield lines[labels[jump[1]] : number + 1]


def inner_loop(lines: list[str], fma: str) -> list[str]:
    """The shortest loop that multiplies and adds."""
    return min((loop for loop in loops(lines) if any(re.search(fma, line) for line in loop)), key=len)


def spills(loop: list[str]) -> list[str]:
    """Instructions that store or load a vector register for want of one; addresses are of 8 bytes."""
    found = [(line, re.search(r"(\d+)-byte (?:Folded )?(?:Spill|Reload)", line)) for line in loop]
    return [line for line, comment in found if comment and int(comment[1]) >= 16]


@pytest.mark.parametrize(("target", "products", "mr", "nv", "dtype"), CASES)
def test_accumulators_stay_in_registers(target: Target, products: Products, mr: int, nv: int, dtype: str) -> None:
    loop = inner_loop(assembly(target, products, mr, nv, dtype), target.fma)
    multiply_adds = sum(bool(re.search(target.fma, line)) for line in loop)
    assert multiply_adds >= mr * nv
    assert multiply_adds % (mr * nv) == 0
    assert not spills(loop)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
def test_a_tile_that_is_too_large_is_found_out(target: Target, dtype: str) -> None:
    """With as many accumulators as registers there is none left for the weights."""
    loop = inner_loop(assembly(target, outer_products, target.registers // 2, 2, dtype), target.fma)
    assert spills(loop)


@functools.cache
def rows_of_a_kernel(taps: int, stride: int) -> Products:
    """Tiles of sums over rows of so many taps, read in place under masks."""

    def products(mr: int, nv: int, lanes: int) -> Callable[..., None]:
        nr = nv * lanes

        def microkernel(a: Array, lda: int, b: Array, kc: int, out: Array) -> None:
            acc = zeros(a, mr, nv, lanes)
            for k in range(kc):
                acc = add_row(acc, a, k, lda, b, k * lda, -k, lda, taps, stride, 1)
            store_tile(acc, out, 0, nr)

        return microkernel

    return products


@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (3, 2), (5, 2), (7, 2), (5, 3)])
def test_taps_of_one_remainder_share_what_sorts_a_row(taps: int, stride: int) -> None:
    mr, nv = 4, 2
    target = next(target for target in TARGETS if target.tiles == "avx512")
    loop = inner_loop(assembly(target, rows_of_a_kernel(taps, stride), mr, nv, "float32"), target.fma)
    multiply_adds = sum(bool(re.search(target.fma, line)) for line in loop)
    shuffles = sum(bool(re.match(r"\s+(vperm|valign|vshuf|vunpck|vexpand|vcompress|vblend)", line)) for line in loop)
    rows = multiply_adds / (taps * mr * nv)
    assert rows >= 1
    assert shuffles == rows * nv * shuffle_count(taps, stride, 1, target.vector_bytes // 4)


_WHOLE_KERNEL = """
from numbaconv import runtime
from numbaconv.algorithms import winograd
from numbaconv.algorithms.ahead import Asks
from numbaconv.geometry import GEOMETRY

asks = Asks(far=False, near=False, by_passes=False, in_turn=False)
kernel = winograd._kernel({m}, {m}, 3, 3, 1, 1, {mr}, {nv}, 8, 4, 128, asks, False, False)
runtime.kernel_address(kernel, "float32", GEOMETRY)
(compiled,) = kernel.overloads.values()
print(compiled.library.get_asm_str())
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Numba writes code of this kind of machine")
def test_products_in_a_long_kernel_load_nothing_from_the_stack(tmp_path: Path) -> None:
    """Transforms of eight points need all registers, and those of the products are chosen among what is left."""
    mr, nv = winograd.TILES["avx2"][0]
    target = next(target for target in TARGETS if target.tiles == "avx2")
    code = _WHOLE_KERNEL.format(m=6, mr=mr, nv=nv)
    chosen = {"NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": "", "NUMBACONV_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **chosen}
    )
    products = []
    for loop in loops(done.stdout.splitlines()):
        multiply_adds = sum(bool(re.search(target.fma, line)) for line in loop)
        broadcasts = sum("vbroadcastss" in line for line in loop)
        if broadcasts and multiply_adds == broadcasts * nv and multiply_adds > len(loop) / 4:
            products.append(loop)
    assert len(products) >= 2  # of the register tile and the low one
    assert not [line for loop in products for line in loop if "(%rsp" in line]
