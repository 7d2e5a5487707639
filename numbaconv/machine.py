"""This CPU, as far as kernels and planner care: vector width, registers, caches, and a nominal clock."""

from __future__ import annotations

import functools
import math
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numba.core import registry

from numbaconv.arguments import ITEM_SIZE

#: Cache sizes in bytes assumed where the system does not tell: small ones, which are never too large for a block.
_DEFAULT_CACHES = (32 << 10, 512 << 10, 4 << 20)
#: Clock in Hz that turns the cost model's cycles into the seconds it prints, to which it adds those of any call.
_NOMINAL_CLOCK = 3.5e9
#: Bytes a cycle that come from L3 on Intel's servers since Ice Lake: they read 27 to 30 GB/s.
_INTEL_L3 = 8.0
#: What `Machine` has of cores unlike the usual one, by LLVM's names of CPUs, with vectors of 64 bytes. AMD Zen 4
#: computes these in halves, and some of Intel's have one unit that wide. Intel Ice Lake, of two, was measured to load
#: little more than one a cycle, be it one element for all lanes: products in tiles of 14 x 1 run at half the peak, of
#: 6 x 2 at 0.79, of 14 x 2 at 0.93, and of 8 x 3 and 6 x 4 at 0.98 and more. Those of 32 bytes it loads twice a cycle.
#: Sapphire Rapids and later ones load two.
_HALVES = {"fma_per_cycle": 1.0, "loads_per_cycle": 1.0}
_LATE_L2 = {"l3_per_cycle": _INTEL_L3, "asks_near": True}
_CORES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("znver4", "icelake-client", "tigerlake", "rocketlake"), _HALVES),
    "icelake-server": {"loads_per_cycle": 1.06, **_LATE_L2},
    **dict.fromkeys(("sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d"), _LATE_L2),
}
#: A feature that all from Sapphire Rapids on have, however they are called: a virtual machine may hide which it is.
_SINCE_SAPPHIRE_RAPIDS = "+amx-tile"


@dataclass(frozen=True)
class Machine:
    """What decides tile shapes and block sizes.

    Parameters
    ----------
    name : str
        The processor's model name, for people.
    vector_bytes : int
        Width of a vector register that kernels are compiled for: 64 (AVX-512), 32 (AVX2) or 16 (NEON, SSE).
    registers : int
        Vector registers of one thread: 32 or 16.
    l1, l2, l3 : int
        Bytes of data cache; L1 and L2 of one core, L3 of all together.
    fma_per_cycle, loads_per_cycle : float
        Vector fused multiply-adds that a core can finish in a cycle, and vectors that it can load.
    l3_per_cycle : float
        Bytes a cycle that come from L3, beside which products are computed; infinite where they need not wait.
    asks_near : bool
        Whether products ask ahead for what L1 does not hold, since the processor's own prefetching is too late.
    clock : float
        Hz by which the cost model turns cycles into seconds.

    Examples
    --------
    >>> machine = Machine("some Zen 3", vector_bytes=32, registers=16, l1=32768, l2=524288, l3=33554432)
    >>> machine.lanes("float32"), machine.lanes("float64")
    (8, 4)
    """

    name: str
    vector_bytes: int
    registers: int
    l1: int
    l2: int
    l3: int
    fma_per_cycle: float = 2.0
    loads_per_cycle: float = 2.0
    l3_per_cycle: float = math.inf
    asks_near: bool = False
    clock: float = _NOMINAL_CLOCK

    @property
    def tiles(self) -> str:
        """Which of an algorithm's lists of register tiles fits: "avx512", "neon" or "avx2", the last for SSE too."""
        if self.registers < 32:
            return "avx2"
        return "avx512" if self.vector_bytes == 64 else "neon"

    @property
    def load_fmas(self) -> float:
        """Vector FMAs that finish while one vector is loaded."""
        return self.fma_per_cycle / self.loads_per_cycle

    @property
    def few_loads(self) -> bool:
        """Whether fewer vectors are loaded than FMAs finish."""
        return self.load_fmas > 1

    @property
    def slow_l3(self) -> bool:
        """Whether products wait for what comes from L3."""
        return math.isfinite(self.l3_per_cycle)

    def lanes(self, dtype: str) -> int:
        """Elements of ``dtype`` in one vector."""
        return self.vector_bytes // ITEM_SIZE[dtype]


@functools.cache
def this_machine() -> Machine:
    """The machine this process runs on, as Numba compiles for it (``NUMBA_CPU_NAME`` and ``_FEATURES`` count)."""
    _, cpu, features = registry.cpu_target.target_context.codegen().magic_tuple()
    vector_bytes, registers = _vectors(features.split(","), platform.machine())
    core = _core(cpu, features.split(","), vector_bytes)
    return Machine(_processor_name(), vector_bytes, registers, *_caches(), **core)


def _core(cpu: str, features: list[str], vector_bytes: int) -> dict[str, Any]:
    """How a CPU is unlike the usual one, by LLVM's names of it and of its features, with vectors of so many bytes.

    Examples
    --------
    >>> _core("rocketlake", [], 64), _core("rocketlake", [], 32), _core("znver5", [], 64)
    ({'fma_per_cycle': 1.0, 'loads_per_cycle': 1.0}, {}, {})
    >>> _core("rocketlake", ["+amx-tile"], 64) == _core("graniterapids", [], 64)
    True
    """
    name = "sapphirerapids" if _SINCE_SAPPHIRE_RAPIDS in features else cpu
    return _CORES.get(name, {}) if vector_bytes == 64 else {}


def _vectors(features: list[str], architecture: str) -> tuple[int, int]:
    """Bytes and number of the vector registers, from LLVM's feature names."""
    if "+avx512f" in features and "+avx512vl" in features:
        return 64, 32
    if "+avx" in features and "+fma" in features:
        return 32, 16
    return 16, 32 if architecture.lower() in ("aarch64", "arm64") else 16


def _caches() -> tuple[int, int, int]:
    """Bytes of L1 data, L2 and L3 cache, from Linux's sysfs or macOS's sysctl."""
    sizes = list(_DEFAULT_CACHES)
    for level, size in _linux_caches() if sys.platform == "linux" else _darwin_caches():
        sizes[level - 1] = size
    return sizes[0], sizes[1], sizes[2]


def _linux_caches() -> list[tuple[int, int]]:
    found = []
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*"):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction" and int(level) <= 3 and size.endswith("K"):
                found.append((int(level), int(size[:-1]) << 10))
        except (OSError, ValueError):
            continue
    return found


def _darwin_caches() -> list[tuple[int, int]]:
    if sys.platform != "darwin":
        return []
    found = []
    for level, key in enumerate(("hw.l1dcachesize", "hw.l2cachesize", "hw.l3cachesize"), 1):
        reply = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False).stdout.strip()
        if reply.isdigit() and int(reply):
            found.append((level, int(reply)))
    return found


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
