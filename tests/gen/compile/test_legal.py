"""What a chip can compute of a layer."""


import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.legal import WrongFormat, _check_formats, has_weights
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.graph import Tensor

from ...layers import convolution


@pytest.mark.parametrize("weights, held", [([-1, 0, 1], True), ([-2, 0, 1], False)])
def test_a_ternary_chip_has_integers_of_two_bits_that_are_ternary(weights, held):
    conv = convolution("conv", "in", "out", np.array(weights).reshape(1, 3, 1, 1) & 3, Int(2),
                       input_shape=(3, 4, 4))
    assert has_weights(Layer(0, conv, Arch(rows=2, columns=2, weight="ternary"))) == held


@pytest.mark.parametrize("form, refused", [(Int(8), True), (Int(4), False)])
def test_weights_that_the_chip_lacks_are_refused(form, refused):
    arch = Arch(rows=2, columns=2, activation="int8", weight="int4")
    codes = np.array([100, -100, 3, 99, 4, 1]).reshape(2, 3, 1, 1) & (1 << form.width) - 1
    conv = convolution("conv", "in", "out", codes, form, input_shape=(3, 4, 4))
    tensors = {name: Tensor(name, (3, 4, 4), Int(8)) for name in ("in", "out")}
    layer = Layer(0, conv, arch)
    assert has_weights(layer) != refused
    if refused:
        with pytest.raises(WrongFormat, match="has int8 weights, the chip's are int4"):
            _check_formats(layer, tensors)
    else:
        _check_formats(layer, tensors)
