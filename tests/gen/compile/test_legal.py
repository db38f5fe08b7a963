"""Taps as channels are the same sums; weights and parameters lie as the array takes them."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.layer_data import parameter_bytes, weight_bytes
from systolith.gen.compile.legal import has_weights
from systolith.gen.compile.taps import lay_out_taps
from systolith.hw.formats import Bipolar, Int
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.words import unpack_parameter_words, unpack_weight_words
from systolith.sim.machine.host import unroll
from systolith.sim.model.graph import Tensor
from systolith.sim.random.programs import random_arch

from ...layers import changed, convolution
from ...networks import random_codes, random_layer, wide_enough


@pytest.mark.parametrize("seed", range(60))
def test_taps_as_channels_give_the_same_sums(seed):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    arch = replace(wide_enough(random_arch(seed)), accumulator=None)
    arch = replace(arch, activation_depth=2048)
    shape = (draw.randint(1, 5), draw.randint(1, 14), draw.randint(1, 14))
    conv = random_layer(draw, rng, arch, "conv", Tensor("in", shape, arch.activation))
    layer, recipe = lay_out_taps(Layer(0, conv, arch), arch.activation)
    codes = random_codes(rng, arch.activation, (1, *shape))
    sums = conv.accumulate(codes, arch.activation)[
        :, :, :layer.y.under((0, layer.y.out))[1], :layer.x.under((0, layer.x.out))[1]]
    if recipe is None:
        assert layer.conv is conv
        return
    assert layer.conv.output_shape == conv.output_shape
    assert layer.passes <= Layer(0, conv, arch).passes
    unrolled = unroll(codes[0], recipe)[None]
    assert unrolled.shape[1:] == layer.conv.input_shape
    found = layer.conv.accumulate(unrolled, arch.activation)[
        :, :, :sums.shape[2], :sums.shape[3]]
    assert (found == sums).all()


@pytest.mark.parametrize("rows, taps, passes", [(16, [3, 3], 1), (8, [2, 3], 2), (3, [1, 3], 3)])
def test_a_first_layer_of_one_channel_fills_the_rows(rows, taps, passes):
    arch = Arch(rows=rows, columns=rows)
    conv = convolution("conv", "in", "out", np.ones((8, 1, 3, 3), int), Int(8),
                       pads=(1, 1, 1, 1), input_shape=(1, 28, 28))
    layer, recipe = lay_out_taps(Layer(0, conv, arch), Int(8))
    assert layer.most_passes == passes
    assert sorted(recipe.taps) == taps


@pytest.mark.parametrize("weights, held", [([-1, 0, 1], True), ([-2, 0, 1], False)])
def test_a_ternary_chip_has_integers_of_two_bits_that_are_ternary(weights, held):
    conv = convolution("conv", "in", "out", np.array(weights).reshape(1, 3, 1, 1) & 3, Int(2),
                       input_shape=(3, 4, 4))
    assert has_weights(Layer(0, conv, Arch(rows=2, columns=2, weight="ternary"))) == held


def test_a_large_kernel_of_few_channels_leaves_no_row_empty():
    arch = Arch(rows=16, columns=16, activation_depth=8192)
    conv = convolution("conv", "in", "out", np.ones((64, 3, 7, 7), int), Int(8),
                       stride=(2, 2), pads=(3, 3, 3, 3), input_shape=(3, 224, 224))
    layer, recipe = lay_out_taps(Layer(0, conv, arch), Int(8))
    assert recipe.taps == (7, 7) and layer.most_passes == 10


def test_saturating_accumulators_keep_their_passes():
    arch = Arch(rows=8, columns=8, accumulator=19)
    conv = convolution("conv", "in", "out", np.full((8, 1, 5, 5), 0x80), Int(8),
                       input_shape=(1, 9, 9))
    assert lay_out_taps(Layer(0, conv, arch), Int(8))[1] is None
    conv = changed(conv, weight=0 * conv.weight + 1)    # sums that cannot saturate
    assert lay_out_taps(Layer(0, conv, arch), Int(8))[1] is not None


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
        assert (values.ravel() >> left).tolist() == [*range(first, first + 5), 0, 0, 0]
    assert unpack_parameter_words(parameter_bytes(Layer(0, conv, arch)), arch)[4].ravel().tolist(
        ) == [0, 1, 2, 1, 0, 0, 0, 0]
