"""Plans: every result, tap and block exactly once, in order, and within the memories."""

import random

import numpy as np
import pytest
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.tiling import plan_layer, traffic
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.pool import Pool

from ...layers import convolution
from .test_axis import random_axis
from .test_boxes import passes


@pytest.mark.parametrize("seed", range(60))
def test_a_plan_covers_every_result_once_and_fits(seed):
    draw = random.Random(seed)
    arch = Arch(rows=draw.randint(1, 5), columns=draw.randint(1, 5), largest_k=99999,
                activation_depth=draw.randint(60, 300), accumulator_depth=draw.randint(16, 80),
                weight_depth=draw.randint(5, 200),
                accumulator=draw.choice((None, 24)))
    y, x = random_axis(draw), random_axis(draw)
    channels, out = draw.randint(1, 30), draw.randint(1, 20)
    conv = convolution(
        "conv", "in", "out", np.ones((out, channels, y.kernel, x.kernel), int), Int(8),
        stride=(y.stride, x.stride), dilation=(y.dilation, x.dilation), pads=(y.pad, x.pad, 6, 6),
        pool=Pool((y.pool, x.pool), (y.step, x.step), (y.margin, x.margin, 0, 0)),
        input_shape=(channels, y.size, x.size))
    layer = Layer(0, conv, arch)
    words = draw.choice((None, arch.activation_depth, arch.activation_depth // 2))
    plan = plan_layer(layer, words)

    count = np.zeros(conv.output_shape[1:], int)
    for tile in plan.tiles:
        for (y0, y1), (x0, x1) in plan.sub_tiles(tile):
            assert tile[0][0] <= y0 < y1 <= tile[0][1] and tile[1][0] <= x0 < x1 <= tile[1][1]
            assert layer.pixels(y1 - y0, x1 - x0) <= arch.accumulator_depth
            count[y0:y1, x0:x1] += 1
    assert (count == 1).all()
    assert sorted(passes(plan.parts)) == passes([layer.kernel])
    if arch.accumulator is not None:
        assert passes(plan.parts) == passes([layer.kernel])
    if words is not None:
        assert plan.buffers * plan.buffer_words <= words
        assert traffic(plan)[0] >= plan.loaded_words * arch.activation_bytes
        for tile in plan.tiles:
            for part in plan.parts:
                (a, b), (c, d) = plan.input_rectangle(tile, part)
                assert (b - a) * (d - c) * part.blocks <= plan.buffer_words


@pytest.mark.parametrize("channels, sub_tiles", [(32, 4), (256, 1)])
def test_weights_that_cannot_wait_for_a_second_sub_tile_are_used_at_once(channels, sub_tiles):
    arch = Arch(rows=16, columns=16, weight_depth=2048, accumulator_depth=2048)
    layer = Layer(0, convolution("conv", "in", "out", np.ones((32, channels, 3, 3), int), Int(8),
                                 pads=(1, 1, 1, 1), input_shape=(channels, 16, 16)), arch)
    plan = plan_layer(layer, None)
    assert len(plan.sub_tiles(plan.tiles[0])) == sub_tiles


@pytest.mark.parametrize("kernel, groups, sub_tiles", [(1, 1, 1), (3, 1, 4), (3, 64, 1)])
def test_rows_of_several_blocks_use_each_filling_at_once(kernel, groups, sub_tiles):
    """Neighbouring layers can begin with a block of channels instead of some rows; where all blocks
    are needed for the first tap, they cannot."""
    arch = Arch(rows=16, columns=16, weight_depth=4096, accumulator_depth=1024, depthwise=True)
    layer = Layer(0, convolution(
        "conv", "in", "out", np.ones((64, 64 // groups, kernel, kernel), int), Int(8),
        groups=groups, pads=(kernel // 2,) * 4, input_shape=(64, 16, 16)), arch)
    plan = plan_layer(layer, None)
    assert len(plan.sub_tiles(plan.tiles[0])) == sub_tiles
    assert plan.cycles <= layer.cycles(16, 16)
