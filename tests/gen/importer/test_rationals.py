"""Exact numbers of arrays, square roots, and the one number of an array."""

from fractions import Fraction

import numpy as np
import pytest
from systolith.gen.importer.rationals import exact, square_root, uniform


@pytest.mark.parametrize("array", [np.int8([[1, -128]]), np.float32([0.1, -3]), np.float64(0.3)])
def test_numbers_are_those_of_the_array(array):
    found = exact(array)
    assert found.dtype == object and found.shape == array.shape
    assert all(isinstance(item, Fraction) for item in found.reshape(-1))
    assert (found.astype(np.float64) == array).all()
    assert exact(found) is found


def test_square_roots():
    assert square_root(Fraction(9, 16)) == Fraction(3, 4)
    root = square_root(Fraction(2))
    assert 0 <= 2 - root ** 2 < Fraction(1, 1 << 500)


def test_the_one_number_of_an_array():
    assert uniform(exact([2, 2])) == 2
    assert uniform([1, 2]) is None
