"""IEEE P3109's formats by gfloat's definition of them, and one by its values."""

import gfloat
import gfloat.formats
import numpy as np
import pytest
from systolith.hw.formats import catalogue, parse

from ... import oracles
from ...number_formats import probes

NAMES = [name for name in catalogue() if name.startswith("p3109_")]


def test_every_code_of_k5p2_is_the_number_that_the_standard_says():
    positive = [0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 1.5, 2, 3, 4, 6, 8, np.inf]
    values = parse("p3109_k5p2").decode(np.arange(32))
    assert np.array_equal(values[:16], positive)
    assert np.isnan(values[16]) and np.array_equal(values[17:], [-n for n in positive[1:]])


@pytest.mark.parametrize("name", NAMES)
def test_codes_and_roundings_are_gfloats(name):
    form, bits = parse(name), int(name[7])
    their = gfloat.formats.format_info_p3109(bits, int(name[9]), domain=gfloat.Domain.Extended)
    codes = np.arange(1 << bits)
    assert form.width == bits == their.bits
    expected = [gfloat.decode_float(their, code).fval for code in codes.tolist()]
    assert np.array_equal(form.decode(codes), expected, equal_nan=True)
    values = probes(form, np.float64)
    for rounding in ("even", "zero"):
        assert (form.encode(values, rounding)
                == oracles.gfloat_encode(form, values, rounding)).all()
