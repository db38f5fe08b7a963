"""Numbers of several bits on an array of +-1 products: plane by plane, one pass each.

A number x of n bits is a sum of planes b[i], each +1 or -1:

    scale * x = constant + sum of 2**i * b[i], i from 0 to n - 1

    bipolar   scale 1, constant 0           b[i] is +1 where bit i of the code is 1
    unsigned  scale 2, constant 2**n - 1    the same
    signed    scale 2, constant -1          the same, but the first bit inverted

So a dot product of N terms needs the dot products S[i, j] of all pairs of planes, which are the
array's passes, and where there are constants the planes' own sums: those of the weights are known
beforehand, those of the activations are a column whose weights are all +1:

    scale_a * scale_w * dot = sum of 2**(i + j) * S[i, j]
                              + constant_a * sum of 2**j * W[j] + constant_w * sum of 2**i * A[i]
                              + constant_a * constant_w * N

Zero is a code of integers: padding with it, and lanes that no channel fills, need no gate, as long
as N and the planes' sums count those terms too. Bipolar activations have no zero: terms that are to
count nothing are gated, and count in none of the sums.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from systolith.hw.formats import Format

__all__ = ["Planes", "combine", "horner", "planes_of"]


@dataclass(frozen=True, eq=False)
class Planes:
    """Codes as planes: scale * image = constant + sum of 2**i * bits[i].

    Attributes
    ----------
    bits : int64 array [planes, ...]
        +1 and -1; the plane of weight 1 comes first.
    constant, scale : int
    """
    bits: np.ndarray
    constant: int
    scale: int


def planes_of(fmt: Format, codes: np.ndarray) -> Planes:
    """The `Planes` of `codes` (any shape) of a `uniform` or `binary` format.

    Raises ValueError for other formats.
    """
    if not (fmt.uniform or fmt.binary):
        raise ValueError(f"planes are made of integers and bipolar numbers, not of {fmt}")
    codes = np.asarray(codes, np.int64)
    constant, scale = (0, 1) if fmt.binary else ((1 << fmt.width) - 1, 2)
    if fmt.uniform and fmt.signed:
        codes, constant = codes ^ 1 << (fmt.width - 1), -1
    places = np.arange(fmt.width).reshape(-1, *[1] * codes.ndim)
    return Planes(2 * (codes >> places & 1) - 1, constant, scale)


def horner(sums: np.ndarray) -> np.ndarray:
    """The sum of 2**i * sums[i] as an accumulator that doubles adds it: last plane first.

    sums: int64 array [planes, ...]; returns [...].
    """
    total = np.zeros_like(sums[0])
    for plane in sums[::-1]:
        total = 2 * total + plane
    return total


def combine(products: np.ndarray, activation: Planes, weight: Planes, *, terms: ArrayLike,
            weight_sums: np.ndarray, activation_sums: np.ndarray) -> np.ndarray:
    """Dot products from those of the planes.

    Parameters
    ----------
    products : int64 array [activation planes, weight planes, ...]
        S: what the array's passes count.
    activation, weight : Planes
        For their constants and scales.
    terms : int, or int64 array [...]
        N: terms that count in the sums.
    weight_sums : int64 array [weight planes, ...]
        W: sums of the weights' planes over these terms.
    activation_sums : int64 array [activation planes, ...]
        A: the same of the activations; without effect where the weights are bipolar.

    Returns
    -------
    int64 array [...], exact.
    """
    total = (horner(horner(products)) + activation.constant * horner(weight_sums)
             + weight.constant * horner(activation_sums)
             + activation.constant * weight.constant * np.asarray(terms, np.int64))
    return total // (activation.scale * weight.scale)
