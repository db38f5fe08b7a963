"""The XNOR array's processing elements: sums of +-1 planes, parities made at the edges."""

import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.sim import Simulator
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.element import popcount
from systolith.hw.element.element import ProcessingElement, arithmetic
from systolith.hw.element.popcount import Parities
from systolith.hw.formats import parse
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl.elements import Bench, mismatches, observe, random_vectors

LANES = (1, 2, 3, 5, 64, 70, 128, *np.random.default_rng(17).integers(4, 64, 2).tolist())
CASES = [
    *(("bipolar1", "bipolar1", lanes, list(Structure)[(n + stages) % 3], stages)
      for n, lanes in enumerate(LANES) for stages in range(1 + n % 2, 5, 2)),
    ("bipolar1", "bipolar1", 9, "dsp", 1),
    ("bipolar2", "bipolar1", 7, "lut6", 1), ("bipolar2", "bipolar3", 12, "lut4", 2),
    ("bipolar4", "bipolar4", 1, "gates", 1), ("uint1", "bipolar1", 9, "lut6", 1),
    ("uint2", "bipolar1", 64, "lut4", 3), ("uint3", "bipolar2", 6, "gates", 4),
    ("int4", "bipolar1", 16, "lut6", 2), ("int1", "bipolar3", 3, "lut4", 1),
    ("uint8", "bipolar1", 4, "lut6", 1),
]
ROWS = 3                                                # odd, like some of the lanes


def rules_of(case, columns=1):
    activation, weight, lanes, structure, stages = case
    return arithmetic(parse(activation), parse(weight), lanes, ROWS * lanes, structure=structure,
                      stages=stages, columns=columns)


@pytest.fixture(scope="module")
def seen():
    """Of every case its bench and what was observed, all in one executable."""
    benches = [Bench(rules_of(case, 1 + n % 5 // 4), shadow=n % 7 == 0)
               for n, case in enumerate(CASES)]
    vectors = []
    for case, bench in zip(CASES, benches, strict=True):
        random = np.random.default_rng(zlib.crc32(str(case).encode()))
        given = random_vectors(bench, random, 1500)
        top = (1 << bench.arithmetic.weight.width) - 1
        if bench.arithmetic.activation.name == bench.arithmetic.weight.name:
            # All lanes equal or all different, but for a single lane, or a few.
            for n in range(200, 1500, 5):
                given.a[n] = given.w[n, 0] ^ (top if n % 2 else 0)
                given.a[n, :n // 5 % 3] ^= 1
            given.load[200:] = given.swap[200:] = True
            if not bench.element.shadow:
                given.w[199:-1] = given.w[200:].copy()
        vectors.append(given)
    return list(zip(CASES, benches, observe(benches, vectors), strict=True))


def test_sums_of_random_words_and_corners(seen):
    for case, bench, observed in seen:
        wrong, checked = mismatches(bench.arithmetic, observed)
        assert checked > 1000
        assert not wrong.any(), (case, observed.a[wrong][:1], observed.w[wrong][:1])


def test_words_with_all_lanes_equal_and_all_different_were_among_them(seen):
    for case, _, observed in seen:
        if case[:2] == ("bipolar1", "bipolar1"):
            equal = (observed.a == observed.w[:, 0]).sum(axis=1)
            assert {0, case[2]} <= set(equal.tolist())


@dataclass
class Column:
    """Elements below each other, fed with codes that do not change."""
    rules: object
    rows: int

    def sum(self, a, w):
        """The column's total for codes [rows, lanes]."""
        m = Module()
        below = Const(self.rules.head(self.rows), self.rules.psum_bits)
        for row in range(self.rows):
            element = ProcessingElement(self.rules, shadow=False)
            m.submodules[f"row{row}"] = element
            codes = [Const(sum(int(code) << lane * fmt.width for lane, code in enumerate(codes)),
                           fmt.width * self.rules.lanes) for codes, fmt in
                     ((a[row], self.rules.activation), (w[row], self.rules.weight))]
            m.d.comb += [element.a_in.eq(self.rules.decode_activation(m, codes[0])),
                         element.w_in.eq(self.rules.decode_weight(m, codes[1])),
                         element.swap_in.eq(1), element.psum_in.eq(below)]
            below = element.psum_out
        total = Signal.like(self.rules.total(below, self.rows))
        m.d.comb += total.eq(self.rules.total(below, self.rows))
        seen = []

        async def watch(context):
            await context.tick().repeat(self.rules.stages + self.rows + 1)
            seen.append(context.get(total))

        simulator = Simulator(m)
        simulator.add_clock(1e-6)
        simulator.add_testbench(watch)
        simulator.run()
        return seen[0]


@pytest.mark.parametrize("activation,weight,lanes,rows,structure,stages", [
    ("bipolar1", "bipolar1", 5, 3, "lut6", 1), ("bipolar1", "bipolar1", 8, 4, "lut4", 2),
    ("bipolar1", "bipolar1", 1, 1, "gates", 1), ("bipolar2", "bipolar2", 3, 5, "lut6", 1),
    ("uint2", "bipolar1", 3, 3, "lut4", 1), ("int3", "bipolar2", 2, 3, "gates", 2),
])
def test_columns_of_rows_with_different_sums(activation, weight, lanes, rows, structure, stages):
    activation, weight = parse(activation), parse(weight)
    rules = arithmetic(activation, weight, lanes, rows * lanes, structure=structure, stages=stages)
    column, random = Column(rules, rows), np.random.default_rng(lanes * rows)
    extremes = [(1 << fmt.width) - 1 for fmt in (activation, weight)]
    for n in range(5):
        a, w = (random.integers(0, top + 1, (rows, lanes)) for top in extremes)
        if n < 3:
            a[:], w[:] = (0, extremes[0])[n % 2], (0, extremes[1])[n // 2]
        assert column.sum(a, w) == (activation.image(a) * weight.image(w)).sum()


@given(st.integers(1, 200), st.integers(0, 30), st.integers(0))
def test_parities_are_a_basis_in_which_carries_are_majorities(lanes, half, bits):
    longest = 2 * half + 1
    parities = Parities(lanes, longest)
    assert max(map(len, parities.members)) <= longest
    rows = [sum(1 << lane for lane in members) for members in parities.members]
    rank, rest = 0, list(rows)
    while rest:
        row = rest.pop()
        if row:
            rank += 1
            rest = [other ^ row if other & (row & -row) else other for other in rest]
    assert len(rows) == rank == lanes

    values = [(row & bits).bit_count() % 2 for row in rows]
    carries = sum(values[left] + values[right] + (1 - values[own]) >= 2
                  for left, right, own in parities.adders)
    count = 2 * carries + sum(values[n] for n in parities.sums)
    assert count == (bits & ((1 << lanes) - 1)).bit_count()
    last = lanes % longest or longest
    assert len(parities.sums) == (lanes - last) // longest + 2 - last % 2


@pytest.mark.parametrize("count_of", [popcount.count_of, popcount.count_by_thresholds])
def test_counts_of_up_to_seven_bits(count_of):
    for width in range(1, 8):
        m, bits = Module(), Signal(width)
        count = Signal(3)
        m.d.comb += count.eq(Cat(count_of(list(bits))))

        async def watch(context, bits=bits, count=count):
            for value in range(1 << len(bits)):
                context.set(bits, value)
                assert context.get(count) == value.bit_count()

        simulator = Simulator(m)
        simulator.add_testbench(watch)
        simulator.run()


@pytest.mark.parametrize("stages", [0, 5])
def test_stages_that_do_not_exist_are_refused(stages):
    with pytest.raises(ValueError, match="must be from 1 to 4"):
        rules_of(("bipolar1", "bipolar1", 8, "lut6", stages))
