"""What the commands share: options, where layers come from, and how figures are printed."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from numbaconv import networks, parallel
from numbaconv.networks import Layer
from numbaconv.problem import ConvProblem

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Networks, files of descriptors, or descriptors: those without mb are of 2 images, as in benchdnn.",
        show_default=False,
    ),
]
Batch = Annotated[
    int | None, typer.Option(metavar="N", help="Images at once, instead of what the source says.", show_default=False)
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="float32 or float64.")]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Threads of a convolution, all cores by default.", show_default=False)
]
Accuracy = Annotated[
    str | None,
    typer.Option(
        metavar="WHICH",
        help="strict, default or fast: algorithms with an error of up to 2e-6, 4e-6 or 2e-5 in float32.",
        show_default=False,
    ),
]
ConstantWeight = Annotated[
    bool,
    typer.Option(
        "--constant-weight/--changing-weight",
        help="A weight prepared once, as a Conv2d layer has, or in each call, as conv2d does.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to the standard output.")]

#: Nothing that a pipe's reader would have to unwrap.
_UNBOUNDED = 100_000


def use_threads(threads: int | None) -> int:
    """Compute with so many threads from here on, or with as many as there are; returns their number."""
    if threads is None:
        return parallel.get_num_threads()
    most = parallel.max_threads()
    if not 1 <= threads <= most:
        raise ValueError(f"threads: expected 1 to {most}, got {threads} (NUMBA_NUM_THREADS sets the most)")
    parallel.set_num_threads(threads)
    return threads


def load_layers(
    sources: Iterable[str], *, batch: int | None, dtype: str, accuracy: str | None, constant_weight: bool = True,
    may_be_empty: bool = False,
) -> list[Layer]:  # fmt: skip
    """The distinct convolutions of the sources in order, refused where there is nothing to compute."""
    found: list[Layer] = []
    for source in sources:
        try:
            found += networks.load(source, accuracy=accuracy)
        except UnicodeDecodeError:
            raise ValueError(f"{source}: expected a text file of descriptors") from None
    layers = networks.with_options(found, batch=batch, dtype=dtype, constant_weight=constant_weight)
    for layer in layers:
        if layer.problem.batch == 0 and not may_be_empty:
            raise ValueError(f"batch: expected at least 1 image to compute, got {layer.problem}")
    return layers


def heading(report: Mapping[str, Any]) -> str:
    """What all figures of a report were measured with."""
    return (
        f"{report['dtype']}, {plural(report['threads'], 'thread')} on {report['machine']}, "
        f"measured peak {report['peak_gflops']:.0f} GFLOP/s"
    )


def title(layer: Layer) -> str:
    """What a layer is called where one line speaks of it."""
    return layer.name or str(layer.problem)


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is; piped, it is as wide as its content.

    Made when something is printed, since it takes the stream of that moment.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else _UNBOUNDED
    )


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def say(text: str) -> None:
    """Print a line, which a terminal may wrap but nobody cuts."""
    console().print(text, soft_wrap=True)


def print_table(table: Table) -> None:
    """Print a table; piped, without the spaces that fill up its last column."""
    out = console()
    with out.capture() as captured:
        out.print(table)
    text = captured.get()
    print(text if out.is_terminal else "\n".join(map(str.rstrip, text.splitlines())))


def fits(table: Table) -> bool:
    """Whether a table can be printed without folding a cell."""
    out = console()
    return out.measure(table, options=out.options.update(max_width=_UNBOUNDED)).maximum <= out.width


def print_json(report: Any) -> None:
    print(json.dumps(_finite(report), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def new_table(columns: Mapping[str, str], *, gap: int = 2) -> Table:
    """A table with a rule under its head, whose columns are ``gap`` spaces apart.

    Columns are of "text", which may fold where a terminal is narrow, of a "word", or of a "number".
    """
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for name, kind in columns.items():
        align: JustifyMethod = "right" if kind == "number" else "left"
        table.add_column(name, justify=align, no_wrap=kind != "text", overflow="fold")
    return table


def layer_columns(layers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Columns for what layers are called and what they are; without names if no layer has one."""
    named = any(layer["name"] for layer in layers)
    return ({"layer": "text"} if named else {}) | {"shape": "text"}


def layer_cells(layer: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """The cells of a layer in its `layer_columns`."""
    return [layer["name"]] * ("layer" in columns) + [short(layer["descriptor"])]


def short(descriptor: str) -> str:
    """The descriptor without what the rest of it implies, so that more of them fit into a table.

    Examples
    --------
    >>> short("mb1ic64ih56oc64oh56kh1ph0"), short("mb1ic8ih9oc8oh9kh2ph0")
    ('mb1ic64ih56oc64kh1', 'mb1ic8ih9oc8oh9kh2ph0')
    """
    text = re.sub(r"o[dhw]\d+|p[dhw]0(?!\d)", "", descriptor)
    try:
        implied = ConvProblem.parse(text, accuracy="default")
    except ValueError:  # the kernel fits by the padding after the input, which the output alone tells
        return descriptor
    return text if implied == ConvProblem.parse(descriptor, accuracy="default") else descriptor


def rates(flops: float, seconds: float, peak: float) -> dict[str, float]:
    """Speed as every report gives it; ``peak`` is in FLOP/s."""
    return {"gflops": flops / seconds / 1e9, "percent_of_peak": 100 * flops / seconds / peak}
