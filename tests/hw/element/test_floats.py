"""Short floats, powers of two and integers with each other: every structure, every depth."""

from itertools import product

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from systolith.hw.core.blocks import emit
from systolith.hw.element.element import ProcessingElement, arithmetic
from systolith.hw.element.floats import FloatArithmetic
from systolith.hw.element.significand import Factor
from systolith.hw.formats import Float, Int, PowerSum, parse
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl import elements
from systolith.sim.rtl.elements import Bench, every_pair, mismatches, observe, random_vectors

from ..simulated import play

#: Unequal widths, lowest binades and radices; tables, rows and gates; integers and sums.
PAIRS = [("e2m1", "e2m1"), ("e3m2", "e2m3"), ("e4m3", "e3m0"), ("e3m4flush", "e3m1dl"),
         ("e3m0r4", "e3m1r4"), ("e3m0r4", "e2m2"), ("int6", "e3m0"), ("e3m1", "uint4"),
         ("int5", "e2m1"), ("int4", "e3m0x2")]


def rules_of(activation, weight, lanes=1, **options):
    return arithmetic(parse(activation), parse(weight), lanes, 4 * lanes, **options)


def depths(activation, weight, structure):
    return range(1, rules_of(activation, weight, structure=structure, stages=1).most_stages + 1)


def assert_exact(benches, vectors):
    for bench, observed in zip(benches, observe(benches, vectors), strict=True):
        wrong, checked = mismatches(bench.arithmetic, observed)
        rules = bench.arithmetic
        assert checked and not wrong.any(), (rules.activation, rules.weight, rules.structure,
                                             rules.stages, rules.lanes)


def test_every_pair_of_operands_in_every_structure_and_depth():
    benches = [Bench(rules_of(*pair, structure=structure, stages=stages))
               for n, pair in enumerate(PAIRS) for k, structure in enumerate(Structure)
               if (n + k) % 2 for stages in depths(*pair, structure)[n // 2 % 2::3]]
    assert {(bench.arithmetic.structure, bench.arithmetic.stages) for bench in benches} >= set(
        product(Structure, (1, 2, 4)))
    random = np.random.default_rng(4)
    assert_exact(benches, [every_pair(bench, random) for bench in benches])


@pytest.mark.parametrize("name,lanes,columns,structure,products", [
    ("e4m3", 1, 2, "dsp", 1), ("e4m3", 2, 1, "dsp", 1), ("e3m2", 3, 3, "dsp", 5),
    ("e3m4", 2, 1, "dsp", 2), ("e3m4", 2, 1, "dsp48", 1), ("e8m7", 1, 2, "dsp48", 1),
    ("e8m7", 1, 2, "dsp", 2), ("e4m3", 2, 2, "gates", 4)])
def test_products_that_share_a_dsp_block(name, lanes, columns, structure, products):
    rules = arithmetic(parse(name), parse(name), lanes, 16, structure=structure, columns=columns)
    assert emit(ProcessingElement(rules), "pe").count(" * ") == products
    assert rules.across == (columns > 1 and products < lanes * columns)


def test_several_lanes():
    benches = [Bench(rules_of(activation, weight, lanes, structure=structure, stages=stages))
               for activation, weight, lanes, structure, stages in (
                   ("e3m2", "e3m2", 3, "lut6", 1), ("e3m2", "e3m2", 2, "lut4", 4),
                   ("e5m2", "e4m3", 2, "lut6", 2), ("int8", "e3m0x2", 2, "lut4", 3),
                   ("e2m1", "e2m1", 4, "dsp", None), ("e2m3", "e2m3", 2, "dsp", 1))]
    random = np.random.default_rng(5)
    assert_exact(benches, [random_vectors(bench, random, 1000) for bench in benches])


floats = st.builds(
    Float, exp=st.integers(1, 4), man=st.integers(1, 4), lowest=st.sampled_from(
        ["subnormal", "flush", "dlfloat"]), radix=st.sampled_from([2, 4]))


@given(activation=floats, weight=floats, structure=st.sampled_from(Structure))
@settings(max_examples=20)
def test_windows_hold_every_product(activation, weight, structure):
    rules = arithmetic(activation, weight, 1, 16, structure=structure, stages=1)
    largest = activation.image_range[1] * weight.image_range[1]
    assert -16 * largest >= -1 << rules.psum_bits - 1
    assert 16 * largest > (1 << rules.psum_bits - 2) - 1


@pytest.mark.parametrize("name,significand,shift,sign", [
    ("e4m3", 4, 4, 1), ("e3m2", 3, 3, 1), ("e3m0r4", 1, 3, 1), ("int8", 8, 0, 1),
    ("uint4", 4, 0, 0), ("e1m2", 3, 0, 1)])
def test_fields(name, significand, shift, sign):
    layout = Factor(parse(name)).layout
    assert [layout[field].width for field in ("significand", "shift", "sign")] == [
        significand, shift, sign]


@pytest.mark.parametrize("name", ["e4m3", "e3m4", "e3m2", "e5m10"])
def test_the_triple_of_a_significand_is_a_sum(name):
    """Of which no DSP block is made, which one for each row and lane would have no registers."""
    factor = Factor(parse(name), triple=True)
    code, fields = Signal(factor.fmt.width), Signal(factor.layout)

    def decoder():
        m = Module()
        m.d.comb += fields.as_value().eq(factor.decode(code))
        return m
    assert "$mul" not in rtlil.convert(decoder(), ports=[code, fields.as_value()])

    async def bench(context):
        for value in range(0, 1 << len(code), max(1, (1 << len(code)) // 997)):
            context.set(code, value)
            assert context.get(fields.triple) == 3 * context.get(fields.significand)
    simulator = Simulator(decoder())
    simulator.add_testbench(bench)
    simulator.run()


def test_what_is_no_number_with_a_significand_is_refused():
    for activation, weight in ((parse("bipolar1"), Int(8)), (Int(8), parse("lns8"))):
        with pytest.raises(ValueError, match="factors must be floats, integers or sums of powers"):
            FloatArithmetic(activation, weight, 1, 1)
    with pytest.raises(ValueError, match="operands of the array must be signed, not e8m0fnu"):
        FloatArithmetic(PowerSum(parse("e3m0"), 2), parse("e8m0fnu"), 1, 1)
    with pytest.raises(ValueError, match=r"stages of e3m2 x e3m2 \(lut4\) must be from 1 to 4"):
        rules_of("e3m2", "e3m2", stages=5)


@pytest.mark.parametrize("activation, weight, structure", [
    ("e4m3", "e4m3", "lut6"), ("e3m4", "e3m3", "lut4"), ("int6", "e3m0", "lut6"),
    ("int5", "e2m1", "lut4"), ("e3m2", "e3m2", "gates"), ("int4", "e5m0", "gates"),
    ("e2m1", "e2m1", "gates"), ("e4m1", "e3m2", "gates")])
def test_some_operands_in_a_simulator_that_compiles_nothing(
        activation, weight, structure, monkeypatch):
    monkeypatch.setattr(elements, "play", play)
    bench = Bench(rules_of(activation, weight, structure=structure, stages=1))
    assert_exact([bench], [random_vectors(bench, np.random.default_rng(1), 150)])


@pytest.mark.parametrize("activation, weight, table", [
    ("e1m1", "e2m1", True), ("e2m1", "e2m1", True), ("e2m2", "e2m1", False)])
def test_products_of_six_bits_are_tables(activation, weight, table):
    """Of all bits of the magnitudes, so that nothing is left to shift; but where gates or DSP
    blocks multiply."""
    for structure in Structure:
        rules = rules_of(activation, weight, structure=structure, stages=1)
        verilog = emit(ProcessingElement(rules), "pe")
        assert ("shift_" in verilog) != (table and structure.is_lut), structure


@pytest.mark.parametrize("name, first", [("e4m3", True), ("e2m1", False)])
def test_numbers_get_their_signs_where_they_are_narrow(name, first):
    """In gates alone, and where that is smaller; there wide sums need no stage of their own."""
    for structure in Structure:
        rules = rules_of(name, name, structure=structure, stages=1)
        verilog = emit(ProcessingElement(rules), "pe")
        assert ("signed_0_0_0" in verilog) == (first and structure is Structure.GATES), structure
        assert rules.fast_stages == 3 + (name == "e4m3" and structure is not Structure.GATES)
