"""The algorithms. A new one is a file of its own and a row here; planner, tests, benchmarks and CLI read the table."""

from numbaconv.algorithms.algorithm import Algorithm, Packing, Schedule, Settings
from numbaconv.algorithms.depthwise import DEPTHWISE
from numbaconv.algorithms.direct import DIRECT
from numbaconv.algorithms.im2col import IM2COL
from numbaconv.algorithms.inner import INNER
from numbaconv.algorithms.reference import REFERENCE
from numbaconv.algorithms.rows import ROWS
from numbaconv.algorithms.strassen import STRASSEN
from numbaconv.algorithms.winograd import WINOGRAD

#: Fastest first where all apply, the reference last.
ALGORITHMS: dict[str, Algorithm] = {
    row.name: row for row in (DEPTHWISE, WINOGRAD, STRASSEN, DIRECT, INNER, IM2COL, ROWS, REFERENCE)
}

__all__ = ["ALGORITHMS", "Algorithm", "Packing", "Schedule", "Settings"]
