"""Integer elements in Amaranth's simulator; test_pe.py plays their Verilog on all operands."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from systolith.hw.core.blocks import emit
from systolith.hw.element.booth import digit_ranges
from systolith.hw.element.element import ProcessingElement, arithmetic
from systolith.hw.formats import Int, parse
from systolith.hw.spec.structures import Structure

ROWS = 16


def rules_of(activation, weight, lanes=1, **options):
    return arithmetic(parse(activation), parse(weight), lanes, ROWS * lanes, **options)


def added(rules, a, w, psums):
    """What an element behind decoders makes of codes a[n, lane], w[n, lane] more than psums[n],
    modulo 2**psum_bits: a new weight every cycle."""
    m = Module()
    m.submodules.element = element = ProcessingElement(rules, shadow=False)
    a_codes = Signal(rules.lanes * rules.activation.width)
    w_codes = Signal(rules.lanes * rules.weight.width)
    m.d.comb += [element.a_in.eq(rules.decode_activation(m, a_codes)),
                 element.w_in.eq(rules.decode_weight(m, w_codes)), element.swap_in.eq(1)]
    before, mask = rules.stages, (1 << rules.psum_bits) - 1
    found = []

    async def play(ctx):
        for n in range(len(a) + rules.stages + 1):
            if n > rules.stages:
                found.append(ctx.get(element.psum_out) - psums[n - rules.stages - 1] & mask)
            if n < len(a):
                ctx.set(a_codes, _joined(a[n], rules.activation.width))
                ctx.set(w_codes, _joined(w[n], rules.weight.width))
            if before <= n < before + len(a):
                ctx.set(element.psum_in, psums[n - before])
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()
    return found


def _joined(codes, width):
    return sum(int(code) << width * lane for lane, code in enumerate(codes))


def check(rules, a, w, random):
    half = 1 << (rules.psum_bits - 1)
    psums = [int(n) for n in random.integers(-half, half, len(a))]
    found = added(rules, a, w, psums)
    dot = (rules.activation.image(a) * rules.weight.image(w)).sum(axis=1)
    # A column's head takes away what its elements add too much.
    constant = -rules.head(1)
    expected = [(int(n) + constant) % (1 << rules.psum_bits) for n in dot]
    assert len(found) == len(a)
    assert found == expected, (rules.activation, rules.weight, rules.structure, rules.stages)
    assert (rules.head(ROWS) + ROWS * constant) % (1 << rules.psum_bits) == 0


@pytest.mark.parametrize("structure", Structure)
@pytest.mark.parametrize("activation,weight", [("int4", "int4"), ("uint3", "int3"),
                                               ("int1", "uint2"), ("uint1", "int1")])
def test_every_pair_of_short_operands(activation, weight, structure):
    rules = rules_of(activation, weight, structure=structure, stages=1)
    pairs = np.array(list(itertools.product(range(1 << rules.activation.width),
                                            range(1 << rules.weight.width))))
    check(rules, pairs[:, :1], pairs[:, 1:], np.random.default_rng(1))


INTEGERS = st.one_of(st.just("ternary"), st.builds(
    lambda bits, signed: Int(bits, signed).name, st.integers(1, 16), st.booleans()))


@settings(max_examples=12)
@given(INTEGERS, INTEGERS, st.integers(1, 3), st.sampled_from(Structure), st.data())
def test_any_widths_lanes_and_stages(activation, weight, lanes, structure, data):
    # Adders of single gates settle slowly here.
    bits = lanes * (parse(activation).width + parse(weight).width)
    assume(structure != "gates" or bits <= 10)
    most = rules_of(activation, weight, lanes, structure=structure).most_stages
    stages = data.draw(st.integers(1, most))
    rules = rules_of(activation, weight, lanes, structure=structure, stages=stages)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))

    def codes(fmt):
        low, high = fmt.image_range
        images = random.integers(low, high + 1, (25, lanes))
        corners = random.choice([low, high, low // 2, high // 2, 0], (25, lanes))
        images = np.where(random.random((25, lanes)) < 0.4, corners, images)
        return images & ((1 << fmt.width) - 1)

    check(rules, codes(rules.activation), codes(rules.weight), random)


@given(st.integers(-1 << 15, 0), st.integers(0, 1 << 16))
def test_digits_reach_all_integers_between(low, high):
    ranges = digit_ranges(low, high)
    reach = [sum(ends[n] << 2 * k for k, ends in enumerate(ranges)) for n in (0, 1)]
    assert reach[0] <= low and reach[1] >= high
    assert all(-2 <= smallest and largest <= 2 for smallest, largest in ranges)


def test_recoded_operand_is_the_one_with_fewer_rows():
    # As digits of int4, two rows of nine bits; as digits of int8, four of five.
    for formats in (("int4", "int8"), ("int8", "int4")):
        rules = rules_of(*formats, structure="lut4", stages=1)
        wider = dict(zip(formats, (rules.activation_bits, rules.weight_bits), strict=True))
        assert wider == {"int4": 5, "int8": 8}


def test_stages_beyond_the_last_are_refused():
    with pytest.raises(ValueError, match="must be from 1 to 4, not 5"):
        rules_of("int8", "int8", structure="lut6", stages=5)


def test_two_short_products_share_a_dsp_block():
    def products(activation, weight, lanes, columns=1, structure="dsp"):
        rules = rules_of(activation, weight, lanes, structure=structure, columns=columns)
        return emit(ProcessingElement(rules), "pe").count(" * ")

    assert products("int4", "int4", 2) == 1
    assert products("int4", "uint4", 5) == 3
    assert products("int8", "int8", 2) == 2
    assert products("int4", "int8", 2, structure="dsp48") == 1
    # Of two columns that share an activation.
    assert products("int8", "int8", 1, 2) == 2
    assert products("int8", "int8", 3, 2, "dsp48") == 3
    assert products("int8", "int4", 1, 4) == 2
    # A pair of lanes in each column, and one product across.
    assert products("int4", "int4", 3, 2) == 3
