"""Codes of quantized layers against exact rational numbers."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from systolith.gen.chip.toml import load_chip
from systolith.gen.compile.bias import bias_error
from systolith.gen.flow.compile import compile_network
from systolith.gen.importer.reader import load
from systolith.gen.importer.target import Target
from systolith.gen.importer.ties import EVEN, NONE, ODD, ties_of_sum
from systolith.gen.kit.errors import UserError
from systolith.hw.formats import Int
from systolith.sim.model import numerics

from ...networks import run_program
from ...onnx_exact import qdq
from ...onnx_networks import Network

CHIP = load_chip("ulx3s-8x8", ["post.leaky=true", "buffers.operands=64"])


def layer_network(rng, weight_bits, bits, out_bits, slopes=None, step=None):
    """A convolution 1 x 1 of all widths, with scales for each channel and a bias of any numbers:
    (model, facts)."""
    inputs, outputs = int(rng.integers(2, 9)), 12
    net = Network(rng, (inputs, 8, 9))
    scale, out_scale = (np.float32(item) for item in rng.uniform(0.01, 0.2, 2))
    zero, out_zero = (int(rng.integers(-3, 4)) for _ in range(2))
    x = net.quant("x", scale, zero, bits=bits)
    weight_scale = np.float32(rng.uniform(0.02, 0.1, (outputs, 1, 1, 1)))
    codes = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (outputs, inputs, 1, 1))
    if weight_bits == 1:
        codes = rng.choice([-1, 1], codes.shape)
        weight = net.node("BipolarQuant", np.float32(codes * weight_scale), weight_scale,
                          domain="qonnx.custom_op.general")
    else:
        weight = net.quant(np.float32(codes * weight_scale), weight_scale, bits=weight_bits)
    reach = float(scale) * (1 << bits - 1) * float(weight_scale.mean()) * 2 ** (weight_bits - 1)
    out_scale = np.float32((step or 1) * reach * inputs ** 0.5 / (1 << out_bits - 1))
    bias = np.float32(rng.uniform(-reach, reach, outputs))
    x = net.node("Conv", x, weight, bias)
    if slopes is not None:
        x = net.node("PRelu", x, np.float32(slopes).reshape(-1, 1, 1))
    x = net.quant(x, out_scale, out_zero, bits=out_bits)
    return net.model(x), (codes[:, :, 0, 0], weight_scale.reshape(-1), scale, zero, bias, out_scale,
                          out_zero, slopes)


def exact_codes(images, facts, low, high):
    """(codes by rational numbers, whether each is next to a tie) from the input's images."""
    codes, weight_scale, scale, zero, bias, out_scale, out_zero, slopes = facts
    sums = np.einsum("oi,nihw->nohw", codes, images - zero)
    result, near = np.empty_like(sums), np.zeros(sums.shape, bool)
    for channel in range(len(codes)):
        unit = Fraction(float(scale)) * Fraction(float(weight_scale[channel]))
        for number in np.unique(sums[:, channel]):
            real = unit * int(number) + Fraction(float(bias[channel]))
            if slopes is not None and real < 0:
                real *= Fraction(float(np.float32(slopes[channel])))
            place = real / Fraction(float(out_scale)) + out_zero
            here = sums[:, channel] == number
            result[:, channel][here] = min(max(round(place), low), high)
            near[:, channel][here] = abs(place - place // 1 - Fraction(1, 2)) < Fraction(1, 1 << 15)
    return result, near


def assert_exact(graph, facts, arch, images):
    layer = graph.layers[-1]
    codes = graph.run(graph.encode_inputs(images), arch)
    source, result = graph.tensors[layer.input], graph.tensors[layer.output]
    found = result.format.ordered(codes[layer.output])
    wanted, near = exact_codes(numerics.images_of(source.format, codes[layer.input]), facts,
                               *result.format.image_range)
    off = found != wanted
    assert np.abs(found - wanted).max() <= 1 and not (off & ~near).any()
    return off


@pytest.mark.parametrize("slopes", [False, True])
def test_layers_of_all_widths_give_the_codes_of_rational_numbers(slopes):
    total = wrong = 0
    for weight_bits in range(1, 9):
        for bits in range(2, 9):
            rng = np.random.default_rng([weight_bits, bits])
            model, facts = layer_network(rng, weight_bits, bits, int(rng.integers(2, 9)),
                                         rng.uniform(-1, 1, 12) if slopes else None)
            images = np.float32(rng.standard_normal((2, len(facts[0][0]), 8, 9)))
            off = assert_exact(load(model), facts, CHIP, images)
            total, wrong = total + off.size, wrong + off.sum()
    assert wrong / total < 0.0002


def test_a_bias_that_the_chip_cannot_hold_is_refused_with_the_way_out():
    """Weights of one bit, an output of many steps."""
    rng = np.random.default_rng(5)
    model, facts = layer_network(rng, 1, 2, 8, step=0.05)
    graph = load(model)
    layer = graph.layers[-1]
    coarse = load_chip("ulx3s-8x8", ["post.bias_fraction=0"])
    assert bias_error(layer, coarse) > 0.5 > bias_error(layer, CHIP) > 0
    with pytest.raises(UserError, match=r"off by .* steps .*set post.bias_fraction=\d+$") as caught:
        compile_network(model, coarse)
    bits = int(str(caught.value).rpartition("=")[2])
    for number, fits in ((bits - 1, False), (bits, True)):
        arch = load_chip("ulx3s-8x8", [f"post.bias_fraction={number}"])
        assert (bias_error(layer, arch) <= 0.5) == fits
    graph, program = compile_network(model, arch)
    images = np.float32(rng.standard_normal((1, len(facts[0][0]), 8, 9)))
    codes = graph.encode_inputs(images)
    found, _, _ = run_program(program, {graph.inputs[0].name: codes[0]}, 0)
    gold = graph.run(codes, arch)
    for name, array in found.items():
        assert (array == gold[name][0]).all()


@pytest.mark.parametrize("sizes", [(2, 3), (6, 6), (3, 8)])
def test_ties_of_means_go_to_the_even_neighbour(sizes):
    """Where scales are equal, a mean of 6, 36 or 24 codes often stands exactly half-way."""
    rng = np.random.default_rng(sum(sizes))
    net = Network(rng, (4, *sizes))
    x = qdq(net, "x", 0.05, 3)
    model = net.model(qdq(net, net.node("GlobalAveragePool", x), 0.05, -2))
    graph = load(model)
    codes = graph.run(graph.encode_inputs(np.float32(rng.uniform(-3, 3, (500, 4, *sizes)))), CHIP)
    source, = graph.inputs
    sums = (numerics.images_of(source.format, codes[source.name]) - 3).sum(axis=(2, 3))
    ties = 2 * sums % (2 * sizes[0] * sizes[1]) == sizes[0] * sizes[1]
    wanted = np.rint(sums / (sizes[0] * sizes[1])) - 2      # halves are exact in float64
    result = graph.tensors[graph.outputs[0]]
    found = numerics.images_of(result.format, codes[result.name])[:, :, 0, 0]
    assert ties.mean() > 0.01 and (found == np.clip(wanted, -128, 127)).all()


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("scales", [(0.03, 0.12), (0.05, 0.1), (0.06, 0.03), (0.15, 0.2)])
def test_ties_of_requantized_parts(scales, odd):
    """Concat of parts whose scales stand in simple ratios to that of the whole; QONNX, where an odd
    zero point turns ties."""
    rng = np.random.default_rng(1)
    net = Network(rng, (4, 5, 6))
    parts = [net.quant("x", scales[0], zero) for zero in (0, 2)]
    model = net.model(net.quant(net.node("Concat", *parts, axis=1), scales[1], odd))
    graph = load(model)
    images = np.float32(rng.uniform(-3, 3, (20, 4, 5, 6)))
    codes = graph.run(graph.encode_inputs(images), CHIP)
    ratio = Fraction(scales[0]).limit_denominator(100) / Fraction(scales[1]).limit_denominator(100)
    result = graph.tensors[graph.outputs[0]]
    found = numerics.images_of(result.format, codes[result.name])
    for number, zero in enumerate((0, 2)):
        mine = np.clip(np.rint(images / np.float32(scales[0]) + zero), -128, 127) - zero
        wanted = [round(ratio * int(item) + odd) for item in mine.reshape(-1)]
        assert (found[:, 4 * number:4 * number + 4].reshape(-1) == np.clip(wanted, -128, 127)).all()


@pytest.mark.parametrize("other", [0.0713, 0.03719])
@pytest.mark.parametrize("turned", [False, True])
def test_ties_of_a_sum_where_one_number_is_zero(other, turned):
    """One scale is half of the result's, the other stands in no simple ratio to it."""
    rng = np.random.default_rng(2)
    net = Network(rng, (4, 5, 6))
    half, rest = qdq(net, "x", 0.05, 3), qdq(net, net.node("Relu", "x"), other, -9)
    graph = load(net.model(qdq(net, net.node("Add", *((rest, half) if turned else (half, rest))),
                               0.1, 2)))
    images = np.float32(rng.uniform(-6, 6, (50, 4, 5, 6)))
    codes = graph.run(graph.encode_inputs(images), CHIP)
    first = np.clip(np.rint(images / np.float32(0.05)) + 3, -128, 127) - 3
    second = np.clip(np.rint(np.maximum(images, 0) / np.float32(other)) - 9, -128, 127) + 9
    alone = second == 0
    ties = alone & (first % 2 == 1)
    result = graph.tensors[graph.outputs[0]]
    found = numerics.images_of(result.format, codes[result.name])
    assert ties.mean() > 0.1
    assert (found == np.clip(np.rint(first / 2) + 2, -128, 127))[alone].all()
    wanted = np.rint(first / 2 + second * (other / 0.1)) + 2
    assert (found == np.clip(wanted, -128, 127)).mean() > 0.999


CODES = (-128, 127)
FULL = Target(Int(8), Fraction(1), 0, -128, 127)


@pytest.mark.parametrize("factors, ranges, ties", [
    (("1/2", "713/1000003"), (CODES, CODES), EVEN),
    # 0 is not among the other ones
    (("1/2", "713/1000003"), (CODES, (1, 200)), NONE),
    # tens of the other ones are next to whole numbers
    (("1/2", "31000001/10000000"), (CODES, CODES), NONE),
    # thirds make no ties
    (("1/3", "713/1000003"), (CODES, CODES), NONE),
    # too many to be tried, or rounded before
    (("1/2", "713/1000003"), ((-1 << 15, 1 << 15), CODES), NONE),
    (("1/2", "713/1000003"), None, NONE),
    (("1/2", "1/3"), None, EVEN)])
def test_which_sums_are_mostly_ties(factors, ranges, ties):
    assert ties_of_sum([Fraction(item) for item in factors], FULL, ranges) == ties
    odd = replace(FULL, odd=True)
    assert ties_of_sum([Fraction(item) for item in factors], odd, ranges) == (ties and ODD)


@pytest.mark.parametrize("high, ties", [(1023, EVEN), (1024, NONE)])
def test_how_many_sums_are_tried(high, ties):
    factors = Fraction(1, 2), Fraction(713, 1000003)
    assert ties_of_sum(factors, FULL, ((0, high), CODES)) == ties
