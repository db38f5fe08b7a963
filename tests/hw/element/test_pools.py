"""Weight pools with bit-serial activations in Verilated RTL against direct dot products."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from systolith.hw.element.column import Column
from systolith.hw.element.element import arithmetic
from systolith.hw.element.pools import Plane, PlaneAccumulator, PoolArithmetic
from systolith.hw.formats import Int
from systolith.hw.formats.blocks import WeightPool
from systolith.sim.model.narrow_sums import bit_planes
from systolith.sim.rtl.players import play

RANDOM = np.random.default_rng(15)
#: Name -> (pool, lanes, options).
CASES = {
    "edge": (WeightPool(RANDOM.integers(-128, 128, (64, 8))), 1, {"stages": 1}),
    "element": (WeightPool(RANDOM.integers(-8, 8, (16, 8)), Int(4)), 2,
                {"stages": 1, "at_edge": False}),
    "uint2": (WeightPool(RANDOM.integers(0, 4, (5, 8)), Int(2, signed=False)), 3, {"stages": 2}),
    "element of one": (WeightPool([[-128] * 8]), 1, {"stages": 2, "at_edge": False}),
}
ROWS = 2
PIXELS = 12
#: Signed or not, and bits of the activations, one after the other in every column.
WIDTHS = [(is_signed, bits) for is_signed in (False, True) for bits in range(1, 9)]


class SerialColumn(wiring.Component):
    """A column and its accumulator, whose flags come with the sums."""

    def __init__(self, rules, rows):
        self.column = Column(rules, rows)
        self.accumulator = PlaneAccumulator(rules.sum_bits, 8)
        super().__init__({
            "a": In(len(self.column.a)), "w": In(len(self.column.w)),
            "valid": In(1), "first": In(1), "negative": In(1),
            "total": Out(self.accumulator.total.shape()),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.column, m.submodules.accumulator = self.column, self.accumulator
        m.d.comb += [
            self.column.a.eq(self.a), self.column.w.eq(self.w),
            self.accumulator.sum.eq(self.column.total), self.accumulator.valid.eq(self.valid),
            self.accumulator.first.eq(self.first), self.accumulator.negative.eq(self.negative),
            self.total.eq(self.accumulator.total)]
        return m


def rules_of(name, rows):
    pool, lanes, options = CASES[name]
    return PoolArithmetic(Plane(), pool, lanes, rows * lanes, **options)


def words(codes, width):
    """Codes [N, n] side by side, the first one lowest."""
    places = np.array([width * n for n in range(codes.shape[1])], object)
    return (codes.astype(object) << places).sum(axis=1)


def single_codes(name):
    """Every plane with every code of the pool, in the lowest lane; others at random."""
    pool, lanes, _ = CASES[name]
    plane, code = (side.ravel() for side in np.meshgrid(np.arange(256),
                                                        np.arange(len(pool.vectors))))
    random = np.random.default_rng(len(name))
    planes = random.integers(0, 256, (len(plane), lanes))
    codes = random.integers(0, len(pool.vectors), planes.shape)
    planes[:, 0], codes[:, 0] = plane, code
    return planes, codes


def pixels(name):
    """For each width: activations [PIXELS, rows * lanes * 8], codes [PIXELS, rows * lanes]."""
    pool, lanes, _ = CASES[name]
    random = np.random.default_rng(len(name))
    for is_signed, bits in WIDTHS:
        low = -(1 << (bits - 1)) if is_signed else 0
        a = random.integers(low, low + (1 << bits), (PIXELS, ROWS * lanes * 8))
        a[0], a[1] = low, low + (1 << bits) - 1
        yield is_signed, bits, a, random.integers(0, len(pool.vectors), (PIXELS, ROWS * lanes))


def serial_inputs(name, latency):
    """The planes of all pixels, back to back; flags as late as the sums."""
    pool = CASES[name][0]
    a, w, first, negative = [], [], [], []
    for is_signed, bits, activations, codes in pixels(name):
        planes = np.moveaxis(bit_planes(activations, bits), 0, 1)       # [PIXELS, bits, n]
        a.append(words(planes.reshape(PIXELS * bits, -1), 8))
        w.append(np.repeat(words(codes, pool.width), bits))
        first.append(np.arange(PIXELS * bits) % bits == 0)
        negative.append(first[-1] & is_signed)
    idle = [0] * latency
    return {"a": np.append(np.concatenate(a), idle), "w": np.append(np.concatenate(w), idle),
            "valid": np.arange(sum(map(len, a)) + latency) >= latency,
            "first": np.append(idle, np.concatenate(first)),
            "negative": np.append(idle, np.concatenate(negative))}


@pytest.fixture(scope="module")
def played():
    """Name -> (column of one element, its outputs; column with accumulator, its outputs)."""
    components, inputs = [], []
    for name, (pool, _, _) in CASES.items():
        single, serial = Column(rules_of(name, 1), 1), SerialColumn(rules_of(name, ROWS), ROWS)
        components += [single, serial]
        planes, codes = single_codes(name)
        idle = [0] * (single.latency - 1)
        inputs += [{"a": np.append(words(planes, 8), idle),
                    "w": np.append(words(codes, pool.width), idle)},
                   serial_inputs(name, serial.column.latency)]
    outputs = play(components, inputs)
    return {name: (components[2 * n], outputs[2 * n], components[2 * n + 1], outputs[2 * n + 1])
            for n, name in enumerate(CASES)}


def signed_words(values, bits):
    return (values ^ 1 << (bits - 1)) - (1 << (bits - 1))


@pytest.mark.parametrize("name", CASES)
def test_every_plane_with_every_vector(played, name):
    column, found, _, _ = played[name]
    pool = CASES[name][0]
    planes, codes = single_codes(name)
    bits = planes[:, :, None] >> np.arange(8) & 1
    expected = (bits * pool.image(codes)).sum(axis=(1, 2))
    assert (signed_words(found["total"], len(column.total))[column.latency - 1:] == expected).all()
    products = Plane().product_image(pool, planes, codes)
    assert (products.sum(axis=1) == expected).all()
    assert abs(products).max() == Plane().product_bound(pool)


@pytest.mark.parametrize("name", CASES)
def test_planes_make_the_dot_product_in_as_many_cycles_as_bits(played, name):
    _, _, serial, found = played[name]
    pool = CASES[name][0]
    totals = signed_words(found["total"], len(serial.total))
    cycle = serial.column.latency
    for _, bits, activations, codes in pixels(name):
        weights = pool.image(codes).reshape(PIXELS, -1)
        # A pixel's last plane comes `bits` cycles after that of the pixel before.
        ends = cycle + bits * np.arange(1, PIXELS + 1) - 1
        assert (totals[ends] == (activations * weights).sum(axis=1)).all()
        cycle += bits * PIXELS
    assert cycle == len(totals)


def test_the_family_of_planes():
    pool = CASES["edge"][0]
    rules = arithmetic(Plane(), pool, 2, 8, stages=1)
    assert isinstance(rules, PoolArithmetic) and str(rules.activation) == "plane8"
    with pytest.raises(ValueError, match="not int8 and a pool of 64 vectors of int8"):
        arithmetic(Int(8), pool, 1, 1)
