"""Image filters: kernels made by hand, from before they were learnt, and their application to a picture.

As everywhere in this package, a kernel is laid on the picture as it is written and not flipped: cross-correlation.
A true convolution is the same with the kernel turned by 180 degrees; of the kernels here only the Sobel ones then
change, and only in sign.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from numbaconv.arrays import Array
from numbaconv.functional import conv2d

#: Ways to continue a picture beyond its border, and what `numpy.pad` calls them.
BORDERS = {"edge": "edge", "reflect": "reflect", "zero": "constant"}

#: A kernel whose weights sum to less than this part of their magnitudes has no brightness of its own.
_BALANCED = 1e-4


class Filter(NamedTuple):
    """A kernel and where it is from."""

    kernel: Array
    source: str


def _filter(rows: list[list[int]], divisor: int, source: str) -> Filter:
    return Filter(np.array(rows, np.float32) / divisor, source)


_LINES = "Gonzalez, Woods: Digital Image Processing, 4th ed. 2018, section 10.2, line detection"
_SOBEL = "Sobel, Feldman: An Isotropic 3x3 Image Gradient Operator, 1968; signs and scale as in cv2.Sobel"
_LAPLACIAN = "Gonzalez, Woods, section 3.6: the Laplacian over four neighbours"

FILTERS: dict[str, Filter] = {
    "vertical-lines": _filter([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]], 1, _LINES),
    "horizontal-lines": _filter([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]], 1, _LINES),
    "sobel-x": _filter([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], 1, _SOBEL),
    "sobel-y": _filter([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], 1, _SOBEL),
    "laplacian": _filter([[0, 1, 0], [1, -4, 1], [0, 1, 0]], 1, _LAPLACIAN),
    "sharpen": _filter([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], 1, f"the picture less its Laplacian; {_LAPLACIAN}"),
    "box": _filter([[1, 1, 1], [1, 1, 1], [1, 1, 1]], 9, "mean of the neighbourhood"),
    "gaussian": _filter([[1, 2, 1], [2, 4, 2], [1, 2, 1]], 16, "binomial, a Gaussian of variance 1/2 pixel"),
}


def find_kernel(name: str | os.PathLike[str]) -> Array:
    """The kernel of a name in `FILTERS`, or of a file that `numpy.save` wrote.

    Parameters
    ----------
    name : str or path
        Taken for a file if it ends in ``.npy``.

    Returns
    -------
    numpy.ndarray
        (R, S), float32.

    Raises
    ------
    ValueError
        If it is neither, or the file holds anything but one finite, numeric, two-dimensional array.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> find_kernel("sobel-x")[1]
    array([-2.,  0.,  2.], dtype=float32)
    """
    if Path(name).suffix.lower() == ".npy":
        return _read_kernel(Path(name))
    if name not in FILTERS:
        raise ValueError(f"kernel: expected one of {', '.join(FILTERS)}, or a .npy file, got {os.fspath(name)!r}")
    return FILTERS[str(name)].kernel


def _read_kernel(path: Path) -> Array:
    wanted = f"kernel: expected a two-dimensional array of finite numbers in {path}"
    with path.open("rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a header that is damaged can fail in any way
            raise ValueError(f"{wanted}: {error}") from None
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iuf":
        raise ValueError(f"{wanted}, got shape {array.shape} of {array.dtype}")
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused for that
        kernel = array.astype(np.float32)
    if not np.isfinite(kernel).all():
        raise ValueError(f"{wanted}, got NaN, an infinity, or a number too large for float32")
    return kernel


def is_balanced(kernel: Array) -> bool:
    """Whether the weights sum to zero: then an even area gives 0, and what is seen is the magnitude of the response.

    Examples
    --------
    >>> is_balanced(find_kernel("laplacian")), is_balanced(find_kernel("gaussian"))
    (True, False)
    """
    return bool(abs(kernel.sum(dtype=np.float64)) <= _BALANCED * np.abs(kernel).sum(dtype=np.float64))


def filter_picture(picture: Array, kernel: Array, *, padding: str = "edge") -> Array:
    """Lay a kernel on every pixel of a picture, each channel for itself.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W) or (H, W, channels), of any real type.
    kernel : numpy.ndarray
        (R, S). Of an even side, the pixel after the middle is the one that has a farther neighbour.
    padding : {"edge", "reflect", "zero"}
        What lies beyond the border: its own pixels repeated, the picture mirrored, or black.

    Returns
    -------
    numpy.ndarray
        The response, float32 and of the picture's shape; neither clipped nor rounded.

    Raises
    ------
    ValueError
        If a shape or the padding is wrong.

    Examples
    --------
    >>> step = np.array([[0, 0, 8, 8], [0, 0, 8, 8]])
    >>> filter_picture(step, find_kernel("sobel-x"))
    array([[ 0., 32., 32.,  0.],
           [ 0., 32., 32.,  0.]], dtype=float32)
    """
    if padding not in BORDERS:
        raise ValueError(f"padding: expected one of {', '.join(BORDERS)}, got {padding!r}")
    if picture.ndim not in (2, 3) or not picture.size:
        raise ValueError(f"picture: expected (H, W) or (H, W, channels), got shape {picture.shape}")
    if kernel.ndim != 2:
        raise ValueError(f"kernel: expected (R, S), got shape {kernel.shape}")
    channels = picture.reshape(*picture.shape[:2], -1).transpose(2, 0, 1).astype(np.float32)
    widths = [(0, 0), *(((size - 1) // 2, size // 2) for size in kernel.shape)]
    padded = np.pad(channels, widths, mode=BORDERS[padding])  # type: ignore[call-overload]
    response = conv2d(padded[:, np.newaxis], kernel.astype(np.float32)[np.newaxis, np.newaxis])
    return response[:, 0].transpose(1, 2, 0).reshape(picture.shape)
