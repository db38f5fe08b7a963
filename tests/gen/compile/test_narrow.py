"""Networks with multipliers as narrow as a chip's."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.gen.compile.narrow import multiplier_need, narrowed
from systolith.gen.kit.notes import LEAST
from systolith.hw.formats import Float, Int
from systolith.hw.spec.arch import Arch
from systolith.sim.model.conv import Conv
from systolith.sim.model.graph import Graph, Tensor
from systolith.sim.model.requantization import Below, Operand, Requantization
from systolith.sim.model.weights import Weights

INT8 = Int(8)


def network(form=INT8, channels=3, **facts):
    """One layer of one tap, whose sums are its input."""
    tensors = {name: Tensor(name, (channels, 3, 3), form) for name in ("in", "side", "out")}
    conv = Conv("conv", "in", "out", Weights(np.ones((channels, channels, 1, 1)), form),
                input_shape=(channels, 3, 3), **facts)
    return Graph("net", [tensors["in"], tensors["side"]], tensors, [conv], ["out"])


def chip(bits, **facts):
    return Arch(rows=4, columns=4, multiplier_bits=bits, **facts)


def exact(multiplier, shift):
    return Fraction(int(multiplier), 1 << int(shift))


@given(st.integers(16, 25), st.lists(st.tuples(
    st.one_of(st.integers(1, (1 << 26) - 1), st.sampled_from([1, 1 << 25, (1 << 26) - 1])),
    st.integers(10, 63), st.floats(0, 1)), min_size=1, max_size=4))
def test_multipliers_are_the_nearest_of_so_many_bits(bits, channels):
    """And addends are those of the same fractions of a bias; what fits stays."""
    numbers = [np.array([m for m, *_ in channels]), np.array([t for _, t, _ in channels]),
               np.array([int(m * f) for m, _, f in channels])]
    own = Requantization(*numbers, low=-128, high=127, below=Below(-numbers[0], *numbers[1:]))
    graph = network(channels=len(channels), requantization=own)
    found = narrowed(graph, chip(bits)).layers[0].requantization
    for old, new in ((own, found), (own.below, found.below)):
        for m, t, d, mine, right, addend in zip(
                old.multiplier, old.shift, old.addend, new.multiplier, new.shift, new.addend,
                strict=True):
            wanted, there = exact(m, t), exact(mine, right)
            assert abs(mine) < 1 << bits and 0 <= addend * np.sign(d) <= abs(mine)
            assert abs(there - wanted) <= abs(wanted) / (1 << bits)
            assert abs(exact(addend, right) - exact(d, t)) <= Fraction(1, 1 << int(right))
            if abs(m) < 1 << bits:
                assert (mine, right, addend) == (m, t, d)


def test_wide_chips_and_narrow_networks_stay():
    graph = network(requantization=Requantization([1 << 15] * 3, [20] * 3, low=-128, high=127))
    assert narrowed(graph, chip(26)) is graph
    note, = narrowed(graph, chip(16)).notes
    assert (note.node, note.off) == ("", 0)
    assert multiplier_need(graph.layers[0], graph.tensors, chip(16)) == 0


def test_a_note_says_how_far_results_move():
    own = Requantization([(1 << 25) + 511] * 3, [33] * 3, low=-128, high=127)
    graph = narrowed(network(requantization=own), chip(16))
    note, = graph.notes
    assert (note.kind, note.node, note.detail) == ("multiplier", "conv", "16")
    new = graph.layers[0].requantization
    share = exact(new.multiplier[0], new.shift[0]) / exact(own.multiplier[0], 33) - 1
    assert note.off == pytest.approx(128 * abs(float(share))) and note.off < 128 / (1 << 16)


@pytest.mark.parametrize("form", [INT8, Float(3, 2)])
@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("bits", [16, 17, 22])
def test_combined_results_move_by_no_more_than_is_said(form, product, bits):
    rng = np.random.default_rng(bits)
    integers = form.uniform
    top = (1 << 19) - 1 if integers else form.ordered_range[1]
    own = Requantization([0x2ABCDEF] * 3, [25] * 3, low=-top - integers, high=top)
    size = 14 if integers else 0
    operand = Operand("side", product=product, gain=0x3123457 >> (7 * product),
                      operand_gain=0x1765433 << 0, shift=25 + size * product,
                      low=form.ordered_range[0], high=form.ordered_range[1])
    if integers and not product:
        operand = replace(operand, gain=0x3123457 >> 12)
    graph = network(form, requantization=own, operand=operand)
    new = narrowed(graph, chip(bits, activation=form, weight=form, operand_depth=4)).layers[0]
    for number in (new.operand.gain, new.operand.operand_gain):
        assert -1 << bits <= number < 1 << bits
    if not integers:
        return
    first = min(20, bits - 4)
    assert max(new.requantization.high.bit_length(), 1) < first
    notes = narrowed(graph, chip(bits, operand_depth=4)).notes
    said = notes[0].off if notes else LEAST
    sums = rng.integers(-1 << 18, 1 << 18, (1, 3, 5, 5))        # no first result is at its limit
    codes = rng.integers(0, 256, sums.shape)
    far = []
    for conv in (graph.layers[0], new):
        c = conv.requantization.results(sums, form)
        r = np.where(codes > 127, codes - 256, codes)
        total = c * r * conv.operand.gain if product else (
            c * conv.operand.gain + r * conv.operand.operand_gain)
        far.append(total / 2.0 ** conv.operand.shift)
    inside = abs(far[0]) < 128
    assert inside.sum() > 30
    assert abs(far[0] - far[1])[inside].max() <= said


def test_what_needs_wide_multipliers_is_refused_with_the_width():
    """A step of the sum is many of the result; a sum of digits, whose lowest bits count."""
    own = Requantization([(1 << 22) - 1] * 3, [2] * 3, low=-128, high=127)
    graph = network(requantization=own)
    assert multiplier_need(graph.layers[0], graph.tensors, chip(17)) == 21
    assert narrowed(graph, chip(17)).layers[0].requantization is own
    digits = Operand("side", gain=1, operand_gain=-256, low=-128, high=127)
    graph = network(requantization=Requantization([1] * 3, low=-(1 << 19), high=(1 << 19) - 1),
                    operand=digits)
    need = multiplier_need(graph.layers[0], graph.tensors, chip(17, operand_depth=4))
    assert need == 24
    assert narrowed(graph, chip(17, operand_depth=4)).layers[0].operand is digits
