"""numbaconv: a convolution engine for CPUs, written in Python and compiled by Numba for the machine it runs on."""

from importlib.metadata import version

from numbaconv import wisdom
from numbaconv.functional import conv1d, conv2d, conv3d
from numbaconv.layers import Conv1d, Conv2d, Conv3d
from numbaconv.parallel import get_num_threads, set_num_threads
from numbaconv.plan import Plan
from numbaconv.planner import plan
from numbaconv.problem import ConvProblem

__version__ = version("numbaconv")

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvProblem",
    "Plan",
    "conv1d",
    "conv2d",
    "conv3d",
    "get_num_threads",
    "plan",
    "set_num_threads",
    "wisdom",
]
