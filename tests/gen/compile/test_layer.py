"""A layer as the array sees it makes no pass whose weights are all 0."""

import numpy as np
import pytest
from systolith.gen.compile.boxes import Box
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.limits import LIMITS
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.pool import Pool

from ...layers import convolution


def test_weights_of_zero_narrow_the_blocks_of_a_column_block():
    arch = Arch(rows=2, columns=3)
    weight = np.zeros((9, 8, 1, 2), int)
    weight[0, 2:4], weight[1, 7], weight[4, 3, 0, 1] = 1, 1, 1
    layer = Layer(0, convolution("conv", "in", "out", weight, Int(8), input_shape=(8, 4, 4)), arch)
    assert layer.spans == [(1, 4), (1, 2), (0, 1)]
    assert layer.stored.offsets == [0, 12, 16, 20]
    assert layer.turns(Box(0, 1, 0, 2, 0, 2), 0) == [(0, Box(0, 1, 0, 2, 1, 1))]
    assert layer.turns(Box(0, 1, 0, 2, 2, 2), 1) == []


@pytest.mark.parametrize("pool, fits", [
    ((15, 1), True), ((16, 1), False), ((1, 15), True), ((1, 16), False), ((15, 15), True)])
def test_windows_of_as_many_rows_and_columns_as_fields_hold_are_computed_in_order(pool, fits):
    assert LIMITS["pool_y"] == LIMITS["pool_x"] == 15
    conv = convolution("conv", "in", "out", np.ones((2, 2, 1, 1), int), Int(8),
                       input_shape=(2, 32, 32), pool=Pool(pool, pool))
    assert Layer(0, conv, Arch(rows=2, columns=2)).in_order == fits


@pytest.mark.parametrize("low, high, width", [
    (0, 0, 2), (-2, 1, 2), (-3, 1, 4), (-2, 2, 4), (-8, 7, 4), (-9, 0, 0), (0, 8, 0)])
def test_weights_are_as_narrow_as_holds_them_all(low, high, width):
    arch = Arch(rows=4, columns=4, weight_widths=(4, 2))
    weight = np.zeros((4, 4, 1, 1), int)
    weight[0, 0], weight[3, 3] = low, high
    conv = convolution("conv", "in", "out", Int(8).encode(weight.astype(float)), Int(8),
                       input_shape=(4, 4, 4))
    assert Layer(0, conv, arch).narrow == {0: 0, 4: 1, 2: 2}[width]
