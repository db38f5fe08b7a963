"""The choice of a tiling: against every even cut."""

import random

import numpy as np
import pytest
from systolith.gen.compile.boxes import even
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.plan import Plan
from systolith.gen.compile.tiling import estimate, plan_layer, traffic
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch

from ...layers import convolution


@pytest.mark.parametrize("seed", range(12))
def test_no_even_tiling_is_faster_or_as_fast_with_less_traffic(seed):
    draw = random.Random(seed)
    arch = Arch(rows=8, columns=8, weight_depth=8 * draw.choice((4, 9, 40)), accumulator_depth=128)
    kernel, stride = draw.choice(((1, 1), (1, 2), (3, 1), (3, 2)))
    conv = convolution(
        "conv", "in", "out", np.ones((draw.choice((8, 24)), 16, kernel, kernel), int), Int(8),
        stride=(stride, stride), pads=(kernel // 2,) * 4,
        input_shape=(16, draw.randint(5, 12), draw.randint(5, 12)))
    layer = Layer(0, conv, arch)
    words = int(layer.input_words * draw.uniform(0.3, 1.1))
    chosen, cost = plan_layer(layer, words), []
    for rows in range(1, layer.y.out + 1):
        for columns in range(1, layer.x.out + 1):
            tiles = [(a, b) for a in even(layer.y.out, rows) for b in even(layer.x.out, columns)]
            plan = Plan(layer, tiles, [layer.kernel], chosen.sub_pixels)
            size = layer.blocks * max((b - a) * (d - c) for (a, b), (c, d) in (
                plan.input_rectangle(tile, layer.kernel) for tile in tiles))
            for buffers in range(1, min(2, len(tiles)) + 1):
                if buffers * size <= words:
                    for group in {1, layer.column_blocks}:
                        plan = Plan(layer, tiles, [layer.kernel], chosen.sub_pixels, buffers, size,
                                    group)
                        cost.append((estimate(plan), sum(traffic(plan))))
    fastest = min(cost)[0]
    assert estimate(chosen) <= 1.1 * fastest
    assert sum(traffic(chosen)) <= 1.1 * min(moved for time, moved in cost if time <= fastest)
