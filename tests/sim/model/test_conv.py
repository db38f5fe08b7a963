"""A layer: the order of its steps, the channels that it reads, what it refuses."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from systolith.hw.formats import Bipolar, Int, parse
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.geometry import Geometry
from systolith.sim.model.placement import Placement
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights

INT8 = Int(8)


def one(weight=1, bias=0, **records):
    """A layer of one channel and one tap that reads 2 x 2 pixels."""
    return Conv("one", "x", "y", Weights(np.full((1, 1, 1, 1), weight), INT8), bias=[bias],
                input_shape=(1, 2, 2), **records)


def results(layer, pixels, *operand):
    """What a layer makes of four pixels, as integers."""
    codes = INT8.encode(np.array(pixels, float)).reshape(1, 1, 2, 2)
    return INT8.image(layer.run(codes, INT8, INT8, None, *operand)).ravel().tolist()


WIDE = Requantization.plain(1, -128, 127)


def test_sums_are_pooled_before_the_bias_and_results_after_requantization():
    windows = Pool((2, 2), sum=True)
    assert results(one(3, 5, requantization=WIDE, pool=windows), [1, 2, 3, 4]) == [3 * 10 + 5]
    folded = replace(WIDE, below=Below([-2], [0], [0]))     # sums below zero become positive
    assert results(one(1, 0, requantization=folded, pool=Pool((2, 2))), [1, 2, 3, -4]) == [8]
    assert results(one(1, 1, requantization=WIDE, pool=Pool((1, 2))), [1, 2, 3, -4]) == [3, 4]


def test_a_table_comes_before_max_pooling_and_after_an_operand():
    square = Requantization.plain(1, -9, 9)
    table = np.arange(-9, 10) ** 2
    layer = one(requantization=square, table=table, pool=Pool((2, 2)))
    assert results(layer, [1, 2, 3, -8]) == [64]
    operand = Operand("r", gain=1, operand_gain=1, low=-9, high=9)
    layer = replace(layer, requantization=WIDE, operand=operand, pool=Pool())
    other = INT8.encode(np.full((1, 1, 1, 1), 2.0))
    assert results(layer, [1, -2, 3, -20], other, INT8) == [9, 0, 25, 81]


def test_a_raw_layer_gives_sums_and_bias():
    layer = one(100, 7)
    codes = np.full((3, 1, 2, 2), 0x80)
    assert layer.raw and layer.limits is None and not layer.leaky
    assert (layer.run(codes, INT8, None) == -12800 + 7).all()
    assert layer.on_chip(Arch(rows=1, columns=1)) is layer


def test_no_images_give_no_results():
    assert one(requantization=WIDE).run(np.zeros((0, 1, 2, 2), int), INT8, INT8).shape == (
        0, 1, 2, 2)


def test_some_channels_in_some_order_are_weights_of_zero_for_the_rest():
    rng = np.random.default_rng(1)
    for groups in (1, 2):
        layer = Conv("c", "x", "y", Weights(rng.integers(-128, 128, (4, 4 // groups, 2, 1)), INT8),
                     Geometry(groups=groups), channels=[5, 0, 3, 1], input_shape=(6, 3, 3))
        codes = rng.integers(0, 256, (2, 6, 3, 3))
        wide = layer.reading_all()
        assert wide.weights.shape == (4, 6, 2, 1) and wide.channels is None
        assert (layer.run(codes, INT8, None) == wide.run(codes, INT8, None)).all()
        assert wide.reading_all() is wide and layer.inputs == 4


@pytest.mark.parametrize("outputs, inputs, groups, depthwise", [
    (4, 4, 4, True), (8, 4, 4, False), (4, 4, 2, False), (1, 1, 1, True), (1, 4, 1, False)])
def test_a_kernel_for_each_channel_or_as_large_as_the_map(outputs, inputs, groups, depthwise):
    layer = Conv("c", "x", "y", Weights(np.ones((outputs, inputs // groups, 3, 2)), INT8),
                 Geometry(groups=groups), input_shape=(inputs, 3, 2))
    assert layer.depthwise == depthwise and layer.dense
    assert not replace(layer, geometry=Geometry(pads=(1, 0, 0, 0), groups=groups)).dense
    assert not replace(layer, input_shape=(inputs, 3, 3)).dense


@pytest.mark.parametrize("format", [Int(8), Int(3), parse("e3m2"), Bipolar(1)], ids=str)
def test_accumulator_bits_suffice_and_are_needed(format):
    rng = np.random.default_rng(7)
    layer = Conv("c", "x", "y", Weights.of_codes(
        rng.integers(0, 1 << format.width, (5, 3, 3, 2)), format),
                 bias=rng.integers(-50, 50, 5), input_shape=(3, 9, 7))
    bits = layer.accumulator_bits(format)
    weight = layer.weights.images.astype(object).reshape(len(layer.weights), -1)
    low, high = format.image_range
    low, high = min(low, 0), max(high, 0)
    most = int(np.where(weight > 0, weight * high, weight * low).sum(axis=1).max())
    least = int(np.where(weight > 0, weight * low, weight * high).sum(axis=1).min())
    assert layer.sum_range(format) == (least, most)
    summed = replace(layer, pool=Pool((2, 3), sum=True))
    assert summed.sum_range(format) == (6 * least, 6 * most)
    most, least = max(most, layer.bias.max()), min(least, layer.bias.min())
    assert most < 1 << (bits - 1) and least >= -(1 << (bits - 1))
    assert most >= 1 << (bits - 2) or least < -(1 << (bits - 2))


def test_shapes_products_and_the_place_of_the_results():
    layer = Conv("c", "x", "y", Weights(np.ones((2, 3, 3, 2)), INT8), Geometry(pads=(1, 0, 1, 1)),
                 pool=Pool((2, 2)), placement=Placement(1, (1, 2), (0, 1)), input_shape=(3, 9, 7))
    assert layer.conv_shape == (2, 9, 7) and layer.output_shape == (2, 4, 3)
    assert layer.macs == 2 * 3 * 6 * 63
    whole = np.zeros((4, 4, 6))
    layer.target(whole)[...] = 1
    assert whole.sum() == 2 * 4 * 3 and whole[1:3, :, 1::2].all()


@pytest.mark.parametrize("records", [
    dict(requantization=WIDE), dict(requantization=None),
    dict(requantization=Requantization.plain(1, 0, 2), operand=Operand("r", low=0, high=5))])
def test_a_table_must_have_a_word_for_every_result(records):
    with pytest.raises(ValueError, match="the table of layer 'one' must have a result for each"):
        one(table=np.zeros(3), **records)


def test_layers_do_not_change():
    weight = np.zeros((1, 1, 1, 1), int)
    layer = Conv("c", "x", "y", Weights(weight, INT8), nodes=["a"])
    with pytest.raises(FrozenInstanceError):
        layer.name = "d"
    with pytest.raises(ValueError, match="read-only"):
        layer.weights.images[...] = 1
    weight[...] = 1
    assert not layer.weights.images.any() and layer.nodes == ("a",)
    assert replace(layer, name="d").weights is layer.weights


def test_a_chip_holds_fewer_fraction_bits_of_a_bias():
    own = replace(WIDE, multiplier=[1 << 25], shift=[25], addend=[(1 << 24) + 3])
    layer, arch = one(1, 4, requantization=own), Arch(rows=1, columns=1, bias_fraction=2)
    held = layer.on_chip(arch)
    assert held.requantization.addend.tolist() == [1 << 24] and held.bias.tolist() == [4]
    nearly = replace(layer, requantization=replace(own, addend=[(1 << 25) - 1]))
    assert nearly.on_chip(arch).bias.tolist() == [5]
    assert held.on_chip(arch).requantization.addend.tolist() == [1 << 24]


def test_a_chip_holds_offsets_as_finely_as_the_results_to_which_they_are_added():
    chip = Arch(rows=4, columns=4, operand_depth=64, leaky=True, slope_offsets=True)
    unit = chip.offset_unit(True)
    assert unit > 1 == chip.offset_unit(False)
    given = replace(WIDE, offset=[unit + 1])
    operand = Operand("r", low=-128, high=127)

    def held(**records):
        return one(**records).on_chip(chip).requantization.offset.tolist()
    assert held(requantization=given) == [unit + 1]
    assert held(requantization=given, operand=operand) == [unit]
    assert held(requantization=replace(given, late=True), operand=operand) == [unit + 1]
