# amaranth: UnusedElaboratable=no
"""Block scaling in Verilated RTL against the golden model, and that against exact fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from systolith.hw.element.column_scale import BlockAccumulator, ColumnScale
from systolith.hw.formats import parse, sum_bits
from systolith.hw.formats.blocks import block_formats
from systolith.sim.model.narrow_sums import block_sums
from systolith.sim.rtl.players import play

BLOCKS = 3
#: Name -> (formats in blocks, the window's exponent and bits).
CASES = {
    "MX e4m3, all bits": ("mxfp8_e4m3", -60, 120),
    "MX e4m3": ("mxfp8_e4m3", -10, 24),
    "MX e2m1": ("mxfp4_e2m1", -4, 20),
    "MX int8": ("mxint8", 3, 10),
    "MLS e2m1, all bits": ("mls_e2m1", -60, 90),
    "MLS e2m4": ("mls_e2m4", -24, 20),
}


def rules_of(name):
    form, exponent, bits = block_formats()[CASES[name][0]], *CASES[name][1:]
    element = form.element
    return form, {
        "activation_scale": form.scale, "weight_scale": form.scale,
        "sum_exponent": 2 * (element.exponent + form.element_exponent),
        "exponent": exponent, "bits": bits}


def blocks_of(name):
    """Values, codes and scales of 300 pairs of 3 blocks each, with scales near those of 1."""
    form, _ = rules_of(name)
    random = np.random.default_rng(len(name))
    spread = np.exp2(random.normal(0, 4, (2, 300, BLOCKS)))
    values = random.normal(0, 1, (2, 300, BLOCKS, form.size)) * spread[..., None]
    if form.fits:
        values /= 2 * abs(values).max()                 # MLS: below a scale of the whole tensor
    return [form.encode(side.reshape(300, -1)) for side in values]


def column_sums(form, blocks):
    """Exact sums of the products of each pair of blocks."""
    (a, _), (w, _) = blocks
    products = form.element.product_image(form.element, a, w)
    return products.reshape(len(a), -1, form.size).sum(axis=-1)


def component(name):
    form, rules = rules_of(name)
    return ColumnScale(sum_bits=sum_bits(form.element, form.element, form.size), **rules)


def random_inputs(name):
    """Any sums and scales; shifts that are too far in both directions, extremes."""
    form, _ = rules_of(name)
    random, bits = np.random.default_rng(7), len(component(name).sum)
    sums = random.integers(-1 << 62, 1 << 62, 3000) >> random.integers(63 - bits, 63, 3000)
    sums[::7], sums[1::7], sums[2::7] = -1 << (bits - 1), (1 << (bits - 1)) - 1, 0
    sums[3::7] = random.integers(-1, 2, len(sums[3::7]))
    codes = random.integers(0, form.scale.max_code + 1, (2, 3000))
    near = random.integers(-40, 40, (2, 3000)) << form.scale.man
    one = form.scale.encode(1.0 if not form.fits else 2.0 ** -5)
    codes = np.where(random.random(3000) < 0.8, np.clip(one + near + codes % 2, 0,
                                                        form.scale.max_code), codes)
    return {"sum": sums, "activation_code": codes[0], "weight_code": codes[1]}


def block_inputs(name):
    form, _ = rules_of(name)
    blocks = blocks_of(name)
    sums = column_sums(form, blocks).ravel()
    return {"sum": sums, "activation_code": blocks[0][1].ravel(),
            "weight_code": blocks[1][1].ravel(), "valid": np.ones(len(sums)),
            "first": np.arange(len(sums)) % BLOCKS == 0}


def with_gaps(inputs):
    """The same with another vector behind each that is not valid."""
    gaps = {port: np.repeat(values, 2) for port, values in inputs.items()}
    gaps["valid"] = np.arange(len(gaps["sum"])) % 2 == 0
    gaps["first"][1::4] = True
    return gaps


@pytest.fixture(scope="module")
def played():
    """Name -> what comes out of a ColumnScale and of a BlockAccumulator, signed."""
    components, inputs = [], []
    for name in CASES:
        components += [component(name), BlockAccumulator(component(name))]
        inputs += [random_inputs(name), with_gaps(block_inputs(name))]
    found = play(components, inputs)
    results = {}
    for n, name in enumerate(CASES):
        sign = 1 << (CASES[name][2] - 1)
        outputs = found[2 * n]["o"], found[2 * n + 1]["total"]
        results[name] = [(np.array(words, object) ^ sign) - sign for words in outputs]
    return results


@pytest.mark.parametrize("name", CASES)
def test_scaled_sums(played, name):
    inputs = random_inputs(name)
    _, rules = rules_of(name)
    expected = block_sums(*(inputs[port][:, None] for port in inputs), **rules)[:, 0]
    assert (played[name][0] == expected).all()
    top = 1 << (rules["bits"] - 1)
    corners = [-1, 0] if "all bits" in name else [-top, -1, 0, top - 1]
    assert all((expected == corner).any() for corner in corners)


@pytest.mark.parametrize("name", CASES)
def test_sums_of_blocks(played, name):
    form, rules = rules_of(name)
    blocks = blocks_of(name)
    sums = column_sums(form, blocks)
    expected = block_sums(sums, blocks[0][1], blocks[1][1], **rules)
    totals = played[name][1].reshape(-1, 2)
    assert (totals[:, 0] == expected.ravel()).all() and (totals[:, 1] == totals[:, 0]).all()


@pytest.mark.parametrize("name", CASES)
def test_golden_model_is_the_dot_product_of_the_values(name):
    form, rules = rules_of(name)
    blocks = blocks_of(name)
    found = block_sums(column_sums(form, blocks), blocks[0][1], blocks[1][1], **rules)
    values = [form.decode(*side).reshape(300, BLOCKS, form.size) for side in blocks]
    unit, top = Fraction(2) ** rules["exponent"], 1 << (rules["bits"] - 1)
    differ = 0
    for pair in range(300):
        total, exact = 0, Fraction(0)
        for block in range(BLOCKS):
            dot = sum((Fraction(float(a)) * Fraction(float(w)) for a, w in
                       zip(values[0][pair, block], values[1][pair, block], strict=True)),
                      start=Fraction(0))
            exact += dot
            scaled = max(-top, min(top - 1, floor(dot / unit)))
            total = max(-top, min(top - 1, total + scaled))
            assert found[pair, block] == total
            differ += total * unit != exact
    assert (differ == 0) == ("all bits" in name)


def test_scales_have_no_sign():
    _, rules = rules_of("MX e4m3")
    with pytest.raises(ValueError, match="scales must be floats without sign of radix 2, not"):
        ColumnScale(sum_bits=8, **rules | {"weight_scale": parse("e4m3")})
