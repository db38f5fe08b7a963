import numpy as np
import pytest
from systolith.hw.formats import Bipolar, Int, Ternary, parse

from ... import oracles


@pytest.mark.parametrize("name", oracles.STANDARD_INTEGERS)
def test_every_code_of_standard_integers_decodes_equally(name):
    fmt = parse(name)
    assert fmt.width == oracles.STANDARD_INTEGERS[name]
    codes = np.arange(1 << fmt.width)
    assert (fmt.decode(codes) == oracles.standard_decode(name, codes)).all()


@pytest.mark.parametrize("name", oracles.STANDARD_INTEGERS)
def test_integers_round_as_numpy_does(name):
    fmt = parse(name)
    values = np.random.default_rng(1).normal(0, 2.0 ** fmt.bits, 3000).round(1)
    values = np.concatenate([values, np.arange(-300, 300) / 2])
    low, high = fmt.image_range
    for rounding, rule in (("even", np.rint), ("zero", np.trunc)):
        assert (fmt.decode(fmt.encode(values, rounding)) == np.clip(rule(values), low, high)).all()


def test_ternary_is_minus_one_zero_and_one():
    fmt = Ternary()
    assert fmt.image([0, 1, 3]).tolist() == [0, 1, -1] and fmt.image_range == (-1, 1)
    assert fmt.encode([-9, -0.6, -0.5, 0.4, 0.5, 0.7, np.inf]).tolist() == [3, 3, 0, 0, 0, 1, 1]
    assert np.isnan(fmt.decode(2)) and isinstance(fmt, Int) and fmt != Int(2)
    with pytest.raises(ValueError, match="code 2 has no image in ternary"):
        fmt.image([0, 2])


def test_a_binary_value_of_zero_is_plus_one():
    assert Bipolar(1).encode([-0.1, -0.0, 0.0, 0.1]).tolist() == [0, 1, 1, 1]
    for rounding in ("away", "zero", "log"):
        assert Bipolar(1).encode([-0.1, 0.0, 0.1], rounding).tolist() == [0, 1, 1]


@pytest.mark.parametrize("make,message", [
    (lambda: Int(0), "bits of an Int must be from 1 to 16, not 0"),
    (lambda: parse("uint17"), "bits of an Int must be from 1 to 16, not 17"),
    (lambda: Bipolar(9), "bits of a Bipolar must be from 1 to 8, not 9"),
])
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
