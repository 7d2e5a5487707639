"""The sets of layers that are measured: the networks, and what they lack."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from numbaconv import networks
from numbaconv.networks import Layer

SETS = ("resnet50", "vgg16", "mobilenet_v2", "mixed")
_MIXED = Path(__file__).with_name("mixed.txt")


def load_sets(names: Iterable[str]) -> dict[str, list[Layer]]:
    """The layers of each set; a name that is none of these is read as `networks.load` does."""
    return {name: networks.load(_MIXED if name == "mixed" else name) for name in names}
