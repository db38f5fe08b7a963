"""What a chip can compute of a layer."""


import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.legal import has_weights
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ...layers import convolution


@pytest.mark.parametrize("weights, held", [([-1, 0, 1], True), ([-2, 0, 1], False)])
def test_a_ternary_chip_has_integers_of_two_bits_that_are_ternary(weights, held):
    conv = convolution("conv", "in", "out", np.array(weights).reshape(1, 3, 1, 1) & 3, Int(2),
                       input_shape=(3, 4, 4))
    assert has_weights(Layer(0, conv, Arch(rows=2, columns=2, weight="ternary"))) == held
