"""What a call allocates beyond its output stays within bounds, on every layer of the networks."""

from __future__ import annotations

import pytest

from numbaconv import networks
from numbaconv.algorithms import ALGORITHMS
from numbaconv.planner import plan_problem

_MOST_BYTES = 64 << 20


@pytest.mark.parametrize("constant_weight", [True, False])
@pytest.mark.parametrize("network", networks.NETWORKS)
def test_layers_of_the_networks(network: str, constant_weight: bool) -> None:
    """Of every algorithm that applies; a weight that changes is prepared in the workspace."""
    for layer in networks.with_options(networks.load(network), constant_weight=constant_weight):
        for name, row in ALGORITHMS.items():
            if row.applicable(layer.problem) is None:
                plan = plan_problem(layer.problem, algorithm=name, threads=2)
                assert plan.workspace_nbytes <= _MOST_BYTES, (layer.name, name)
