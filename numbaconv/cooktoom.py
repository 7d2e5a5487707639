"""Matrices of Winograd's minimal filtering F(m, r), by Toom and Cook's method, in exact rational numbers.

``y = A^T ((G g) * (B^T d))`` computes ``m`` outputs of the correlation of ``r`` weights ``g`` with ``n = m + r - 1``
inputs ``d`` by ``n`` products: polynomials are evaluated at ``n - 1`` points and infinity, multiplied there, and
interpolated. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016); the
construction is that of Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for
Deep Neural Networks" (ACM TOMS 46(4), 2020), who show how much the points decide the error.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

Matrix = tuple[tuple[Fraction, ...], ...]

#: Interpolation points besides 0 and infinity by n, in pairs of opposite sign, which halves the transforms' work.
#: Found by measuring the error in float32 of all pairs of eighths to 3: F(4, 3) has 1.2e-6 with these (64 channels),
#: 4.4e-6 with the customary 1 and 2; F(6, 3) has 6.3e-6, and 8.5e-6 with 1/2, 1 and 2. Eighths make A and B exact.
_PAIRS = {
    4: (Fraction(1),),
    6: (Fraction(3, 4), Fraction(11, 8)),
    8: (Fraction(1, 2), Fraction(9, 8), Fraction(2)),
}


class Transforms(NamedTuple):
    """``output`` is A^T, m x n; ``weight`` is G, n x r; ``input`` is B^T, n x n."""

    output: Matrix
    weight: Matrix
    input: Matrix


def _product(roots: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), lowest power first."""
    coefficients: tuple[Fraction, ...] = (Fraction(1),)
    for root in roots:
        shifted = (Fraction(0), *coefficients)
        scaled = (*(-root * c for c in coefficients), Fraction(0))
        coefficients = tuple(a + b for a, b in zip(shifted, scaled, strict=True))
    return coefficients


def transforms_at(m: int, r: int, points: tuple[Fraction, ...]) -> Transforms:
    """The matrices of F(m, r) for any ``m + r - 2`` different points."""
    n = m + r - 1
    finite = []
    for j, point in enumerate(points):
        others = points[:j] + points[j + 1 :]
        polynomial = _product(others)
        value = sum(c * point**power for power, c in enumerate(polynomial))
        finite.append((polynomial, value))
    output = tuple((*(point**i for point in points), Fraction(int(i == m - 1))) for i in range(m))
    weight = (
        *(tuple(point**i / value for i in range(r)) for point, (_, value) in zip(points, finite, strict=True)),
        tuple(Fraction(int(i == r - 1)) for i in range(r)),
    )
    rows = [(*polynomial, *(Fraction(0),) * (n - len(polynomial))) for polynomial, _ in finite]
    return Transforms(output, weight, (*rows, _product(points)))


@functools.cache
def transforms(m: int, r: int) -> Transforms:
    """The matrices of F(m, r) at the points chosen for accuracy, rows of B^T scaled to the order of 1.

    Scaling by powers of two, undone in G, rounds nothing; it keeps products of many channels from growing apart.

    Raises
    ------
    ValueError
        If there are no points for m + r - 1.

    Examples
    --------
    >>> [[str(entry) for entry in row] for row in transforms(2, 3).output]
    [['1', '1', '1', '0'], ['0', '1', '-1', '1']]
    """
    if m == r == 1:
        one = ((Fraction(1),),)
        return Transforms(one, one, one)
    if m + r - 1 not in _PAIRS:
        raise ValueError(f"F({m}, {r}): expected m + r - 1 among {', '.join(map(str, _PAIRS))}")
    pairs = _PAIRS[m + r - 1]
    raw = transforms_at(m, r, (Fraction(0), *(point for pair in pairs for point in (pair, -pair))))
    scales = [Fraction(2) ** -round(math.log2(max(map(abs, row)))) for row in raw.input]
    return Transforms(
        raw.output,
        tuple(tuple(entry / scale for entry in row) for row, scale in zip(raw.weight, scales, strict=True)),
        tuple(tuple(entry * scale for entry in row) for row, scale in zip(raw.input, scales, strict=True)),
    )
