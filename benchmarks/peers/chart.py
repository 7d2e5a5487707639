"""The chart: for every layer, our speed over that of the best peer."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.engines import PEERS
from benchmarks.peers.measure import Result

_COLOURS = {"torch": "tab:red", "onnxruntime": "tab:blue", "openvino": "tab:purple", "ncnn": "tab:green"}


def draw(results: dict[str, list[Result]], threads: int, path: Path) -> None:
    """One panel a set, a bar a layer, coloured by which peer was the best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import patches
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(11, 2.5 * len(results)), layout="constrained", squeeze=False)
    for axis, (name, measured) in zip(axes[:, 0], results.items(), strict=True):
        ratios = [result.ratio("numbaconv", PEERS) for result in measured]
        colours = [_COLOURS[result.best_peer()] for result in measured]
        axis.bar(range(len(ratios)), ratios, color=colours)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(
            range(len(ratios)), [result.layer.name for result in measured], rotation=60, ha="right", fontsize=6
        )
        axis.set_ylabel("best peer's time / ours")
        axis.set_title(f"{name}, {threads} threads", fontsize=9)
    handles = [patches.Patch(color=colour) for colour in _COLOURS.values()]
    figure.legend(
        handles, [f"best peer is {peer}" for peer in _COLOURS], loc="outside upper center", fontsize=7, ncols=4
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
