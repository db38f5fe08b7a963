"""Exact rational numbers: Fractions, and arrays of them (dtype object)."""

from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["exact", "square_root", "uniform"]


def exact(array: npt.ArrayLike) -> np.ndarray:
    """The numbers of an array as Fractions: an array of dtype object and the same shape."""
    array = np.asarray(array)
    if array.dtype == object:
        return array
    numbers = array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
    result = np.empty(array.size, dtype=object)
    result[:] = [Fraction(item) for item in numbers.reshape(-1).tolist()]
    return result.reshape(array.shape)


def square_root(number: Fraction) -> Fraction:
    """The square root of a Fraction: exact where it is rational, else right to 512 bits."""
    scale = 1 << 1024
    product = number.numerator * number.denominator
    return Fraction(isqrt(product * scale * scale), scale * number.denominator)


def uniform(array: npt.ArrayLike) -> Any:
    """The one value that all elements of an array have; None where they differ."""
    flat = np.asarray(array, dtype=object).reshape(-1)
    return flat[0] if all(item == flat[0] for item in flat) else None
