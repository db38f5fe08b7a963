"""The choice of a tiling: against every even cut."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.boxes import even
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.plan import Plan
from systolith.gen.compile.tiling import (
    _input_parts,
    _span,
    _whole_kernel,
    estimate,
    plan_layer,
    traffic,
)
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


def layer_of(arch, channels=16, kernel=3, filters=8):
    conv = convolution("conv", "in", "out", np.ones((filters, channels, kernel, kernel), int),
                       Int(8), pads=(kernel // 2,) * 4, input_shape=(channels, 12, 10))
    return Layer(0, conv, arch)


def test_weights_that_just_fit_are_loaded_once_and_one_word_less_for_each_sub_tile():
    arch = Arch(rows=8, columns=8, weight_depth=144, accumulator_depth=32)
    layer = layer_of(arch)
    assert layer.stored.most_words == 144
    sub_tiles = sum(len(list(plan_layer(layer, None).sub_tiles(tile)))
                    for tile in plan_layer(layer, None).tiles)
    assert sub_tiles > 1
    assert traffic(plan_layer(layer, None))[1] == layer.stored.bytes
    less = layer_of(replace(arch, weight_depth=143))
    assert traffic(plan_layer(less, None))[1] > less.stored.bytes


def test_an_estimate_counts_a_quarter_of_the_loads_in_any_case():
    layer = layer_of(Arch(rows=8, columns=8))
    load = 8 * 1000 + 8 * 200             # bytes of inputs and weights
    plain, longer = (_span(layer, (8 * 1000, 8 * 200), cycles, 1, 1) for cycles in (9000, 9100))
    assert load == 9600 and longer - plain == 100
    assert _span(layer, (0, 8 * 200), 9000, 1, 1) + 200 // 4 == _span(
        layer, (0, 8 * 400), 9000, 1, 1)


@pytest.mark.parametrize("accumulator", [None, 24])
def test_parts_of_a_kernel_are_as_large_as_fits_and_keep_the_order_of_saturating_sums(accumulator):
    layer = layer_of(Arch(rows=8, columns=8, accumulator=accumulator))

    def parts(words):
        found = _input_parts(layer, 1, 1, words)
        return found and max(tuple(box)[1::2] for box in found)
    saturating = accumulator is not None
    assert parts(18) == (3, 3, 2)
    assert parts(17) == ((2, 3, 2) if saturating else (3, 3, 1))
    assert parts(6) == ((1, 3, 2) if saturating else (2, 3, 1))
    assert parts(2) == ((1, 1, 2) if saturating else (1, 2, 1))
    assert parts(1) == (1, 1, 1) and parts(0) is None


def test_layers_of_whole_rows_are_cut_across_them_alone():
    layer = layer_of(Arch(rows=8, columns=8))
    rows = 2 * 10 * layer.blocks            # words of some rows of the input
    cut, whole = ([plan.tiles for plan in _whole_kernel(layer, 3 * rows, 1, 128, 1)]
                  for layer.whole_rows in (False, True))
    assert whole and all(tile[1] == (0, 10) for tiles in whole for tile in tiles)
    assert cut
