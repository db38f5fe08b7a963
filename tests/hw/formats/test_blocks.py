from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import BlockScale, Float, Int, parse
from systolith.hw.formats.blocks import BlockScaled, WeightPool, block_formats

from ... import oracles

SCALE = parse("e8m0fnu")


class TestBlockScaled:
    @pytest.mark.parametrize("name", oracles.BLOCK_FORMATS)
    def test_mx_blocks_are_what_gfloat_makes_of_them(self, name):
        form = block_formats()[name]
        data = np.random.default_rng(6)
        values = data.normal(size=(40, 32)) * 2.0 ** data.integers(-30, 30, (40, 1))
        values[0], values[1, 3:] = 0, 0
        expected = np.array([oracles.gfloat_block(name, block) for block in values])
        assert (form.decode(*form.encode(values)) == expected).all()
        # Blocks along another axis, several to a row.
        flat = values.reshape(4, 320).T
        codes, scales = form.encode(flat, axis=0)
        assert codes.shape == (320, 4) and scales.shape == (10, 4)
        assert (form.decode(codes, scales, axis=0).T.reshape(40, 32) == expected).all()

    def test_every_mx_format_of_the_standard_is_there(self):
        bits = {name: form.bits_per_element for name, form in block_formats().items()}
        assert bits == {"mxfp8_e5m2": 8.25, "mxfp8_e4m3": 8.25, "mxfp6_e3m2": 6.25,
                        "mxfp6_e2m3": 6.25, "mxfp4_e2m1": 4.25, "mxint8": 8.25,
                        "mls_e2m1": 4 + 9 / 16, "mls_e2m4": 7 + 9 / 16}

    @pytest.mark.parametrize("name, codes", [
        ("mxfp8_e5m2", {0x7B: 57344, 0x04: 2 ** -14, 0x03: 0.75 * 2 ** -14, 0x01: 2 ** -16,
                        0x7C: np.inf, 0xFC: -np.inf, 0x7D: np.nan, 0x00: 0}),
        ("mxfp8_e4m3", {0x7E: 448, 0x08: 2 ** -6, 0x07: 0.875 * 2 ** -6, 0x01: 2 ** -9,
                        0x7F: np.nan, 0xFF: np.nan, 0xFE: -448, 0x00: 0}),
        ("mxfp6_e3m2", {0x1F: 28, 0x04: 0.25, 0x03: 0.1875, 0x01: 0.0625, 0x3F: -28}),
        ("mxfp6_e2m3", {0x1F: 7.5, 0x08: 1, 0x07: 0.875, 0x01: 0.125, 0x3F: -7.5}),
        ("mxfp4_e2m1", {0x7: 6, 0x2: 1, 0x1: 0.5, 0xF: -6, 0x8: 0}),
        ("mxint8", {0x7F: 1 + 63 / 64, 0x01: 1 / 64, 0xFF: -1 / 64, 0x80: -2, 0x40: 1})])
    def test_codes_of_the_standard(self, name, codes):
        """The tables of element formats of OCP Microscaling 1.0, chapter 5.3, and its scales:
        2**(code - 127), of which the last is no number."""
        form = block_formats()[name]
        given = np.array(list(codes))
        for scale, factor in ((127, 1), (0, 2.0 ** -127), (254, 2.0 ** 127), (130, 8)):
            found = form.decode(given, np.full(1, scale))
            np.testing.assert_array_equal(found, np.array(list(codes.values())) * factor)
        assert np.isnan(form.decode(given, np.full(1, 255))).all()

    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
    def test_mls_takes_the_smallest_scale_that_fits(self, values):
        form = block_formats()["mls_e2m4"]
        codes, scales = form.encode(values)
        for n, scale in enumerate(scales.tolist()):
            block = slice(16 * n, 16 * n + 16)
            peak = Fraction(max(map(abs, values[block])))
            largest = Fraction(form.largest)
            assert Fraction(float(form.scale.decode(scale))) * largest >= peak
            if scale:
                assert Fraction(float(form.scale.decode(scale - 1))) * largest < peak
        results = form.decode(codes, scales)
        for value, result, scale in zip(values, results, form.scale.decode(scales).repeat(16),
                                        strict=False):
            # Half a step of the largest binade, the others being finer.
            assert abs(result - value) <= scale * 0.125

    def test_a_shorter_last_block_has_its_own_scale(self):
        form = BlockScaled(Float(2, 1), 4, SCALE)
        codes, scales = form.encode([1, 2, 3, 4, 5, 96.0])
        assert form.scale.decode(scales).tolist() == [1, 16]
        assert form.decode(codes, scales).tolist() == [1, 2, 3, 4, 8, 96]

    def test_what_is_beyond_the_range_saturates(self):
        form = BlockScaled(Float(2, 1), 2, SCALE)
        assert form.decode(*form.encode([7.9, -1.0])).tolist() == [6, -1]
        codes, scales = form.encode([np.inf, 1.0])
        assert form.decode(codes, scales).tolist() == [6 * 2.0 ** 127, 0]

    def test_elements_are_rounded_as_asked(self):
        form = BlockScaled(Int(8), 4, SCALE)
        assert form.decode(*form.encode([64.5, 65.5, -65.5, 0], rounding="even")).tolist() == [
            64, 66, -66, 0]
        assert form.decode(*form.encode([64.5, 65.5, -65.5, 0], rounding="zero")).tolist() == [
            64, 65, -65, 0]
        codes, _ = form.encode(np.full(400, 64.25), rounding="stochastic", seed=3)
        assert set(codes.tolist()) == {64, 65}

    def test_nan_and_scales_with_a_sign_are_refused(self):
        with pytest.raises(ValueError, match=r"NaN has no code in e2m1 \(at index \[1, 0\]\)"):
            BlockScaled(Float(2, 1), 2, SCALE).encode([[1.0, 2.0], [np.nan, 1.0]])
        with pytest.raises(ValueError, match="must be a float without sign, not e8m0"):
            BlockScaled(Float(2, 1), 2, Float(8, 0))
        with pytest.raises(ValueError, match="size of a BlockScaled must be at least 1"):
            BlockScaled(Float(2, 1), 0, SCALE)


class TestWeightPool:
    @pytest.fixture
    def pool(self):
        return WeightPool(np.random.default_rng(7).integers(-128, 128, (60, 8)))

    def test_codes_stand_for_vectors_and_the_nearest_is_taken(self, pool):
        assert pool.width == 6 and pool.image([[3, 59]]).shape == (1, 2, 8)
        codes = np.arange(60)
        assert (pool.encode(pool.image(codes)) == codes).all()
        weights = np.random.default_rng(8).normal(0, 50, (4, 100, 8))
        distances = ((weights[..., None, :] - pool.image(codes)) ** 2).sum(axis=-1)
        assert (pool.encode(weights) == distances.argmin(axis=-1)).all()

    def test_partial_sums_make_dot_products_with_bit_serial_activations(self, pool):
        table = pool.partial_sums()
        activations = np.random.default_rng(9).integers(0, 256, (60, 8))
        total = 0
        for bit in range(8):
            planes = ((activations >> bit & 1) << np.arange(8)).sum(axis=1)
            total = total + (table[np.arange(60), planes] << bit)
        assert (total == (activations * pool.image(np.arange(60))).sum(axis=1)).all()

    def test_pools_are_values(self, pool):
        assert WeightPool(pool.vectors) == pool == eval(repr(pool))
        assert hash(WeightPool(pool.vectors)) == hash(pool)

    @pytest.mark.parametrize("make,message", [
        (lambda pool: WeightPool([[1, 2, 3]]), "must be integers"),
        (lambda pool: WeightPool([[0.5] * 8]), "must be integers"),
        (lambda pool: WeightPool([[128] * 8]), "must be from -128 to 127"),
        (lambda pool: WeightPool([[8] * 8], Int(4)), "must be from -8 to 7"),
        (lambda pool: pool.image([60]), "from 0 to 59"),
        (lambda pool: pool.encode([1.0, 2.0]), "weights must be"),
        (lambda pool: pool.encode([[1.0] * 8, [1.0] * 7 + [np.inf]]), r"at index \[1, 7\]"),
    ])
    def test_what_does_not_fit_is_refused(self, pool, make, message):
        with pytest.raises(ValueError, match=message):
            make(pool)


class TestElementsOfAChip:
    @pytest.mark.parametrize("name", ["mxint8", "mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3",
                                      "mxfp4", "nvfp4", "mls", "mls_e2m4"])
    def test_files_hold_every_product_of_an_element_and_a_scale(self, name):
        form = parse(name)
        assert (form.name, str(form)) == (name, name)
        codes = form.finite_codes()
        products = np.multiply.outer(form.image(codes), form.block_scale.factors)
        assert form.wide.has_image(products).all()
        values = np.multiply.outer(form.decode(codes),
                                   form.block_scale.factors / 2.0 ** form.block_scale.man)
        assert np.array_equal(np.ldexp(products.astype(float), form.wide.exponent), values)
        assert not form.holds(form.wide) and not form.wide.holds(form)

    def test_factors_are_a_mantissa_and_a_power_of_two(self):
        assert BlockScale(32).factors.tolist() == [1, 2, 4, 8, 16, 32, 64, 128]
        assert BlockScale(16, 1).factors.tolist()[:6] == [2, 3, 4, 6, 8, 12]
        assert BlockScale(16, 3).largest == 15 << 7
