"""Whole arrays in Verilated RTL against dot products of images, by their own timing rules."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from systolith.hw.core.array import SystolicArray
from systolith.hw.element.element import arithmetic_of
from systolith.hw.formats import parse
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.structures import Structure
from systolith.hw.spec.timing import array_latency, column_delay
from systolith.sim.rtl.players import play

from .. import simulated
from .placed import place_copies

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


def of_fillings(arch, random, length=60):
    """Inputs as of `stimulus`, with a pixel in every cycle and new weights in every tenth or so;
    where weights are in blocks, the scale of each column is the last word of a filling. Returns
    (inputs, activation codes, the weights of each cycle's pixel, its scales [N, columns])."""
    codes = random.choice(arch.activation.finite_codes(), (length, arch.vector))
    weights = random.choice(arch.weight.finite_codes(),
                            (length, arch.rows, arch.columns, arch.lanes))
    scales = random.integers(0, len(arch.weight.block_scale.factors) if arch.weight.block_scale
                             else 1, (length, arch.columns))
    swap, words = np.zeros(length, object), np.zeros(length + arch.fill, object)
    current, time = np.zeros(length, int), 0
    while time < length:
        swap[time], current[time:] = (1 << arch.fill) - 1, time
        for row in range(arch.rows):
            words[time + row] = joined(weights[time, row].ravel(), arch.weight.width)
        if arch.fill > arch.rows:
            words[time + arch.rows] = joined(arch.scale_word.words[scales[time]],
                                             arch.lanes * arch.weight.width)
        time += arch.fill + int(random.integers(3))
    return ({"activations": [joined(word, arch.activation.width) for word in codes],
             "swap": swap, "weights": words}, codes, weights[current], scales[current])


class Numbers(wiring.Component):
    """An array with the numbers that its sums stand for."""

    def __init__(self, array):
        self.array = array
        super().__init__({name: In(member.shape) for name, member in array.signature.members.items()
                          if name != "sums"} | {
            "sums": Out(array.arch.columns * array.arch.scaled_bits)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = self.array
        m.d.comb += [getattr(array, name).eq(getattr(self, name))
                     for name in self.signature.members if name != "sums"]
        bits = array.arch.scaled_bits
        for column, number in enumerate(array.sums):
            given = array.scale.out.number(number) if array.scale else number
            m.d.comb += self.sums[column * bits:(column + 1) * bits].eq(given)
        return m


def sums_of(array, inputs):
    """The sums [N, columns] that follow from each cycle's word, in Amaranth's simulator."""
    arch, length = array.arch, len(inputs["swap"])
    bits, whole = arch.scaled_bits, length + array.latency + arch.columns
    given = {name: [*values, *[0] * (whole - len(values))] for name, values in inputs.items()}
    found = simulated.play([Numbers(array)], [given])[0]["sums"].astype(object)
    columns = [found[array.latency + column_delay(arch, column) - 1:][:length]
               >> column * bits & ((1 << bits) - 1) for column in range(arch.columns)]
    sign = 1 << bits - 1
    return np.stack([(column ^ sign) - sign for column in columns], axis=1)


@pytest.mark.parametrize("rows", [4, 8])
def test_parts_of_the_rows_see_earlier_words(rows, monkeypatch):
    place_copies(monkeypatch)
    arch = arch_of((rows, 2), "int4", "int3", side_taps=True, stages=1)
    random = np.random.default_rng(rows)
    inputs, codes, weights, _ = of_fillings(arch, random)
    side = random.integers(0, 3, len(codes))
    found = sums_of(SystolicArray(arch=arch), inputs | {"side": side})
    for n in range(3, len(codes)):
        parts = (np.arange(rows) << side[n]) // rows
        seen = codes[n - parts, np.arange(rows)]
        assert (found[n] == expected(arch, seen[None], weights[n][None])[0]).all(), (n, side[n])


@pytest.mark.parametrize("weight, columns, shared, more", [
    ("nvfp4", 3, 1, {}), ("mxfp4", 4, 2, {}),
    *((weight, 3, 1, {"scale_multiplier": "luts", "structure": structure})
      for weight in ("nvfp4", "mls") for structure in ("lut6", "lut4"))])
def test_sums_are_multiplied_by_the_scales_of_their_blocks(weight, columns, shared, more,
                                                           monkeypatch):
    """With the first pixel that meets new weights, in each column."""
    place_copies(monkeypatch)
    arch = arch_of((4, columns), "int4", weight, lanes=2, stages=1,
                   shared_columns=shared, **more)
    inputs, codes, weights, scales = of_fillings(arch, np.random.default_rng(1))
    found = sums_of(SystolicArray(arch=arch), inputs)
    right = expected(arch, codes, weights) * arch.weight.block_scale.factors[scales]
    assert (found == right).all() and len(np.unique(found)) > 50


def test_the_first_rows_weigh_as_the_bits_of_a_byte(monkeypatch):
    place_copies(monkeypatch)
    arch = arch_of((9, 3), "bipolar1", "bipolar1", lanes=4, bit_planes=True, plane_rows=True,
                   stages=1)
    random = np.random.default_rng(2)
    inputs, codes, weights, _ = of_fillings(arch, random)
    planes = random.integers(0, 2, len(codes))
    found = sums_of(SystolicArray(arch=arch), inputs | {"planes": planes})
    factors = np.array([128 >> row for row in range(8)] + [1])
    rows = arch.activation.product_image(arch.weight, codes.reshape(-1, 9, 1, 4), weights).astype(
        object).sum(axis=3)             # [N, rows, columns]
    weighed = (rows * factors[:, None]).sum(axis=1) + arch.plane_excess
    assert (found == np.where(planes[:, None] == 1, weighed, rows.sum(axis=1))).all()
