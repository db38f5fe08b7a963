"""Means as kernels from above: the same results, fewer bytes, and where it must not be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.gen.compile import compile as compiler
from systolith.gen.compile.compile import compile_graph
from systolith.gen.compile.layer import Layer
from systolith.gen.compile.window_taps import with_window_taps
from systolith.hw.formats import parse
from systolith.hw.spec.isa import Memory, Opcode, Pooling
from systolith.sim.machine.cycles import cycles
from systolith.sim.machine.memory_plan import check_memory_plan
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.pool import Pool
from systolith.sim.model.requantization import Operand

from ...layers import changed, convolution
from ...networks import outputs_of
from .test_from_above import chip


def mean(channels, window, size, seed=0, format="int8", **given):
    """A layer of one depthwise tap whose sums are added over windows."""
    random, form = np.random.default_rng(seed), parse(format)
    low, high = form.image_range
    return convolution(
        "mean", "map", "out", random.integers(0, 1 << form.width, (channels, 1, 1, 1)), form,
        groups=channels, bias=random.integers(-50, 50, channels),
        multiplier=random.integers(1 << 17, 1 << 18, channels),
        shift=np.full(channels, 17 + form.width), low=low, high=high,
        **dict(pool=Pool(window, sum=True), input_shape=(channels, *size)) | given)


def network(conv, format="int8"):
    """A layer that writes the map that `conv` reads, and `conv`."""
    form, shape = parse(format), conv.input_shape
    channels = shape[0]
    random = np.random.default_rng(channels)
    first = convolution(
        "first", "in", "map", random.integers(0, 1 << form.width, (channels, 3, 1, 1)), form,
        multiplier=np.full(channels, 1 << 17), shift=np.full(channels, 17 + form.width // 2),
        low=form.image_range[0], high=form.image_range[1], input_shape=(3, *shape[1:]))
    tensors = {"in": Tensor("in", (3, *shape[1:]), form), "map": Tensor("map", shape, form),
               "out": Tensor("out", conv.output_shape, form)}
    return Graph("mean", [tensors["in"]], tensors, [first, conv], ["out"])


def same(graph, arch, images=1):
    """The program for a network, whose results in the instruction-level simulator are those of the
    golden model."""
    program = compile_graph(graph, arch, images)
    check_memory_plan(program)
    shape = graph.tensors["in"].shape
    codes = np.random.default_rng(1).integers(0, 1 << arch.activation.width, (images, *shape))
    found, _ = outputs_of(program, codes if images > 1 else codes[0])
    wanted = graph.run(codes)["out"]
    np.testing.assert_array_equal(found["out"], wanted if images > 1 else wanted[0])
    return program


def used(program):
    """Whether the array sums the windows of the last layer."""
    return program.host.layers[-1].array.above is not None


def loaded(program):
    """Words of weights that a program loads."""
    return sum(i.rows * i.words for i in program.instructions
               if i.opcode == Opcode.LOAD and i.memory == Memory.WEIGHT)


@pytest.mark.parametrize("size, channels, window, shape, options", [
    (64, 64, (3, 3), (3, 3), {}),
    (64, 130, (3, 3), (3, 3), {}),                      # channels that are no whole blocks
    (64, 64, (1, 7), (1, 7), {}),
    (32, 40, (4, 2), (4, 2), dict(two_fillings=True)),
    (32, 64, (3, 2), (6, 7), dict(post_lanes=8)),       # several windows, and a column left over
    (16, 64, (3, 3), (6, 9), dict(post_lanes=4)),
    (64, 64, (5, 2), (5, 6), dict(post_lanes=8)),       # a stride of 5 in no axis with two results
])
def test_the_array_sums_windows_in_fewer_words_and_cycles(
        monkeypatch, size, channels, window, shape, options):
    arch, graph = chip(size, **options), network(mean(channels, window, shape))
    program = same(graph, arch)
    assert used(program)
    assert not any(i.pooling == Pooling.SUM for i in program.instructions
                   if i.opcode == Opcode.POST)
    monkeypatch.setattr(compiler, "with_window_taps", lambda layers, _: layers)
    before = same(graph, arch)
    assert not used(before)
    assert loaded(program) < loaded(before) and cycles(program).cycles < cycles(before).cycles


@settings(max_examples=25)
@given(st.data())
def test_results_equal_the_golden_model(data):
    draw = data.draw
    size, window = draw(st.sampled_from([8, 16, 32])), (draw(st.integers(1, 5)),
                                                        draw(st.integers(1, 5)))
    shape = [k * draw(st.integers(1, 3)) + draw(st.integers(0, k - 1)) for k in window]
    form = draw(st.sampled_from(["int8", "int6", "int4"]))
    arch = chip(size, activation=form, weight=form, two_fillings=draw(st.booleans()),
                post_lanes=draw(st.sampled_from([size, 4])),
                accumulator_depth=draw(st.sampled_from([60, 400])))
    same(network(mean(draw(st.integers(2, 40)), window, shape, draw(st.integers(0, 99)), form),
                 form), arch, draw(st.sampled_from([1, 1, 3])))


@pytest.mark.parametrize("window, shape, above", [
    ((3, 3), (3, 3), True), ((5, 5), (5, 5), None)])
def test_batches(window, shape, above):
    program = same(network(mean(64, window, shape)), chip(64), 4)
    assert above is None or used(program) == above


def test_floats_too():
    conv = changed(mean(64, (3, 3), (3, 3), format="e3m2"), low=-31, high=31)
    graph = network(conv, "e3m2")
    graph.layers[0] = changed(graph.layers[0], low=-31, high=31)
    assert used(same(graph, chip(64, activation="e3m2", weight="e3m2")))


USUAL = mean(64, (3, 3), (3, 3))


@pytest.mark.parametrize("conv, options", [
    (USUAL, dict(depthwise=False)),
    (USUAL, dict(accumulator=40)),                              # sums in another order
    (replace(USUAL, pool=Pool((3, 3))), {}),                    # the largest, not the sum
    (replace(USUAL, pool=Pool((2, 2), (1, 1), sum=True)), {}),  # windows that overlap
    (replace(USUAL, pool=Pool((3, 3), pads=(1, 1, 1, 1), sum=True)), {}),
    (changed(USUAL, groups=64, stride=(2, 2), pool=Pool((2, 2), sum=True)), {}),
    (replace(USUAL, operand=Operand("other")), {}),
    (mean(64, (4, 4), (8, 8)), {}),                             # strides that ARRAY cannot say
    (mean(64, (12, 12), (12, 12)), {}),                         # more taps than the diagonal words
])
def test_the_usual_way_where_it_must_be(conv, options):
    layer = Layer(1, conv, chip(64, **options))
    assert with_window_taps([layer], {"map"}) == [layer]


def test_maps_outside_and_words_of_other_kinds_stay():
    layer = Layer(1, USUAL, chip(64))
    assert with_window_taps([layer], {"map"}) != [layer]
    assert with_window_taps([layer], set()) == [layer]
    for other in (dict(spread=1), dict(side=1), dict(copies=1), dict(halves=True),
                  dict(to_signs=True)):
        layer = replace(layer, **dict.fromkeys(("spread", "side", "copies"), 0)
                        | dict.fromkeys(("halves", "to_signs"), False) | other)
        assert with_window_taps([layer], {"map"}) == [layer]
