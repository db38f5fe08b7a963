"""Weights and parameters lie as the array takes them."""


import numpy as np
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.layer_data import parameter_bytes, weight_bytes
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.words import unpack_parameter_words, unpack_weight_words

from ...layers import convolution


def test_weight_words_hold_the_rows_in_order():
    arch = Arch(rows=2, columns=3, lanes=2)
    weight = np.random.default_rng(0).integers(0, 256, (4, 5, 2, 1))
    layer = Layer(0, convolution("conv", "in", "out", weight, Int(8), input_shape=(5, 4, 4)), arch)
    words = unpack_weight_words(weight_bytes(layer, [layer.kernel]), arch)
    words = words.reshape(2, 2, 1, 2, 2, 3, 2)   # column block, ky, kx, block, row, column, lane
    for index, code in np.ndenumerate(words):
        block, ky, kx, channels, row, column, lane = index
        out = block * 3 + column
        channel = channels * 4 + row * 2 + lane
        inside = out < 4 and channel < 5
        assert code == (weight[out, channel, ky, kx] if inside else 0)


def test_bipolar_tails_alternate_and_the_odd_one_goes_to_the_bias():
    arch = Arch(rows=2, columns=2, lanes=4, activation="bipolar1", weight="bipolar1", post_lanes=1)
    weight = np.ones((2, 5, 3, 1), int)
    layer = Layer(0, convolution("conv", "in", "out", weight, Bipolar(1), bias=[10, -7],
                                 input_shape=(5, 4, 4)), arch)
    words = unpack_weight_words(weight_bytes(layer, [layer.kernel]), arch).reshape(3, 2, 2, 4)
    channels = words.swapaxes(1, 2).reshape(3, 2, 8)
    assert (channels == [1, 1, 1, 1, 1, 0, 1, 0]).all()
    bias, multiplier, shift, *_ = unpack_parameter_words(parameter_bytes(layer), arch)
    assert bias[:, 0].tolist() == [7, -10] + [-1 << arch.accumulator_bits - 1] * 2
    assert multiplier[:, 0].tolist() == [1] * 4 and not shift.any()


def test_absent_channels_have_no_parameters():
    arch = Arch(rows=4, columns=4, post_lanes=2)
    conv = convolution(
        "conv", "in", "out", np.ones((5, 4, 1, 1), int), Int(8), bias=range(1, 6),
        multiplier=np.arange(11, 16) << 20, shift=range(21, 26), addend=np.arange(1, 6) << 10,
        ties=[0, 1, 2, 1, 0], input_shape=(4, 2, 2))
    for values, first, left in zip(
            unpack_parameter_words(parameter_bytes(Layer(0, conv, arch)), arch),
            (1, 11, 21, 1), (0, 20, 0, 10), strict=False):
        # a word of two channels after the last one is not there
        assert (values.ravel() >> left).tolist() == [*range(first, first + 5), 0]
    assert unpack_parameter_words(parameter_bytes(Layer(0, conv, arch)), arch)[4].ravel().tolist(
        ) == [0, 1, 2, 1, 0, 0]
