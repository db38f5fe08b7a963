"""Whole arrays in Verilated RTL against dot products of images, by their own timing rules."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from systolith.hw.core.array import SystolicArray
from systolith.hw.element.element import arithmetic_of
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import Structure
from systolith.hw.spec.timing import array_latency, column_delay
from systolith.sim.rtl.players import play

SHAPES = [(1, 1), (1, 6), (7, 1), (3, 5), (8, 8)]
FLOATS = ["e2m1", "e3m2", "e2m3", "e4m3", "e5m2", "e3m4fn", "e4m3fnuz", "e3m0", "e1m2"]
PASSES = 12


def arch_of(shape, activation, weight, **options):
    rows, columns = shape
    return Arch(rows=rows, columns=columns, activation=activation, weight=weight,
                weight_depth=max(rows, 16), largest_k=1, **options)


@st.composite
def archs(draw, shape):
    """A random array of this shape."""
    family = draw(st.sampled_from(["int", "float", "bipolar"]))
    lanes = draw(st.integers(1, 40) if family == "bipolar" else st.sampled_from([1, 1, 1, 2, 3]))
    if family == "int":
        names = st.integers(1, 16).map("int{}".format)
    else:
        names = st.sampled_from(FLOATS if family == "float" else ["bipolar1"])
    facts = {"lanes": lanes, "structure": draw(st.sampled_from(Structure)),
             "shared_columns": draw(st.sampled_from(
                 [n for n in range(1, shape[1] + 1) if shape[1] % n == 0]))}
    activation, weight = draw(names), draw(names)
    assume((activation, weight) != ("e5m2", "e5m2"))        # sums of more than 64 bits
    most = arithmetic_of(arch_of(shape, activation, weight, stages=1, **facts)).most_stages
    return arch_of(shape, activation, weight,
                   stages=draw(st.one_of(st.none(), st.integers(1, most))), **facts)


def stimulus(arch, random):
    """A stream of passes: inputs of a SystolicArray, and what follows from them.

    Passes have random lengths, many of them the shortest that the rules allow; between pixels and
    between passes there are gaps in which anything stands at the ports. Returns (inputs,
    activation codes [N, vector], pixel [N], the weights of each cycle's pass [N, ...]).
    """
    weights = random.choice(arch.weight.finite_codes(),
                            (PASSES, arch.rows, arch.columns, arch.lanes))
    swaps, time = [], 0
    for _ in range(PASSES):
        swaps.append(time + int(random.choice([0, 0, 0, 1, 2, 9])))
        time = swaps[-1] + arch.rows             # words of one filling after another
    length = max(swaps[-1], time) + 5
    pixel = random.random(length) < 0.8
    swap, all_rows = np.zeros(length, object), (1 << arch.rows) - 1
    words = random.integers(0, 1 << 62, length).astype(object)
    current = np.full(length, -1)
    for n, at in enumerate(swaps):
        swap[at], pixel[at] = all_rows, True
        current[at:] = n
        for row in range(arch.rows):
            words[at + row] = joined(weights[n, row].ravel(), arch.weight.width)
    pixel[:swaps[0]] = False
    codes = random.choice(arch.activation.finite_codes(), (length, arch.vector))
    extreme = arch.activation.finite_codes()[[0, -1]]
    codes[random.random(length) < 0.1] = extreme[0]
    codes[random.random(length) < 0.1] = extreme[1]
    inputs = {"activations": [joined(word, arch.activation.width) for word in codes],
              "swap": swap, "weights": words}
    return inputs, codes, pixel, weights[current]


def joined(codes, width):
    return sum(int(code) << width * n for n, code in enumerate(codes))


def expected(arch, codes, weights):
    """Sums [N, columns]: Python integers."""
    weights = weights.transpose(0, 2, 1, 3).reshape(len(codes), arch.columns, arch.vector)
    return arch.activation.product_image(arch.weight, codes[:, None], weights).astype(
        object).sum(axis=2)


def check(archs, random):
    arrays = [SystolicArray(arch=arch) for arch in archs]
    streams = [stimulus(arch, random) for arch in archs]
    inputs = []
    for array, (stream, *_) in zip(arrays, streams, strict=True):
        tail = np.zeros(array.latency + array.arch.columns, object)
        inputs.append({name: np.concatenate([np.asarray(values, object), tail])
                       for name, values in stream.items()})
    for array, responses, (_, codes, pixel, weights) in zip(
            arrays, play(arrays, inputs), streams, strict=True):
        arch, when = array.arch, np.flatnonzero(pixel)
        sums = responses["sums"].astype(object)
        right = expected(arch, codes, weights)
        assert len(when) > PASSES
        for column in range(arch.columns):
            # What is seen after vector n is there in cycle n + 1.
            leaves = when + array.latency + column_delay(arch, column) - 1
            found = sums[leaves] >> column * arch.psum_bits & ((1 << arch.psum_bits) - 1)
            sign = 1 << arch.psum_bits - 1
            wrong = np.flatnonzero((found ^ sign) - sign != right[when, column])
            assert not len(wrong), (
                f"{arch}: column {column}, pixel {wrong[0]} of {len(when)}, cycle "
                f"{when[wrong[0]]}: {(found[wrong[0]] ^ sign) - sign}, not "
                f"{right[when[wrong[0]], column]}; {len(wrong)} wrong")


# Few examples and no search for smaller ones, as each compiles five arrays; every run draws others.
@settings(max_examples=2, phases=(Phase.explicit, Phase.reuse, Phase.generate),
          suppress_health_check=list(HealthCheck))
@given(st.tuples(*map(archs, SHAPES)), st.integers(0, 1 << 32))
def test_random_arrays(archs, seed):
    check(archs, np.random.default_rng(seed))


def test_the_largest_sums_of_every_family_fit():
    archs = [arch_of((3, 5), "int8", "int8", stages=1), arch_of((3, 5), "e4m3", "e3m2"),
             arch_of((3, 5), "bipolar1", "bipolar1", lanes=9, stages=1)]
    arrays = [SystolicArray(arch=arch) for arch in archs]
    inputs, limits = [], []
    for array in arrays:
        arch = array.arch
        order = sorted(arch.activation.finite_codes(), key=lambda c, a=arch.activation: a.image(c))
        heavy = sorted(arch.weight.finite_codes(), key=lambda c, w=arch.weight: w.image(c))
        word = joined([heavy[0]] * arch.columns * arch.lanes, arch.weight.width)
        activations = [joined([order[n]] * arch.vector, arch.activation.width) for n in (0, -1)]
        length = array.latency + arch.columns + 20
        inputs.append({"activations": [activations[n >= 12] for n in range(length)],
                       "swap": [(n == 5) * ((1 << arch.rows) - 1) for n in range(length)],
                       "weights": [word] * length})
        limits.append([arch.vector * int(arch.activation.image(order[n]))
                       * int(arch.weight.image(heavy[0])) for n in (0, -1)])
    for array, responses, limit in zip(arrays, play(arrays, inputs), limits, strict=True):
        arch, sign = array.arch, 1 << array.arch.psum_bits - 1
        for n, right in zip((5, 12), limit, strict=True):
            found = int(responses["sums"][n + array.latency - 1]) & (2 * sign - 1)
            assert (found ^ sign) - sign == right, arch


@pytest.mark.parametrize("names", [("int8", "int8"), ("e3m2", "e3m2"), ("bipolar1", "bipolar1")])
def test_the_array_says_when_sums_leave(names):
    for structure in Structure:
        arch = arch_of((4, 4), *names, structure=structure, activation_depth=64)
        rules = arithmetic_of(arch)
        assert array_latency(arch, rules.stages) == 12 + rules.stages
        assert parse(names[0]) == rules.activation
