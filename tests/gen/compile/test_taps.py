"""Taps as channels are the same sums, in fewer passes."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.taps import lay_out_taps
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import unroll
from systolith.sim.model.graph import Tensor
from systolith.sim.random.arch import random_arch

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


@pytest.mark.parametrize("rows, taps, passes", [(16, [2, 3], 2), (8, [2, 3], 2), (3, [1, 3], 3)])
def test_a_first_layer_of_one_channel_fills_the_rows(rows, taps, passes):
    arch = Arch(rows=rows, columns=rows)
    conv = convolution("conv", "in", "out", np.ones((8, 1, 3, 3), int), Int(8),
                       pads=(1, 1, 1, 1), input_shape=(1, 28, 28))
    layer, recipe = lay_out_taps(Layer(0, conv, arch), Int(8))
    assert layer.most_passes == passes
    assert sorted(recipe.taps) == taps


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
    conv = changed(conv, weight=0 * conv.weights.codes + 1)    # sums that cannot saturate
    assert lay_out_taps(Layer(0, conv, arch), Int(8))[1] is not None
