"""Taps as channels are the same sums, in fewer passes."""

import random
from dataclasses import replace

import numpy as np
import pytest
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.taps import lay_out_taps
from systolith.hw.formats import Int
from systolith.hw.spec.arch import Arch
from systolith.sim.machine.host import unroll
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.random.arch import random_arch

from ...layers import changed, convolution
from ...networks import outputs_of, random_codes, random_layer, wide_enough


@pytest.mark.parametrize("seed", range(60))
def test_taps_as_channels_give_the_same_sums(seed):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    arch = replace(wide_enough(random_arch(seed)), accumulator=None)
    arch = replace(arch, activation_depth=2048, load_windows=arch.activation.width == 8)
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


CHIP = Arch(rows=16, columns=8, largest_k=1024, activation_depth=1024, weight_depth=512,
            accumulator_depth=128, parameter_depth=64, bus_bits=32, load_windows=True)


@pytest.mark.parametrize("channels, options, shape", [
    (3, dict(kernel=(3, 3), stride=(2, 2), pads=(1, 1, 1, 1), pad_code=7), (16, 7, 14)),
    (3, dict(kernel=(3, 3), pads=(1, 1, 1, 1), replicate=True), (16, 13, 28)),
    (1, dict(kernel=(3, 3), pads=(0, 2, 1, 0)), (9, 12, 13)),
    (1, dict(kernel=(3, 3), pads=(1, 1, 1, 1), pool=Pool((2, 2))), (9, 12, 12)),
    (2, dict(kernel=(2, 5), dilation=(3, 1)), (10, 13, 9)),
    (4, dict(kernel=(1, 3), stride=(1, 1)), (12, 13, 11))])
def test_words_are_windows_of_rows_of_the_image(channels, options, shape):
    """The instruction-level simulator computes what the golden model does, on fewer bytes than the
    words of the map have."""
    random, out = np.random.default_rng(3), 20 if shape[0] == 16 else 5
    kernel, others = options["kernel"], {key: options[key] for key in options.keys() - {"kernel"}}
    conv = convolution(
        "conv", "in", "conv", random.integers(0, 256, (out, channels, *kernel)), Int(8),
        bias=random.integers(-50, 50, out), multiplier=random.integers(1 << 17, 1 << 18, out),
        shift=np.full(out, 26), low=-128, high=127, input_shape=(channels, 13, 13), **others)
    size = tuple(conv.input_shape)
    tensors = {"in": Tensor("in", size, Int(8)),
               "conv": Tensor("conv", conv.output_shape, Int(8))}
    graph = Graph("windows", [tensors["in"]], tensors, [conv], ["conv"])
    for batch in (1, 4):
        program = compile_graph(graph, CHIP, batch)
        check_memory_plan(program)
        made = program.host.inputs[0]
        assert made.taps.shape == shape
        assert made.bytes < np.prod(made.map[1:]) * CHIP.activation_bytes
        codes = random.integers(0, 256, (batch, *size))
        found, _ = outputs_of(program, codes if batch > 1 else codes[0])
        np.testing.assert_array_equal(found["conv"].reshape(batch, *conv.output_shape),
                                      graph.run(codes)["conv"])


def test_windows_are_refused_to_layers_that_have_no_room_for_their_rows():
    conv = convolution("conv", "in", "out", np.ones((8, 3, 3, 3), int), Int(8),
                       stride=(2, 2), pads=(1, 1, 1, 1), input_shape=(3, 64, 64))
    for depth, whole in ((255, False), (256, True)):        # four times two words a result
        arch = replace(CHIP, activation_depth=depth)
        _, recipe = lay_out_taps(Layer(0, conv, arch), Int(8))
        assert (recipe is not None and recipe.windows is not None) == whole
