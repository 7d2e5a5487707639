"""filter: what it finds in a photograph, photographs of every kind, and outputs that it will not write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import run, run_all
from PIL import Image, ImageOps

from numbaconv.filters import FILTERS, filter_picture, find_kernel

Array = np.ndarray[Any, Any]

ROW, COLUMN = 30, 50


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A grey-green scene of 90 x 60, noisy, with one horizontal and one vertical line that are a little brighter."""
    rng = np.random.default_rng(0)
    scene = np.empty((60, 90, 3), np.uint8)
    scene[:] = (60, 100, 70)
    scene[ROW, :] += 30
    scene[:, COLUMN] = scene[0, COLUMN] + 30
    scene += rng.integers(0, 4, scene.shape, np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(scene).save(path)
    return path


def pixels(path: Path | str) -> Array:
    with Image.open(path) as image:
        return np.asarray(image, np.float64)


def test_lines_and_edges_are_found(photo: Path) -> None:
    names = [*FILTERS]
    results = run_all([["filter", photo, "--kernel", name, "-o", f"{name}.png"] for name in names])
    assert [(result.status, result.err) for result in results] == [(0, "")] * len(names)
    found = {name: pixels(f"{name}.png") for name in names}
    away = np.delete(np.arange(60), range(ROW - 3, ROW + 4))
    vertical, horizontal = found["vertical-lines"], found["horizontal-lines"]
    assert vertical.shape == (60, 90)
    assert vertical[away].argmax(1).tolist() == [COLUMN] * len(away)
    assert vertical[away][:, COLUMN].min() > 120
    assert np.delete(vertical, range(COLUMN - 1, COLUMN + 2), 1).max() < 60
    assert horizontal.argmax(0)[: COLUMN - 3].tolist() == [ROW] * (COLUMN - 3)
    # A gradient is zero on the line itself, and large on both sides of it.
    for name, line in (("sobel-x", found["sobel-x"][5]), ("sobel-y", found["sobel-y"][:, 5])):
        at = COLUMN if name == "sobel-x" else ROW
        assert line[[at - 1, at + 1]].min() > 90
        assert line[at] < 60
    assert found["box"].shape == (60, 90, 3)
    assert found["box"][5, 5] == pytest.approx([61.5, 101.5, 71.5], abs=2)
    assert found["sharpen"][5, COLUMN, 0] == pytest.approx(90 + 2 * 30, abs=16)


def test_output_is_the_response_rounded_and_clipped(photo: Path) -> None:
    commands = [
        ["filter", photo, "-k", "sobel-x", "-o", "grey.png"],
        ["filter", photo, "-k", "sobel-x", "-o", "colour.png", "--color"],
        ["filter", photo, "-k", "gaussian", "-o", "brightness.png", "--grey", "--padding", "reflect"],
    ]
    assert [result.status for result in run_all(commands)] == [0, 0, 0]
    scene = pixels(photo)
    brightness = scene @ [0.299, 0.587, 0.114]
    sobel, gaussian = find_kernel("sobel-x"), find_kernel("gaussian")
    for path, response in (
        ("grey.png", np.abs(filter_picture(brightness, sobel))),
        ("colour.png", np.abs(filter_picture(scene, sobel))),
        ("brightness.png", filter_picture(brightness, gaussian, padding="reflect")),
    ):
        np.testing.assert_allclose(pixels(path), np.clip(response, 0, 255), rtol=0, atol=0.51)


def test_borders(tmp_path: Path) -> None:
    Image.new("L", (12, 8), 200).save("even.png")
    run_all([["filter", "even.png", "-k", "box", "-o", f"{name}.png", "--padding", name] for name in ("edge", "zero")])
    assert np.unique(pixels("edge.png")).tolist() == [200]
    assert pixels("zero.png")[0, 0] == pytest.approx(200 * 4 / 9, abs=0.5)


def test_photographs_of_every_kind(photo: Path) -> None:
    with Image.open(photo) as scene:
        scene.load()
    grey = np.asarray(scene.convert("L"))
    exif = scene.getexif()
    exif[0x0112] = 6
    scene.save("turned.jpg", exif=exif, quality=95)
    Image.fromarray(grey.astype(np.uint16) * 257).save("sixteen.png")
    scene.convert("CMYK").save("cmyk.jpg")
    scene.convert("P").save("palette.gif")
    scene.convert("1").save("bits.png")
    scene.convert("LA").save("grey-alpha.png")
    glass = scene.convert("RGBA")
    glass.putalpha(0)
    glass.save("glass.png")
    scene.crop((0, 0, 1, 1)).save("pixel.png")
    Image.fromarray(grey).save("grey.png")
    names = ["turned.jpg", "sixteen.png", "cmyk.jpg", "palette.gif", "bits.png", "grey-alpha.png", "glass.png"]
    names += ["pixel.png", "grey.png"]
    results = run_all([["filter", name, "-k", "gaussian", "-o", f"out-{name}.png"] for name in names])
    assert [(result.status, result.err) for result in results] == [(0, "")] * len(names)
    with Image.open("turned.jpg") as turned:
        upright = np.asarray(ImageOps.exif_transpose(turned), np.float64)
    assert upright.shape == (90, 60, 3)
    np.testing.assert_allclose(
        pixels("out-turned.jpg.png"), filter_picture(upright, find_kernel("gaussian")), rtol=0, atol=0.51
    )
    np.testing.assert_allclose(pixels("out-sixteen.png.png"), pixels("out-grey.png.png"), rtol=0, atol=1)
    assert np.unique(pixels("out-glass.png.png")).tolist() == [255]
    assert pixels("out-pixel.png.png").shape == (1, 1, 3)


def test_kernel_from_a_file_and_output_in_another_format(photo: Path, tmp_path: Path) -> None:
    np.save("shift.npy", np.array([[0, 0, 1]]))
    result = run("filter", photo, "--kernel", "shift.npy", "--output", "shifted.bmp", "--threads", 1)
    assert result.status == 0
    assert "shifted.bmp" in result.out
    np.testing.assert_array_equal(pixels("shifted.bmp")[:, :-1], pixels(photo)[:, 1:])


def test_what_is_refused(photo: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    (tmp_path / "broken.png").write_bytes(before[:200])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(photo)
    os.link(photo, tmp_path / "same.png")
    Image.new("F", (4, 4)).save("float.tiff")
    np.save("flat.npy", np.ones(3))
    box = ["-k", "box", "-o"]
    refusals: dict[tuple[object, ...], list[str]] = {
        ("missing.png", *box, "o.png"): ["missing.png"],
        ("folder.png", *box, "o.png"): ["folder.png"],
        ("broken.png", *box, "o.png"): ["broken.png", "not a photograph"],
        ("text.png", *box, "o.png"): ["text.png", "not a photograph"],
        ("float.tiff", *box, "o.png"): ["float.tiff", "floating-point"],
        (photo, *box, photo): ["photo.png", "left alone"],
        (photo, *box, "link.png"): ["link.png", "left alone"],
        (photo, *box, "same.png"): ["same.png", "left alone"],
        (photo, *box, "o.xyz"): ["output", "o.xyz"],
        (photo, *box, "none/o.png"): ["output", "none"],
        (photo, *box, "folder.png"): ["folder.png"],
        (photo, *box, "o.png", "--padding", "wrap"): ["padding", "wrap"],
        (photo, *box, "o.png", "--threads", "0"): ["threads"],
        (photo, "-k", "sobel", "-o", "o.png"): ["kernel", "sobel-x"],
        (photo, "-k", "flat.npy", "-o", "o.png"): ["flat.npy", "(3,)"],
        (photo, "-k", "none.npy", "-o", "o.png"): ["none.npy"],
        (photo, "-k", "box"): ["--output"],
    }
    listing = sorted(path.name for path in tmp_path.iterdir())
    for words, result in zip(refusals.values(), run_all([["filter", *rest] for rest in refusals]), strict=True):
        result.assert_refused(*words)
    assert photo.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == listing


def test_without_pillow(photo: Path) -> None:
    result = run("filter", photo, "-k", "box", "-o", "o.png", prelude="import sys\nsys.modules['PIL'] = None")
    result.assert_refused("pip install 'numbaconv[photo]'")
