"""A layer as the array sees it makes no pass whose weights are all 0."""

import numpy as np
from systolith.gen.compile.boxes import Box
from systolith.gen.compile.layer import Layer
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ...layers import convolution


def test_weights_of_zero_narrow_the_blocks_of_a_column_block():
    arch = Arch(rows=2, columns=3)
    weight = np.zeros((9, 8, 1, 2), int)
    weight[0, 2:4], weight[1, 7], weight[4, 3, 0, 1] = 1, 1, 1
    layer = Layer(0, convolution("conv", "in", "out", weight, Int(8), input_shape=(8, 4, 4)), arch)
    assert layer.spans == [(1, 4), (1, 2), (0, 1)]
    assert layer.weight_offsets == [0, 12, 16, 20]
    assert layer.used(Box(0, 1, 0, 2, 0, 2), 0) == [Box(0, 1, 0, 2, 1, 1)]
    assert layer.used(Box(0, 1, 0, 2, 2, 2), 1) == []
