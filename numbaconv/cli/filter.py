"""``numbaconv filter``: the classical use of convolution, a hand-made filter over a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from numbaconv.cli.common import Threads, say, use_threads
from numbaconv.cli.photo import check_output, luminance, read_photo, write_photo
from numbaconv.filters import BORDERS, FILTERS, filter_picture, find_kernel, is_balanced


def filter_photo(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture file.", show_default=False)],
    kernel: Annotated[
        str,
        typer.Option(
            "--kernel", "-k", metavar="KERNEL", help=f"{', '.join(FILTERS)}, or FILE.npy.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="Where the result goes.", show_default=False)
    ],
    padding: Annotated[
        str, typer.Option(metavar="BORDER", help=f"What lies beyond the border: {', '.join(BORDERS)}.")
    ] = "edge",
    color: Annotated[
        bool | None,
        typer.Option(
            "--color/--grey", help="Filter red, green and blue each, or brightness alone.", show_default=False
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Lay a kernel on every pixel of a photograph, as it is written (cross-correlation: it is not flipped).

    A kernel whose weights sum to 0 finds edges or lines: it sees brightness alone unless --color says otherwise, and
    what is written is the magnitude of its response. Others filter each colour. Results are clipped to 0..255.

    Example: numbaconv filter photo.jpg --kernel sobel-x -o edges.png
    """
    weights = find_kernel(kernel)
    finds_edges = is_balanced(weights)
    use_threads(threads)
    picture = read_photo(photo)
    check_output(output, photo)
    if not (not finds_edges if color is None else color):
        picture = luminance(picture)
    response = filter_picture(picture, weights, padding=padding)
    write_photo(np.abs(response) if finds_edges else response, output)
    height, width = picture.shape[:2]
    what = "magnitude" if finds_edges else "result"
    channels = "each colour" if picture.ndim == 3 else "brightness"
    say(f"{output}: {width} x {height}, {what} of {kernel} on {channels}")
