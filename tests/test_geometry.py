"""How tasks are counted."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

from numbaconv.geometry import locate


def test_a_part_of_the_tasks_has_a_part_of_the_channels() -> None:
    """Every combination of blocks is one task, neighbours along a row are neighbours, and channels come slowest."""
    g = SimpleNamespace(N=2, tasks_g=3, tasks_o=2, tasks_p=4, tasks_q=5, tasks_k=3)
    places = [locate(task, g) for task in range(2 * 3 * 2 * 4 * 5 * 3)]
    expected = product(*map(range, (g.tasks_k, g.N, g.tasks_g, g.tasks_o, g.tasks_p, g.tasks_q)))
    assert [(k, *rest) for *rest, k in places] == list(expected)
