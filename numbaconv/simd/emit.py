"""LLVM instructions behind the SIMD operations: what the intrinsics of this package are written in.

Everything here takes an ``ir.IRBuilder`` and LLVM values and runs while Numba lowers a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from numbaconv.simd.types import Tile, Vec

I32 = ir.IntType(32)


def element(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, offset: ir.Value) -> ir.Value:
    """Pointer to ``array[offset]`` of a contiguous array; unlike Numba's getitem, neither wraps nor checks.

    Not ``inbounds``: a masked access may point before the array, its first lanes being off.
    """
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def elements(
    context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, offset: ir.Value, step: ir.Value, count: int
) -> Iterator[ir.Value]:
    """Pointers to ``count`` elements of an array, ``step`` apart, each made when it is asked for."""
    for _ in range(count):
        yield element(context, builder, array_type, array, offset)
        offset = builder.add(offset, step)


def plus(builder: ir.IRBuilder, value: ir.Value, constant: int) -> ir.Value:
    return builder.add(value, ir.Constant(value.type, constant)) if constant else value


def call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """Call an LLVM intrinsic by its mangled name (llvmlite's ``declare_intrinsic`` refuses vector types)."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def mangled(vec: Vec) -> str:
    return f"v{vec.lanes}f{8 * vec.itemsize}"


def load(builder: ir.IRBuilder, vec: Vec, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
    """Load a vector; or the lanes of the mask, and 0 in the others, whose memory is not touched."""
    typed = builder.bitcast(pointer, vec.llvm.as_pointer())
    if mask is None:
        return builder.load(typed, align=vec.itemsize)
    name = f"llvm.masked.load.{mangled(vec)}.p0"
    return call(builder, name, vec.llvm, [typed, ir.Constant(I32, vec.itemsize), mask, ir.Constant(vec.llvm, None)])


def store(builder: ir.IRBuilder, vec: Vec, value: ir.Value, pointer: ir.Value) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=vec.itemsize)


def stream(builder: ir.IRBuilder, vec: Vec, value: ir.Value, pointer: ir.Value) -> None:
    """Store past the caches, without reading the line first; the pointer is at a multiple of the vector's size."""
    store = builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=vec.lanes * vec.itemsize)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(I32, 1)]))


def convert(builder: ir.IRBuilder, value: ir.Value, vec: Vec) -> ir.Value:
    """``value`` as ``vec``, of as many lanes and another or the same element type."""
    if value.type == vec.llvm:
        return value
    return (builder.fpext if vec.itemsize == 8 else builder.fptrunc)(value, vec.llvm)


def first_lanes(builder: ir.IRBuilder, vec: Vec, count: ir.Value) -> ir.Value:
    """Mask of the lanes below ``count``; all of them when it is ``lanes`` or more, none when it is 0 or less."""
    # Compared as 32-bit numbers, which are one vector as wide as the data; clamped, since a count may not fit.
    zero, lanes = (ir.Constant(count.type, bound) for bound in (0, vec.lanes))
    count = builder.select(builder.icmp_signed("<", count, zero), zero, count)
    count = builder.select(builder.icmp_signed(">", count, lanes), lanes, count)
    lane_numbers = ir.Constant(ir.VectorType(I32, vec.lanes), list(range(vec.lanes)))
    return builder.icmp_signed("<", lane_numbers, splat(builder, builder.trunc(count, I32), vec.lanes))


def between(builder: ir.IRBuilder, vec: Vec, begin: ir.Value, end: ir.Value) -> ir.Value:
    """Mask of the lanes from ``begin`` to ``end - 1``."""
    return builder.and_(builder.not_(first_lanes(builder, vec, begin)), first_lanes(builder, vec, end))


def masked_store(builder: ir.IRBuilder, vec: Vec, value: ir.Value, pointer: ir.Value, mask: ir.Value) -> None:
    typed = builder.bitcast(pointer, vec.llvm.as_pointer())
    name = f"llvm.masked.store.{mangled(vec)}.p0"
    call(builder, name, ir.VoidType(), [value, typed, ir.Constant(I32, vec.itemsize), mask])


def splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """One scalar in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def load_splat(builder: ir.IRBuilder, vec: Vec, *pointers: ir.Value) -> ir.Value:
    """One element in every lane; or two, each in all lanes of an equal part of the vector."""
    undefined, lane = ir.Constant(vec.llvm, ir.Undefined), ir.Constant(I32, 0)
    firsts = [builder.insert_element(undefined, builder.load(p, align=vec.itemsize), lane) for p in pointers]
    sources = [k * len(pointers) // vec.lanes * vec.lanes for k in range(vec.lanes)]
    return shuffle(builder, firsts[0], firsts[-1], sources)


def store_lanes(builder: ir.IRBuilder, vec: Vec, value: ir.Value, pointer: ir.Value, count: int) -> None:
    """Store the first ``count`` lanes, a number known now.

    AVX-512 has a mask for it. On AVX2 a masked store is slow; there LLVM splits a store of, say, 6 lanes into one of
    4 and one of 2, with which `direct` on AVX-512 ran at 77 % of the peak in a 1 x 1 of 160 channels, not 82 %.
    """
    if count == vec.lanes:
        store(builder, vec, value, pointer)
    elif vec.lanes * vec.itemsize == 64:
        bits = [int(lane < count) for lane in range(vec.lanes)]
        masked_store(builder, vec, value, pointer, ir.Constant(ir.VectorType(ir.IntType(1), vec.lanes), bits))
    else:
        store(builder, vec, shuffle(builder, value, value, list(range(count))), pointer)


def fma(builder: ir.IRBuilder, vec: Vec, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """``a * b + c`` rounded once."""
    return call(builder, f"llvm.fma.{mangled(vec)}", vec.llvm, [a, b, c])


def fma_row(
    builder: ir.IRBuilder, tile: Tile, value: ir.Value, i: int, factor: ir.Value, vectors: list[ir.Value]
) -> ir.Value:
    """The tile ``value`` with ``factor * vectors`` added to row ``i``."""
    for j in range(tile.vectors):
        k = tile.index(i, j)
        total = fma(builder, tile.vec, factor, vectors[j], builder.extract_value(value, k))
        value = builder.insert_value(value, total, k)
    return value


def for_each_register(builder: ir.IRBuilder, tile: Tile, value: ir.Value, change: Any) -> ir.Value:
    """The tile with every register replaced by ``change(register, row, vector)``."""
    for i in range(tile.rows):
        for j in range(tile.vectors):
            k = tile.index(i, j)
            value = builder.insert_value(value, change(builder.extract_value(value, k), i, j), k)
    return value


def clip(builder: ir.IRBuilder, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
    """``value`` between two vectors; NaN stays NaN, since both comparisons are then false."""
    value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
    return builder.select(builder.fcmp_ordered(">", value, high), high, value)


def shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def every(builder: ir.IRBuilder, vectors: list[ir.Value], first: int, step: int, lanes: int) -> ir.Value:
    """Element ``first``, one of the first vector's, of vectors laid end to end, and every ``step``-th after it.

    Those of one remainder of division by ``step`` are sorted out of so many vectors alike, by instructions that all who
    ask for them share, and shifted by one more: depthwise 5 x 5 with stride 2 takes 14 % less so than by their own.
    """
    shift, phase = divmod(first, step)
    elements = [phase + step * lane for lane in range(lanes)]
    value = vectors[0]
    for v, vector in enumerate(vectors[1:step], 1):
        # Lanes whose elements come before vector v have been picked, but the first vector's are where they were.
        places = elements if v == 1 else range(lanes)
        picks = [
            place if e < v * lanes else lanes + min(e - v * lanes, lanes - 1)
            for place, e in zip(places, elements, strict=True)
        ]
        value = shuffle(builder, value, vector, picks)
    if shift:
        behind = [lanes + phase + step * lane for lane in range(shift)]
        value = shuffle(builder, value, vectors[step], [*range(shift, lanes), *behind])
    return value


def sift(builder: ir.IRBuilder, vec: Vec, vectors: list[ir.Value], first: int) -> ir.Value:
    """Every second element of two vectors from ``first``, 0 or 1, on, in the order of `sifted`: one instruction."""
    part = 16 // vec.itemsize
    blocks = [start + block for block in range(0, vec.lanes, part) for start in (0, vec.lanes)]
    a, b = vectors
    return shuffle(builder, a, b, [k for block in blocks for k in range(block + first, block + part, 2)])


def sifted(vec: Vec) -> list[int]:
    """Which of those elements is in each lane of what `sift` makes: 16 bytes of one vector, then 16 of the other."""
    part, half = 8 // vec.itemsize, vec.lanes // 2
    return [start + k + block for block in range(0, half, part) for start in (0, half) for k in range(part)]


def pick(builder: ir.IRBuilder, vector: ir.Value, elements: Sequence[int | None]) -> ir.Value:
    """The elements of a vector of any width that have these numbers, and 0 where there is None."""
    value = shuffle(builder, vector, vector, [element or 0 for element in elements])
    if None not in elements:
        return value
    there = ir.Constant(ir.VectorType(ir.IntType(1), len(elements)), [int(element is not None) for element in elements])
    return builder.select(there, value, ir.Constant(value.type, None))


def join(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """One vector of one, two, four, .. laid end to end."""
    while len(vectors) > 1:
        lanes = list(range(2 * vectors[0].type.count))
        vectors = [shuffle(builder, *pair, lanes) for pair in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


def opaque(
    builder: ir.IRBuilder, value: ir.Value, *taken: ir.Value, registers: str = "", pinned: bool = False
) -> ir.Value:
    """The same integer or address, of which LLVM does not know that it is, so that it loads what it has loaded before.

    LLVM believes that it takes other values, too, in ``registers`` of such a kind. If ``pinned``, it begins where it
    stands, and not outside of the loops around. It costs no instruction.
    """
    if isinstance(value.type, ir.PointerType):
        number = builder.ptrtoint(value, ir.IntType(64))
        return builder.inttoptr(opaque(builder, number, *taken, registers=registers, pinned=pinned), value.type)
    kind = ir.FunctionType(value.type, [value.type, *(each.type for each in taken)])
    return builder.asm(kind, "", ",".join(["=r", "0", *registers]), [value, *taken], pinned)


def after(builder: ir.IRBuilder, pointer: ir.Value, vector: ir.Value) -> ir.Value:
    """The same address, of which LLVM believes that it takes ``vector``: what is loaded from it is loaded after that.

    Loads that have time are otherwise brought forward until registers do not suffice.
    """
    register = {"x86_64": "v", "aarch64": "w", "arm64": "w"}.get(builder.module.triple.split("-")[0])
    if register is None:
        return pointer
    return opaque(builder, pointer, builder.extract_element(vector, ir.Constant(I32, 0)), registers=register)


def interleave(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: int) -> tuple[ir.Value, ir.Value]:
    """Low and high halves of every group of four, alternating: x86 ``unpcklps``, NEON ``zip1``, one instruction."""
    low = [base + i for base in range(0, lanes, 4) for i in (0, lanes, 1, lanes + 1)]
    return shuffle(builder, a, b, low), shuffle(builder, a, b, [i + 2 for i in low])


def exchange(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: int, distance: int) -> tuple[ir.Value, ir.Value]:
    """Transpose the 2 x 2 blocks of ``distance`` lanes that ``a`` and ``b`` make: one instruction from 8 bytes on."""
    low = [i if not i & distance else lanes + i - distance for i in range(lanes)]
    return shuffle(builder, a, b, low), shuffle(builder, a, b, [i + distance for i in low])


def split(builder: ir.IRBuilder, vec: Vec, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The even blocks of 16 bytes of ``a`` and then of ``b``, and the odd ones: one instruction each."""
    block = 16 // vec.itemsize
    even = [start + i for start in range(0, 2 * vec.lanes, 2 * block) for i in range(block)]
    return shuffle(builder, a, b, even), shuffle(builder, a, b, [i + block for i in even])


def transpose(builder: ir.IRBuilder, vec: Vec, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose ``lanes`` vectors as a square matrix in log2(lanes) stages of one instruction per vector.

    Four-byte elements take their first stage as an interleave, since the exchange of single elements would be
    two instructions; it leaves rows 1 and 2 of every four swapped, which is put right by naming alone. Blocks of 16
    bytes are split and not exchanged, which takes AVX-512 no third register for the order of the lanes, nor copies:
    `strassen` takes 1 to 2 % less on AMD Zen 5 so, where there are many output channels.
    """
    lanes, rows = vec.lanes, list(rows)
    for stage in range(lanes.bit_length() - 1):
        distance = 1 << stage
        for i in (i for i in range(lanes) if not i & distance):
            if distance == 1 and vec.itemsize == 4:
                pair = interleave(builder, rows[i], rows[i + 1], lanes)
            elif distance * vec.itemsize < 16:
                pair = exchange(builder, rows[i], rows[i + distance], lanes, distance)
            else:
                pair = split(builder, vec, rows[i], rows[i + distance])
            rows[i], rows[i + distance] = pair
        if distance == 2 and vec.itemsize == 4:
            for i in range(0, lanes, 4):
                rows[i + 1], rows[i + 2] = rows[i + 2], rows[i + 1]
    return rows


def sums(builder: ir.IRBuilder, vec: Vec, rows: list[ir.Value]) -> ir.Value:
    """The vector whose lane i is the sum of the lanes of the i-th of ``rows``: a transpose that adds as it goes.

    Rows are as many as there are lanes, or a power of two fewer.
    """
    distance = 1
    while len(rows) > 1:
        pairs = zip(rows[::2], rows[1::2], strict=True)
        if distance == 1 and vec.itemsize == 4:
            halves = [interleave(builder, *pair, vec.lanes) for pair in pairs]
        else:
            halves = [exchange(builder, *pair, vec.lanes, distance) for pair in pairs]
        rows = [builder.fadd(*pair) for pair in halves]
        distance *= 2
    total = rows[0]
    while total.type.count > distance:  # every so many lanes hold a part of each sum
        half = total.type.count // 2
        low, high = (shuffle(builder, total, total, list(range(at, at + half))) for at in (0, half))
        total = builder.fadd(low, high)
    return total
