"""Matrices of Winograd's minimal filtering F(m, r), by Toom and Cook's method, in exact rational numbers.

``y = A^T ((G g) * (B^T d))`` computes ``m`` outputs of the correlation of ``r`` weights ``g`` with ``n = m + r - 1``
inputs ``d`` by ``n`` products: polynomials are evaluated at ``n - 1`` points and infinity, multiplied there, and
interpolated. With a stride, the weights and inputs of each phase (the even and the odd ones, with stride 2) make a
correlation of unit stride, and the outputs of the phases add up: all are evaluated at the same points, and their
products are summed before they are interpolated. Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (CVPR 2016); the construction is that of Barabasz et al., "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks" (ACM TOMS 46(4), 2020), who show how much the points decide the error.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

from numbaconv.runtime import shared

Matrix = tuple[tuple[Fraction, ...], ...]

#: Interpolation points by n, besides infinity and for even n 0, in pairs of opposite sign, which halves the transforms'
#: work. Those of the least `amplification` for r = 3 among eighths and sixteenths that leave A and B exact in float32;
#: with n = 3, as with 4, small integers give exact results. F(4, 3) has an error of 1.4e-6 so (64 channels), and of
#: 4.4e-6 with the customary 1 and 2. For odd n, 0 and an odd point out instead of the last pair are a third worse.
_PAIRS = {
    3: (Fraction(1),),
    4: (Fraction(1),),
    5: (Fraction(7, 16), Fraction(5, 4)),
    6: (Fraction(3, 4), Fraction(11, 8)),
    7: (Fraction(5, 16), Fraction(7, 8), Fraction(13, 8)),
    8: (Fraction(9, 16), Fraction(1), Fraction(7, 4)),
}


class Transforms(NamedTuple):
    """``output`` is A^T, m x n; ``weight`` is G, n x r; ``input`` is B^T, n x n."""

    output: Matrix
    weight: Matrix
    input: Matrix


#: Where each is among them.
OUTPUT, WEIGHT, INPUT = range(3)


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
    n = m + r - 1
    if m == 1 or r == 1:  # the direct sum of n products, or n sums of one
        one = Fraction(1)
        identity = tuple(tuple(Fraction(int(i == j)) for j in range(n)) for i in range(n))
        return Transforms(identity if r == 1 else ((one,) * n,), identity if m == 1 else ((one,),) * n, identity)
    if n not in _PAIRS:
        raise ValueError(f"F({m}, {r}): expected m + r - 1 among {', '.join(map(str, _PAIRS))}")
    zero = (Fraction(0),) * (n % 2 == 0)
    raw = transforms_at(m, r, (*zero, *(point for pair in _PAIRS[n] for point in (pair, -pair))))
    scales = [Fraction(2) ** -round(math.log2(max(map(abs, row)))) for row in raw.input]
    return Transforms(
        raw.output,
        tuple(tuple(entry / scale for entry in row) for row, scale in zip(raw.weight, scales, strict=True)),
        tuple(tuple(entry * scale for entry in row) for row, scale in zip(raw.input, scales, strict=True)),
    )


class Phases(NamedTuple):
    """A kernel's taps by their remainder of division by the stride: those of each make a kernel of unit stride.

    There are ``number`` phases, the first ``whole`` of ``taps`` taps, and those behind them of one tap less.
    """

    number: int
    taps: int
    whole: int


@shared
def phases(r: int, stride: int) -> Phases:
    """The phases of ``r`` taps that have some.

    Examples
    --------
    >>> phases(3, 1), phases(7, 2), phases(2, 3)
    (Phases(number=1, taps=3, whole=1), Phases(number=2, taps=4, whole=1), Phases(number=2, taps=1, whole=2))
    """
    taps = -(-r // stride)
    return Phases(min(r, stride), taps, r - stride * (taps - 1))


@shared
def point_count(m: int, r: int, stride: int = 1) -> int:
    """Points of F(m, r): those of its longest phase.

    Examples
    --------
    >>> point_count(4, 3), point_count(5, 3, stride=2)
    (6, 6)
    """
    return m + phases(r, stride).taps - 1


@shared
def phases_seen(r: int, stride: int, last: bool) -> int:
    """Phases that have a product at a point; at the ``last``, which sees the last tap alone, whole ones have.

    Be that point infinity or, in a direct sum, the last of the products.

    Examples
    --------
    >>> phases_seen(3, 2, False), phases_seen(3, 2, True)
    (2, 1)
    """
    seen = phases(r, stride)
    return seen.whole if last else seen.number


def product_count(m: int, r: int, stride: int = 1) -> int:
    """Products of F(m, r) for each channel: one for each point and phase that it sees.

    Examples
    --------
    >>> product_count(4, 3), product_count(5, 3, stride=2)
    (6, 11)
    """
    before = point_count(m, r, stride) - 1
    return before * phases_seen(r, stride, last=False) + phases_seen(r, stride, last=True)


def tile_sizes(r: int, stride: int = 1) -> list[int]:
    """The m of the F(m, r) for which there are points and which save products, behind 1, the direct sum.

    Examples
    --------
    >>> tile_sizes(3), tile_sizes(5, stride=2), tile_sizes(3, stride=3)
    ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1])
    """
    if r <= stride:
        return [1]
    return [1, *(m for m in range(2, max(_PAIRS)) if point_count(m, r, stride) in _PAIRS)]


@functools.cache
def amplification(m: int, r: int, stride: int = 1) -> float:
    """How much larger the rounding error of sums of F(m, r)'s products is than that of the direct sum; at most.

    Inputs and weights being random and independent, a product has the variance of its rows of B^T and G, and the sums'
    errors grow with it. Along two axes the factors multiply.

    Examples
    --------
    >>> [round(amplification(m, 3), 1) for m in (1, 2, 4, 6)]
    [1.0, 1.3, 2.8, 6.7]
    """
    output, weight, data = transforms(m, phases(r, stride).taps)
    taps = [len(range(phase, r, stride)) for phase in range(phases(r, stride).number)]
    norms = [
        sum(sum(e * e for e in g[:length]) for length in taps) * sum(e * e for e in d)
        for g, d in zip(weight, data, strict=True)
    ]
    variances = [sum(a * a * norm for a, norm in zip(row, norms, strict=True)) for row in output]
    return math.sqrt(max(variances) / r)
