"""Filters by hand: against SciPy, and for what each of them is meant to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal

from numbaconv.filters import BORDERS, FILTERS, filter_picture, find_kernel, is_balanced

Array = np.ndarray[Any, Any]


def expected(picture: Array, kernel: Array, border: str) -> Array:
    """The response of one channel by SciPy, in float64."""
    widths = [((size - 1) // 2, size // 2) for size in kernel.shape]
    padded = np.pad(picture.astype(np.float64), widths, mode=BORDERS[border])  # type: ignore[call-overload]
    return signal.correlate2d(padded, kernel, mode="valid")


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("name", FILTERS)
def test_named_filters(name: str, border: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 45), np.uint8)
    kernel = find_kernel(name)
    response = filter_picture(picture, kernel, padding=border)
    np.testing.assert_allclose(response, expected(picture, kernel, border), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 3), (1, 6), (9, 9)])
def test_kernels_of_any_size_keep_the_size_of_the_picture(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    picture, kernel = rng.random((7, 12)), rng.standard_normal(shape)
    for border in BORDERS:
        response = filter_picture(picture, kernel, padding=border)
        np.testing.assert_allclose(response, expected(picture, kernel, border), rtol=0, atol=1e-5)


def test_channels_are_filtered_each_for_itself() -> None:
    picture = np.random.default_rng(2).random((8, 9, 3))
    kernel = find_kernel("sharpen")
    together = filter_picture(picture, kernel)
    assert together.shape == picture.shape
    for channel in range(3):
        np.testing.assert_array_equal(together[..., channel], filter_picture(picture[..., channel], kernel))


def test_a_kernel_is_not_flipped() -> None:
    picture = np.zeros((3, 3))
    picture[1, 1] = 1
    kernel = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(filter_picture(picture, kernel), kernel[::-1, ::-1])


def test_line_filters_see_their_own_direction() -> None:
    picture = np.zeros((9, 9))
    picture[:, 4] = 1
    assert filter_picture(picture, find_kernel("vertical-lines"))[:, 4].tolist() == [6] * 9
    assert not filter_picture(picture, find_kernel("horizontal-lines")).any()


def test_sums_of_weights() -> None:
    balanced = {name for name in FILTERS if is_balanced(find_kernel(name))}
    assert balanced == {"vertical-lines", "horizontal-lines", "sobel-x", "sobel-y", "laplacian"}
    for name in FILTERS.keys() - balanced:
        assert find_kernel(name).sum() == pytest.approx(1)


def test_every_filter_names_its_source() -> None:
    assert all(row.source for row in FILTERS.values())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint16])
def test_kernel_from_a_file(dtype: type, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)))
    kernel = find_kernel(tmp_path / "mine.npy")
    assert kernel.dtype == np.float32
    assert kernel.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"got shape \(3,\) of float64"),
        (np.ones((2, 2, 2)), r"got shape \(2, 2, 2\)"),
        (np.ones((0, 3)), r"got shape \(0, 3\)"),
        (np.ones((2, 2)) * 1j, "of complex128"),
        (np.ones((2, 2), bool), "of bool"),
        (np.array([["a"]]), "of <U1"),
        (np.array([[np.nan]]), "got NaN"),
        (np.array([[1e300]]), "too large for float32"),
        (np.array([[None]]), "allow_pickle=False"),
    ],
)
def test_file_that_holds_no_kernel(array: Array, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"kernel: expected a two-dimensional array of finite numbers in .*{message}"):
        find_kernel(tmp_path / "mine.npy")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', ",
        b"\x93NUMPY\x01\x00\x35\x00{'descr': (), 'fortran_order': False, 'shape': (1, 1)}",
    ],
)  # fmt: skip
def test_file_of_another_format(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.npy").write_bytes(content)
    with pytest.raises(ValueError, match="kernel: expected a two-dimensional array of finite numbers in"):
        find_kernel(tmp_path / "mine.npy")


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kernel: expected one of vertical-lines, .* got 'sobel'"):
        find_kernel("sobel")
    with pytest.raises(FileNotFoundError):
        find_kernel(tmp_path / "none.npy")
    with pytest.raises(ValueError, match="padding: expected one of edge, reflect, zero, got 'wrap'"):
        filter_picture(np.ones((3, 3)), np.ones((1, 1)), padding="wrap")
    for shape in ((3,), (0, 3), (2, 2, 2, 2)):
        with pytest.raises(ValueError, match="picture: expected"):
            filter_picture(np.ones(shape), np.ones((1, 1)))


def test_a_kernel_that_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"kernel: expected \(R, S\), got shape \(3,\)"):
        filter_picture(np.ones((3, 3)), np.ones(3))
