"""Words in external memory: bit positions as the contract states them, and the way back."""

import numpy as np
import pytest
from systolith.hw.spec import words as layout
from systolith.hw.spec.arch import Arch

ARCHES = [
    Arch(rows=1, columns=1, multiplier_bits=17),
    Arch(rows=6, columns=4, lanes=3, activation="int4", weight="int6", bus_bits=32),
    Arch(rows=5, columns=10, activation="e3m2", weight="e2m3", bus_bits=128),
    Arch(rows=3, columns=9, lanes=30, activation="bipolar1", weight="bipolar1", bus_bits=32),
    Arch(rows=4, columns=6, lanes=2, activation="int16", weight="int8", accumulator=64),
    Arch(rows=7, columns=3, activation="e4m3", weight="e4m3", accumulator=48, bus_bits=32),
]


def bits_of(data, size):
    """One Python integer a word."""
    assert len(data) % size == 0
    return [int.from_bytes(data[n:n + size], "little") for n in range(0, len(data), size)]


@pytest.mark.parametrize("arch", ARCHES, ids=str)
def test_codes_stand_where_the_contract_says(arch):
    random = np.random.default_rng(1)
    codes = random.integers(0, 1 << arch.activation.width, (7, arch.vector))
    data = layout.pack_activation_words(codes, arch)
    for row, word in zip(codes, bits_of(data, arch.activation_bytes), strict=True):
        assert word == sum(
            int(code) << (channel // arch.group * 8 * arch.group_bytes
                          + channel % arch.group * arch.activation.width)
            for channel, code in enumerate(row))
    assert (layout.unpack_activation_words(data, arch) == codes).all()

    items = random.integers(0, 1 << arch.activation.width, (5, arch.group))
    data = layout.pack_group_items(items, arch)
    for row, word in zip(items, bits_of(data, arch.group_bytes), strict=True):
        assert word == sum(int(c) << n * arch.activation.width for n, c in enumerate(row))
    assert (layout.unpack_group_items(data, arch) == items).all()

    weights = random.integers(0, 1 << arch.weight.width, (4, arch.columns * arch.lanes))
    data = layout.pack_weight_words(weights, arch)
    for row, word in zip(weights, bits_of(data, arch.weight_bytes), strict=True):
        assert word == sum(int(c) << n * arch.weight.width for n, c in enumerate(row))
    assert (layout.unpack_weight_words(data, arch) == weights).all()


@pytest.mark.parametrize("arch", ARCHES, ids=str)
def test_parameters_and_raw_results_come_back(arch):
    random = np.random.default_rng(2)
    top = 1 << arch.accumulator_bits - 1
    bias = random.integers(-top, top - 1, (6, arch.post_lanes), endpoint=True)
    bias[0], bias[1] = -top, top - 1
    multiplier = random.integers(0, 1 << arch.multiplier_bits, bias.shape)
    shift = random.integers(0, 64, bias.shape)
    lost = arch.multiplier_bits - arch.addend_bits
    addend = random.integers(0, 1 << arch.addend_bits, bias.shape) << lost
    ties = random.integers(0, 1 << arch.tie_bits, bias.shape)
    data = layout.pack_parameter_words(bias, multiplier, shift, arch, addend=addend, ties=ties)
    for n, word in enumerate(bits_of(data, arch.parameter_bytes)):
        for lane in range(arch.post_lanes):
            part = word >> lane * arch.parameter_bits
            assert part & (2 * top - 1) == int(bias[n, lane]) % (2 * top)
            part >>= arch.accumulator_bits
            assert part & (1 << arch.multiplier_bits) - 1 == multiplier[n, lane]
            part >>= arch.multiplier_bits
            assert part & 63 == shift[n, lane]
            part >>= 6
            assert part % (1 << arch.addend_bits) << lost == addend[n, lane]
            assert (part >> arch.addend_bits) % (1 << arch.tie_bits) == ties[n, lane]
    for part, expected in zip(layout.unpack_parameter_words(data, arch),
                              (bias, multiplier, shift, addend, ties), strict=True):
        assert (part == expected).all()

    raw = np.array([[int(b) * 2 - int(b < 0) for b in row] for row in bias], object)
    data = layout.pack_raw_items(raw, arch)
    for row, word in zip(raw, bits_of(data, arch.raw_bytes), strict=True):
        mask = (1 << arch.raw_bits) - 1
        assert word == sum((int(v) & mask) << n * arch.raw_bits for n, v in enumerate(row))
    assert (layout.unpack_raw_items(data, arch) == raw).all()


def test_parameters_below_zero_come_back():
    arch = Arch(rows=4, columns=6, post_lanes=2, leaky=True, bus_bits=32)
    random = np.random.default_rng(3)
    ones, top = np.ones((6, 2), int), (1 << arch.multiplier_bits) - 1
    unit = arch.addend_unit
    below = (random.integers(-top, top, ones.shape), random.integers(0, 64, ones.shape),
             random.integers(-1 << 16, 1 << 16, ones.shape) * unit)
    below[0][0], below[0][1] = top, -top
    data = layout.pack_parameter_words(5 * ones, 3 * ones, 2 * ones, arch, below, unit * ones,
                                       ones)
    for word, *numbers in zip(bits_of(data, arch.parameter_bytes), *below, strict=True):
        for lane, (factor, shift, addend) in enumerate(zip(*numbers, strict=True)):
            part = word >> (lane * arch.parameter_bits + arch.accumulator_bits
                            + arch.multiplier_bits + 6 + 16 + 2)
            assert part & 2 * top + 1 == factor % (2 * top + 2)
            part >>= arch.multiplier_bits + 1
            assert part & 63 == shift and (part >> 6) % (1 << 17) == addend // unit % (1 << 17)
    for part, expected in zip(layout.unpack_parameter_words(data, arch),
                              (5 * ones, 3 * ones, 2 * ones, unit * ones, ones, *below),
                              strict=True):
        assert (part == expected).all()
    with pytest.raises(ValueError, match="no parameters of their own for sums below zero"):
        layout.pack_parameter_words(ones, ones, ones, ARCHES[0], below)


@pytest.mark.parametrize("arch", ARCHES[:3], ids=str)
def test_table_words_come_back(arch):
    half = 1 << arch.activation.width - 1
    values = np.arange(-half, half)
    data = layout.pack_table_words(values, arch)
    assert [word - 2 * half * (word >= half) for word in bits_of(data, arch.table_bytes)] == (
        values.tolist())
    assert (layout.unpack_table_words(data, arch) == values).all()
    with pytest.raises(ValueError, match="table words must have"):
        layout.pack_table_words([half], arch)


def test_what_does_not_fit_is_refused():
    arch = ARCHES[1]
    with pytest.raises(ValueError, match=r"codes must be from 0 to 15"):
        layout.pack_activation_words(np.full((1, arch.vector), 16), arch)
    with pytest.raises(ValueError, match=r"shape \(words, 18\)"):
        layout.pack_activation_words(np.zeros((1, 5), int), arch)
    with pytest.raises(ValueError, match="shift must be from 0 to 63, not 64"):
        one = np.ones((1, arch.post_lanes), int)
        layout.pack_parameter_words(one, one, 64 * one, arch)
    with pytest.raises(ValueError, match=r"addends must be multiples of 2\*\*10"):
        layout.pack_parameter_words(one, one, one, arch, addend=512 * one)
    with pytest.raises(ValueError, match="whole words of"):
        layout.unpack_weight_words(b"abc", arch)
