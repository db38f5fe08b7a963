from fractions import Fraction
from itertools import product
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systolith.hw.formats import Float, Int, Lns, PowerSum, parse, product_exponent, sum_bits

from ...logarithms import Number, boundaries, nearest
from ...number_formats import logarithms


class TestPowerSum:
    @pytest.mark.parametrize("name", ["e3m0x1", "e3m0x2", "e2m0b3x2", "e2m0r4x2", "e2m0x3"])
    def test_encode_finds_the_best_sum(self, name):
        fmt = parse(name)
        terms = fmt.term.decode(np.arange(1 << fmt.term.width))
        sums = np.array([sum(parts) for parts in product(terms, repeat=fmt.terms)])
        values = np.random.default_rng(5).normal(0, abs(sums).max() / 3, 500)
        best = abs(values[:, None] - sums).min(axis=1)
        assert (abs(fmt.decode(fmt.encode(values)) - values) == best).all()

    def test_one_term_is_the_power_of_two_itself(self):
        fmt, term = parse("e3m0x1"), Float(3, 0)
        values = np.concatenate([np.arange(-40, 40) / 8, [0.125, 1.5, 3.0]])
        for rounding in ("even", "log", "zero"):
            assert (fmt.decode(fmt.encode(values, rounding))
                    == term.decode(term.encode(values, rounding))).all()

    def test_terms_that_are_not_needed_are_zero_and_stand_last(self):
        few, many = parse("e3m0x1"), parse("e3m0x3")
        codes = np.arange(16)
        assert (many.image(codes) == few.image(codes)).all()
        values = few.decode(codes)
        assert (many.encode(values) == few.encode(values)).all()
        # 7 is 8 - 1: two terms, though 4 + 2 + 1 does it, too.
        assert many.encode(7.0) >> 8 == 0

    @pytest.mark.parametrize("name", ["e3m0x2", "e3m0x3", "e3m0r4x2", "e2m0r4x3"])
    def test_the_nearest_power_again_and_again_does_as_well(self, name):
        fmt = parse(name)
        largest = fmt.decode(fmt.encode(np.inf))
        values = np.linspace(-1.1 * largest, 1.1 * largest, 5001)
        rest = values
        for _ in range(fmt.terms):
            rest = rest - fmt.term.decode(fmt.term.encode(rest))
        assert (abs(fmt.decode(fmt.encode(values)) - values) == abs(rest)).all()

    @pytest.mark.parametrize("make,message", [
        (lambda: PowerSum(Float(3, 0), 5), "at most 16 bits"),
        (lambda: PowerSum(Float(3, 0), 0), "at least one term"),
        (lambda: PowerSum(Float(3, 1), 2), "signed powers of two"),
        (lambda: PowerSum(Float(3, 0, special="ieee"), 2), "signed powers of two"),
        (lambda: PowerSum(Float(6, 0), 2), "within a factor of"),
    ])
    def test_what_is_no_sum_of_powers_is_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestLns:
    def test_numbers_are_powers_of_the_root(self):
        fmt = Lns(8)
        values = fmt.decode(np.arange(256))
        assert values[0] == values[128] == 0
        assert np.allclose(values[1:128], 2 ** (np.arange(1, 128) / 8), rtol=1e-15)
        assert (values[128:] == -values[:128]).all()
        assert values[[8, 16, 120]].tolist() == [2, 4, 2 ** 15]

    @given(logarithms())
    def test_the_table_is_rounded_to_nearest(self, fmt):
        """|T - 2**(r/root) * 2**bits| < 1/2, in exact integers."""
        for remainder, constant in enumerate(fmt.table):
            power = 1 << (remainder + fmt.root * (fmt.table_bits + 1))
            assert (2 * constant - 1) ** fmt.root < power < (2 * constant + 1) ** fmt.root

    @given(logarithms(), st.data())
    def test_products_add_logarithms_and_look_the_rest_up(self, fmt, data):
        codes = data.draw(st.lists(st.integers(0, (1 << fmt.width) - 1), min_size=2, max_size=2))
        logs = [code & fmt.largest_log for code in codes]
        result = int(fmt.product_image(fmt, codes[:1], codes[1:])[0])
        assert abs(result) <= fmt.product_bound(fmt)
        if 0 in logs:
            assert result == 0
            return
        quotient, remainder = divmod(sum(logs), fmt.root)
        sign = -1 if (codes[0] ^ codes[1]) >> (fmt.width - 1) else 1
        assert result == sign * fmt.table[remainder] << quotient
        a, w = (Fraction(value) for value in fmt.decode(codes).tolist())
        exact = a * w / Fraction(2) ** product_exponent(fmt, fmt)
        # The constant is within half a unit of at least 2**table_bits.
        assert abs(result / exact - 1) <= Fraction(1, 2 << fmt.table_bits) + Fraction(1, 1 << 50)

    def test_every_pair_of_lns8_is_within_the_tables_error(self):
        fmt = Lns(8)
        codes = np.arange(256)
        products = fmt.product_image(fmt, codes[:, None], codes)
        assert products.shape == (256, 256) and products.dtype == np.int64
        exact = np.ldexp(np.outer(fmt.decode(codes), fmt.decode(codes)), -fmt.exponent)
        error = abs(products - exact)[exact != 0] / abs(exact[exact != 0])
        assert error.max() < 2.0 ** -7 and (products[exact == 0] == 0).all()
        assert abs(products).max() == fmt.product_bound(fmt)
        assert sum_bits(fmt, fmt, 16) == int(log2(16 * fmt.product_bound(fmt))) + 2

    @given(logarithms())
    def test_images_are_those_of_the_table(self, fmt):
        codes = np.arange(1 << fmt.width)
        images, values = fmt.image(codes), fmt.decode(codes)
        assert images.tolist() == [int(Number(fmt, code)) for code in codes.tolist()]
        assert fmt.image_range == (images.min(), images.max())
        # the constant is within half a unit of at least 2**table_bits
        off = abs(np.ldexp(images.astype(float), fmt.exponent) - values)
        assert (off <= abs(values) * (2.0 ** (-1 - fmt.table_bits) + 1e-12)).all()
        if fmt.weight_fault() is None:
            assert (fmt.decode(fmt.from_image(images)) == values).all()
            assert (fmt.values(images) == values).all() and fmt.has_image(images).all()
            assert not fmt.has_image([fmt.image_range[1] + 1])

    @given(logarithms(), logarithms())
    def test_parts_add_up_to_products(self, fmt, other):
        other = Lns(other.bits, fmt.root, fmt.table_bits)
        if fmt.weight_fault() or other.weight_fault():
            return
        codes, others = np.arange(1 << fmt.width)[:, None], np.arange(1 << other.width)
        images, factors = fmt.image(codes), other.image(others)
        parts = list(fmt.product_parts(other, images, factors))
        assert len(parts) == fmt.root
        products = fmt.product_image(other, codes, others)
        assert (sum(one.astype(object) * two for one, two in parts) == products).all()
        largest, (low, high) = fmt.largest_products(other, factors)
        assert (np.maximum(low * largest, high * largest) >= products.max(axis=0)).all()
        image, factor = other.copying
        code = other.from_image(image)
        assert (fmt.product_image(other, codes, code) == factor * images).all()

    @pytest.mark.parametrize("name", ["lns8", "lns6r4t8", "lns5r1t0", "lns5r2t4", "lns8t10"])
    def test_numbers_are_rounded_at_the_boundaries(self, name):
        fmt = parse(name)
        values = [n for least in boundaries(fmt) for n in (
            least, least - Fraction(1, 1 << fmt.fraction_bits))]
        own = []
        for value in values:
            quotient = 0
            while value >= 2 << quotient:
                quotient += 1
            own.append(((value * (1 << fmt.fraction_bits)) // (1 << quotient), quotient))
        significands, quotients = np.array(own, np.int64).T
        found = fmt.rounded(significands, quotients)
        images = [value * (1 << fmt.table_bits) for value in values]
        assert found.tolist() == [nearest(fmt, image) for image in images]
        # one boundary off gives another code
        assert (np.diff(found.reshape(-1, 2), axis=1) == -1).all()
        # no further from the nearest than the boundaries are rounded
        exact = fmt.encode([float(value) for value in values])
        assert (abs(found - exact) <= 1).all()

    def test_chips_have_short_ones_with_different_constants(self):
        assert [name for name in ("lns8", "lns9", "lns8t0", "lns4", "lns5r64t12", "lns7r2",
                                  "lns5r1t0")
                if parse(name).activation_fault() is None] == ["lns8", "lns7r2", "lns5r1t0"]
        assert all(parse(name).weight_fault() for name in ("lns9", "lns8t0", "lns4"))

    def test_products_with_other_formats_are_refused(self):
        with pytest.raises(ValueError, match="the same root and table only, not with int8"):
            Lns(8).product_image(Int(8), [1], [1])
        with pytest.raises(ValueError, match="the same root and table only, not with lns8r4"):
            sum_bits(Lns(8), Lns(8, 4), 1)

    @pytest.mark.parametrize("make,message", [
        (lambda: Lns(2), "bits of an Lns must be from 3 to 16"),
        (lambda: Lns(8, 3), "root of an Lns must be a power of two"),
        (lambda: Lns(8, 8, 5), "table_bits of an Lns must be an even number"),
        (lambda: Lns(16, 1), "within 2"),
    ])
    def test_values_out_of_range_are_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()
