"""Requantization and operands as records: defaults, some of their channels, what a chip holds."""

from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Int, parse
from systolith.hw.spec.numbers import MULTIPLIER_BITS
from systolith.sim.model.requantization import Below, Operand, Requantization

INT8 = Int(8)


def random_requantization(rng, channels):
    multiplier = rng.integers(1 << 20, 1 << MULTIPLIER_BITS, channels)
    factor = rng.integers(-(1 << 20), 1 << 20, channels)
    return Requantization(
        multiplier, rng.integers(20, 30, channels), (multiplier * rng.random(channels)).astype(int),
        rng.integers(0, 3, channels),
        Below(factor, rng.integers(20, 30, channels),
              (factor * rng.random(channels)).astype(int)), zero_point=3, low=-100, high=127)


def test_plain_results_are_the_sums_within_limits():
    sums = np.array([-300, -7, 0, 9, 300]).reshape(1, 1, 5)
    plain = Requantization.plain(1, low=-100, high=127)
    assert plain.results(sums, INT8).ravel().tolist() == [-100, -7, 0, 9, 127]


def test_sums_below_zero_have_numbers_of_their_own():
    own = Requantization([1], [0], below=Below([-1], [1], [0]), low=-128, high=127)
    sums = np.array([-8, -1, 0, 8]).reshape(1, 1, 4)
    assert own.results(sums, INT8).ravel().tolist() == [4, 0, 0, 8]
    assert not own.monotone
    assert Requantization([1], [0], below=Below([1], [1], [0])).monotone
    assert Requantization([1], [0]).monotone


def test_ties_go_where_each_channel_says():
    own = Requantization([1, 1, 1], [1, 1, 1], ties=[0, 1, 2], low=-128, high=127)
    sums = np.broadcast_to([1, 3, 5, -1], (1, 3, 4))
    assert own.results(sums, INT8)[0].tolist() == [[1, 2, 3, 0], [0, 2, 2, 0], [1, 1, 3, -1]]


@given(st.integers(0, 999))
def test_some_of_the_channels_give_their_results(seed):
    rng = np.random.default_rng(seed)
    own, sums = random_requantization(rng, 6), rng.integers(-9999, 9999, (2, 6, 3))
    some = rng.permutation(6)[:4]
    assert (own.of_channels(some).results(sums[:, some], INT8)
            == own.results(sums, INT8)[:, some]).all()


@given(st.integers(0, 999), st.integers(0, MULTIPLIER_BITS))
def test_a_chip_holds_the_nearest_biases(seed, bits):
    rng = np.random.default_rng(seed)
    own, bias = random_requantization(rng, 5), rng.integers(-99, 99, 5)
    held_bias, held = own.held(bias, bits)
    unit = 1 << MULTIPLIER_BITS - bits
    for n in range(5):
        wanted, found = (Fraction(int(b)) + Fraction(int(r.addend[n]), int(r.multiplier[n]))
                         for b, r in ((bias[n], own), (held_bias[n], held)))
        assert held.addend[n] % unit == 0 and 0 <= held.addend[n] <= held.multiplier[n]
        # The next one up may be the next whole bias, closer than a unit.
        assert abs(wanted - found) <= Fraction(unit, 2 * int(own.multiplier[n]))
    assert (held.multiplier == own.multiplier).all() and (held.shift == own.shift).all()


def test_whole_biases_are_held_as_they_are():
    own, bias = Requantization([5, 6], [1, 1], low=-9, high=9), np.array([1, 2])
    found = own.held(bias, 0)
    assert found[0] is bias and found[1] is own


def test_records_do_not_change():
    given_array = np.array([3, 4])
    own = Requantization(given_array, [1, 1])
    with pytest.raises(FrozenInstanceError):
        own.low = 4
    with pytest.raises(ValueError, match="read-only"):
        own.multiplier[0] = 9
    given_array[0] = 5                  # the caller's array stays the caller's
    assert own.multiplier.tolist() == [3, 4]
    with pytest.raises(FrozenInstanceError):
        Operand("a").gain = 2


def test_an_operand_is_added_or_multiplied():
    first, codes = np.array([5, -6]).reshape(1, 1, 1, 2), np.array([7]).reshape(1, 1, 1, 1)
    total = Operand("r", gain=2, operand_gain=-3, operand_zero=4, shift=1, zero_point=1, low=-128,
                    high=127)
    # (2 * 5 - 3 * (7 - 4)) / 2 = 0.5 and (2 * -6 - 9) / 2 = -10.5, both to even, plus 1.
    assert total.results(first, codes, INT8).ravel().tolist() == [1, -9]
    product = Operand("r", product=True, gain=2, operand_zero=4, shift=0, low=-20, high=127)
    assert product.results(first, codes, INT8).ravel().tolist() == [30, -20]


def test_an_operand_of_floats_is_added_as_numbers():
    form = parse("e3m2")
    codes = form.encode(np.array([1.0, -3.0]).reshape(1, 1, 1, 2))
    first = form.ordered(form.encode(np.array([0.5, 2.0]).reshape(1, 1, 1, 2)))
    own = Operand("r", low=-31, high=31)
    found = form.decode(form.from_ordered(own.results(first, codes, form)))
    assert found.ravel().tolist() == [1.5, -1.0]
