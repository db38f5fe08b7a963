"""Processing elements of logarithmic numbers in Verilated RTL: every pair, lanes, stages."""

import numpy as np
import pytest
from systolith.hw.element.element import arithmetic
from systolith.hw.formats import parse
from systolith.sim.rtl.elements import Bench, every_pair, mismatches, observe, random_vectors

#: (activation, weight, lanes, structure, stages); of the first ones every pair of operands.
EVERY_PAIR = [("lns8", "lns8", 1, "lut6", 1), ("lns8", "lns8", 1, "lut4", 3),
              ("lns6", "lns8", 1, "gates", 2), ("lns5r1t0", "lns6r1t0", 1, "dsp", 1),
              # Constants that are rounded up to 2.
              ("lns7t0", "lns6t0", 1, "lut6", 1), ("lns8r64t4", "lns6r64t4", 1, "gates", 2)]
RANDOM = [("lns8r4t10", "lns8r4t10", 2, "lut6", 2), ("lns12r64t12", "lns9r64t12", 1, "lut4", 1),
          ("lns8", "lns8", 5, "lut6", None)]


def bench_of(case):
    activation, weight, lanes, structure, stages = case
    return Bench(arithmetic(parse(activation), parse(weight), lanes, 16 * lanes,
                            structure=structure, stages=stages))


@pytest.fixture(scope="module")
def observed():
    """Case -> (arithmetic, what has come out of its element)."""
    random = np.random.default_rng(33)
    benches = [bench_of(case) for case in EVERY_PAIR + RANDOM]
    vectors = [every_pair(bench, random) if n < len(EVERY_PAIR)
               else random_vectors(bench, random, 3000) for n, bench in enumerate(benches)]
    found = observe(benches, vectors)
    return {case: (bench.arithmetic, result) for case, bench, result in
            zip(EVERY_PAIR + RANDOM, benches, found, strict=True)}


@pytest.mark.parametrize("case", EVERY_PAIR + RANDOM)
def test_sums_are_those_of_the_formats(observed, case):
    rules, result = observed[case]
    wrong, checked = mismatches(rules, result)
    assert not wrong.any()
    if case in EVERY_PAIR:
        met = np.concatenate([result.a, result.w[:, 0]], axis=1)
        assert len(np.unique(met, axis=0)) == 1 << rules.activation.width + rules.weight.width
        assert checked == len(result.a)
    else:
        assert checked > 1000


@pytest.mark.parametrize("activation, weight, message", [
    ("lns8", "lns8r4", "same root and table"), ("lns8", "lns8t8", "same root and table"),
    ("lns8", "e4m3", "not lns8 and e4m3"),
])
def test_other_pairs_have_no_products(activation, weight, message):
    with pytest.raises(ValueError, match=message):
        arithmetic(parse(activation), parse(weight), 1, 1)
