"""Photographs as arrays: read with Pillow whatever their mode, and written whole or not at all."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from numbaconv.arrays import Array
from numbaconv.files import check_replaceable, replaced

#: Rec. 601 luma, of gamma-encoded values as photographs have them: how bright people see red, green and blue.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def read_photo(path: Path) -> Array:
    """A photograph as it is looked at: turned as its EXIF orientation says, and what is transparent on white.

    Returns
    -------
    numpy.ndarray
        (H, W) of a grey photograph, else (H, W, 3); float32 between 0 and 255 of whatever depth the file is.

    Raises
    ------
    ValueError
        If Pillow is missing, or cannot make sense of the file.
    OSError
        If the file cannot be read.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise ValueError("photographs need Pillow, which is not installed: pip install 'numbaconv[photo]'") from None
    with path.open("rb") as file:
        try:
            with Image.open(file) as image:
                return _as_array(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise ValueError(f"{path}: not a photograph in a format that Pillow knows") from None
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: not a photograph that can be read: {error}") from None


def _as_array(image: Any) -> Array:
    if image.mode.startswith("I"):  # 16 bits, whether Pillow keeps them in 16 or 32
        return np.clip(np.asarray(image, np.float32) / 257, 0, 255)
    if image.mode == "F":
        raise ValueError("it has floating-point pixels, whose range nobody knows")
    if image.has_transparency_data:
        from PIL import Image

        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"), np.float32)


def luminance(picture: Array) -> Array:
    """The brightness (H, W) of a picture (H, W, 3); one that is grey already comes back as it is.

    Examples
    --------
    >>> float(luminance(np.full((1, 1, 3), 100.0, np.float32))[0, 0])
    100.0
    """
    return picture if picture.ndim == 2 else picture @ _LUMA


def check_output(path: Path, photo: Path) -> None:
    """Refuse, before anything is computed, a path that the result cannot or should not be written to.

    Raises
    ------
    ValueError
        If its suffix is of no format, its folder is missing, or it is the photograph itself by whatever name.
    OSError
        If there is something else than a file.
    """
    if _format(path) is None:
        raise ValueError(f"output: expected the suffix of a picture's format, as .png, got {path.name!r}")
    if not path.parent.is_dir():
        raise ValueError(f"output: there is no folder {path.parent}")
    check_replaceable(path)
    if path.exists() and path.samefile(photo):
        raise ValueError(f"output: {path} is the photograph itself, which is left alone")


def _format(path: Path) -> str | None:
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    return name if name in Image.SAVE else None


def write_photo(picture: Array, path: Path) -> None:
    """Write a picture, rounded and clipped to 0..255, in the format of the path's suffix.

    Raises
    ------
    OSError, ValueError
        If the file cannot be written, or its format cannot hold the picture; what was there before is untouched.
    """
    from PIL import Image

    image = Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    with replaced(path) as file:  # Pillow leaves half a file behind when it fails
        image.save(file, _format(path))
