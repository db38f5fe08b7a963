"""Depthwise layers with activations from the top: words, arrangement, whole programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.from_above import plan_from_above
from systolith.gen.compile.layer import Layer
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.isa import Memory, Opcode
from systolith.sim.machine import host
from systolith.sim.machine.iss import Simulator
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool

from ...layers import changed, convolution


def chip(size=16, **options):
    facts = dict(rows=size, columns=size, largest_k=4608, weight_depth=64 * size,
                 activation_depth=2048, accumulator_depth=256, depthwise=True)
    return Arch(**facts | options)


def depthwise(shape, kernel, seed=0, format="int8", **geometry):
    """A depthwise convolution of random weights."""
    random, form = np.random.default_rng(seed), parse(format)
    low, high = form.image_range
    return convolution(
        "conv", "in", "out", random.integers(0, 1 << form.width, (shape[0], 1, *kernel)), form,
        groups=shape[0], bias=random.integers(-50, 50, shape[0]),
        multiplier=random.integers(1 << 17, 1 << 18, shape[0]),
        shift=np.full(shape[0], 17 + form.width), low=low, high=high, input_shape=shape, **geometry)


def run(conv, arch, seed=0):
    """Codes that the instruction-level simulator leaves, those of the golden model, the program."""
    form = arch.activation
    tensors = {"in": Tensor("in", conv.input_shape, form),
               "out": Tensor("out", conv.output_shape, form)}
    graph = Graph("depthwise", [tensors["in"]], tensors, [conv], ["out"])
    program = compile_graph(graph, arch)
    codes = np.random.default_rng(seed).integers(0, 1 << form.width, (1, *conv.input_shape))
    memory = bytearray(program.image).ljust(program.window_bytes, b"\0")
    section = host.pack_inputs(program, codes[0])
    at = program.host.input_offset
    memory[at:at + len(section)] = section
    Simulator(arch, memory).run(program.instructions, seed=seed)
    at = program.host.output_offset
    found = host.unpack_outputs(program, bytes(memory[at:at + program.host.output_bytes]))
    return found["out"], graph.run(codes)["out"][0], program


@pytest.mark.parametrize("shape, kernel, geometry, factor", [
    ((16, 48, 48), (3, 3), dict(pads=(1, 1, 1, 1)), 5.5),
    ((64, 12, 12), (3, 3), dict(pads=(1, 1, 1, 1)), 4.5),
    ((16, 48, 48), (3, 3), dict(pads=(0, 0, 1, 1), stride=(2, 2)), 1.6),
    ((32, 8, 8), (8, 8), {}, 7.5),
    ((32, 20, 20), (5, 5), dict(pads=(2, 2, 2, 2)), 4),
])
def test_several_times_as_fast_as_one_tap_a_pass(shape, kernel, geometry, factor):
    conv = depthwise(shape, kernel, **geometry)
    layer = Layer(0, conv, chip(accumulator_depth=1024))
    usual = Layer(0, conv, chip(accumulator_depth=1024, depthwise=False))
    assert usual.cycles(*conv.conv_shape[1:]) / layer.cycles(*conv.conv_shape[1:]) > factor


@settings(max_examples=30)
@given(st.data())
def test_programs_equal_the_golden_model(data):
    draw = data.draw
    size = draw(st.integers(1, 9))
    kernel = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    pads = tuple(draw(st.integers(0, kernel[n % 2] - 1)) for n in range(4))
    least = [d * (k - 1) + 1 - a - b for d, k, a, b in zip(dilation, kernel, pads[:2], pads[2:],
                                                          strict=True)]
    shape = draw(st.integers(2, 20)), *(draw(st.integers(max(1, n), 14)) for n in least)
    conv = depthwise(shape, kernel, draw(st.integers(0, 99)), "int6", dilation=dilation, pads=pads,
                     stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
                     **draw(st.sampled_from([dict(pad_code=code) for code in (None, 0, 5, 60)]
                                            + [dict(replicate=True)])))
    arch = chip(size, activation="int6", weight="int6", accumulator_depth=draw(
        st.sampled_from([4, 17, 60, 400])), activation_depth=draw(st.sampled_from([400, 2048])))
    found, expected, _ = run(conv, arch)
    assert (found == expected).all()


def test_the_mode_is_used_and_in_floats_too():
    conv = changed(depthwise((20, 9, 9), (3, 3), format="e3m2", pads=(1, 1, 1, 1)), low=-31,
                   high=31)
    found, expected, program = run(conv, chip(activation="e3m2", weight="e3m2"))
    assert (found == expected).all()
    assert any(i.starts for i in program.instructions if i.opcode == Opcode.ARRAY)


@pytest.mark.parametrize("conv, options", [
    (depthwise((16, 9, 9), (3, 3)), dict(depthwise=False)),
    (depthwise((16, 9, 9), (3, 3), pool=Pool((2, 2))), {}),     # results in another order
    # results that pooling leaves out
    (depthwise((16, 9, 9), (3, 3), pool=Pool((1, 1), (1, 2))), {}),
    (depthwise((16, 9, 9), (3, 3)), dict(accumulator=24)),      # passes in another order
    (depthwise((16, 9, 9), (3, 3)), dict(activation_depth=16)),     # taps that come part by part
    (depthwise((16, 9, 9), (1, 1)), {}),                        # nothing to gain
])
def test_the_usual_way_where_it_must_be(conv, options):
    assert plan_from_above(Layer(0, conv, chip(**options))) is None


@pytest.mark.parametrize("options, message", [
    (dict(lanes=2), "one lane"), (dict(columns=8), "as many rows as columns"),
    (dict(activation="bipolar1", weight="bipolar1"), "that has a code for 0"),
])
def test_chips_that_cannot_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        chip(**options)


def test_rows_without_taps_are_neither_stored_nor_loaded():
    found, wanted, program = run(depthwise((32, 5, 5), (3, 3)), chip(32))
    np.testing.assert_array_equal(found, wanted)
    arrays = [i for i in program.instructions if i.opcode == Opcode.ARRAY and i.starts]
    assert arrays and all(0 < i.height < 16 for i in arrays)


def test_taps_with_the_same_weights_are_loaded_once():
    """As those of a mean, where the bus is slow beside the array."""
    shape, sizes = (32, 4, 4), []
    for more in (0, 1):
        weights = np.full((32, 32, 2, 2), 3)
        weights[0, 0, 0, 0] += more
        conv = convolution(
            "conv", "in", "out", weights, parse("int8"), bias=np.arange(32),
            multiplier=np.full(32, 1 << 17), shift=np.full(32, 25), low=-128, high=127,
            input_shape=shape)
        found, wanted, program = run(conv, chip(32, depthwise=False))
        np.testing.assert_array_equal(found, wanted)
        check_memory_plan(program)
        sizes.append(sum(i.rows * i.words for i in program.instructions
                         if i.opcode == Opcode.LOAD and i.memory == Memory.WEIGHT))
    assert sizes == [32, 4 * 32]
