"""The cost model: a convolution as counts of a few kinds of work, and what each costs in clock cycles.

The constants were fitted to measurements on AMD Zen 5 (AVX-512), and are of one thread where they do not say otherwise;
what shorter vectors change was measured on AMD Zen 3 (AVX2), half the FMAs a cycle on AMD Zen 4, half the loads on
Intel Ice Lake, and a slow L3 on Intel Granite Rapids. They choose among algorithms; ``effort="measure"`` is for who
wants to know.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from numbaconv.arguments import ITEM_SIZE
from numbaconv.machine import Machine
from numbaconv.workspace import LINE

#: Cycles per element moved by vector instructions (packed, transposed or stored), and one by one. Those of float64, of
#: which a vector holds half as many, take twice as long: chosen so, layers of few channels take 3 to 38 % less on AMD
#: Zen 4.
MOVED = 0.30
SCATTERED = 1.3
#: Cycles from the start of an FMA until its sum can be added to.
_FMA_CYCLES = 4.0
#: Cycles per element of a 1 x 1 weight that is laid out in panels, with vectors of 64 bytes; half as long ones take
#: twice as many: 0.5 on AMD Zen 5, and 0.5 to 1.2 on AMD Zen 3, what the caches lose to it included.
PREPARED = 0.45
#: Times as many where L2 is late.
_LATE = 1.6
#: Cycles for entering and leaving one register tile: loop set-up, bias, clip.
TILE_OVERHEAD = 30.0
#: Cycles that the fetching of a task, and its first steps, cost.
TASK_CYCLES = 300.0
#: Cycles for a line of the output that two threads write, which goes from one's cache to the other's. With two threads
#: of Intel Granite Rapids 128 to 512 channels at 28 x 28 take 10 to 14 us more by `im2col` if it is the pixels that are
#: cut, not the channels, 13 to 17 by `direct`, and by `strassen`, of pairs of tiles that lie apart, 40; but 576 to 160
#: at 7 x 7 by `direct` at most 1.
MET = 40.0
#: Cycles for a byte of an output that goes through memory, and is read before: with one thread of Intel Granite Rapids
#: 1 x 1 of 64 to 128 channels at 448 x 448 takes 12 to 15 ms more than foretold without, 0.41 to 0.51 cycles a byte, by
#: `direct` and `strassen`, and 25 by `im2col`; for 64 images of 28 x 28 0.13 cycles.
WRITTEN = 0.4
#: Bytes of weights or panel a cycle that arrive from beyond L1 while the tile computes.
STREAM_BYTES = 24.0
#: Bytes of weights a cycle that come from memory for all threads together: 26 GB/s were measured for one, 32 for two,
#: and 47 for two on AMD Zen 5 since they are asked for ahead. With 8.0, 512 channels at 14 x 14 had tiles of 3 x 3 with
#: two threads, 11 % slower on AMD Zen 4 than those of 3 x 5. With 8.5, at 10 x 10, they had tiles of 2 x 2 with one,
#: which take a third longer on AMD Zen 5 than those of 2 x 5. By 12.0 Zen 5 would gain more, but on AMD Zen 3, where
#: 512 channels at 7 x 7 take up to three times as long if others use L3, these would get half as many weights again.
MEMORY_BYTES = 10.0
#: Seconds of a call that no algorithm can avoid: Python, the driver, and starting threads.
CALL_SECONDS = 6e-6
START_SECONDS = 5e-6


def tile_rate(machine: Machine) -> float:
    """Vector FMAs a cycle of the main tile with operands from L1 and L2: 0.92 of two, and 0.97 of one."""
    return machine.fma_per_cycle * (0.92 if machine.fma_per_cycle > 1 else 0.97)


def fed_by_l2(mr: int, nv: int, machine: Machine) -> bool:
    """Whether L2 feeds a tile each of whose steps loads a row of a panel and a line of pixels.

    It gives some half a vector a cycle. AMD Zen 3, whose vectors and tiles are half as long as those of Zen 5, would
    need two thirds of one.
    """
    step_bytes = nv * machine.vector_bytes + LINE
    return step_bytes * machine.fma_per_cycle / (mr * nv) <= machine.vector_bytes / 2


def step_fmas(mr: int, nv: int, machine: Machine, *, asks: bool = False) -> float:
    """What a step of a tile takes, in vector FMAs.

    Two a cycle, each of four cycles, leave 8 sums no slack: with AVX2 tiles of 5 x 2 run 3 to 4 % below those of 6 x 2,
    of 3 x 3, an odd number of sums for two units, 7 to 10, and of 3 x 2 30 %, which is what 8 sums take. Nor are there
    more loads in a cycle than so many: a step loads ``nv`` vectors, and ``mr`` elements to broadcast. A kernel that
    ``asks`` for lines ahead does so, and where loads are few each takes half as long as one: products of 14 x 2 from
    L2 run at 0.86 of the peak of Intel Ice Lake so, and those of 8 x 3 at 0.95. On Granite Rapids those of 7 x 2 are 7
    to 10 % below those of 10 x 2.
    """
    sums = mr * nv
    waiting = 1.0 if sums >= 12 else 1.08 if sums % 2 and machine.fma_per_cycle > 1 else 1.04
    if asks and machine.asks_near and sums < 16:
        waiting = 1.08
    loads = mr + nv + ((nv + 1) / 2 if asks and machine.few_loads else 0)
    return max(sums * waiting, _FMA_CYCLES * machine.fma_per_cycle, loads * machine.load_fmas)


def move_cycles(machine: Machine) -> float:
    """Cycles per element moved by vector instructions, which are loads for the most."""
    return MOVED * machine.load_fmas


def from_l3(weight_bytes: float, times: float, machine: Machine) -> float:
    """Bytes that come from beyond L2 where a weight is read so many times: what L2 does not keep of it.

    With all taken for lost of what is larger than L2, 64 to 128 channels at 112 x 112, 1.6 MB transformed, came in
    blocks of twice as many tiles on Intel Ice Lake, and took 19 % more.
    """
    return max(0.0, weight_bytes - machine.l2) * times


def preparing_cycles(elements: float, dtype: str, machine: Machine) -> float:
    """Cycles for laying out so many elements of a weight.

    Where L2 is late it takes 0.6 to 1.1 cycles each on Intel Granite Rapids, and what L2 does not hold waits for L3:
    512 to 2048 channels at 7 x 7 took 0.17 ms longer than foretold without either, and 1024 to 2048 0.40.
    """
    return laying_cycles(elements, machine) + from_l3(elements * ITEM_SIZE[dtype], 1.0, machine) / machine.l3_per_cycle


def laying_cycles(elements: float, machine: Machine) -> float:
    """Cycles for laying out so many elements of a weight that stay in L2, where the products find them.

    Transformed by Winograd's matrices they take 0.75 to 0.9 on Intel Granite Rapids, tiles of 2 x 2 to 4 x 4.
    """
    return elements * PREPARED * (_LATE if machine.asks_near else 1.0) * LINE / machine.vector_bytes


def busiest(threads: int, pieces: int, length: int, block: int) -> float:
    """Tasks' worth of time until the last thread is done: of so many ``pieces``, each a length cut into blocks."""
    return _drawn(pieces * (length // block), pieces * (length % block > 0), length % block / block, threads)


def _drawn(whole: float, parts: float, part: float, threads: int) -> float:
    """The same of ``whole`` tasks, drawn one by one, and of ``parts`` after them that take ``part`` of a task each."""
    rounds = math.ceil(whole / threads)
    beyond = parts - (rounds * threads - whole)  # short ones that find no thread idle in the last round
    return rounds + part * math.ceil(max(0.0, beyond) / threads)


def share(threads: int, images: int, *cuts: tuple[int, int]) -> float:
    """Part of the work that the thread with most to do has.

    Tasks are as many as ``images`` times the blocks of every cut, a length and that of a block, of which the last may
    be shorter.
    """
    whole = images * math.prod(length // block for length, block in cuts)
    tasks = images * math.prod(math.ceil(length / block) for length, block in cuts)
    work = images * math.prod(length / block for length, block in cuts)
    if not work:
        return 1.0
    short = tasks - whole
    return _drawn(whole, short, (work - whole) / short if short else 0.0, threads) / work


def lines_met(threads: int, inside: int, outside: int, channels: int) -> int:
    """Lines of an output in which the part of a thread and the next one's meet, where they do.

    Planes are cut into ``inside`` tasks each, and there are ``outside`` blocks of ``channels`` planes, of all images. A
    thread's tasks are neighbours in this order (`locate`), so it ends within planes, unless it has whole blocks.

    Examples
    --------
    >>> lines_met(2, 8, 1, 64), lines_met(2, 8, 2, 64), lines_met(1, 8, 1, 64)
    (64, 0, 0)
    """
    return channels if threads > 1 and inside > 1 and outside % threads else 0


class Work(NamedTuple):
    """Counts of work over all tasks, and the ``share`` of it that the thread with most to do has.

    ``fmas`` vector fused multiply-adds, in ``tiles`` register tiles; elements ``moved`` by vectors and
    ``scattered`` singly; ``streamed`` bytes of operands read from L2 or L3, ``waited`` ones from L3, for which some
    CPUs wait, and ``fetched`` ones from memory; ``prepared`` elements of weight laid out anew in this call, and
    ``laid`` ones that tasks lay out for their own products; ``written`` bytes of output that come and go through
    memory; and ``met``, lines in which two threads' parts of the output meet.
    """

    share: float
    fmas: float
    tiles: float = 0.0
    moved: float = 0.0
    scattered: float = 0.0
    streamed: float = 0.0
    waited: float = 0.0
    fetched: float = 0.0
    prepared: float = 0.0
    met: float = 0.0
    written: float = 0.0
    laid: float = 0.0

    def seconds(self, machine: Machine, threads: int, dtype: str) -> float:
        """Estimated time of one call."""
        computing = max(self.fmas / tile_rate(machine), self.streamed / STREAM_BYTES)
        # What comes from memory is partly hidden behind the computing: 2.4 and 1.6 ms take 2.9. So is what comes from
        # a slow L3.
        waiting = self.waited / machine.l3_per_cycle
        computing = math.hypot(computing, self.fetched / MEMORY_BYTES * threads, waiting)
        preparing = preparing_cycles(self.prepared, dtype, machine)
        moving = self.moved * move_cycles(machine) * ITEM_SIZE[dtype] / ITEM_SIZE["float32"]
        moving += preparing + laying_cycles(self.laid, machine) + self.scattered * SCATTERED + self.written * WRITTEN
        cycles = computing + moving + self.tiles * TILE_OVERHEAD
        starts = (2 if self.prepared else 1) if threads > 1 else 0  # a weight is laid out by all threads, before
        return (cycles * self.share + self.met * MET) / machine.clock + CALL_SECONDS + START_SECONDS * starts
