"""Processing elements in Verilated RTL against the formats, edge decoders included."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from amaranth.back import verilog
from systolith.hw.element.element import ProcessingElement, arithmetic
from systolith.hw.element.ints import IntArithmetic
from systolith.hw.formats import parse
from systolith.hw.spec.structures import Structure
from systolith.sim.rtl.elements import (
    Bench,
    Vectors,
    every_pair,
    mismatches,
    observe,
    random_vectors,
)

#: Formats and lanes of which all operands fit 16 bits; `systolith prove` has the other ones.
EVERY_PAIR = [
    ("int8", "int8", 1), ("uint8", "int3", 1), ("int4", "int7", 1), ("int1", "uint3", 1),
    ("e4m3", "e4m3", 1), ("e5m2", "e3m0", 1), ("e3m4", "e1m0", 1), ("e2m3", "e3m2", 1),
    ("e2m1", "e4m3", 1), ("e1m2", "e4m0", 1), ("e2m1", "e2m1", 2), ("bipolar1", "bipolar1", 6),
    ("bipolar1", "bipolar1", 1), ("p3109_k5p2", "p3109_k5p2", 1),
]
RANDOM = [
    ("int8", "int8", 3), ("int16", "int16", 2), ("uint2", "uint2", 7), ("int12", "uint9", 1),
    ("e3m2", "e4m3", 2), ("e2m1", "e2m1", 5), ("e5m2", "e4m3b11fnuz", 4), ("e5m10", "e5m10", 1),
    *(("bipolar1", "bipolar1", lanes) for lanes in (9, 23, 64, 70)),
]
#: Formats, lanes, columns, structure and stages where DSP blocks make two products.
JOINED = [
    ("int8", "int8", 1, 2, "dsp48", 1), ("int8", "int4", 1, 3, "dsp", 2),
    ("int4", "int4", 3, 3, "dsp", 1), ("uint4", "int5", 3, 2, "dsp48", 2),
    ("uint8", "uint4", 1, 2, "dsp", 1), ("int4", "uint8", 2, 2, "dsp48", 1),
    ("e4m3", "e4m3", 1, 2, "dsp", 3), ("e3m2", "e3m2", 3, 3, "dsp", 1),
    ("e4m3", "e2m1", 4, 1, "dsp", 2), ("e3m4", "e3m4", 2, 1, "dsp48", 2),
    ("e8m7", "e8m7", 1, 2, "dsp48", 1), ("int4", "e3m2", 2, 1, "dsp", 1),
]


def rules_of(case, **options):
    activation, weight, lanes = case
    return arithmetic(parse(activation), parse(weight), lanes, 16 * lanes, **options)


def benches_of(cases):
    """Of each case the smallest circuit, and the fast one, each for one structure in turn; of some
    the ones with several columns or with shadow weights."""
    benches = []
    for n, case in enumerate(cases):
        for options in ({"stages": 1}, {"stages": None}):
            rules = rules_of(case, structure=list(Structure)[len(benches) % 5],
                             columns=1 + n % 3 // 2, **options)
            benches.append(Bench(rules, shadow=n % 4 == 1))
    return benches


def name_of(bench):
    rules = bench.arithmetic
    return (f"{rules.activation} x {rules.weight}, {rules.lanes} lanes, {rules.structure}, "
            f"{rules.stages} stages, {bench.columns} columns")


def random_of(bench):
    return np.random.default_rng(zlib.crc32(name_of(bench).encode()))


class Flawed(IntArithmetic):
    """Wrong for one pair of operands."""

    def accumulate_columns(self, m, operands, psums):
        wrong = (operands[0].a(0) == 9) & (operands[0].w(0) == 13)
        return [psum + wrong for psum in super().accumulate_columns(m, operands, psums)]


class Careless(IntArithmetic):
    """Wrong for one partial sum, the smallest there is."""

    def accumulate_columns(self, m, operands, psums):
        smallest = psums[0] == -1 << self.psum_bits - 1
        return [psum + smallest for psum in super().accumulate_columns(m, operands, psums)]


def holding(shadow):
    """A bench whose weights are swapped and loaded by hand, and its vectors."""
    if shadow:
        #                load 5   swap    load 7          swap+load 9      swap
        load = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0], bool)
        w = np.array([5, 0, 7, 0, 0, 9, 0, 0, 0])
    else:
        load = np.array([1, 1, 0, 1, 0, 1, 0, 0, 1], bool)
        w = np.array([3, 5, 7, 0, 9, 7, 1, 9, 4])
    swap = np.array([0, 1, 0, 0, 0, 1, 0, 1, 0], bool)
    a = np.array([1, 1, 1, 2, 3, 1, 2, 1, 2])
    psum = np.array([0, 0, 0, 0, 0, 0, 0, 100, 0], object)
    return (Bench(rules_of(("int8", "int8", 1), stages=1), shadow=shadow),
            Vectors(a[:, None], w[:, None, None], load, swap, psum[:, None]))


@pytest.fixture(scope="module")
def seen():
    """Everything that is simulated here, in one executable: name -> [(Bench, Observed)]."""
    four = parse("int4")
    benches = {
        "every pair": benches_of(EVERY_PAIR),
        "random": benches_of(RANDOM),
        "special": [Bench(rules_of(("e2m3b2", "e4m3fn", 1), stages=1)),
                    Bench(rules_of(("e4m3fnuz", "e2m1", 1), stages=1))],
        "flawed": [Bench(family(four, four, 1, 16, structure="dsp", stages=1))
                   for family in (Flawed, Careless)],
    }
    given = {name: [(bench, every_pair(bench, random_of(bench)) if name != "random"
                     else random_vectors(bench, random_of(bench), 3000)) for bench in some]
             for name, some in benches.items()}
    joined = [Bench(rules_of(case, columns=columns, structure=structure, stages=stages))
              for *case, columns, structure, stages in JOINED]
    given["joined"] = [(bench, random_vectors(bench, random_of(bench), 3000)) for bench in joined]
    given["hold"] = [holding(True), holding(False)]
    everything = [pair for some in given.values() for pair in some]
    observed = iter(observe(*map(list, zip(*everything, strict=True))))
    return {name: [(bench, next(observed)) for bench, _ in some] for name, some in given.items()}


def check(bench, observed):
    wrong, checked = mismatches(bench.arithmetic, observed)
    assert checked > 0
    n = np.flatnonzero(wrong)[:1]
    assert not wrong.any(), (
        f"{name_of(bench)}: {wrong.sum()} of {len(wrong)} sums differ, first of a={observed.a[n]} "
        f"w={observed.w[n]}: added {observed.added[n]}, total {observed.total[n]}")
    return checked


@pytest.mark.slow
def test_every_pair_of_operands(seen):
    for bench, observed in seen["every pair"]:
        check(bench, observed)
        rules = bench.arithmetic
        for column in range(bench.columns):
            met = np.concatenate([observed.a, observed.w[:, column]], axis=1)
            bits = rules.lanes * (rules.activation.width + rules.weight.width)
            assert len(np.unique(met, axis=0)) == 1 << bits


def test_random_operands_of_several_lanes_and_wide_formats(seen):
    for bench, observed in seen["random"]:
        assert check(bench, observed) > 2900


def test_two_products_of_one_multiplication(seen):
    for bench, observed in seen["joined"]:
        check(bench, observed)


def test_weights_hold_until_others_are_swapped_in(seen):
    for bench, observed in seen["hold"]:
        check(bench, observed)
        assert observed.w.ravel().tolist() == [5, 5, 5, 5, 7, 7, 9, 9]
        assert (observed.total.ravel() // 16).tolist() == [5, 5, 10, 15, 7, 14, 9, 18]


def test_one_wrong_product_or_partial_sum_is_found(seen):
    (first, flawed), (second, careless) = seen["flawed"]
    wrong, _ = mismatches(first.arithmetic, flawed)
    assert [flawed.a[wrong].tolist(), flawed.w[wrong].tolist()] == [[[9]], [[[13]]]]
    assert mismatches(second.arithmetic, careless)[0].sum() > 5


def test_wrong_formats_are_found_with_the_right_circuit(seen):
    bench, observed = next(pair for pair in seen["every pair"]
                           if pair[0].arithmetic.weight == parse("e2m1"))
    other = rules_of(("e2m1", "e2m1", 2), stages=1)
    other.weight = replace(other.weight, exp=1, man=2, bias=None)
    assert not mismatches(bench.arithmetic, observed)[0].any()
    assert mismatches(other, observed)[0].any()


def test_codes_that_are_no_numbers_are_left_out(seen):
    assert [check(*pair) for pair in seen["special"]] == [64 * 254, 255 * 16]
    assert [len(parse(name).finite_codes()) for name in ("e4m3fn", "e4m3fnuz")] == [254, 255]


def test_equal_circuits_have_equal_fingerprints():
    def fingerprint(*case, **options):
        return Bench(rules_of((*case, 1), stages=1, **options)).fingerprint
    assert fingerprint("e3m2", "e3m2") == fingerprint("e3m2b9", "e3m2") != fingerprint(
        "e2m3", "e3m2")


def test_no_register_has_a_reset():
    for stages in (1, None):
        element = ProcessingElement(rules_of(("int4", "int4", 2), stages=stages))
        assert "if (rst)" not in verilog.convert(element)


@pytest.mark.parametrize("activation,weight,message", [
    ("bipolar1", "e4m3", "one family .float, int and sums of powers; bipolar; lns., not bip"),
    ("bipolar1", "int8", "one family"),
    ("e4m3", "e8m0fnu", "must be signed, not e8m0fnu"),
])
def test_formats_without_products_are_refused(activation, weight, message):
    with pytest.raises(ValueError, match=message):
        arithmetic(parse(activation), parse(weight), 1, 1)


@pytest.mark.parametrize("options,message", [
    ({"stages": 0}, "stages of int8 x int8 .lut6. must be from 1 to"),
    ({"stages": 65}, "stages of int8 x int8 .lut6. must be from 1 to"),
])
def test_stages_and_structures_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rules_of(("int8", "int8", 1), **{"structure": "lut6"} | options)
    with pytest.raises(ValueError, match="structure must be one of"):
        rules_of(("int8", "int8", 1), structure="fpga")
