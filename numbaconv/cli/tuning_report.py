"""The figures of a tuning: as plain data for JSON, and that data as a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from numbaconv.algorithms import ALGORITHMS
from numbaconv.cli.common import (
    fits,
    heading,
    layer_cells,
    layer_columns,
    new_table,
    plural,
    print_table,
    rates,
    say,
    short,
)
from numbaconv.cli.tuning import Tuning, both
from numbaconv.machine import this_machine
from numbaconv.networks import Layer
from numbaconv.plan import Plan, format_seconds

Report = dict[str, Any]


def tuning_report(tuning: Tuning, peak: float) -> Report:
    """All figures of a tuning; ``peak`` is the machine's, in FLOP/s."""
    layers = tuning.layers
    return {
        "machine": this_machine().name,
        "dtype": layers[0].problem.dtype,
        "threads": tuning.threads,
        "accuracy": layers[0].problem.accuracy,
        "effort": tuning.effort,
        "peak_gflops": peak / 1e9,
        "layers": [_layer_report(tuning, layer, peak) for layer in tuning.done],
        "total": {
            "constant_weight": _total(tuning, peak, constant=True),
            "changing_weight": _total(tuning, peak, constant=False),
        },
        "not_measured": [_names(layer) for layer in tuning.missing],
        "known": sum(tuning.known.issuperset(both(layer.problem)) for layer in layers),
        "interrupted": tuning.interrupted,
    }


def _names(layer: Layer) -> Report:
    return {"name": layer.name, "descriptor": str(layer.problem), "count": layer.count}


def _layer_report(tuning: Tuning, layer: Layer, peak: float) -> Report:
    constant, changing = both(layer.problem)
    return {
        **_names(layer),
        "flops": layer.problem.flops,
        "constant_weight": _plan_report(tuning.plans[constant], peak),
        "changing_weight": _plan_report(tuning.plans[changing], peak) if changing in tuning.plans else None,
    }


def _plan_report(plan: Plan, peak: float) -> Report:
    return {
        "algorithm": plan.algorithm.name,
        "settings": plan.settings._asdict(),
        "seconds": plan.seconds,
        **rates(plan.problem.flops, plan.seconds, peak),
        "effort": plan.origin,
        "measured_seconds": {option.algorithm: option.seconds for option in plan.options if option.seconds is not None},
    }


def _total(tuning: Tuning, peak: float, *, constant: bool) -> Report | None:
    """The layers of a network one after the other, each as often as it occurs; those that are done."""
    counts = {both(layer.problem)[not constant]: layer.count for layer in tuning.layers}
    counts = {problem: count for problem, count in counts.items() if problem in tuning.plans}
    if not counts:
        return None
    seconds = sum(count * tuning.plans[problem].seconds for problem, count in counts.items())
    flops = sum(count * problem.flops for problem, count in counts.items())
    return {"convolutions": sum(counts.values()), "seconds": seconds, **rates(flops, seconds, peak)}


def print_report(report: Report) -> None:
    """Print a tuning for people: the table, the totals, what was left out and where wisdom is."""
    say(heading(report))
    if report["layers"]:
        _print_table(report["layers"])
        _print_total("Conv2d (weight prepared once)", report["total"]["constant_weight"])
        _print_total("conv2d (weight may change)", report["total"]["changing_weight"])
    if report["known"]:
        say(f"known: {plural(report['known'], 'layer')} measured before and not again (--again measures them too)")
    if report["interrupted"]:
        say("interrupted: what was measured until then is kept")
    if report["not_measured"]:
        names = ", ".join(layer["name"] or layer["descriptor"] for layer in report["not_measured"])
        why = "" if report["interrupted"] else " (the budget is spent)"
        say(f"not measured{why}: {names}")
    say(f"wisdom: {report['wisdom'] or 'could not be kept on disk'}")
    if report["saved"]:
        say(f"wisdom also saved to: {report['saved']}")


def _print_table(layers: list[Report]) -> None:
    timed = [
        name for name in ALGORITHMS if any(name in layer["constant_weight"]["measured_seconds"] for layer in layers)
    ]
    table = _wide_table(layers, timed)
    if fits(table):
        print_table(table)
    else:
        print_table(_narrow_table(layers))


def _wide_table(layers: list[Report], timed: list[str]) -> Table:
    """A line for each layer, with a column for each thing."""
    named = layer_columns(layers)
    choices = {"chosen": "word", "GFLOP/s": "number", "% peak": "number"}
    if any(map(_other_choice, layers)):
        choices["conv2d"] = "word"
    table = new_table(named | {"count": "number"} | dict.fromkeys(timed, "number") | choices)
    for layer in layers:
        chosen = layer["constant_weight"]
        times = [Text(_time(chosen, name), _style(chosen, name)) for name in timed]
        cells = [chosen["algorithm"], *_speed(chosen), _other_choice(layer)][: len(choices)]
        table.add_row(*layer_cells(layer, named), str(layer["count"]), *times, *cells)
    return table


def _narrow_table(layers: list[Report]) -> Table:
    """Names above shapes, and of the algorithms the chosen one and the next best, with their times."""
    choices = {"chosen": "text", "next best": "text"}
    if any(map(_other_choice, layers)):
        choices["conv2d"] = "text"
    table = new_table({"layer": "text", "count": "number"} | choices | {"GFLOP/s": "number", "% peak": "number"}, gap=1)
    for layer in layers:
        chosen = layer["constant_weight"]
        others = chosen["measured_seconds"].keys() - {chosen["algorithm"]}
        following = min(others, key=lambda name: chosen["measured_seconds"][name], default="")
        best = (f"{name}\n{_time(chosen, name)}" if name else "-" for name in (chosen["algorithm"], following))
        cells = [*best, _other_choice(layer)][: len(choices)]
        name = "\n".join(filter(None, (layer["name"], short(layer["descriptor"]))))
        table.add_row(name, str(layer["count"]), *cells, *_speed(chosen))
    return table


def _time(plan: Report, name: str) -> str:
    return format_seconds(plan["measured_seconds"].get(name))


def _style(plan: Report, name: str) -> str:
    return "bold" if name == plan["algorithm"] else ""


def _speed(plan: Report) -> tuple[str, str]:
    return f"{plan['gflops']:.1f}", f"{plan['percent_of_peak']:.0f}"


def _other_choice(layer: Report) -> str:
    """The algorithm of `conv2d` where it is not that of the layer."""
    constant, changing = layer["constant_weight"], layer["changing_weight"]
    return "" if changing is None or changing["algorithm"] == constant["algorithm"] else str(changing["algorithm"])


def _print_total(name: str, total: Report | None) -> None:
    if total is not None:
        say(
            f"total {name}: {plural(total['convolutions'], 'convolution')} in {format_seconds(total['seconds'])}, "
            f"{total['gflops']:.1f} GFLOP/s, {total['percent_of_peak']:.0f} % of peak"
        )
