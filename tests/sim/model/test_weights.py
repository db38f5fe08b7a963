"""`Weights`: images and codes, other formats, other channels and kernels."""

import numpy as np
import pytest
from systolith.hw.formats import Bipolar, Int, catalogue, parse
from systolith.sim.model.numerics import convolve
from systolith.sim.model.weights import Weights

INT8, SIGNS = Int(8), Bipolar(1)


def random_weights(shape, format=INT8, seed=0):
    rng = np.random.default_rng(seed)
    return Weights.of_codes(rng.choice(format.finite_codes(), shape), format)


@pytest.mark.parametrize("format", [INT8, Int(3), SIGNS, parse("e3m2"), parse("e3m0x2")], ids=str)
def test_codes_stand_for_the_images(format):
    weights = random_weights((5, 4, 3, 2), format)
    assert (format.image(weights.codes) == weights.images).all() and weights.has_codes.all()
    assert weights.codes.shape == weights.shape == (5, 4, 3, 2) and len(weights) == 5
    assert (Weights.of_codes(weights.codes, format).images == weights.images).all()


def test_zero_has_one_code():
    e3m2 = parse("e3m2")
    negative = 1 << e3m2.width - 1
    assert e3m2.image(negative) == 0
    assert Weights.of_codes(np.full((1, 1, 1, 1), negative), e3m2).codes.item() == 0


def test_weights_without_a_code_are_no_codes():
    weights = Weights(np.array([127, 128, -128, -129]).reshape(4, 1, 1, 1), INT8)
    assert weights.has_codes.ravel().tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="some weights have no code in int8"):
        weights.codes  # noqa: B018
    with pytest.raises(ValueError, match="no code in bipolar1"):
        Weights(np.zeros((1, 1, 1, 1)), SIGNS).codes  # noqa: B018


def test_nobody_writes_to_the_images():
    given = np.zeros((2, 1, 1, 1), np.int64)
    weights = Weights(given, INT8)
    given[...] = 1
    assert not weights.images.any()
    with pytest.raises(ValueError, match="read-only"):
        weights.images[...] = 1


def test_images_beyond_63_bits_stay_exact():
    form = parse("e7m2")
    weights = Weights.of_codes(np.full((1, 1, 1, 1), form.max_code), form)
    assert weights.images.dtype == object and weights.images.item() > 1 << 63
    assert weights.codes.item() == form.max_code
    assert weights.sum_ranges(INT8)[1] == [weights.images.item() * 127]


@pytest.mark.parametrize("format, other, held", [
    (SIGNS, INT8, True), (SIGNS, parse("e3m2"), True), (Int(4), INT8, True), (INT8, Int(4), False),
    (INT8, INT8, True), (Int(2), SIGNS, False)])
def test_the_same_numbers_in_another_format(format, other, held):
    weights = random_weights((6, 7, 1, 1), format)
    found = weights.in_format(other)
    assert (found is not None) == held
    if found is not None:
        assert found.format == other
        assert (other.decode(found.codes) == format.decode(weights.codes)).all()


def test_ones():
    assert parse("e3m2").decode(Weights.ones(parse("e3m2"), 2).codes).tolist() == [[[[1]]]] * 2
    assert Weights.ones(INT8, 3, 5).images.ravel().tolist() == [5, 5, 5]


def test_addends_add_up_and_have_codes():
    wide = Weights(np.array([255, -256, 127, -128, 128, 0]).reshape(6, 1, 1, 1), Int(9))
    parts = wide.addends(INT8, 3)
    assert len(parts) == 3 and all(item.format == INT8 for item in parts)
    assert (sum(item.images for item in parts) == wide.images).all()
    assert all(item.has_codes.all() for item in parts)
    assert len(wide.addends(INT8, 2)) == 3              # one more than allowed: too few
    narrow = random_weights((2, 2, 1, 1), Int(4))
    assert narrow.addends(INT8, 3) == [narrow] and wide.addends(SIGNS, 3) == [wide]


def test_signs_times_sizes():
    weights = Weights(np.array([[3, -3], [-1, -1]]).reshape(2, 2, 1, 1), INT8)
    signs, sizes = weights.signs
    assert signs.format == SIGNS and sizes.tolist() == [3, 1]
    assert (signs.images * sizes[:, None, None, None] == weights.images).all()
    for numbers in ([[3, -3], [1, 2]], [[0, 0], [1, 1]]):
        assert Weights(np.array(numbers).reshape(2, 2, 1, 1), INT8).signs[0] is None
    assert signs.signs[0] is None                       # they are signs already


def test_groups_are_dense_weights_with_zeros():
    weights = Weights(np.arange(1, 9).reshape(4, 2, 1, 1), INT8)
    assert weights.dense(2).images[:, :, 0, 0].tolist() == [
        [1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]
    assert weights.dense(2, 9).images[0, :, 0, 0].tolist() == [1, 2, 9, 9]
    assert weights.dense(1) is weights


def test_channels():
    weights = Weights(np.arange(6).reshape(3, 2, 1, 1), INT8)

    def numbers(item):
        return item.images[:, :, 0, 0].tolist()
    some = np.array([True, False, True])
    assert numbers(weights.of_outputs(np.array([2, 0]))) == [[4, 5], [0, 1]]
    assert numbers(weights.negated(some)) == [[0, -1], [2, 3], [-4, -5]]
    assert numbers(weights.without(some)) == [[0, 0], [2, 3], [0, 0]]
    assert numbers(weights.repeated(2, 0)) == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert numbers(weights.repeated(2, 1))[1] == [2, 2, 3, 3]
    assert numbers(weights.reading(np.array([3, 1]), 4, 7))[1] == [7, 3, 7, 2]
    assert weights.sums.tolist() == [1, 5, 9]
    assert weights.without(some).constant.tolist() == [True, False, True]


def test_a_map_as_one_pixel_has_the_same_sums():
    weights, rng = random_weights((3, 2, 4, 5)), np.random.default_rng(1)
    images = rng.integers(-9, 9, (2, 2, 4, 5))
    assert (convolve(images, weights.images) == convolve(
        images.reshape(2, 40, 1, 1), weights.as_pixel().images)).all()


@pytest.mark.parametrize("taps, kernel", [((3, 2), (1, 1)), ((2, 2), (2, 1)), ((1, 2), (3, 1)),
                                          ((2, 3), (2, 1))])
def test_taps_as_channels_have_the_same_sums(taps, kernel):
    weights, rng = random_weights((3, 2, 3, 2)), np.random.default_rng(2)
    made = weights.with_taps(taps, kernel)
    assert made.shape == (3, taps[0] * taps[1] * 2, *kernel)
    image = rng.integers(-9, 9, (2, 3, 2))
    wide = np.zeros((1, made.shape[1], *kernel), np.int64)
    for y in range(3):
        for x in range(2):
            tap = y % taps[0] * taps[1] + x % taps[1]
            wide[0, 2 * tap:2 * tap + 2, y // taps[0], x // taps[1]] = image[:, y, x]
    assert (convolve(wide, made.images) == convolve(image[None], weights.images)).all()


def test_bit_planes_have_the_weights_again_and_idle_lanes_that_cancel():
    weights = random_weights((2, 3, 1, 1), SIGNS)
    made = weights.in_planes(2, 4).images[:, :, 0, 0]
    assert made.shape == (2, 14) and (made[:, :7] == made[:, 7:]).all()
    assert (made[:, :3] == weights.images[:, :, 0, 0]).all()
    assert made[:, 3:7].tolist() == [[-1, 1, -1, 1]] * 2


def test_what_counts_nothing():
    assert Weights.ones(INT8, 1).absent == 0 and Weights.ones(SIGNS, 1).absent == -1


def test_passes_are_those_with_a_weight():
    images = np.zeros((5, 7, 2, 3), np.int64)
    images[4, 6, 1, 2] = images[0, 2, 0, 1] = -1
    found = Weights(images, INT8).passes(4, 3)
    assert found.shape == (2, 2, 3, 3)
    assert np.argwhere(found).tolist() == [[0, 0, 1, 0], [1, 1, 2, 2]]


@pytest.mark.parametrize("format", [INT8, Int(8, signed=False), SIGNS, parse("e3m2")], ids=str)
def test_sum_ranges_are_reached_and_never_left(format):
    weights, low_high = random_weights((4, 3, 2, 1)), format.image_range
    low, high = min(low_high[0], 0), max(low_high[1], 0)
    products = weights.images.reshape(4, -1, 1) * np.array([low, high])
    assert weights.sum_ranges(format) == (products.min(axis=2).sum(axis=1).tolist(),
                                          products.max(axis=2).sum(axis=1).tolist())


def test_each_product_is_made_with_the_first_window_that_has_its_byte():
    """Bytes are (column, row of two, channel); words of 8 of them begin at bytes 0 and 4."""
    weights = random_weights((2, 2, 3, 3))
    made = weights.with_windows(2, 2, [0, 4], 8)
    assert made.shape == (2, 8, 2, 2)
    expected = np.zeros(made.shape, int)
    for y in range(3):
        for x in range(3):
            for channel in range(2):
                byte = (x * 2 + y % 2) * 2 + channel
                word, lane = (0, byte) if byte < 8 else (1, byte - 4)
                expected[:, lane, y // 2, word] = weights.images[:, channel, y, x]
    assert np.array_equal(made.images, expected)


@pytest.mark.parametrize("name", catalogue())
def test_zero_lies_within_the_images_of_what_activations_can_be(name):
    """`sum_ranges` takes it for granted."""
    form = parse(name)
    if form.activation_fault() is None:
        low, high = form.image_range
        assert low <= 0 <= high
